"""Temporal figures on cases worked out by hand."""
import cv2
import numpy as np
import pytest

from dkt_ros import temporal
from dkt_ros.camera import PinholeCamera

CAMERA = PinholeCamera(8, 6, 10.0, 10.0, 3.5, 2.5)
NAN = float('nan')


def still(height=6, width=8):
    return np.zeros((height, width, 2), np.float32)


def test_opw_of_a_change_without_motion_is_its_mean_in_centimetres():
    depth = np.full((6, 8), 1.0, np.float32)
    now = depth + np.float32(0.02)
    now[0] = NAN
    assert temporal.opw(now, depth, np.ones((6, 8)), still()) == pytest.approx(2.0, rel=1e-4)
    weights = np.ones((6, 8))
    weights[:, :4] = 0
    assert temporal.opw(now, depth, weights, still()) == pytest.approx(1.0, rel=1e-4)
    assert np.isnan(temporal.opw(np.full((6, 8), NAN), depth, weights, still()))


def test_depth_that_moves_with_the_picture_does_not_change():
    before = np.tile(np.linspace(1, 2, 8, dtype=np.float32), (6, 1))
    now = np.roll(before, 2, axis=1)
    flow = still() - np.array([2, 0], np.float32)
    assert temporal.opw(now, before, np.ones((6, 8)), flow) == pytest.approx(0.0, abs=1e-5)
    assert temporal.opw(now, before, np.ones((6, 8)), still()) > 20


def test_pixels_that_change_colour_hardly_count():
    rgb = np.full((6, 8, 3), 100, np.uint8)
    other = rgb.copy()
    other[0, 0] = 255
    weights = temporal.warping_weights(other, rgb, still())
    assert weights[1, 1] == 1.0
    assert weights[0, 0] == pytest.approx(np.exp(-50 * 3 * (155 / 255) ** 2))


def test_the_flow_finds_a_shift():
    picture = np.random.default_rng(0).integers(0, 255, (96, 128), np.uint8)
    picture = cv2.GaussianBlur(picture, (0, 0), 3)
    picture = np.repeat(picture[..., None], 3, axis=-1)
    moved = np.roll(picture, 3, axis=1)
    flow = temporal.optical_flow(moved, picture)
    np.testing.assert_allclose(np.median(flow[20:-20, 20:-20], axis=(0, 1)), [-3, 0], atol=0.2)


def test_alignment_error_of_a_true_motion_is_nothing():
    depth = np.full((6, 8), 1.0, np.float32)
    nearer = depth - np.float32(0.2)
    T = np.eye(4)
    T[2, 3] = -0.2  # the camera went 0.2 m ahead: what was at 1 m is at 0.8 m
    assert temporal.alignment_error(nearer, depth, T, CAMERA) == pytest.approx(0.0, abs=1e-4)
    # Without the motion: |1 - .8| / .8 there and |.8 - 1| / 1 back.
    expected = 50 * (0.25 + 0.2)
    assert temporal.alignment_error(nearer, depth, np.eye(4), CAMERA) == pytest.approx(expected,
                                                                                     rel=1e-4)


def test_what_leaves_the_picture_is_not_compared():
    depth = np.full((6, 8), 1.0, np.float32)
    T = np.eye(4)
    T[0, 3] = 100.0
    assert np.isnan(temporal.alignment_error(depth, depth, T, CAMERA))
    T[0, 3] = 0.4  # four pixels to the right
    assert temporal.alignment_error(depth, depth, T, CAMERA) == pytest.approx(0.0, abs=1e-5)
