"""What one view tells of space: seen to be free, on a surface, hidden behind one, or not seen."""
from __future__ import annotations

import cv2
import numpy as np

FREE, SURFACE, HIDDEN, UNSEEN = range(4)
POINTS_A_CELL, MAX_CELLS = 4, 400


class Visibility:
    """
    A depth buffer made from the cloud itself, so that it needs neither image nor intrinsics.

    Parameters
    ----------
    points : (N, 3) float
        Everything that was seen, the support included [m].
    viewpoint : (3,) float
        Where it was seen from.

    """

    def __init__(self, points: np.ndarray, viewpoint: np.ndarray) -> None:
        self.viewpoint = np.asarray(viewpoint, np.float64)
        forward = np.median(points, axis=0) - self.viewpoint
        forward /= np.linalg.norm(forward)
        helper = np.eye(3)[np.abs(forward).argmin()]
        right = np.cross(forward, helper)
        right /= np.linalg.norm(right)
        self._axes = np.array([right, np.cross(forward, right), forward]).T
        uv, depth = self._project(points)
        ahead = depth > 0.01
        uv, depth = uv[ahead], depth[ahead]
        self._low, high = uv.min(axis=0), uv.max(axis=0)
        area = float(np.prod(high - self._low))
        self._cell = max(np.sqrt(area * POINTS_A_CELL / len(uv)),
                         float((high - self._low).max()) / MAX_CELLS, 1e-4)
        self._size = ((high - self._low) / self._cell).astype(int) + 1
        self._buffer = self._nearest(uv, depth)

    def classify(self, points: np.ndarray, tolerance: float) -> np.ndarray:
        """Return FREE, SURFACE, HIDDEN or UNSEEN for points (..., 3); `tolerance` in depth [m]."""
        uv, depth = self._project(points.reshape(-1, 3))
        cell = np.floor((uv - self._low) / self._cell)
        inside = ((cell >= 0) & (cell < self._size)).all(axis=1) & (depth > 0)
        cell = np.where(inside[:, None], cell, 0).astype(int)
        seen = self._buffer[cell[:, 1], cell[:, 0]]
        state = np.where(depth < seen - tolerance, FREE,
                         np.where(depth > seen + tolerance, HIDDEN, SURFACE))
        state[~inside | ~np.isfinite(seen)] = UNSEEN
        return state.reshape(points.shape[:-1])

    def _project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        local = (points - self.viewpoint) @ self._axes
        depth = local[:, 2]
        return local[:, :2] / np.maximum(depth, 1e-6)[:, None], depth

    def _nearest(self, uv: np.ndarray, depth: np.ndarray) -> np.ndarray:
        width, height = self._size
        cell = ((uv - self._low) / self._cell).astype(int)
        order = np.argsort(-depth, kind='stable')
        buffer = np.full(height * width, np.inf, np.float32)
        buffer[(cell[:, 1] * width + cell[:, 0])[order]] = depth[order]
        buffer = buffer.reshape(height, width)
        # A cell that no point fell into by chance takes its nearest neighbour's depth.
        grown = cv2.erode(buffer, np.ones((3, 3), np.uint8))
        return np.where(np.isfinite(buffer), buffer, grown)


def is_unseen(state: np.ndarray) -> np.ndarray:
    """Return where nothing was seen, be it behind a surface or outside the image."""
    return (state == HIDDEN) | (state == UNSEEN)
