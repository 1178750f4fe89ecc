"""
Depth to points, normals, edges and support planes. Arrays in, arrays out; no ROS, no files.

Everything is in the optical frame: x right, y down, z forward [m].
"""
from __future__ import annotations

import numpy as np

from dkt_ros.camera import PinholeCamera


def depth_to_points(depth: np.ndarray, camera: PinholeCamera) -> np.ndarray:
    """Turn depth (H, W) [m] into points (H, W, 3) float32 [m]; NaN where depth is NaN."""
    return camera.unproject(depth)


def edge_mask(depth: np.ndarray, jump: float = 0.05) -> np.ndarray:
    """
    Find depth discontinuities.

    Parameters
    ----------
    depth : (H, W) float32
        [m]; NaN where invalid.
    jump : float
        Smallest change between neighbours that is an edge, as a share of the nearer depth.

    Returns
    -------
    (H, W) bool
        True at the pixels on both sides of an edge, and where a valid pixel meets an invalid one.

    """
    edges = np.zeros(depth.shape, bool)
    for here, there in (((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
                        ((slice(1, None), slice(None)), (slice(None, -1), slice(None)))):
        smooth = _is_smooth(depth[here], depth[there], jump)
        torn = ~smooth & (np.isfinite(depth[here]) | np.isfinite(depth[there]))
        edges[here] |= torn
        edges[there] |= torn
    return edges & np.isfinite(depth)


def opengl_to_optical(normals: np.ndarray) -> np.ndarray:
    """
    Turn normals with y up and z towards the camera into the optical frame (y down, z forward).

    Parameters
    ----------
    normals : (..., 3) float
        As renderers and normal estimators often give them; need not be quite of unit length.

    Returns
    -------
    (..., 3) float32
        Unit length; 0 where there was none.

    """
    flipped = normals * np.array([1, -1, -1], np.float32)
    length = np.linalg.norm(flipped, axis=-1, keepdims=True)
    return np.where(length > 0.5, flipped / np.maximum(length, 1e-6), 0).astype(np.float32)


def depth_to_normals(depth: np.ndarray, camera: PinholeCamera, jump: float = 0.05,
                     radius: int = 1) -> np.ndarray:
    """
    Take normals from metric depth, one-sided at edges and never across them.

    Parameters
    ----------
    depth : (H, W) float32
        [m]; NaN where invalid.
    camera : PinholeCamera
        Of the same size.
    jump : float
        Smallest change over `radius` pixels that counts as an edge, as a share of depth.
    radius : int
        Distance of the differences [px]; more is steadier and coarser.

    Returns
    -------
    (H, W, 3) float32
        Unit length, towards the camera (n . ray < 0); NaN where no neighbours carry one.

    """
    points = camera.unproject(depth)
    along_u = _tangent(points, depth, jump, radius)
    along_v = _tangent(points.swapaxes(0, 1), depth.T, jump, radius).swapaxes(0, 1)
    # y x x points to -z: towards the camera for a wall in front of it.
    normals = _cross(along_v, along_u)
    length = np.sqrt((normals * normals).sum(axis=-1))
    with np.errstate(invalid='ignore', divide='ignore'):
        normals /= np.where(length > 0, length, np.float32(np.nan))[..., None]
        away = (normals * points).sum(axis=-1) > 0
    normals[away] *= -1
    return normals


def fit_plane(points: np.ndarray, rng: np.random.Generator, tolerance_m: float = 0.006,
              num_trials: int = 200) -> tuple[np.ndarray, float, np.ndarray]:
    """
    Find the plane that most points lie on: the support of a table-top scene.

    Parameters
    ----------
    points : (N, 3) float
        [m]; NaN rows are ignored.
    rng : numpy.random.Generator
        Draws the trials.
    tolerance_m : float
        Largest distance of a supporting point [m].
    num_trials : int
        How many triples of points are tried.

    Returns
    -------
    ((3,) float64, float, (N,) bool)
        Unit normal n towards the origin (the camera) and d [m] with n . p = d, d < 0; the
        supporting points.

    Raises
    ------
    ValueError
        If fewer than 3 points are finite or all lie on a line.

    """
    finite = np.isfinite(points).all(axis=1)
    known = points[finite].astype(np.float64)
    if len(known) < 3:
        raise ValueError(f'{len(known)} points are finite; a plane needs 3')
    triples = known[rng.integers(0, len(known), (num_trials, 3))]
    normals = np.cross(triples[:, 1] - triples[:, 0], triples[:, 2] - triples[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    useful = lengths > 1e-9
    if not useful.any():
        raise ValueError('the points lie on a line; a plane needs three that do not')
    normals = normals[useful] / lengths[useful, None]
    offsets = (normals * triples[useful, 0]).sum(axis=1)
    sample = known[rng.integers(0, len(known), min(len(known), 2000))]
    votes = (np.abs(sample @ normals.T - offsets) < tolerance_m).sum(axis=0)
    normal, offset = normals[votes.argmax()], offsets[votes.argmax()]
    for _ in range(2):
        near = known[np.abs(known @ normal - offset) < tolerance_m]
        centre = near.mean(axis=0)
        normal = np.linalg.svd(np.cov((near - centre).T))[0][:, 2]
        offset = float(normal @ centre)
    if offset > 0:
        normal, offset = -normal, -offset
    with np.errstate(invalid='ignore'):
        inliers = np.abs(points @ normal - offset) < tolerance_m
    return normal, float(offset), inliers & finite


def cos_incidence(normals: np.ndarray, camera: PinholeCamera) -> np.ndarray:
    """
    Return the cosine of the angle at which each pixel's ray meets its surface.

    Parameters
    ----------
    normals : (H, W, 3) float32
        Unit, towards the camera.
    camera : PinholeCamera
        Of the same size.

    Returns
    -------
    (H, W) float32
        1 seen square on, 0 at grazing; NaN without a normal.

    """
    across = np.einsum('ijk,ijk->ij', normals, camera.unit_rays())
    return np.clip(np.negative(across, out=across), 0.0, 1.0, out=across)


def _is_smooth(a: np.ndarray, b: np.ndarray, jump: float) -> np.ndarray:
    with np.errstate(invalid='ignore'):
        return np.abs(a - b) <= jump * np.minimum(a, b)


def _tangent(points: np.ndarray, depth: np.ndarray, jump: float, radius: int) -> np.ndarray:
    """Mean of the forward and backward differences along axis 1 that cross no edge."""
    if depth.shape[1] <= radius:
        return np.full(points.shape, np.nan, np.float32)
    step = points[:, radius:] - points[:, :-radius]
    smooth = _is_smooth(depth[:, radius:], depth[:, :-radius], jump)
    step[~smooth] = 0
    total = np.zeros(points.shape, np.float32)
    count = np.zeros(depth.shape, np.float32)
    for where in (slice(None, -radius), slice(radius, None)):
        total[:, where] += step
        count[:, where] += smooth
    return total / np.where(count > 0, count, np.float32(np.nan))[..., None]


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    result = np.empty(a.shape, np.float32)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        result[..., i] = a[..., j] * b[..., k] - a[..., k] * b[..., j]
    return result
