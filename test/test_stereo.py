"""Active stereo: the matcher on analytic pairs, alignment to the colour camera, the pattern."""
from dataclasses import replace

import cv2
import numpy as np
import pytest

from dkt_ros.camera import PinholeCamera
from dkt_ros.config import StereoConfig
from dkt_ros.errors import UserError
from dkt_ros.tools.render import stereo

CONFIG = StereoConfig(block_px=24.0, left_right_px=2.2, min_region_px=0.0)
SIZE = (96, 200)


def dots(seed=0, size=SIZE):
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur((rng.random(size) < 0.12).astype(np.float32), (0, 0), 0.8)
    return np.clip(image / image.max() * 230 + 10, 0, 255).astype(np.float32)


def pair(disparity, seed=0):
    """Return a pair whose right image samples one texture at x + disparity(x of the right)."""
    texture = dots(seed, (SIZE[0], SIZE[1] + 80))
    x = np.arange(SIZE[1], dtype=np.float32)[None].repeat(SIZE[0], 0)
    y = np.arange(SIZE[0], dtype=np.float32)[:, None].repeat(SIZE[1], 1)
    left = texture[:, :SIZE[1]]
    right = cv2.remap(texture, x + disparity, y, cv2.INTER_CUBIC)
    return left.astype(np.uint8), np.clip(np.rint(right), 0, 255).astype(np.uint8)


@pytest.mark.parametrize('disparity', [6.0, 9.3, 14.75])
def test_a_plane_is_matched_to_a_tenth_of_a_pixel(disparity):
    left, right = pair(np.full(SIZE, disparity, np.float32))
    found = stereo.match(left, right, CONFIG, 30)
    inside = found[8:-8, 40:-8]
    assert np.isfinite(inside).mean() > 0.97
    assert np.nanmedian(np.abs(inside - disparity)) < 0.1


def test_a_slanted_plane_keeps_its_slope():
    slope = np.linspace(5.0, 12.0, SIZE[1], dtype=np.float32)[None].repeat(SIZE[0], 0)
    found = stereo.match(*pair(slope), CONFIG, 30)
    # Pixel x of the right image shows x + d(x) of the left one.
    partner = np.arange(SIZE[1]) + slope[0]
    truth = np.interp(np.arange(SIZE[1]), partner, slope[0])
    error = np.abs(found - truth)[8:-8, 40:-12]
    assert np.isfinite(error).mean() > 0.9 and np.nanmedian(error) < 0.12


def test_the_shadow_of_a_near_plane_is_a_hole_on_its_left_side():
    near, far, size = 18.0, 8.0, (96, 200)
    behind, front = dots(1, (96, 300)), dots(2, (96, 300))
    left, right = behind[:, 50:250].copy(), behind[:, 50 + 8:250 + 8].copy()
    left[:, 100:140] = front[:, 100:140]
    right[:, 82:122] = front[:, 100:140]
    found = stereo.match(left.astype(np.uint8), right.astype(np.uint8), CONFIG, 30)
    assert abs(np.nanmedian(found[8:-8, 106:134]) - near) < 0.1
    assert abs(np.nanmedian(found[8:-8, 150:190]) - far) < 0.1
    # Of the columns 90 to 99, the right camera sees none.
    shadow, open_side = found[8:-8, 92:97], found[8:-8, 145:190]
    assert np.isnan(shadow).mean() > 0.5
    assert np.isnan(open_side).mean() < 0.03
    assert found.shape == size


def test_nothing_is_matched_without_texture_or_without_a_partner():
    flat = np.full(SIZE, 90, np.uint8)
    noise = np.random.default_rng(0).integers(-1, 2, SIZE)
    assert np.isnan(stereo.match(flat, (flat + noise).astype(np.uint8), CONFIG, 30)).all()
    config = replace(CONFIG, min_region_px=20.0)
    unrelated = stereo.match(dots(3).astype(np.uint8), dots(4).astype(np.uint8), config, 30)
    assert np.isnan(unrelated).mean() > 0.95


def test_a_repeating_pattern_is_not_believed():
    stripes = np.tile(np.repeat([40, 200], 4), 40)[None].repeat(96, 0)[:, :200].astype(np.uint8)
    found = stereo.match(stripes, np.roll(stripes, -8, axis=1), CONFIG, 30)
    assert np.isnan(found[8:-8, 40:-8]).mean() > 0.9


