"""
Things that touch, parted where their surfaces meet in a hollow.

What is convex is one thing, mostly; where two things touch, the surface is concave. Concavity as
in LCCP (Stein et al., 2014), and cuts along planes through concave places, as in CPC (Schoeler et
al., 2015), which close the gaps that noise leaves in a seam of concave edges.

Necks and stems have such hollows too, and hide behind the body they belong to. What is round about
one axis is therefore one thing again.
"""
from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from dkt_ros.grasp.cells import cell_keys
from dkt_ros.grasp.revolution import fit_axis

COARSE_VOXELS, NEIGHBOUR_STEPS = 2.2, 1.6
"""Spacing of the nodes in voxels, and how far apart neighbours are in that spacing."""
HOLLOW, STEEP = 0.35, 0.4
"""Concavity (twice the sine of half the turn of the normals) from which an edge may be a seam, and
by how much more it is one."""
PLANES, NEAR_M, SPREAD_M, OUTWARD_M = 300, 0.08, 0.1, 0.02
"""Planes that are tried; how far beyond its three places a plane cuts; how far apart these are."""
SEAM, MIN_EDGES = 0.2, 2.0
"""Strength from which an edge speaks for a seam, and how many strong ones a plane must cut."""
MIN_SHARE = 0.04
JOIN_M, ASKED, MIN_COAXIAL = 0.08, 200, 0.7
"""How far apart parts of one body may be seen, points of each that are asked, and least share of
them whose normals meet the common axis."""


def split(points: np.ndarray, normals: np.ndarray, voxel: float,
          rng: np.random.Generator) -> np.ndarray:
    """
    Part a cluster along its concave seams.

    Parameters
    ----------
    points, normals : (N, 3) float64
        Voxels of a cluster [m], and unit normals.
    voxel : float
        Their spacing [m].
    rng : numpy.random.Generator
        Draws the planes.

    Returns
    -------
    (N,) int
        Number of the part, from 0 on.

    """
    step = COARSE_VOXELS * voxel
    nodes, facing, owner = _nodes(points, normals, step)
    edges = cKDTree(nodes).query_pairs(NEIGHBOUR_STEPS * step, output_type='ndarray')
    if len(nodes) < 8 or not len(edges):
        return np.zeros(len(points), int)
    strength = _strength(nodes, facing, edges)
    # What a seam touches is left out: at its ends, and where a gap hides most of it, normals are
    # smeared, and a few edges would hold two things together. `_large` gives it to the nearest.
    seam = np.zeros(len(nodes), bool)
    seam[edges[strength > SEAM]] = True
    kept = edges[~_seams(nodes, facing, edges, strength, rng) & ~seam[edges].any(axis=1)]
    graph = coo_matrix((np.ones(len(kept)), kept.T), (len(nodes), len(nodes)))
    return _large(points, connected_components(graph, directed=False)[1][owner])


