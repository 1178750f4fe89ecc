"""Cells of a grid over points."""
from __future__ import annotations

import numpy as np


def cell_keys(points: np.ndarray, spacing: float) -> np.ndarray:
    """Return a number for the cell of each point (N, 3), the same for all points in one; (N,)."""
    cell = np.floor((points - points.min(axis=0)) / spacing).astype(np.int64)
    size = cell.max(axis=0) + 1
    return (cell[:, 0] * size[1] + cell[:, 1]) * size[2] + cell[:, 2]
