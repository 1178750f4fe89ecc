"""
How well the windows of a stream fit together.

The overlap of a window is held to what the window before predicted, so nothing is predicted twice
and there is no overlap to compare. What can be seen for nothing is the change from the last frame
before a seam to the first one after it, beside the change between frames inside windows.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Every fourth pixel of every fourth row is plenty for a mean.
STEP = 4


@dataclass
class SeamMonitor:
    """
    Running figures of a stream.

    Attributes
    ----------
    scale, shift : float
        Least-squares fit `after = scale * before + shift` of the disparity across the last seam;
        1 and 0 for a still camera and a perfect stream. Drift shows as a bias over many seams.
    residual : float
        Root mean square of what that fit leaves.

    """

    scale: float = 1.0
    shift: float = 0.0
    residual: float = 0.0

    def __post_init__(self) -> None:
        self._at_seams, self._num_seams = 0.0, 0
        self._inside, self._num_inside = 0.0, 0
        self._last: np.ndarray | None = None

    @property
    def ratio(self) -> float | None:
        """
        Mean |change| of disparity at seams over the same inside windows.

        None before there is one of each, or when nothing changes inside windows.
        """
        if not (self._num_seams and self._num_inside and self._inside):
            return None
        return (self._at_seams / self._num_seams) / (self._inside / self._num_inside)

    def reset(self) -> None:
        """Begin a new stream: its first frame follows no other; the sums stay."""
        self._last = None

    def add(self, disparity: np.ndarray) -> None:
        """Take the new frames of a window, disparity (n, h, w)."""
        small = np.array(disparity[:, ::STEP, ::STEP])
        if self._last is not None:
            self._at_seams += float(np.abs(small[0] - self._last).mean())
            self._num_seams += 1
            self._fit(self._last, small[0])
        if len(small) > 1:
            self._inside += float(np.abs(np.diff(small, axis=0)).mean(axis=(1, 2)).sum())
            self._num_inside += len(small) - 1
        self._last = small[-1].copy()

    def _fit(self, before: np.ndarray, after: np.ndarray) -> None:
        x, y = before.astype(np.float64), after.astype(np.float64)
        covariance, variance = ((x - x.mean()) * (y - y.mean())).mean(), x.var()
        self.scale = float(covariance / variance) if variance else 1.0
        self.shift = float(y.mean() - self.scale * x.mean())
        self.residual = float(np.sqrt(np.mean((self.scale * x + self.shift - y) ** 2)))