def join(points: np.ndarray, normals: np.ndarray, labels: np.ndarray, voxel: float,
         is_gap: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """
    Give parts that are round about one axis the same number: neck and body, stem and bowl.

    Parameters
    ----------
    points, normals : (N, 3) float64
        Voxels [m], and unit normals.
    labels : (N,) int
        Number of the part; negative for what is none.
    voxel : float
        Spacing of the voxels [m].
    is_gap : callable
        Says of points (M, 3) where the camera looked through: no body is there.

    Returns
    -------
    (N,) int
        Numbers with gaps: of joined parts, the smallest.

    """
    labels = labels.copy()
    members = {number: np.flatnonzero(labels == number) for number in np.unique(labels)
               if number >= 0}
    some = {number: mine[::max(1, len(mine) // ASKED)] for number, mine in members.items()}
    trees = {number: cKDTree(points[mine]) for number, mine in members.items()}
    for one, other in combinations(sorted(members), 2):
        distance = trees[one].query(points[some[other]], distance_upper_bound=JOIN_M)[0]
        if np.isfinite(distance).any() and _share_axis(
                *((points[some[k]], normals[some[k]]) for k in (one, other)), voxel, is_gap):
            mine, theirs = labels[members[one][0]], labels[members[other][0]]
            labels[(labels == mine) | (labels == theirs)] = min(mine, theirs)
    return labels


def _share_axis(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray],
                voxel: float, is_gap: Callable[[np.ndarray], np.ndarray]) -> bool:
    axis = fit_axis(*(np.concatenate(pair) for pair in zip(one, other)))
    if axis is None or any(np.mean(axis.misses(*part) < voxel) < MIN_COAXIAL
                           for part in (one, other)):
        return False
    # Two balls have a common axis wherever they lie.
    if _is_ball(*one, voxel) and _is_ball(*other, voxel):
        return False
    ends = [(part[0] - axis.point) @ axis.direction for part in (one, other)]
    between = np.arange(min(end.max() for end in ends), max(end.min() for end in ends), voxel)
    return not is_gap(axis.point + between[:, None] * axis.direction).any()


def _is_ball(points: np.ndarray, normals: np.ndarray, voxel: float) -> bool:
    """Return True if the normals meet in a point."""
    across = np.eye(3) - normals[:, :, None] * normals[:, None, :]
    level = across.sum(axis=0) + 1e-9 * np.eye(3)
    centre = np.linalg.solve(level, np.einsum('nij,nj->i', across, points))
    off = np.linalg.norm(np.einsum('nij,nj->ni', across, points - centre), axis=1)
    return bool(np.median(off) < voxel)


def _nodes(points: np.ndarray, normals: np.ndarray,
           step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return means (K, 3) of points and normals over cells, and the cell (N,) of each point."""
    _, owner = np.unique(cell_keys(points, step), return_inverse=True)
    count = np.bincount(owner)[:, None]
    mean = np.stack([np.bincount(owner, column) for column in points.T], axis=1) / count
    facing = np.stack([np.bincount(owner, column) for column in normals.T], axis=1)
    facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-9)
    return mean, facing, owner


def _strength(nodes: np.ndarray, facing: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return how much each edge (E,) looks like a seam, in [0, 1]."""
    along = nodes[edges[:, 0]] - nodes[edges[:, 1]]
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    turn = facing[edges[:, 1]] - facing[edges[:, 0]]
    return np.clip(((turn * along).sum(axis=1) - HOLLOW) / STEEP, 0.0, 1.0)


def _seams(nodes: np.ndarray, facing: np.ndarray, edges: np.ndarray, strength: np.ndarray,
           rng: np.random.Generator) -> np.ndarray:
    """Return which edges (E,) are cut: those across planes that cross concave ones mostly."""
    cut = np.zeros(len(edges), bool)
    hollow = np.flatnonzero(strength > 0.5)
    if len(hollow) < MIN_EDGES:
        return cut
    middle = (nodes[edges[:, 0]] + nodes[edges[:, 1]]) / 2
    first = rng.choice(hollow, PLANES)
    others = rng.choice(hollow, (2, PLANES))
    places = np.stack([middle[first], *middle[others]], axis=1)
    # Three places of a straight seam lie in a line: there the plane holds the way out of it too.
    straight = slice(0, PLANES // 2)
    places[straight, 2] = places[straight, 0] + OUTWARD_M * facing[edges[first[straight]]].mean(
        axis=1)
    across = np.cross(places[:, 1] - places[:, 0], places[:, 2] - places[:, 0])
    length = np.linalg.norm(across, axis=1)
    spread = np.linalg.norm(places - places[:, :1], axis=2).max(axis=1)
    good = (length > 1e-5) & (spread < SPREAD_M)
    places, across = places[good], across[good] / length[good, None]
    heart = places.mean(axis=1)
    reach = np.linalg.norm(places - heart[:, None], axis=2).max(axis=1) + NEAR_M
    side = nodes @ across.T > (heart * across).sum(axis=1)
    apart = (side[edges[:, 0]] != side[edges[:, 1]]).T
    near = ((middle ** 2).sum(axis=1) - 2 * heart @ middle.T
            + (heart ** 2).sum(axis=1)[:, None]) < reach[:, None] ** 2
    crossed = (apart & near).astype(np.float32)
    while len(crossed):
        value = crossed @ np.where(cut, 0.0, strength - SEAM).astype(np.float32)
        best = int(value.argmax())
        if value[best] < MIN_EDGES * (1 - SEAM):
            break
        cut |= crossed[best] > 0
    return cut


def _large(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Give what is too small for a part to the nearest one; number the parts from 0 on."""
    count = np.bincount(labels)
    large = (count >= max(MIN_SHARE * len(points), 20))[labels]
    if not large.any():
        return np.zeros(len(points), int)
    labels = labels.copy()
    if not large.all():
        labels[~large] = labels[large][cKDTree(points[large]).query(points[~large])[1]]
    return np.unique(labels, return_inverse=True)[1]
