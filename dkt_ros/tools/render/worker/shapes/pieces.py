"""
Convex pieces of shapes, for a solver that knows convex bodies only. Pure numpy; no bpy.

A piece is an array of vertex numbers; its convex hull stands for that part of the thing. Open
vessels fall into wedges of their wall, so that a thing can land inside of them.
"""
from __future__ import annotations

import numpy as np

TOLERANCE_M = 0.0015
"""A hull may stand off the surface by about this much."""
FLAT_M = 0.0005
"""A thinner disc belongs to its neighbour, which begins at the same ring."""
SECTORS = 12
OPEN_RADIUS_M = 0.02
"""Nothing falls through a narrower mouth: such a vessel counts as solid."""


def cuts(profile: np.ndarray) -> list[tuple[int, int]]:
    """
    Cut a profile (L, 2) into runs [i, j] whose hull stays near to it; ends are shared.

    The surface bulges away from the axis or towards it: either side of a chord counts.
    """
    runs, start = [], 0
    for end in range(1, len(profile)):
        chord = profile[end] - profile[start]
        inner = profile[start + 1:end] - profile[start]
        away = np.abs(chord[0] * inner[:, 1] - chord[1] * inner[:, 0]) \
            / max(float(np.hypot(*chord)), 1e-9)
        if end - start > 1 and away.max() > TOLERANCE_M:
            runs.append((start, end - 1))
            start = end - 1
    return [*runs, (start, len(profile) - 1)]


def solid_pieces(profile: np.ndarray, segments: int, first: int = 0) -> list[np.ndarray]:
    """
    Slice a solid of revolution into discs.

    Parameters
    ----------
    profile : (L, 2) float
        Radius and height of each ring [m].
    segments : int
        Vertices a ring.
    first : int
        Level of the profile's first ring in the mesh, whose vertices begin after one pole.

    """
    every = np.arange(0, segments, 2 if segments > 48 else 1)
    return [np.concatenate([1 + (first + level) * segments + every
                            for level in range(i, j + 1)]) for i, j in cuts(profile)
            if np.ptp(profile[i:j + 1, 1]) > FLAT_M]


def vessel_pieces(profile: np.ndarray, num_outer: int, num_inner: int,
                  segments: int) -> list[np.ndarray]:
    """
    Cut a vessel into a base of discs and a wall of wedges.

    Parameters
    ----------
    profile : (L, 2) float
        Radius and height of each ring: outer wall upwards, rim, inner wall downwards [m].
    num_outer, num_inner : int
        Rings of the outer and of the inner wall.
    segments : int
        Vertices a ring.

    """
    outer, inner = profile[:num_outer], profile[:-num_inner - 1:-1]
    rim = range(num_outer, len(profile) - num_inner)
    lowest, floor = int(np.argmin(outer[:, 1])), inner[:, 1].min()
    if inner[-1, 0] < OPEN_RADIUS_M:
        return solid_pieces(profile[lowest:rim.stop], segments, lowest)
    above = [k for k in range(lowest + 1, num_outer) if outer[k, 1] >= floor]
    pieces = solid_pieces(outer[lowest:above[0] + 1], segments, lowest)
    width = segments // SECTORS
    for i, j in cuts(inner):
        levels = [k for k in range(lowest, num_outer)
                  if _spans(outer[:, 1], k, inner[i, 1], inner[j, 1])]
        levels += [len(profile) - 1 - k for k in range(i, j + 1)]
        if j == num_inner - 1:
            levels += [*rim, num_outer - 1]
        for sector in range(SECTORS):
            columns = np.arange(sector * width, (sector + 1) * width + 1) % segments
            pieces.append(np.concatenate([1 + level * segments + columns
                                          for level in sorted(set(levels))]))
    return pieces


def _spans(heights: np.ndarray, level: int, low: float, high: float) -> bool:
    """Return True for a level between two heights, and for the next one beyond each."""
    near = heights[max(level - 1, 0):level + 2]
    return bool(near.max() >= low and near.min() <= high)


def tube_pieces(first: int, num_rings: int, around: int, step: int = 4) -> list[np.ndarray]:
    """Cut a tube of rings, whose vertices begin at `first`, into short lengths."""
    return [first + np.arange(start * around, (min(start + step, num_rings - 1) + 1) * around)
            for start in range(0, num_rings - 1, step)]
