"""
From a raw cloud to things on a support: crop, voxels, plane, clusters, normals (Open3D).

Behind the plane step everything is in the table frame: z up from the support, which is z = 0.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from dkt_ros.grasp.config import ClusterConfig, GraspConfig, PlaneConfig, WorkspaceConfig
from dkt_ros.grasp.segments import join, split

CAMERA_UP = np.array([0.0, -1.0, -1.0]) / np.sqrt(2.0)
"""Up in the optical frame of an upright camera that looks down by 45 degrees."""
PLANE_POINTS, PLANE_VOXEL_M = 40000, 0.008
RANSAC_POINTS, RANSAC_TRIALS, MAX_PLANES = 3000, 150, 3
MIN_NEIGHBOURS, WALL_POINTS = 4, 250
OBSTACLE, NOISE = -1, -2
MAX_PILES = 2.0
"""Clusters larger than so many things are not parted: that is furniture."""
SUPPORT_BAND_M, BORDER_PX = 0.015, 2
MAX_DENT_M, LIKE = 0.03, 1.5
"""Noise makes no deeper dents; and so many times the points and the depth of one are like it."""
NORMAL_RADIUS_VOXELS, NORMAL_NEIGHBOURS = 3.0, 20


class NoGrasp(Exception):
    """The planner cannot go on; the message says why and what helps."""


@dataclass(frozen=True)
class Things:
    """
    What stands on the support, in the table frame.

    Attributes
    ----------
    points, normals : (N, 3) float64
        Voxels of all things and their unit normals, towards the camera.
    confidence : (N,) float64
        In [0, 1].
    labels : (N,) int
        Number of the thing; OBSTACLE for what is only in the way: a wall, a large body, a thing
        that the workspace or the image cuts.

    """

    points: np.ndarray
    normals: np.ndarray
    confidence: np.ndarray
    labels: np.ndarray

    @property
    def num_objects(self) -> int:
        """How many things there are."""
        return int(self.labels.max(initial=-1)) + 1


def crop(points: np.ndarray, workspace: WorkspaceConfig, T_workspace_frame: np.ndarray,
         grow: float = 0.0) -> np.ndarray:
    """Return which of the points (N, 3) lie in the box, grown by `grow` [m], (N,) bool."""
    inside = np.ones(len(points), bool)
    for row, low, high in zip(T_workspace_frame[:3], workspace.lower, workspace.upper):
        along = points @ row[:3].astype(points.dtype) + points.dtype.type(row[3])
        inside &= (along >= low - grow) & (along <= high + grow)
    return inside


def voxels(points: np.ndarray, confidence: np.ndarray | None,
           voxel_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Average points (N, 3) and their confidence (N,) over voxels; sorted, hence repeatable."""
    import open3d as o3d
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points.astype(np.float64)))
    if confidence is not None:
        # Open3D averages colours with the points; the confidence travels as one.
        cloud.colors = o3d.utility.Vector3dVector(
            np.repeat(confidence[:, None].astype(np.float64), 3, axis=1))
    thin = cloud.voxel_down_sample(voxel_m)
    result = np.asarray(thin.points)
    order = np.lexsort(result.T)
    certain = np.ones(len(result)) if confidence is None else np.asarray(thin.colors)[:, 0]
    return result[order], certain[order]


def support_noise(points: np.ndarray) -> float:
    """Return up to which height [m] the noise of the depth makes points of the support z = 0."""
    near = np.abs(points[:, 2])
    near = near[near < SUPPORT_BAND_M]
    return 2.5 * 1.4826 * float(np.median(near)) if len(near) else 0.0


def find_dents(points: np.ndarray, lowest: float, config: GraspConfig) -> list[tuple[int, float]]:
    """
    Find what noise does to the support: it makes as many dents in it as bumps on it.

    Parameters
    ----------
    points : (N, 3) float
        In the table frame [m].
    lowest : float
        How far below the support a dent begins, and a bump above it [m].
    config : GraspConfig
        Voxels and clusters.

    Returns
    -------
    list of (int, float)
        Number of voxels and depth [m] of each dent. What goes deeper than MAX_DENT_M is none: the
        floor beside a table, or what was seen through glass.

    """
    below = points[(points[:, 2] < -lowest) & (points[:, 2] > -2 * MAX_DENT_M)]
    if not len(below):
        return []
    below, _ = voxels(below, None, config.voxel_m)
    _, raw, nearest = _coarse_clusters(below, config)
    raw = raw[nearest]
    dents = [(int(members.sum()), float(-below[members, 2].min()))
             for members in (raw == number for number in range(raw.max(initial=-1) + 1))]
    return [(size, depth) for size, depth in dents
            if LIKE * size >= config.cluster.min_points and depth < MAX_DENT_M]


