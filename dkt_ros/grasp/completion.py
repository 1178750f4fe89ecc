"""
The unseen back of a thing, by its symmetry.

One view shows the front of a thing only, but most things that people make are symmetric about a
vertical axis (half a turn: boxes, bottles, glasses, bowls) or about a vertical plane (mugs, lying
bottles). Pairs of points that could be images of each other vote for axes and planes; the best
are proved against what was seen: an image must not lie where the camera looked through.
"""
from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import cv2
import numpy as np
from scipy.spatial import cKDTree

from dkt_ros.grasp import boxes, revolution
from dkt_ros.grasp.visibility import FREE, HIDDEN, Visibility, is_unseen

VOTERS, PROVERS, PEAKS = 170, 250, 3
YAW_BINS = 18
MAX_FREE, MIN_SUPPORT, MIN_GAIN = 0.08, 0.05, 0.2
REFINE = (-1.5, 0.0, 1.5)
"""Steps around a peak of the votes, which lies on a grid and is drawn by noise."""
FLAT_WEIGHT = 0.15
"""Weight of a vote by level surfaces, which know the middle of a thing but not well."""


@dataclass(frozen=True)
class Completion:
    """
    What symmetry adds to a thing.

    Attributes
    ----------
    points, normals : (M, 3) float64
        Images of observed points, where nothing was seen.
    centre : (2,) float64
        Middle of the thing on the support, as far as known.
    axis : (3,) float64
        Axis of a body of revolution, upwards; the vertical of all others.

    """

    points: np.ndarray
    normals: np.ndarray
    centre: np.ndarray
    axis: np.ndarray = field(default_factory=lambda: np.array([0.0, 0.0, 1.0]))


@dataclass(frozen=True)
class Symmetry:
    """p -> A p + b on the horizontal coordinates; z stays."""

    linear: np.ndarray
    shift: np.ndarray
    centre: np.ndarray | None = None

    def points(self, points: np.ndarray) -> np.ndarray:
        """Return the images of points (N, 3)."""
        return np.concatenate([points[:, :2] @ self.linear.T + self.shift, points[:, 2:]], axis=1)

    def normals(self, normals: np.ndarray) -> np.ndarray:
        """Return the images of normals (N, 3)."""
        return np.concatenate([normals[:, :2] @ self.linear.T, normals[:, 2:]], axis=1)


def complete(points: np.ndarray, normals: np.ndarray, visibility: Visibility, voxel: float,
             rng: np.random.Generator) -> Completion:
    """
    Complete a thing (N, 3), table frame [m]; adds nothing where no symmetry is proved.

    Parameters
    ----------
    points, normals : (N, 3) float64
        Voxels of one thing.
    visibility : Visibility
        What was seen.
    voxel : float
        Their spacing [m].
    rng : numpy.random.Generator
        Draws who votes.

    """
    middle = (points[:, :2].min(axis=0) + points[:, :2].max(axis=0)) / 2
    nothing = Completion(np.empty((0, 3)), np.empty((0, 3)), middle)
    if len(points) < 30:
        return nothing
    back = boxes.whole(points, normals, visibility, voxel, rng)
    if back is None:
        back = revolution.whole(points, normals, visibility, voxel, rng)
    if back is not None:
        everything = np.concatenate([points, back[0]])[:, :2]
        return Completion(*back[:2], (everything.min(axis=0) + everything.max(axis=0)) / 2,
                          *back[2:])
    voters, some = (rng.permutation(len(points))[:number] for number in (VOTERS, PROVERS))
    families = [*_axes(points[voters], normals[voters], voxel),
                *_planes(points[voters], normals[voters], middle, voxel)]
    candidates = [_refined(family, points[some[::3]], visibility, voxel) for family in families]
    tree = cKDTree(points)
    proved = [(_proof(symmetry, points[some], normals[some], normals, tree, visibility, voxel),
               symmetry) for symmetry in candidates]
    proved = [(value, symmetry) for value, symmetry in proved if value > 0]
    if not proved:
        return nothing
    best = max(proved, key=lambda item: item[0])[1]
    images = best.points(points)
    # What lies in front of the seen surface is refuted; what coincides with it is known already.
    state = visibility.classify(images, 2 * voxel)
    new = is_unseen(state) & (tree.query(images)[0] > 1.5 * voxel)
    return Completion(images[new], best.normals(normals)[new],
                      _centre(best, points, images[new], middle))


def _centre(best: Symmetry, points: np.ndarray, images: np.ndarray,
            middle: np.ndarray) -> np.ndarray:
    if best.centre is not None:
        return best.centre
    whole = np.concatenate([points, images])[:, :2]
    return (whole.min(axis=0) + whole.max(axis=0)) / 2


