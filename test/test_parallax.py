"""A pane of glass before a wall, seen by a camera that moves sideways; the model misplaces it."""
import dataclasses

import cv2
import numpy as np
import pytest

from dkt_ros.camera import PinholeCamera
from dkt_ros.errors import UserError
from dkt_ros.frame import Frame
from dkt_ros.parallax import Parallax, View
from dkt_ros.pose_config import ParallaxConfig

CAMERA = PinholeCamera(320, 240, 300.0, 300.0, 159.5, 119.5)
WALL_M, PANE_M = 1.0, 0.8
STANDARD, SOFT = ParallaxConfig(), ParallaxConfig(stiffness=0.01)
# The pane and the pattern on it, in metres on its plane; only its lines are opaque.
EDGES = np.array([[-0.13, -0.1], [0.12, -0.1], [0.12, 0.11], [-0.13, 0.11]])


def pose_at(x, y=0.0):
    T = np.eye(4)
    T[:2, 3] = x, y
    return T


def on_image(points, depth, T):
    return (np.asarray(points) - T[:2, 3]) / depth * CAMERA.fx + (CAMERA.cx, CAMERA.cy)


def picture(T):
    """Return the image from T, and where the pane is in it."""
    wall = cv2.resize(np.random.default_rng(0).uniform(70, 190, (60, 80)).astype(np.float32),
                      (600, 480), interpolation=cv2.INTER_CUBIC)
    shift = on_image([[0, 0]], WALL_M, T)[0] - (300, 240)
    image = cv2.warpAffine(wall, np.float32([[1, 0, shift[0]], [0, 1, shift[1]]]), (320, 240),
                           borderMode=cv2.BORDER_REFLECT)
    corners = np.int32(np.rint(on_image(EDGES, PANE_M, T) * 16))
    diagonals = corners[[0, 2]], corners[[1, 3]]
    for line in (np.vstack([corners, corners[:1]]), *diagonals):
        cv2.polylines(image, [line], False, 20.0, 3, cv2.LINE_AA, 4)
    pane = np.zeros((240, 320), np.uint8)
    cv2.fillConvexPoly(pane, corners, 1, shift=4)
    return np.uint8(np.clip(image, 0, 255))[..., None].repeat(3, axis=2), pane > 0


def frame_at(T, stamp_s=0.0):
    return Frame(picture(T)[0], round(stamp_s * 1e9), CAMERA, None, T)


def factor_for(model_of_pane, config=STANDARD, steps=(0.0, 0.02, 0.04, 0.06), measured=WALL_M):
    """Show the scene from a row of places; return the last answer and where the pane is."""
    parallax = Parallax(config)
    for x in steps:
        T = pose_at(x)
        pane = picture(T)[1]
        rows = np.indices(pane.shape)[0]
        inverse = np.float32(np.where(pane, 1 / model_of_pane(rows), 1 / WALL_M))
        # Glass: the sensor measures the wall behind it, unless told otherwise.
        sensor = np.where(pane, np.float32(measured), np.float32(WALL_M))
        factor = parallax.correct(frame_at(T), inverse, sensor)
    return factor, pane


@pytest.mark.parametrize('wrong', [0.9, 1.0, 1.12])
def test_a_pane_comes_to_where_it_is(wrong):
    for config, left in ((SOFT, 0.02), (STANDARD, 0.04)):
        factor, pane = factor_for(lambda rows: PANE_M * wrong + 0 * rows, config)
        if factor is None:
            assert wrong == 1.0
            continue
        inside = cv2.erode(np.uint8(pane), np.ones((9, 9))) > 0
        assert np.abs(factor[inside] * wrong - 1).max() < left
        assert (factor[~pane] == 1).all()


def test_a_pane_that_leans_is_set_upright():
    def lean(rows):
        return PANE_M * (1 + 0.07 * (rows - 121) / 39)
    factor, pane = factor_for(lean, SOFT)
    inside = cv2.erode(np.uint8(pane), np.ones((9, 9))) > 0
    ratio = lean(np.indices(pane.shape)[0])[inside] / PANE_M
    before = np.abs(ratio - 1).mean()
    assert np.abs(ratio * factor[inside] - 1).mean() < 0.5 * before


