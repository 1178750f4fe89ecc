"""Boxes, however they lie: from two or three faces that are seen to all six."""
from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from dkt_ros.grasp.visibility import FREE, Visibility, is_unseen

FIT_POINTS, SAME, SQUARE, MIN_FACE = 400, 0.97, 0.15, 0.08
"""Points that are asked; cosines of normals of one face and of two; least share of a face."""
ON_FACE, MIN_FIT, MAX_FREE = 1.5, 0.75, 0.06
"""Distance from a face in voxels, share of the points that lie on one and look its way, and share
of the faces where the camera looked through."""


def whole(points: np.ndarray, normals: np.ndarray, visibility: Visibility, voxel: float,
          rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
    """
    Complete a box.

    Parameters
    ----------
    points, normals : (N, 3) float64
        Voxels of one thing, table frame [m].
    visibility : Visibility
        What was seen.
    voxel : float
        Their spacing [m].
    rng : numpy.random.Generator
        Draws who is asked.

    Returns
    -------
    (M, 3), (M, 3) float64 or None
        Points and normals where nothing was seen; None if it is no box, or one of which a single
        face was seen.

    """
    some = rng.permutation(len(points))[:FIT_POINTS]
    axes = _axes(normals[some])
    if axes is None:
        return None
    local, facing = points[some] @ axes, normals[some] @ axes
    low, high = local.min(axis=0), local.max(axis=0)
    near = (np.minimum(local - low, high - local) < ON_FACE * voxel) & (np.abs(facing) > 0.85)
    if near.any(axis=1).mean() < MIN_FIT:
        return None
    faces, outward = _faces(low, high, voxel)
    faces, outward = faces @ axes.T, outward @ axes.T
    new = np.isinf(cKDTree(points).query(faces, distance_upper_bound=1.5 * voxel)[0])
    state = visibility.classify(faces, 2.5 * voxel)
    if np.mean(new & (state == FREE)) > MAX_FREE:
        return None
    new &= is_unseen(state) & (faces[:, 2] > 0)
    return faces[new], outward[new]


def _axes(normals: np.ndarray) -> np.ndarray | None:
    """Return three directions (3, 3), as columns, square to each other; None without two faces."""
    alike, left, found = normals @ normals.T > SAME, np.ones(len(normals), bool), []
    for _ in range(4):
        votes = (alike & left).sum(axis=1) * left
        best = int(votes.argmax())
        if votes[best] < MIN_FACE * len(normals):
            break
        mean = normals[alike[best] & left].mean(axis=0)
        mean /= np.linalg.norm(mean)
        left &= ~alike[best]
        if all(abs(mean @ other) < SQUARE for other in found):
            found.append(mean)
    if len(found) < 2:
        return None
    first, second = found[0], found[1] - found[0] * (found[0] @ found[1])
    second /= np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)], axis=1)


def _faces(low: np.ndarray, high: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Return points on all faces of an upright box, and the normals there."""
    points, normals = [], []
    for axis in range(3):
        others = [k for k in range(3) if k != axis]
        grid = np.stack(np.meshgrid(*(np.arange(low[k] + spacing / 2, high[k], spacing)
                                      for k in others), indexing='ij'), axis=-1).reshape(-1, 2)
        for value, sign in ((low[axis], -1.0), (high[axis], 1.0)):
            face, outward = np.empty((len(grid), 3)), np.zeros((len(grid), 3))
            face[:, others], face[:, axis], outward[:, axis] = grid, value, sign
            points.append(face)
            normals.append(outward)
    return np.concatenate(points), np.concatenate(normals)
