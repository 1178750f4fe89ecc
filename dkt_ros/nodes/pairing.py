"""
Three topics, one stamp: colour, aligned depth and camera_info become one pair. No ROS.

Time is given, never read, so that every order of arrival can be tested.
"""
from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

QUEUE = 30
INFO_QUEUE = 60
# A colour stamp this far before the last one is a new recording, not a late message.
RESTART_NS = 500_000_000


@dataclass(frozen=True)
class Pair:
    """
    One colour image with what belongs to it.

    Attributes
    ----------
    stamp_ns : int
        Capture time of the colour image [ns].
    color, info, depth : object
        The messages; `depth` is None if none came in time.
    info_is_cached : bool
        True if `info` has another stamp than the colour image.

    """

    stamp_ns: int
    color: Any
    info: Any
    depth: Any | None
    info_is_cached: bool = False


@dataclass
class _Waiting:
    stamp_ns: int
    message: Any
    arrived_ns: int


class FramePairer:
    """
    Pairs by capture stamp, whatever the order of arrival.

    A colour image takes the depth nearest to it, once no nearer one can come: after an exact
    match, after a depth with a later stamp, or after `wait_ns`. A depth nearer to the next colour
    image than to this one is left to that, and none is used twice. The camera_info is that of the
    same stamp; if it does not come, the last one.

    Parameters
    ----------
    slop_ns : int
        Largest difference of stamps between colour and depth [ns].
    wait_ns : int
        How long a colour image waits for the others [ns].
    wants_depth : bool
        False for a camera without depth: nothing waits for it.

    """

    def __init__(self, slop_ns: int, wait_ns: int, wants_depth: bool = True) -> None:
        self.slop_ns = slop_ns
        self.wait_ns = wait_ns
        self.wants_depth = wants_depth
        self.counts: Counter[str] = Counter()
        self.nearest_miss_ns: int | None = None
        self.clear()

    def clear(self) -> None:
        """Forget all that waits; the camera_info stays known."""
        self._colors: deque[_Waiting] = deque()
        self._depths: deque[tuple[int, Any]] = deque(maxlen=QUEUE)
        self._infos: deque[tuple[int, Any]] = deque(maxlen=INFO_QUEUE)
        self._last_info: Any | None = getattr(self, '_last_info', None)
        self._newest_info_ns: int | None = None
        self._infos_lag = False
        self._last_emitted_ns: int | None = None
        self._spacings: deque[int] = deque(maxlen=10)

    @property
    def waits(self) -> bool:
        """True while a colour image waits for what belongs to it."""
        return bool(self._colors)

    def add_color(self, stamp_ns: int, message: Any, now_ns: int) -> list[Pair]:
        """Take a colour image; return the pairs that are complete now, oldest first."""
        last = self._last_emitted_ns
        if last is not None and stamp_ns <= last - RESTART_NS:
            self.clear()
            self.counts['restarts'] += 1
        elif last is not None and stamp_ns <= last:
            self.counts['late_colors'] += 1
            return self.ready(now_ns)
        newest = self._colors[-1].stamp_ns if self._colors else last
        if newest is not None and stamp_ns != newest:
            self._spacings.append(abs(stamp_ns - newest))
        if len(self._colors) >= QUEUE:
            self._colors.popleft()
            self.counts['dropped_colors'] += 1
        self._colors.append(_Waiting(stamp_ns, message, now_ns))
        self._colors = deque(sorted(self._colors, key=lambda waiting: waiting.stamp_ns))
        return self.ready(now_ns)

    def add_depth(self, stamp_ns: int, message: Any, now_ns: int) -> list[Pair]:
        """Take an aligned depth image; return the pairs that are complete now."""
        self._depths.append((stamp_ns, message))
        return self.ready(now_ns)

    def add_info(self, stamp_ns: int, message: Any, now_ns: int) -> list[Pair]:
        """Take a camera_info; return the pairs that are complete now."""
        self._infos.append((stamp_ns, message))
        self._last_info = message
        self._newest_info_ns = max(stamp_ns, self._newest_info_ns or 0)
        return self.ready(now_ns)

    def ready(self, now_ns: int) -> list[Pair]:
        """Return the pairs that are complete, or have waited long enough, at this time."""
        pairs = []
        while self._colors:
            head = self._colors[0]
            over = now_ns - head.arrived_ns >= self.wait_ns
            depth_known, depth_at = self._find_depth(head.stamp_ns)
            info_known, info, cached = self._find_info(head.stamp_ns, over)
            if not over and not (depth_known and info_known):
                break
            self._colors.popleft()
            if info is None:
                self.counts['without_info'] += 1
                continue
            pairs.append(self._emit(head, depth_at, info, cached))
        return pairs

    def _emit(self, head: _Waiting, depth_at: int | None, info: Any, cached: bool) -> Pair:
        depth = None
        if depth_at is not None:
            depth = self._depths[depth_at][1]
            del self._depths[depth_at]
        elif self.wants_depth:
            self.counts['without_depth'] += 1
            self._note_miss(head.stamp_ns)
        self.counts['pairs'] += 1
        self._infos_lag = cached
        self._last_emitted_ns = head.stamp_ns
        return Pair(head.stamp_ns, head.message, info, depth, cached)

    def _find_depth(self, stamp_ns: int) -> tuple[bool, int | None]:
        """Return whether the answer is final, and the position of the nearest depth or None."""
        if not self.wants_depth:
            return True, None
        near = [(abs(at - stamp_ns), i) for i, (at, _) in enumerate(self._depths)]
        limit = min([self.slop_ns, *(spacing // 2 for spacing in self._spacings)])
        distance, best = min(near, default=(limit + 1, None))
        if distance > limit:
            best = None
        final = distance == 0 or any(at >= stamp_ns for at, _ in self._depths)
        return final, best

    def _find_info(self, stamp_ns: int, over: bool) -> tuple[bool, Any | None, bool]:
        """Return whether the answer is final, the camera_info or None, whether it is cached."""
        for at, message in self._infos:
            if at == stamp_ns:
                return True, message, False
        if self._last_info is None:
            return False, None, False
        # A camera that sends it seldom, or with stamps of its own, must not slow each frame.
        passed = self._newest_info_ns is not None and self._newest_info_ns > stamp_ns
        return over or passed or self._infos_lag, self._last_info, True

    def _note_miss(self, stamp_ns: int) -> None:
        if self._depths:
            self.nearest_miss_ns = min(abs(at - stamp_ns) for at, _ in self._depths)