def test_unequal_images_are_refused():
    with pytest.raises(ValueError, match='shapes'):
        stereo.match(np.zeros((4, 6), np.uint8), np.zeros((4, 5), np.uint8), CONFIG, 3)


@pytest.mark.parametrize('model', sorted(stereo.DEVICES))
def test_depth_of_a_plane_lands_on_the_colour_pixels_without_gaps(model):
    rig = stereo.stereo_rig(StereoConfig(model=model))
    color = PinholeCamera(320, 240, 306.0, 306.0, 159.5, 119.5)
    disparity = np.full((240, 424), rig.camera.fx * rig.baseline_m / 0.7, np.float32)
    aligned = stereo.align_to_color(disparity, rig, color, 6.0)
    assert np.isfinite(aligned[10:-10, 40:-40]).all()
    assert np.nanmax(np.abs(aligned - 0.7)) < 1e-5


def test_a_slope_is_aligned_without_steps():
    rig = stereo.StereoRig(PinholeCamera(100, 60, 100.0, 100.0, 49.5, 29.5), 0.05, 0.0)
    color = PinholeCamera(200, 120, 250.0, 250.0, 99.5, 59.5)
    inverse = 1.2 + 0.01 * (np.arange(60, dtype=np.float32) - 29.5)[:, None].repeat(100, 1)
    aligned = stereo.align_to_color(100.0 * 0.05 * inverse, rig, color, 6.0)
    truth = 1.0 / (1.2 + 0.01 * (np.arange(120) - 59.5) * 100 / 250)
    assert np.nanmax(np.abs(aligned - truth[:, None])) < 0.002


def test_a_near_strip_hides_what_lies_behind_and_moves_by_the_offset():
    rig = stereo.StereoRig(PinholeCamera(100, 20, 100.0, 100.0, 49.5, 9.5), 0.05, 0.02)
    depth = np.full((20, 100), 2.0, np.float32)
    depth[:, 40:50] = 1.0
    aligned = stereo.align_to_color(100.0 * 0.05 / depth, rig, rig.camera, 6.0)
    # 20 mm at 1 m and 2 m are 2 and 1 pixels.
    np.testing.assert_allclose(aligned[10, 42:52], 1.0, atol=1e-6)
    np.testing.assert_allclose(aligned[10, 53:], 2.0, atol=1e-6)
    np.testing.assert_allclose(aligned[10, 1:41], 2.0, atol=1e-6)
    assert np.isnan(aligned[10, 41]) and np.isnan(aligned[10, 0])
    beyond = stereo.align_to_color(100.0 * 0.05 / depth, rig, rig.camera, 1.5)
    assert np.nanmax(beyond) < 1.5


def test_the_pattern_is_drawn_from_its_seed_and_no_window_repeats_on_its_line():
    pattern = stereo.dot_pattern(0)
    np.testing.assert_array_equal(pattern, stereo.dot_pattern(0))
    assert not np.array_equal(pattern, stereo.dot_pattern(1))
    assert 0.0 <= pattern.min() and 0.05 < pattern.mean() < 0.4 and pattern.max() == 1.0
    window = pattern[200:236, 300:336]
    line = cv2.matchTemplate(pattern[200:236], window, cv2.TM_CCOEFF_NORMED)[0]
    line[290:311] = 0
    assert line.max() < 0.85


def test_a_textured_plane_through_receivers_gives_its_depth():
    config = StereoConfig(model='D415', width=320, height=180)
    rig = stereo.stereo_rig(config)
    shift = rig.camera.fx * rig.baseline_m / 0.6
    texture = dots(5, (180, 420))
    x, y = np.meshgrid(np.arange(320, dtype=np.float32), np.arange(180, dtype=np.float32))
    right = cv2.remap(texture, x + np.float32(shift), y, cv2.INTER_CUBIC)
    disparity, depth = stereo.sense((texture[:, :320] / 255, np.maximum(right, 0) / 255),
                                    rig.camera, config, np.random.default_rng(0))
    assert abs(np.nanmedian(disparity) - shift) < 0.1
    assert np.nanmedian(np.abs(depth - 0.6)) < 0.004


@pytest.mark.parametrize('name', ['ambient', 'haze'])
@pytest.mark.parametrize('values', [(0.04,), (0.05, 0.02)])
def test_a_range_that_is_none_is_refused(name, values):
    with pytest.raises(UserError, match=name):
        StereoConfig(**{name: values})