def _coarse_clusters(points: np.ndarray, config: GraspConfig
                     ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return coarse points (M, 3), the cluster of each or -1, and the nearest to each point."""
    import open3d as o3d
    # Clusters need no more detail than their gap; the fine points then ask their coarse voxel.
    coarse, _ = voxels(points, None, max(config.cluster.gap_m / 2, config.voxel_m))
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(coarse))
    clusters = np.array(cloud.cluster_dbscan(config.cluster.gap_m, MIN_NEIGHBOURS))
    return coarse, clusters, cKDTree(coarse).query(points)[1]


def image_border(points: np.ndarray) -> np.ndarray:
    """Return the finite points (B, 3) along the edges of an organised cloud; none of others."""
    if points.ndim != 3 or min(points.shape[:2]) < 2 * BORDER_PX + 1:
        return np.empty((0, 3))
    edge = np.ones(points.shape[:2], bool)
    edge[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = False
    border = points[edge]
    return border[np.isfinite(border).all(axis=1)].astype(np.float64)


def find_support(points: np.ndarray, config: PlaneConfig, up: np.ndarray | None,
                 seed: int) -> tuple[np.ndarray, float]:
    """
    Find the plane that things stand on.

    Parameters
    ----------
    points : (N, 3) float
        Everything in the workspace [m].
    config : PlaneConfig
        Tolerance and how far from horizontal the plane may be.
    up : (3,) float or None
        Away from gravity in the frame of the points; None assumes the optical frame of an
        upright camera that looks down.
    seed : int
        Of RANSAC.

    Returns
    -------
    (3,) float64, float
        Unit normal n, upwards, and d [m] with n . p = d.

    Raises
    ------
    NoGrasp
        If no plane is near enough to horizontal and large enough.

    """
    import open3d as o3d
    o3d.utility.random.seed(seed)
    step = max(1, len(points) // PLANE_POINTS)
    # Voxels, so that a plane counts by its area and not by its nearness to the camera.
    points = voxels(points[::step], None, PLANE_VOXEL_M)[0]
    up, rest = CAMERA_UP if up is None else np.asarray(up, np.float64), points
    least, found = config.min_share * len(points), []
    for _ in range(MAX_PLANES):
        if len(rest) < max(least, 10):
            break
        step = max(1, len(rest) // RANSAC_POINTS)
        cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(rest[::step]))
        # Probability 1 never stops early: threads would make that a matter of chance.
        model, _ = cloud.segment_plane(config.tolerance_m, 3, RANSAC_TRIALS, 1.0)
        normal, offset = _refined(rest, np.array(model[:3]), -model[3], config.tolerance_m)
        if normal @ up < 0:
            normal, offset = -normal, -offset
        on_plane = np.abs(rest @ normal - offset) < 2 * config.tolerance_m
        tilt = np.degrees(np.arccos(np.clip(normal @ up, -1, 1)))
        if tilt <= config.max_tilt_deg and on_plane.sum() >= least:
            return normal, offset
        found.append(f'{on_plane.sum() / len(points):.0%} of the points at {tilt:.0f} deg')
        rest = rest[~on_plane]
    raise NoGrasp(
        f'no support plane: none within {config.max_tilt_deg:g} deg of horizontal has '
        f'{config.min_share:.0%} of the points (seen: {", ".join(found) or "no plane"}); turn the '
        'camera to the table, raise plane.max_tilt_deg, or set plane.source to fixed or none')


def _refined(points: np.ndarray, normal: np.ndarray, offset: float,
             tolerance: float) -> tuple[np.ndarray, float]:
    for _ in range(2):
        near = points[np.abs(points @ normal - offset) < tolerance]
        centre = near.mean(axis=0)
        normal = np.linalg.eigh(np.cov((near - centre).T))[1][:, 0]
        offset = float(normal @ centre)
    return normal, offset


def table_pose(normal: np.ndarray, offset: float) -> np.ndarray:
    """Return T_table_frame (4, 4): z along the normal of the plane, which becomes z = 0."""
    helper = np.eye(3)[np.abs(normal).argmin()]
    x = np.cross(helper, normal)
    x /= np.linalg.norm(x)
    pose = np.eye(4)
    pose[:3, :3] = np.array([x, np.cross(normal, x), normal])
    pose[2, 3] = -offset
    return pose


def transform(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a pose (4, 4) to points (..., 3)."""
    return points @ pose[:3, :3].T + pose[:3, 3]


def find_things(points: np.ndarray, confidence: np.ndarray, viewpoint: np.ndarray,
                is_whole: Callable[[np.ndarray], bool],
                is_gap: Callable[[np.ndarray], np.ndarray], config: GraspConfig,
                dents: Sequence[tuple[int, float]] = ()) -> Things:
    """
    Cluster what rises above the support.

    Parameters
    ----------
    points : (N, 3) float64
        Voxels in the table frame, the support left out.
    confidence : (N,) float64
        Of each.
    viewpoint : (3,) float64
        The camera, which normals point to.
    is_whole : callable
        Says of the points of a cluster whether the workspace holds all of it; else it is only in
        the way.
    is_gap : callable
        Says of points (M, 3) where the camera looked through.
    config : GraspConfig
        Voxels and clusters.
    dents : sequence of (int, float)
        Of `find_dents`: a bump that is like one of them is no thing.

    """
    coarse, raw, nearest = _coarse_clusters(points, config)
    # Seen at a grazing angle, a wall falls into pieces that look like things.
    raw[_walls(coarse, config)] = -1
    raw = raw[nearest]
    normals, grouped = np.zeros_like(points), raw >= 0
    if grouped.any():
        normals[grouped] = _normals(points[grouped], viewpoint, config.voxel_m)
    if config.cluster.split:
        raw = join(points, normals, _parted(points, normals, raw, config), config.voxel_m, is_gap)
    labels = _sorted_labels(points, raw, viewpoint, is_whole, config.cluster, dents)
    known = labels > NOISE
    return Things(points[known], normals[known], confidence[known], labels[known])


def _is_bump(body: np.ndarray, dents: Sequence[tuple[int, float]]) -> bool:
    top = body[:, 2].max()
    return any(len(body) < LIKE * size and top < LIKE * depth for size, depth in dents)


def _parted(points: np.ndarray, normals: np.ndarray, raw: np.ndarray,
            config: GraspConfig) -> np.ndarray:
    """Give the parts of clusters that touch numbers of their own; walls stay what they are."""
    rng, parted, number = np.random.default_rng(config.seed), raw.copy(), 0
    for cluster in range(raw.max(initial=-1) + 1):
        mine = raw == cluster
        body, parts = points[mine], np.zeros(mine.sum(), int)
        if len(body) > 2 * config.cluster.min_points \
                and np.ptp(body, axis=0).max() < MAX_PILES * config.cluster.max_size_m:
            parts = split(body, normals[mine], config.voxel_m, rng)
        parted[mine] = number + parts
        number += int(parts.max(initial=0)) + 1
    return parted


def _walls(points: np.ndarray, config: GraspConfig) -> np.ndarray:
    """Return which of the points lie on planes larger than any thing, or behind them."""
    import open3d as o3d
    wall = np.zeros(len(points), bool)
    for _ in range(MAX_PLANES):
        rest = np.flatnonzero(~wall)
        if len(rest) < WALL_POINTS:
            break
        cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points[rest]))
        model, near = cloud.segment_plane(config.plane.tolerance_m, 3, RANSAC_TRIALS, 1.0)
        size = np.ptp(points[rest[near]], axis=0).max()
        if len(near) < WALL_POINTS or size < config.cluster.max_size_m:
            break
        wall |= np.abs(points @ model[:3] + model[3]) < 3 * config.plane.tolerance_m
    return wall


