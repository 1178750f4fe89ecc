"""A clip as timed frames: when each frame is due, and which stamp it carries. No ROS."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dkt_ros.data.scenes import SceneFrame

DEFAULT_PERIOD_NS = 33_333_333


@dataclass(frozen=True)
class Due:
    """
    One frame to publish.

    Attributes
    ----------
    index : int
        Position in the clip, the same in each round of a loop.
    offset_ns : int
        When to publish it, from the start [ns].
    item : SceneFrame
        The frame, with its pose where the clip knows it.

    """

    index: int
    offset_ns: int
    item: SceneFrame


def schedule(read: Callable[[], Iterator[SceneFrame]], rate_hz: float, loop: bool,
             max_frames: int = 0) -> Iterator[Due]:
    """
    Yield the frames of a clip with their times, which never jump back, in a loop neither.

    Parameters
    ----------
    read : callable
        Gives the clip from its beginning; called for each round.
    rate_hz : float
        Frames a second; 0 takes the spacing of the clip's stamps.
    loop : bool
        Start again at the end, for ever.
    max_frames : int
        Stop after so many; 0 is all.

    """
    round_start_ns, sent = 0, 0
    while True:
        first_ns, last_offset, spacing = None, 0, DEFAULT_PERIOD_NS
        for index, item in enumerate(read()):
            if max_frames and sent >= max_frames:
                return
            stamp_ns = item.frame.stamp_ns
            first_ns = stamp_ns if first_ns is None else first_ns
            offset = round(index * 1e9 / rate_hz) if rate_hz else stamp_ns - first_ns
            if index:
                spacing = offset - last_offset
            last_offset = offset
            sent += 1
            yield Due(index, round_start_ns + offset, item)
        if first_ns is None:
            raise ValueError('the clip has no frames; give a clip with at least one')
        if not loop:
            return
        round_start_ns += last_offset + spacing
