"""What the node knows about itself: counts, ages, rates, silent inputs; and their message."""
from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
HISTORY = 300
RATE_SPAN_S = 10.0


class StreamStats:
    """
    Counts and times of the frames that pass through a node; thread safe.

    Ages are seconds between capture and publication; spans are named stages of the work.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self._ages: deque[float] = deque(maxlen=HISTORY)
        self._spans: dict[str, deque[float]] = {}
        self._published: deque[float] = deque(maxlen=HISTORY)
        self.last_error = ''
        self._error_time = -1e9

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self.counts[name] += number

    def span(self, name: str, seconds: float) -> None:
        """Note how long a stage took."""
        with self._lock:
            self._spans.setdefault(name, deque(maxlen=HISTORY)).append(seconds)

    def spans(self, name: str) -> list[float]:
        """Return how long a stage took, for the latest frames [s]."""
        with self._lock:
            return list(self._spans.get(name, ()))

    def published(self, age_s: float) -> None:
        """Note a finished frame and its age."""
        with self._lock:
            self.counts['frames_out'] += 1
            self._ages.append(age_s)
            self._published.append(time.monotonic())

    def failed(self, sentence: str) -> None:
        """Note an error; it shows for a while after it happened."""
        with self._lock:
            self.counts['errors'] += 1
            self.last_error, self._error_time = sentence, time.monotonic()

    def recent_error(self, seconds: float = 10.0) -> str:
        """Return the last error if it is younger than this, else an empty string."""
        return self.last_error if time.monotonic() - self._error_time < seconds else ''

    def summary(self) -> dict[str, str]:
        """Return counts, rate [Hz], ages and spans [ms] as strings."""
        with self._lock:
            now = time.monotonic()
            recent = [at for at in self._published if now - at <= RATE_SPAN_S]
            values = {name: str(self.counts[name]) for name in sorted(self.counts)}
            rate = (len(recent) - 1) / max(now - recent[0], 1e-9) if len(recent) > 1 else 0.0
            values['rate_hz'] = f'{rate:.2f}'
            spans = {'age': self._ages, **self._spans}
            for name, times in spans.items():
                if times:
                    p50, p95 = np.percentile(np.array(times) * 1e3, (50, 95))
                    values[f'{name}_ms_p50'] = f'{p50:.1f}'
                    values[f'{name}_ms_p95'] = f'{p95:.1f}'
            return values


class InputWatch:
    """
    Watches one subscription for messages that should come and do not.

    Parameters
    ----------
    topic : str
        Full name of the topic.
    kind : str
        Name of its message type, such as sensor_msgs/msg/Image.

    """

    def __init__(self, topic: str, kind: str) -> None:
        self.topic = topic
        self.kind = kind
        self.received = 0
        self._last = time.monotonic()

    def note(self) -> None:
        """Take note of a message."""
        self.received += 1
        self._last = time.monotonic()

    def silent_for(self, now: float) -> float:
        """Return how long nothing came [s]."""
        return now - self._last


def silence_reason(watch: InputWatch, publishers: Iterable[Any], qos: Any, check_qos: Any,
                   profiles_path: str, is_fastdds: bool) -> str:
    """
    Say why a subscription with publishers gets nothing, and what helps.

    Parameters
    ----------
    watch : InputWatch
        The silent input.
    publishers : iterable of TopicEndpointInfo
        Who publishes on its topic.
    qos : QoSProfile
        What our subscription asks for.
    check_qos : callable
        `rclpy.qos.qos_check_compatible`.
    profiles_path : str
        The Fast DDS profile file that comes with the package.
    is_fastdds : bool
        True if Fast DDS carries the messages.

    """
    for publisher in publishers:
        if publisher.topic_type != watch.kind:
            return (f'{publisher.node_name} publishes {publisher.topic_type} there, '
                    f'{watch.kind} is expected: remap the input, or set input.image_transport or '
                    'input.depth_transport')
        compatible, reason = check_qos(publisher.qos_profile, qos)
        if compatible.name == 'ERROR':
            return (f'its QoS does not match that of {publisher.node_name} ({reason.strip()}): '
                    f'change qos_overrides.{watch.topic}.subscription.reliability to best_effort '
                    'or the QoS of the publisher')
    if is_fastdds and watch.kind == 'sensor_msgs/msg/Image':
        return ('either nothing is sent, or the images do not fit into the shared-memory segment '
                'of Fast DDS (512 kB unless set): start the camera, too, with '
                f'FASTDDS_DEFAULT_PROFILES_FILE={profiles_path} '
                '(FASTRTPS_DEFAULT_PROFILES_FILE on Jazzy), or set '
                f'qos_overrides.{watch.topic}.subscription.reliability to reliable')
    return 'the publisher sends nothing: check that the camera streams'


def loaded_torch() -> ModuleType | None:
    """Return torch if it is loaded; None before, and while another thread still loads it."""
    torch = sys.modules.get('torch')
    ready = torch is not None and not getattr(torch.__spec__, '_initializing', False)
    return torch if ready else None


def memory_mb() -> dict[str, str]:
    """Return resident memory now and at its peak, and GPU memory if torch uses one [MB]."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    values = {'peak_rss_mb': f'{peak:.0f}'}
    try:
        with open('/proc/self/statm') as file:
            pages = int(file.read().split()[1])
        values['rss_mb'] = f'{pages * os.sysconf("SC_PAGE_SIZE") / 2**20:.0f}'
    except OSError:  # not Linux: the peak has to do
        values['rss_mb'] = values['peak_rss_mb']
    torch = loaded_torch()
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        values['gpu_mb'] = f'{torch.cuda.memory_allocated() / 2**20:.0f}'
    return values


def make_status(name: str, level: bytes, message: str, values: dict[str, str]) -> DiagnosticStatus:
    """Build one status."""
    return DiagnosticStatus(
        name=name, level=level, message=message, hardware_id='dkt',
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()])


def make_array(stamp: Any, statuses: list[DiagnosticStatus]) -> DiagnosticArray:
    """Build the message for /diagnostics."""
    message = DiagnosticArray(status=statuses)
    message.header.stamp = stamp
    return message
