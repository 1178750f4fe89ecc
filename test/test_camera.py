"""Intrinsics, resizing, and rays of distorted lenses."""
import cv2
import numpy as np
import pytest

from dkt_ros.camera import PinholeCamera

PLAIN = PinholeCamera(64, 48, 60.0, 62.0, 31.5, 23.5)
LENSES = {
    'plumb_bob': (0.12, -0.2, 0.001, -0.002, 0.05),
    'rational_polynomial': (0.4, -0.3, 0.0005, -0.0003, 0.02, 0.3, -0.2, 0.01),
    'equidistant': (0.02, -0.01, 0.003, -0.001),
}


def lens(model, coefficients):
    return PinholeCamera(64, 48, 60.0, 62.0, 31.5, 23.5, distortion=coefficients,
                         distortion_model=model)


def test_unproject_puts_the_principal_ray_on_the_axis():
    camera = PinholeCamera(5, 3, 10.0, 20.0, 2.0, 1.0)
    points = camera.unproject(np.full((3, 5), 2.0, np.float32))
    np.testing.assert_allclose(points[1, 2], [0, 0, 2])
    np.testing.assert_allclose(points[0, 4], [0.4, -0.1, 2], atol=1e-7)


@pytest.mark.parametrize('camera', [PLAIN] + [lens(*item) for item in LENSES.items()],
                         ids=['plain', *LENSES])
def test_project_is_the_inverse_of_unproject(camera):
    depth = np.random.default_rng(0).uniform(0.3, 2.0, (48, 64)).astype(np.float32)
    pixels = camera.project(camera.unproject(depth))
    u, v = np.meshgrid(np.arange(64), np.arange(48))
    np.testing.assert_allclose(pixels, np.stack([u, v], -1), atol=2e-2)


@pytest.mark.parametrize('model', LENSES)
def test_projection_agrees_with_opencv(model):
    camera = lens(model, LENSES[model])
    points = np.random.default_rng(1).uniform([-0.3, -0.2, 0.8], [0.3, 0.2, 1.5], (20, 3))
    function = cv2.fisheye.projectPoints if model == 'equidistant' else cv2.projectPoints
    zero = np.zeros(3)
    if model == 'equidistant':
        expected, _ = function(points[:, None], zero, zero, camera.K, np.array(LENSES[model]))
    else:
        expected, _ = function(points, zero, zero, camera.K, np.array(LENSES[model]))
    np.testing.assert_allclose(camera.project(points), expected.reshape(-1, 2), atol=1e-6)


def test_a_ray_that_cannot_be_undistorted_is_nan():
    # With this coefficient the image of a straight ray never gets past a radius of 0.38.
    rays = lens('plumb_bob', (-1.0, 0.0, 0.0, 0.0)).rays()
    assert np.isnan(rays[0, 0, :2]).all()
    assert np.isfinite(rays[24, 32]).all()


def test_zero_distortion_is_the_plain_camera_whatever_its_name():
    camera = PinholeCamera(64, 48, 60.0, 62.0, 31.5, 23.5, distortion=(0.0,) * 5,
                           distortion_model='inverse_brown_conrady')
    np.testing.assert_array_equal(camera.rays(), PLAIN.rays())


def test_rays_are_computed_once_and_cannot_be_spoilt():
    assert PLAIN.rays() is PinholeCamera(64, 48, 60.0, 62.0, 31.5, 23.5).rays()
    with pytest.raises(ValueError):
        PLAIN.rays()[0, 0, 0] = 1.0


@pytest.mark.parametrize(('model', 'coefficients', 'message'), [
    ('inverse_brown_conrady', (0.1,) * 5, 'inverse_brown_conrady.*plumb_bob'),
    ('plumb_bob', (0.1,) * 3, 'takes 4 or 5'),
    ('equidistant', (0.1, 0.0, 0.0, float('nan')), 'finite'),
])
def test_an_unknown_lens_is_refused(model, coefficients, message):
    with pytest.raises(ValueError, match=message):
        lens(model, coefficients)


@pytest.mark.parametrize('fx', [0.0, -1.0, float('nan')])
def test_an_uncalibrated_camera_is_refused(fx):
    with pytest.raises(ValueError, match='fx is .*calibrate'):
        PinholeCamera(64, 48, fx, 60.0, 31.5, 23.5)


def test_resizing_keeps_the_directions_of_the_image_borders():
    small = PLAIN.resized(32, 24)
    corner = np.array([-0.5, -0.5])
    for a, b in (((corner - (PLAIN.cx, PLAIN.cy)) / (PLAIN.fx, PLAIN.fy),
                  (corner - (small.cx, small.cy)) / (small.fx, small.fy)),):
        np.testing.assert_allclose(a, b)
    assert small.K[0, 0] == 30.0


def test_a_crop_sees_the_same_rays():
    np.testing.assert_allclose(PLAIN.cropped(10, 5, 20, 15).rays(), PLAIN.rays()[5:20, 10:30],
                               atol=1e-6)


def test_unproject_names_both_sizes():
    with pytest.raises(ValueError, match=r'\(10, 10\).*\(48, 64\)'):
        PLAIN.unproject(np.zeros((10, 10), np.float32))
