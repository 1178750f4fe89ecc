"""The three subscriptions of `depth_node`, paired, and watched for silence."""
from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial

import rclpy
from rclpy.clock import Clock
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import (
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from dkt_ros.config import DepthNodeConfig
from dkt_ros.errors import UserError
from dkt_ros.nodes.diagnostics import InputWatch, StreamStats, silence_reason
from dkt_ros.nodes.messages import stamp_to_ns
from dkt_ros.nodes.pairing import FramePairer, Pair
from dkt_ros.resources import share_path

INPUT_QOS = dict(history=HistoryPolicy.KEEP_LAST, depth=5,
                 reliability=ReliabilityPolicy.BEST_EFFORT)
TICK_S = 0.02
COLOR, INFO, DEPTH = ('color/image_raw', 'color/camera_info', 'aligned_depth_to_color/image_raw')


class Inputs:
    """
    Subscriptions that give pairs.

    Parameters
    ----------
    node : LifecycleNode
        Owns the subscriptions.
    config : DepthNodeConfig
        Transports, slop and waiting time.
    on_pair : callable
        Called with each pair, in the order of capture.
    clock : Clock
        A clock that always runs.
    stats : StreamStats
        Told how long pairing took.

    """

    def __init__(self, node: LifecycleNode, config: DepthNodeConfig,
                 on_pair: Callable[[Pair], None], clock: Clock, stats: StreamStats) -> None:
        self._node = node
        self._stats = stats
        self._pairing_s = 0.0
        self._on_pair = on_pair
        self._warned_cached = False
        self._pairs_without_depth = 0
        self.pairer = FramePairer(0, 0)
        self._depth_came = False
        self.configure(config)
        color, depth = config.input.image_transport, config.input.depth_transport
        self._subscriptions = []
        self._watches: list[tuple[InputWatch, QoSProfile]] = []
        self._timer = node.create_timer(TICK_S, self._emit_ready, clock=clock)
        self._timer.cancel()
        try:
            self._subscribe_all(color, depth)
        except BaseException:
            self.destroy()
            raise

    def _subscribe_all(self, color: str, depth: str) -> None:
        self._subscribe(COLOR, color, self.pairer.add_color)
        self._subscribe(INFO, 'info', self.pairer.add_info)
        self._depth_watch = self._subscribe(DEPTH, depth, self._add_depth)

    def _add_depth(self, stamp_ns: int, message, now_ns: int) -> list[Pair]:
        self._depth_came = self.pairer.wants_depth = True
        return self.pairer.add_depth(stamp_ns, message, now_ns)

    def configure(self, config: DepthNodeConfig) -> None:
        """Take new options where that needs no new subscription."""
        self._silent_after_s = config.input.silent_after_s
        self.pairer.slop_ns = int(config.input.slop_s * 1e9)
        self.pairer.wait_ns = int(config.input.wait_s * 1e9)
        # An RGB camera with another anchor has no depth; nothing must wait for it.
        self.pairer.wants_depth = self._depth_came or config.anchor.source == 'sensor'

    def destroy(self) -> None:
        """End the subscriptions."""
        self._node.destroy_timer(self._timer)
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def counts(self) -> dict[str, str]:
        """Return messages received by topic, and what pairing did."""
        received = {f'received {watch.topic}': str(watch.received) for watch, _ in self._watches}
        return received | {f'pairing {name}': str(number)
                           for name, number in sorted(self.pairer.counts.items())}

    def problems(self) -> list[str]:
        """Return a sentence for each input that should give something and does not."""
        now = time.monotonic()
        silent = [(watch, qos) for watch, qos in self._watches
                  if watch.silent_for(now) >= self._silent_after_s
                  and (watch is not self._depth_watch or self.pairer.wants_depth)]
        if silent:
            return [silence(self._node, watch, qos, f'for {self._silent_after_s:g} s',
                            'start the camera, or remap the input to the topic of your camera')
                    for watch, qos in silent]
        return self._pairing_problems()

    def _subscribe(self, topic: str, transport: str, add: Callable) -> InputWatch:
        topic = self._node.resolve_topic_name(topic)
        kind = {'raw': Image, 'info': CameraInfo}.get(transport, CompressedImage)
        if kind is CompressedImage:
            topic = f'{topic}/{transport}'
        qos = QoSProfile(**INPUT_QOS)
        watch = InputWatch(topic, f'sensor_msgs/msg/{kind.__name__}')
        self._subscriptions.append(self._node.create_subscription(
            kind, topic, partial(self._on_message, watch, add), qos,
            qos_overriding_options=QoSOverridingOptions.with_default_policies()))
        self._watches.append((watch, qos))
        return watch

    def _on_message(self, watch: InputWatch, add: Callable, message) -> None:
        watch.note()
        start = time.perf_counter()
        pairs = add(stamp_to_ns(message.header.stamp), message, time.monotonic_ns())
        self._pairing_s += time.perf_counter() - start
        if pairs:
            self._stats.span('pair', self._pairing_s / len(pairs))
            self._pairing_s = 0.0
        self._emit(pairs)
        self._set_timer()

    def _emit_ready(self) -> None:
        self._emit(self.pairer.ready(time.monotonic_ns()))
        self._set_timer()

    def _set_timer(self) -> None:
        """Look again only while something waits: waking up costs the model a millisecond."""
        if not self.pairer.waits:
            self._timer.cancel()
        elif self._timer.is_canceled():
            self._timer.reset()

    def _emit(self, pairs: list[Pair]) -> None:
        for pair in pairs:
            if pair.info_is_cached and not self._warned_cached:
                self._warned_cached = True
                self._node.get_logger().warning(
                    'no camera_info has the stamp of its image; the last one is used. Let the '
                    'camera publish both with one stamp')
            missing = self.pairer.wants_depth and pair.depth is None
            self._pairs_without_depth = self._pairs_without_depth + 1 if missing else 0
            self._on_pair(pair)

    def _pairing_problems(self) -> list[str]:
        if self._pairs_without_depth < 10:
            return []
        miss = self.pairer.nearest_miss_ns
        how_far = 'unknown' if miss is None else f'{miss * 1e-9:.3f} s'
        return [f'colour and depth arrive but never pair: their nearest stamps differ by {how_far}'
                f', input.slop_s allows {self.pairer.slop_ns * 1e-9:g} s; let the camera '
                'synchronise them (realsense-ros: enable_sync:=true) or raise input.slop_s']


def silence(node: LifecycleNode, watch: InputWatch, qos: QoSProfile, since: str,
            cure: str, hint: str = '') -> str:
    """
    Say that nothing comes on an input, why, and what helps.

    Parameters
    ----------
    node : LifecycleNode
        Owns the subscription.
    watch, qos : InputWatch, QoSProfile
        The silent input and what its subscription asks for.
    since : str
        How long nothing came, in words.
    cure : str
        What to do where nobody publishes.
    hint : str
        What else it may be where somebody does.

    """
    publishers = node.get_publishers_info_by_topic(watch.topic)
    if not publishers:
        return f'{watch.topic} has no publisher: {cure}'
    fastdds = 'fastrtps' in rclpy.get_rmw_implementation_identifier()
    reason = silence_reason(watch, publishers, qos, qos_check_compatible, profiles_path(), fastdds)
    sentence = (f'{watch.topic} has {len(publishers)} publisher(s) and no message came {since}: '
                f'{reason}')
    return f'{sentence}; {hint}' if hint else sentence


def profiles_path() -> str:
    """Return the Fast DDS profile file: the user's own if set, else that of the package."""
    try:
        own = str(share_path('config', 'fastdds.xml'))
    except UserError:
        own = 'config/fastdds.xml of dkt_ros'
    return os.environ.get('FASTDDS_DEFAULT_PROFILES_FILE') or own