def test_a_stiff_prior_trusts_the_model():
    soft, pane = factor_for(lambda rows: 0.88 + 0 * rows)
    stiff, _ = factor_for(lambda rows: 0.88 + 0 * rows, ParallaxConfig(stiffness=5.0))
    assert np.median(soft[pane]) < 0.93
    assert stiff is None or np.median(stiff[pane]) > 0.98


def test_earlier_views_must_be_of_another_place_and_a_near_one():
    assert factor_for(lambda rows: 0.88 + 0 * rows, steps=(0.0,) * 4)[0] is None
    assert factor_for(lambda rows: 0.88 + 0 * rows, steps=(0.0, 0.4, 0.0, 0.4))[0] is None
    assert factor_for(lambda rows: 0.88 + 0 * rows, ParallaxConfig(enabled=False))[0] is None


@pytest.mark.parametrize('measured', [PANE_M, 0.75])
def test_what_the_sensor_sees_before_the_background_is_left_alone(measured):
    assert factor_for(lambda rows: 0.88 + 0 * rows, measured=measured)[0] is None
    assert factor_for(lambda rows: 0.88 + 0 * rows, measured=np.nan)[0] is not None


def test_a_wall_of_many_pixels():
    parallax = Parallax(STANDARD)
    for x in (0.0, 0.05):
        frame = frame_at(pose_at(x))
        inverse = np.full((480, 640), np.float32(1 / 0.7))
        inverse[:40] = 1.0
        sensor = np.full((480, 640), np.float32(1.0))
        factor = parallax.correct(frame, inverse, sensor)
    assert factor is None or factor.shape == (480, 640)


def test_without_pose_or_sensor_nothing_is_done():
    parallax = Parallax(STANDARD)
    inverse, sensor = (np.full((240, 320), np.float32(1.0)) for _ in range(2))
    parallax.correct(frame_at(pose_at(0.0)), inverse, sensor)
    lost = dataclasses.replace(frame_at(pose_at(0.05)), T_world_camera=None)
    assert parallax.correct(lost, inverse, sensor) is None
    assert parallax.correct(frame_at(pose_at(0.05)), inverse, None) is None
    blind = np.full_like(sensor, np.nan)
    assert parallax.correct(frame_at(pose_at(0.05)), inverse, blind) is None


def test_a_reset_forgets_the_views():
    parallax = Parallax(STANDARD)
    for x in (0.0, 0.03):
        parallax.correct(frame_at(pose_at(x)), np.ones((240, 320), np.float32), None)
    assert len(parallax._views) == 2
    parallax.reset()
    assert not parallax._views


def test_views_know_the_lens():
    camera = dataclasses.replace(CAMERA, distortion=(0.1, -0.05, 0.001, 0.0, 0.0))
    view = View(Frame(picture(pose_at(0.0))[0], 0, camera, None, pose_at(0.1)))
    places = (slice(5, -5, 7), slice(5, -5, 9))
    points = camera.unproject(np.ones((240, 320)))[places].reshape(-1, 3) + (0.1, 0, 0)
    found, inside = view.sample(points)
    assert inside.all()
    np.testing.assert_allclose(found, view.gradients[places].reshape(-1, 2), atol=1.0)


def test_old_views_are_forgotten():
    parallax = Parallax(ParallaxConfig(max_age_s=2.0))
    flat = np.ones((240, 320), np.float32)
    for x, stamp_s in ((0.0, 0.0), (0.03, 1.0), (0.03, 1.5), (0.06, 2.5)):
        parallax.correct(frame_at(pose_at(x), stamp_s), flat, None)
    assert [view.stamp_ns for view in parallax._views] == [1_000_000_000, 2_500_000_000]


def test_baselines_that_contradict_are_refused():
    with pytest.raises(UserError, match='min_baseline_m is 0.3'):
        ParallaxConfig(min_baseline_m=0.3)
