"""
Bodies of revolution about any axis: what stands, leans or lies.

All normals of such a body meet its axis. That is linear in the Pluecker coordinates of the axis
(Pottmann and Wallner, Computational Line Geometry, 2001), hence a fit of one small matrix.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from dkt_ros.grasp.cells import cell_keys
from dkt_ros.grasp.visibility import FREE, Visibility, is_unseen

FIT_POINTS, FIT_ROUNDS, RIDGE = 600, 5, 1e-4
BALL = 1e-3
MIN_SPREAD = 0.02
"""Least of the normals' scatter across the axis: a flat patch has no axis."""
TURNS, FOLDS, IMAGES = 30, (10, 8, 7, 6, 5, 4, 3), 9000
"""Images of a full turn that stand for a round body; numbers of edges that others may have; and
how many points images may have together."""
MAX_MISS, MIN_ACROSS = 1.5, 0.2
"""How far normals may pass the axis, in voxels; lines nearly along it tell nothing of that."""
PROVERS, PROOF_DEG = 120, (-150.0, -90.0, -45.0, -20.0, 20.0, 45.0, 90.0, 150.0, 180.0)
MAX_FREE, MIN_ALIKE, MOST_ALIKE = 0.05, 0.12, 0.5
"""Of the images that prove an axis: share where the camera looked through, share that lies on what
was seen and faces as that does, and how much that must be of all that lies there."""


@dataclass(frozen=True)
class Revolution:
    """A line: a point (3,) [m] and a unit direction (3,)."""

    point: np.ndarray
    direction: np.ndarray

    def misses(self, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """Return how far (N,) the lines along normals pass the axis [m]."""
        across = np.linalg.norm(np.cross(normals, self.direction), axis=1)
        moments = np.cross(points - self.point, normals) @ self.direction
        return np.abs(moments) / np.maximum(across, MIN_ACROSS)

    def turned(self, points: np.ndarray, normals: np.ndarray,
               angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the images (K, N, 3) of points and normals (N, 3), turned by angles (K,)."""
        a = self.direction
        cross = np.array([[0, -a[2], a[1]], [a[2], 0, -a[0]], [-a[1], a[0], 0]])
        turns = np.eye(3) + np.sin(angles)[:, None, None] * cross \
            + (1 - np.cos(angles))[:, None, None] * (cross @ cross)
        return ((points - self.point) @ turns.transpose(0, 2, 1) + self.point,
                normals @ turns.transpose(0, 2, 1))


def fit_axis(points: np.ndarray, normals: np.ndarray) -> Revolution | None:
    """
    Find the line that the normals meet, robustly.

    Parameters
    ----------
    points, normals : (N, 3) float64
        Of a surface [m].

    Returns
    -------
    Revolution or None
        None for a surface that is nearly flat.

    """
    middle = points.mean(axis=0)
    scale = max(float(np.linalg.norm(points - middle, axis=1).mean()), 1e-9)
    local = (points - middle) / scale
    moments, weight = np.cross(local, normals), np.ones(len(points))
    for _ in range(FIT_ROUNDS):
        outer = (weight[:, None] * normals).T @ normals
        mixed = (weight[:, None] * moments).T @ normals
        level = outer + RIDGE * np.trace(outer) * np.eye(3)
        solved = np.linalg.solve(level, mixed.T)
        values, vectors = np.linalg.eigh((weight[:, None] * moments).T @ moments - mixed @ solved)
        # Of a ball, any line through the middle is one: an upright one shows most of its back.
        free = vectors[:, values < values[0] + BALL * weight.sum()]
        direction = free @ free[2] if np.linalg.norm(free[2]) > 0.1 else free[:, 0]
        direction /= np.linalg.norm(direction)
        moment = -solved @ direction
        moment -= direction * (direction @ moment)
        off = np.abs(moments @ direction + normals @ moment)
        weight = 1.0 / (1.0 + (off / max(1.5 * np.median(off), 0.01)) ** 2)
    across = normals - (normals @ direction)[:, None] * direction
    if np.linalg.eigvalsh(across.T @ across / len(across))[1] < MIN_SPREAD:
        return None
    return Revolution(np.cross(direction, moment) * scale + middle, direction)


def whole(points: np.ndarray, normals: np.ndarray, visibility: Visibility, voxel: float,
          rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """
    Complete a body of revolution.

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
    (M, 3), (M, 3), (3,) float64 or None
        Points and normals where nothing was seen, and the direction of the axis, upwards; None if
        it is no body of revolution: its images lie where the camera looked through, or far from
        what was seen beside them.

    """
    order = rng.permutation(len(points))
    some = order[:FIT_POINTS]
    axis = fit_axis(points[some], normals[some])
    if axis is None:
        return None
    tree, few = cKDTree(points), some[:PROVERS]
    is_round = np.median(axis.misses(points[some], normals[some])) < MAX_MISS * voxel
    for fold in (TURNS,) if is_round else FOLDS:
        angles = 2 * np.pi * np.arange(1, fold) / fold
        images, turned = axis.turned(points[few], normals[few],
                                     np.radians(PROOF_DEG) if is_round else angles)
        if _is_proved(images, turned, tree, normals, visibility, voxel):
            break
    else:
        return None
    many = order[:IMAGES // fold]
    images, turned = axis.turned(points[many], normals[many], angles)
    images, turned = _spaced(images.reshape(-1, 3), turned.reshape(-1, 3), voxel)
    state = visibility.classify(images, 2 * voxel)
    hidden = is_unseen(state) & (images[:, 2] > 0)
    images, turned = images[hidden], turned[hidden]
    new = np.isinf(tree.query(images, distance_upper_bound=1.5 * voxel)[0])
    upwards = axis.direction if axis.direction[2] > 0 else -axis.direction
    return images[new], turned[new], upwards


def _is_proved(images: np.ndarray, turned: np.ndarray, tree: cKDTree, normals: np.ndarray,
               visibility: Visibility, voxel: float) -> bool:
    images, turned = images.reshape(-1, 3), turned.reshape(-1, 3)
    distance, nearest = tree.query(images, distance_upper_bound=2 * voxel)
    near = np.isfinite(distance)
    alike = (turned[near] * normals[nearest[near]]).sum(axis=1) > 0.8
    free = np.mean((visibility.classify(images, 2.5 * voxel) == FREE) & ~near)
    return free < MAX_FREE and alike.sum() > max(MIN_ALIKE * len(images), MOST_ALIKE * near.sum())


def _spaced(points: np.ndarray, normals: np.ndarray,
            spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Keep one point of each cell."""
    first = np.unique(cell_keys(points, spacing), return_index=True)[1]
    return points[first], normals[first]