def _normals(points: np.ndarray, viewpoint: np.ndarray, voxel: float) -> np.ndarray:
    import open3d as o3d
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
    cloud.estimate_normals(o3d.geometry.KDTreeSearchParamHybrid(
        NORMAL_RADIUS_VOXELS * voxel, NORMAL_NEIGHBOURS))
    cloud.orient_normals_towards_camera_location(viewpoint)
    return np.asarray(cloud.normals)


def _sorted_labels(points: np.ndarray, raw: np.ndarray, viewpoint: np.ndarray,
                   is_whole: Callable[[np.ndarray], bool], config: ClusterConfig,
                   dents: Sequence[tuple[int, float]]) -> np.ndarray:
    """Give clusters numbers, nearest first: OBSTACLE to no things, NOISE to crumbs and bumps."""
    labels, things = np.full(len(points), NOISE), []
    for number in range(raw.max(initial=-1) + 1):
        members = raw == number
        body = points[members]
        if len(body) < config.min_points or _is_bump(body, dents):
            continue
        labels[members] = OBSTACLE
        if np.ptp(body, axis=0).max() <= config.max_size_m and is_whole(body):
            things.append((np.linalg.norm(body.mean(axis=0) - viewpoint), number))
    for label, (_, number) in enumerate(sorted(things)[:config.max_objects]):
        labels[raw == number] = label
    return labels
