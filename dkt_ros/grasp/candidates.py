"""
Hypotheses of the hand's pose, four kinds, before anything is checked. Table frame: z up.

pair       two points whose normals face away from each other along their line: antipodal
rim        the upper edge of a thin wall: an open vessel, with one finger inside
surface    a local frame: approach against the normal, closing across the curvature
footprint  from above onto the middle of a thing, in turns about the vertical
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from dkt_ros.grasp.config import GraspConfig
from dkt_ros.grasp.grasp import Gripper

KINDS = ('pair', 'rim', 'surface', 'footprint')
PAIR, RIM, SURFACE, FOOTPRINT = range(4)
DOWN = np.array([0.0, 0.0, -1.0])
NORMAL_SLACK_DEG = 12.0
"""How far estimated normals may be off before a pair is lost; contacts are checked again."""
WALL_M, RIM_BITE_M = 0.004, 0.012
"""Assumed thickness of a wall, and how deep the TCP goes below its edge."""
PARTNERS, RIM_SAMPLES = 600, 200
"""Points of a thing that pairs are made of, and that may be the edge of a wall."""
MIN_LEAN = np.radians(12.0)
"""From which lean on the hand follows the axis of a vessel too."""
CURVATURE_M = 0.012
BITES, SURFACE_BITES = (-0.1, 0.25, 0.6, 1.0), (0.3, 0.9)
"""How deep the hand goes from above, in lengths of its fingers, where nothing stops it before."""
SHARE = {PAIR: 0.5, RIM: 0.2, SURFACE: 0.1, FOOTPRINT: 0.2}


@dataclass(frozen=True)
class Hypotheses:
    """
    F poses of the hand around points of contact.

    Attributes
    ----------
    centre : (F, 3) float64
        What is to lie between the pads [m].
    rotation : (F, 3, 3) float64
        Columns x, closing, approach.
    width : (F,) float64
        Expected distance of the contacts [m]; NaN measures it.
    reach : (F,) float64
        How far beyond `centre` the TCP should go [m].
    kind : (F,) int
        Index into KINDS.

    """

    centre: np.ndarray
    rotation: np.ndarray
    width: np.ndarray
    reach: np.ndarray
    kind: np.ndarray

    def __len__(self) -> int:
        return len(self.centre)

    def take(self, index: np.ndarray) -> Hypotheses:
        """Return a selection."""
        return Hypotheses(*(getattr(self, item.name)[index] for item in fields(self)))

    @classmethod
    def joined(cls, parts: Iterable[Hypotheses]) -> Hypotheses:
        """Return all of several sets."""
        parts = list(parts)
        return cls(*(np.concatenate([getattr(part, item.name) for part in parts])
                     for item in fields(cls)))


@dataclass(frozen=True)
class Target:
    """
    One thing, completed, in the table frame.

    Attributes
    ----------
    points, normals : (N, 3) float64
        Observed voxels, then those of the completion.
    observed : (N,) bool
        False for the completion.
    confidence : (N,) float64
        In [0, 1]; the completion has that of what it is an image of.
    centre : (2,) float64
        Its middle on the support [m].
    axis : (3,) float64
        Upward axis of a body of revolution; the vertical of all others.

    """

    points: np.ndarray
    normals: np.ndarray
    observed: np.ndarray
    confidence: np.ndarray
    centre: np.ndarray
    axis: np.ndarray = field(default_factory=lambda: -DOWN)


def make_hypotheses(target: Target, gripper: Gripper, config: GraspConfig, number: int,
                    rng: np.random.Generator) -> Hypotheses:
    """Return about `number` hypotheses for one thing, of all kinds; fewer where none fit."""
    options = config.candidates
    limit = np.cos(np.radians(options.max_tilt_deg))
    made = [pairs(target, gripper, config, rng),
            leaning_rims(target, config, rng) if options.rims else _none(),
            surfaces(target, gripper, number // 8, rng),
            footprints(target, gripper)]
    kept = [part.take(-part.rotation[:, 2, 2] >= limit - 1e-9) for part in made]
    return Hypotheses.joined(_thinned(kept, number, rng))


def _thinned(parts: list[Hypotheses], number: int,
             rng: np.random.Generator) -> Iterable[Hypotheses]:
    """Cut the larger kinds until all fit; what one kind leaves, the next may use."""
    left, share_left = number, 1.0
    for kind in sorted(range(len(parts)), key=lambda k: len(parts[k]) / SHARE[k]):
        part = parts[kind]
        room = int(left * SHARE[kind] / share_left)
        if len(part) > room:
            part = part.take(np.sort(rng.permutation(len(part))[:room]))
        left, share_left = left - len(part), share_left - SHARE[kind]
        yield part


def pairs(target: Target, gripper: Gripper, config: GraspConfig,
          rng: np.random.Generator, number: int = 90, partners: int = 2) -> Hypotheses:
    """
    Pair points whose outward normals lie within the friction cone about their line.

    Parameters
    ----------
    number : int
        Points that look for partners.
    partners : int
        Partners that each may have, the best aligned first.

    """
    some = rng.permutation(len(target.points))[:PARTNERS]
    points, normals = target.points[some], target.normals[some]
    first = np.arange(min(number, len(points)))
    # Of the line from i to j, only its length and its slope on both normals are needed.
    distance = cdist(points[first], points)
    along = (points * normals).sum(axis=1)
    facing = np.minimum(along[first, None] - normals[first] @ points.T,
                        along[None] - points[first] @ normals.T) / np.maximum(distance, 1e-9)
    cone = np.arctan(config.friction) + np.radians(NORMAL_SLACK_DEG)
    widest = gripper.max_width - 2 * config.collision.min_margin_m
    facing[(distance < 2 * config.voxel_m) | (distance > widest)] = -1
    # An approach is square to its closing axis: one that is too steep leaves none from above.
    steepest = np.sin(np.radians(min(config.candidates.max_tilt_deg, 90.0)))
    facing[np.abs(points[first, 2][:, None] - points[:, 2]) > steepest * distance] = -1
    best = np.argpartition(-facing, partners, axis=1)[:, :partners]
    rows = np.repeat(np.arange(len(first)), best.shape[1])
    columns = best.ravel()
    good = facing[rows, columns] > np.cos(cone)
    rows, columns = rows[good], columns[good]
    closing = _unit(points[columns] - points[first[rows]])
    centre = (points[first[rows]] + points[columns]) / 2
    return _rolled(centre, closing, distance[rows, columns], 0.0, PAIR,
                   config.candidates.roll_deg)


def rims(target: Target, config: GraspConfig, rng: np.random.Generator,
         number: int = 50) -> Hypotheses:
    """Find the upper edges of walls: nothing above, nothing beside across the wall."""
    points, normals = target.points[target.observed], target.normals[target.observed]
    radius = 5 * config.voxel_m
    if len(points) < 12:
        return _none()
    tree = cKDTree(points)
    high = tree.query(points + [0.0, 0.0, 3 * config.voxel_m])[0] > 1.6 * config.voxel_m
    chosen = rng.permutation(np.flatnonzero(high))[:RIM_SAMPLES]
    distance, index = tree.query(points[chosen], k=min(40, len(points)),
                                 distance_upper_bound=radius)
    known = np.isfinite(distance)
    index = np.where(known, index, 0)
    offset = np.where(known[..., None], points[index] - points[chosen, None], 0.0)
    count = known.sum(axis=1)
    across = np.where(known[..., None], normals[index], 0.0).sum(axis=1)
    # The edge itself is rounded: what counts is the lean of the wall below it.
    across[:, 2] = 0
    length = np.linalg.norm(across, axis=1)
    across /= np.maximum(length, 1e-9)[:, None]
    above = offset[..., 2].max(axis=1)
    below = -offset[..., 2].mean(axis=1)
    thick = np.sqrt(((offset * across[:, None]).sum(axis=2) ** 2).sum(axis=1) / count)
    edge = (count >= 6) & (length > 0.5 * count) & (above < 1.5 * config.voxel_m) \
        & (below > 0.25 * radius) & (thick < 2.2 * config.voxel_m)
    edge = np.flatnonzero(edge)[:number]
    centre = points[chosen[edge]] - across[edge] * WALL_M / 2
    return _rolled(centre, across[edge], np.full(len(edge), WALL_M), RIM_BITE_M, RIM,
                   config.candidates.roll_deg[:3])


def leaning_rims(target: Target, config: GraspConfig, rng: np.random.Generator) -> Hypotheses:
    """Find the edges of walls from above, and of a vessel that leans along its axis too."""
    upright = rims(target, config, rng)
    lean = np.arccos(np.clip(target.axis[2], -1.0, 1.0))
    if not MIN_LEAN < lean <= np.radians(config.candidates.max_tilt_deg):
        return upright
    side = np.cross(-DOWN, target.axis) / np.sin(lean)
    turn = Rotation.from_rotvec(-lean * side).as_matrix()
    stood = replace(target, points=target.points @ turn.T, normals=target.normals @ turn.T)
    found = rims(stood, config, rng)
    return Hypotheses.joined([upright, replace(
        found, centre=found.centre @ turn, rotation=turn.T @ found.rotation)])


def surfaces(target: Target, gripper: Gripper, number: int,
             rng: np.random.Generator, num_turns: int = 4) -> Hypotheses:
    """Approach against the normals of seen points, closing across the curvature first."""
    seen = np.flatnonzero(target.observed)
    chosen = rng.permutation(seen)[:max(number // num_turns // len(SURFACE_BITES), 4)]
    points, normals = target.points[chosen], target.normals[chosen]
    weight = (cdist(points, target.points) < CURVATURE_M).astype(np.float64)
    # The scatter of the normals around, without what lies along the point's own normal.
    outer = target.normals[:, :, None] * target.normals[:, None, :]
    scatter = (weight @ outer.reshape(-1, 9)).reshape(-1, 3, 3)
    flat = np.eye(3) - normals[:, :, None] * normals[:, None, :]
    closing = np.linalg.eigh(flat @ scatter @ flat + 1e-6 * flat)[1][:, :, -1]
    parts = []
    for turn in np.arange(num_turns) * np.pi / num_turns:
        turned = np.cos(turn) * closing + np.sin(turn) * _cross(normals, closing)
        parts += [_frames(points, turned, -normals, np.nan, bite * gripper.finger_depth, SURFACE)
                  for bite in SURFACE_BITES]
    return Hypotheses.joined(parts)


def footprints(target: Target, gripper: Gripper, num_turns: int = 12) -> Hypotheses:
    """Reach down onto the middle of a thing, and beside it along its length."""
    flat = target.points[:, :2] - target.centre
    axes = np.linalg.eigh(np.cov(flat.T) + 1e-12 * np.eye(2))[1]
    along = axes[:, 1] * np.quantile(np.abs(flat @ axes[:, 1]), 0.95) * 0.4
    top = target.points[:, 2].max()
    start = np.arctan2(axes[1, 0], axes[0, 0])
    parts = []
    for shift in (0.0, 1.0, -1.0):
        middle = target.centre + shift * along
        near = np.linalg.norm(target.points[:, :2] - middle, axis=1) < 0.02
        height = target.points[near, 2].max() if near.any() else top
        turns = start + np.arange(num_turns if shift == 0 else 1) * np.pi / num_turns
        closing = np.stack([np.cos(turns), np.sin(turns), np.zeros(len(turns))], axis=1)
        for bite in BITES:
            reach = min(bite * gripper.finger_depth, 0.6 * max(top, 0.005))
            parts.append(_frames(np.tile([*middle, height], (len(turns), 1)), closing,
                                 np.tile(DOWN, (len(turns), 1)), np.nan, reach, FOOTPRINT))
    return Hypotheses.joined(parts)


def _rolled(centre: np.ndarray, closing: np.ndarray, width: np.ndarray, reach: float, kind: int,
            rolls_deg: Iterable[float]) -> Hypotheses:
    """Turn the approach about the closing axes, from the one nearest to straight down."""
    steepest = DOWN - closing * (closing @ DOWN)[:, None]
    free = np.linalg.norm(steepest, axis=1) > 1e-3
    centre, closing, width = centre[free], closing[free], width[free]
    steepest = _unit(steepest[free])
    parts = []
    for roll in np.radians(list(rolls_deg)):
        approach = np.cos(roll) * steepest + np.sin(roll) * _cross(closing, steepest)
        parts.append(_frames(centre, closing, approach, width, reach, kind))
    return Hypotheses.joined(parts) if parts else _none()


def _frames(centre: np.ndarray, closing: np.ndarray, approach: np.ndarray,
            width: np.ndarray | float, reach: float, kind: int) -> Hypotheses:
    rotation = np.stack([_cross(closing, approach), closing, approach], axis=2)
    number = len(centre)
    return Hypotheses(centre, rotation.reshape(number, 3, 3),
                      np.broadcast_to(np.asarray(width, np.float64), number).copy(),
                      np.full(number, reach), np.full(number, kind))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """As np.cross for rows of three, without what that spends on arguments of other shapes."""
    ax, ay, az = a[..., 0], a[..., 1], a[..., 2]
    bx, by, bz = b[..., 0], b[..., 1], b[..., 2]
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


def _none() -> Hypotheses:
    return _frames(np.empty((0, 3)), np.empty((0, 3)), np.empty((0, 3)), np.nan, 0.0, PAIR)
