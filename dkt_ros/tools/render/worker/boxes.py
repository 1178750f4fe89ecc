"""Boxes: what furniture is made of, for the eye and for the solver. numpy only; no bpy."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Box:
    """A fixed box: its three sides [m] and its pose (4, 4)."""

    size: tuple[float, float, float]
    pose: np.ndarray


def box_surface(box: Box) -> tuple[np.ndarray, list]:
    """Return corners (8, 3) [m] and faces of a box, turned outwards."""
    x, y, z = (0.5 * side for side in box.size)
    corners = np.array([(sx * x, sy * y, sz * z) for sz in (-1, 1)
                        for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
    faces = [(3, 2, 1, 0), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)]
    return corners @ box.pose[:3, :3].T + box.pose[:3, 3], faces