def _proof(symmetry: Symmetry, points: np.ndarray, normals: np.ndarray, all_normals: np.ndarray,
           tree: cKDTree, visibility: Visibility, voxel: float) -> float:
    """Return how well a symmetry is borne out; 0 if refuted or of no use."""
    images, turned = symmetry.points(points), symmetry.normals(normals)
    distance, nearest = tree.query(images)
    near = distance < 2 * voxel
    support = np.mean(near & ((turned * all_normals[nearest]).sum(axis=1) > 0.7))
    state = visibility.classify(images, 2.5 * voxel)
    free = np.mean((state == FREE) & ~near)
    gain = np.mean((state == HIDDEN) & ~near)
    if free > MAX_FREE or support < MIN_SUPPORT or gain < MIN_GAIN:
        return 0.0
    return float(support + 0.3 * gain - 2 * free)


def _pairs(points: np.ndarray, voxel: float) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.triu_indices(len(points), 1)
    level = np.abs(points[first, 2] - points[second, 2]) < 1.5 * voxel
    return first[level], second[level]


def _refined(family: list[Symmetry], points: np.ndarray, visibility: Visibility,
             voxel: float) -> Symmetry:
    """Return the one of close symmetries that puts least where the camera looked through."""
    images = np.stack([symmetry.points(points) for symmetry in family])
    free = (visibility.classify(images, 2.5 * voxel) == FREE).mean(axis=1)
    return family[int(free.argmin())]


def _axes(points: np.ndarray, normals: np.ndarray, voxel: float) -> list[list[Symmetry]]:
    """Return half turns about vertical axes that most pairs agree on, each with close ones."""
    i, j = _pairs(points, voxel)
    turned = normals[i] * np.array([-1.0, -1.0, 1.0])
    agree = (turned * normals[j]).sum(axis=1) > 0.9
    i, j = i[agree], j[agree]
    middles = (points[i, :2] + points[j, :2]) / 2
    weights = FLAT_WEIGHT + np.linalg.norm(normals[i, :2], axis=1) ** 2
    # The nearest to the peak first: of equals, that one is taken.
    steps = sorted(itertools.product(REFINE, REFINE), key=lambda step: np.hypot(*step))
    return [[Symmetry(-np.eye(2), 2 * centre, centre)
             for centre in (peak + voxel * np.array(step) for step in steps)]
            for peak in _peaks(middles, weights, np.array([voxel, voxel]))]


def _planes(points: np.ndarray, normals: np.ndarray, middle: np.ndarray,
            voxel: float) -> list[list[Symmetry]]:
    """Return reflections in vertical planes that most pairs agree on, each with close ones."""
    i, j = _pairs(points, voxel)
    across = points[j, :2] - points[i, :2]
    length = np.linalg.norm(across, axis=1)
    far = length > 4 * voxel
    i, j, across = i[far], j[far], across[far] / length[far, None]
    lean = (normals[i, :2] * across).sum(axis=1)
    mirrored = normals[i].copy()
    mirrored[:, :2] -= 2 * lean[:, None] * across
    agree = (mirrored * normals[j]).sum(axis=1) > 0.9
    i, j, across, lean = i[agree], j[agree], across[agree], lean[agree]
    yaw = np.arctan2(across[:, 1], across[:, 0]) % np.pi
    direction = np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    offset = (((points[i, :2] + points[j, :2]) / 2 - middle) * direction).sum(axis=1)
    peaks = _peaks(np.stack([yaw, offset], axis=1), FLAT_WEIGHT + lean ** 2,
                   np.array([np.pi / YAW_BINS, voxel]))
    steps = sorted(itertools.product(REFINE, REFINE), key=lambda step: np.hypot(*step))
    return [[_reflection(peak[0] + turn * np.pi / YAW_BINS / 3, peak[1] + aside * voxel, middle)
             for turn, aside in steps] for peak in peaks]


def _reflection(yaw: float, offset: float, middle: np.ndarray) -> Symmetry:
    direction = np.array([np.cos(yaw), np.sin(yaw)])
    linear = np.eye(2) - 2 * np.outer(direction, direction)
    return Symmetry(linear, 2 * (offset + middle @ direction) * direction)


def _peaks(votes: np.ndarray, weights: np.ndarray, cell: np.ndarray) -> list[np.ndarray]:
    """Return the strongest places (2,) of weighted votes (N, 2)."""
    if not len(votes):
        return []
    low = votes.min(axis=0) - 2 * cell
    index = ((votes - low) / cell).astype(int)
    size = index.max(axis=0) + 3
    histogram = np.bincount(index[:, 0] * size[1] + index[:, 1], weights,
                            minlength=int(size[0] * size[1])).reshape(size)
    smooth = cv2.GaussianBlur(histogram, (5, 5), 1.0)
    found = []
    for _ in range(PEAKS):
        row, column = np.unravel_index(smooth.argmax(), smooth.shape)
        if smooth[row, column] <= 0:
            break
        found.append(low + (np.array([row, column]) + 0.5) * cell)
        smooth[max(row - 2, 0):row + 3, max(column - 2, 0):column + 3] = 0
    return found
