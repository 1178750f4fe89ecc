"""Points, normals, edges and planes of analytic surfaces."""
import numpy as np
import pytest

from dkt_ros import geometry
from dkt_ros.camera import PinholeCamera

CAMERA = PinholeCamera(80, 60, 70.0, 72.0, 39.5, 29.5)
BENT = PinholeCamera(80, 60, 70.0, 72.0, 39.5, 29.5, distortion=(0.1, -0.05, 0.0, 0.0, 0.0))


def plane_depth(normal, distance, camera=CAMERA):
    return (distance / (camera.rays() @ np.float32(normal))).astype(np.float32)


def unit(*xyz):
    return np.array(xyz, np.float64) / np.linalg.norm(xyz)


def test_points_lie_on_the_plane_they_came_from():
    normal = unit(0.2, 0.5, 0.8)
    points = geometry.depth_to_points(plane_depth(normal, 0.6), CAMERA)
    np.testing.assert_allclose(points @ normal, 0.6, atol=1e-6)


@pytest.mark.parametrize('camera', [CAMERA, BENT], ids=['plain', 'distorted'])
@pytest.mark.parametrize('normal', [(0, 0, 1), (0.3, 0, 1), (0, 0.9, 0.8), (-0.4, 0.3, 0.7)])
@pytest.mark.parametrize('radius', [1, 2])
def test_normals_of_a_plane_are_exact_and_face_the_camera(normal, camera, radius):
    depth = plane_depth(unit(*normal), 0.5, camera)
    normals = geometry.depth_to_normals(depth, camera, jump=0.2, radius=radius)
    np.testing.assert_allclose(normals, np.broadcast_to(-unit(*normal), normals.shape), atol=2e-3)


def test_normals_do_not_bend_at_an_edge():
    depth = plane_depth(unit(0.2, 0, 1), 0.5)
    depth[:, 40:] = plane_depth(unit(-0.2, 0, 1), 0.9)[:, 40:]
    normals = geometry.depth_to_normals(depth, CAMERA)
    np.testing.assert_allclose(normals[30, 39], -unit(0.2, 0, 1), atol=2e-3)
    np.testing.assert_allclose(normals[30, 40], -unit(-0.2, 0, 1), atol=2e-3)


@pytest.mark.filterwarnings('error')
def test_no_depth_gives_no_normal():
    depth = np.full((60, 80), 0.5, np.float32)
    depth[20:30, 20:30] = np.nan
    depth[24, 24] = 0.5
    normals = geometry.depth_to_normals(depth, CAMERA)
    assert np.isnan(normals[25, 25]).all()
    assert np.isnan(normals[24, 24]).all()
    assert np.isfinite(normals[19, 25]).all()


@pytest.mark.filterwarnings('error')
def test_edges_are_marked_on_both_sides_and_slopes_are_not():
    depth = plane_depth(unit(0, 0.7, 0.7), 0.4)
    assert not geometry.edge_mask(depth).any()
    depth[:, 40:] *= 1.2
    depth[5, 5] = np.nan
    edges = geometry.edge_mask(depth)
    assert edges[:, 39:41].all()
    assert not edges[:, 41:].any()
    assert edges[5, 6] and edges[4, 5] and not edges[5, 5]


def test_the_support_plane_is_found_among_objects_and_holes():
    rng = np.random.default_rng(0)
    normal = unit(0, 0.6, 0.8)
    points = (plane_depth(normal, 0.5)[..., None] * CAMERA.rays()).reshape(-1, 3)
    points += rng.normal(0, 0.001, points.shape)
    points[::3] -= 0.05 * normal * rng.random((len(points[::3]), 1))
    points[::7] = np.nan
    found, offset, inliers = geometry.fit_plane(points, rng)
    assert np.degrees(np.arccos(-found @ normal)) < 0.5
    assert offset == pytest.approx(-0.5, abs=0.002)
    assert not inliers[::7].any()
    assert 0.5 < inliers.mean() < 0.75


@pytest.mark.parametrize('points', [np.full((5, 3), np.nan), np.outer(np.arange(9.0), [1, 2, 3])])
def test_no_plane_is_made_up(points):
    with pytest.raises(ValueError, match='plane needs'):
        geometry.fit_plane(points, np.random.default_rng(0))


def test_incidence_is_one_square_on_and_falls_with_the_angle():
    square = np.broadcast_to(np.float32([0, 0, -1]), (60, 80, 3))
    cosine = geometry.cos_incidence(square, CAMERA)
    assert cosine.max() == pytest.approx(1.0, abs=1e-3)
    assert cosine[0, 0] == cosine.min()
    np.testing.assert_allclose(geometry.cos_incidence(-square, CAMERA), 0)
