"""A stand-in for the networks: windows of five, then four frames, the truth with an error."""
from __future__ import annotations

import numpy as np

from dkt_ros.frame import DepthEstimate


class FakePerception:
    """Gives back `depth_of(frame)` in windows; counts what it was asked."""

    def __init__(self, depth_of, first=5, then=4):
        self._depth_of, self._first, self._then = depth_of, first, then
        self._waiting, self._window, self.resets = [], 0, []

    def push(self, frame):
        self._waiting.append(frame)
        size = self._then if self._window else self._first
        return self._finish() if len(self._waiting) >= size else []

    def flush(self):
        done = self._finish()
        self._window = 0
        return done

    def reset(self, reason):
        self.resets.append(reason)
        self._waiting, self._window = [], 0

    def _finish(self):
        frames, self._waiting = self._waiting, []
        self._window += 1
        result = []
        for frame in frames:
            depth = self._depth_of(frame)
            normals = np.zeros((*depth.shape, 3), np.float32)
            normals[..., 2] = -1
            result.append(DepthEstimate(
                frame, (1 / depth).astype(np.float32), self._window, normals, depth,
                np.where(np.isfinite(frame.sensor_depth), frame.sensor_depth, depth)
                if frame.sensor_depth is not None else depth,
                np.zeros(depth.shape, bool), np.ones(depth.shape, np.float32)))
        return result
