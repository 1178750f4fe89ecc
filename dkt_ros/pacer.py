"""
Which of the arriving frames are computed when the computer is slower than the camera.

A video model wants even spacing, so frames are thinned by a steady stride and not by whichever
happens to find a free slot. No clock and no thread here: time is the capture stamp.
"""
from __future__ import annotations

import math
from collections import deque
from itertools import pairwise
from statistics import median, median_low

# Slightly too slow: leave out a frame now and then instead of every second one.
MILD_OVERLOAD = 1.1
HEADROOM = 1.03
HYSTERESIS = 1.08
NUM_GAPS = 9
NUM_SPEEDS = 5


class Pacer:
    """
    Admits every frame, or one every `stride` camera intervals.

    Call `admit` where frames arrive and `observe` where they are computed. Between the two a queue
    of one window of new frames and one more loses nothing while a window computes.
    Below the camera's rate the gaps between admitted frames differ by one camera interval at most
    and the largest is at most twice the smallest.

    Parameters
    ----------
    seconds_per_frame : float, optional
        How long a frame takes, when that was measured beforehand; else every frame is admitted
        until the first window is done.

    """

    def __init__(self, seconds_per_frame: float | None = None) -> None:
        self._speeds: deque[float] = deque(maxlen=NUM_SPEEDS)
        if seconds_per_frame is not None:
            self._speeds.append(seconds_per_frame)
        self.drops = 0
        self.reset()

    def reset(self) -> None:
        """Forget the camera; the speed of computing and the count of drops stay."""
        self._stamps: deque[int] = deque(maxlen=NUM_GAPS + 1)
        self._last_ns: int | None = None
        self._due_ns = 0.0
        self._stride = 1.0

    @property
    def stride(self) -> float:
        """Camera intervals from one admitted frame to the next; 1 admits all."""
        return self._stride

    @property
    def seconds_per_frame(self) -> float | None:
        """How long a frame takes to compute [s], None as long as that is unknown."""
        # The lower median: the first window pays for what is done once.
        return median_low(self._speeds) if self._speeds else None

    def observe(self, seconds_per_frame: float) -> None:
        """
        Take note of a finished window.

        Parameters
        ----------
        seconds_per_frame : float
            All the time the computing thread was busy for the window, divided by its frames [s];
            decoding and publishing count, waiting does not.

        """
        if seconds_per_frame > 0:
            self._speeds.append(seconds_per_frame)

    def admit(self, stamp_ns: int) -> bool:
        """Return whether the frame of this capture time is to be computed."""
        if self._stamps and stamp_ns < self._stamps[-1]:
            self.reset()
        self._stamps.append(stamp_ns)
        interval_ns = self._interval_ns()
        self._stride = self._next_stride(interval_ns)
        is_due = (self._last_ns is None or self._stride == 1.0
                  or stamp_ns >= self._due_ns - interval_ns / 2)
        if not is_due:
            self.drops += 1
            return False
        # Bounds around the last admitted frame: an error of the interval does not pile up.
        due = (stamp_ns if self._last_ns is None else self._due_ns) + self._stride * interval_ns
        low, high = math.floor(self._stride), math.ceil(self._stride)
        self._due_ns = min(max(due, stamp_ns + low * interval_ns), stamp_ns + high * interval_ns)
        self._last_ns = stamp_ns
        return True

    def _interval_ns(self) -> float:
        gaps = [after - before for before, after in pairwise(self._stamps)]
        return float(median(gaps)) if gaps else 0.0

    def _next_stride(self, interval_ns: float) -> float:
        speed = self.seconds_per_frame
        if speed is None or interval_ns <= 0:
            return self._stride
        load = speed * 1e9 / interval_ns
        if load * (HYSTERESIS if self._stride > 1.0 else 1.0) <= 1.0:
            return 1.0
        if load <= MILD_OVERLOAD:
            return max(HEADROOM * load, 1.0 + 1e-6)
        stride = math.ceil(HEADROOM * load)
        if stride < self._stride and math.ceil(HYSTERESIS * load) > stride:
            return float(math.ceil(self._stride))
        return float(stride)
