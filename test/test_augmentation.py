"""Training clips change within bounds, and only where they may."""
import numpy as np
import pytest

from dkt_ros.material import Material
from dkt_ros.model.sensor_encoder import SensorRange
from dkt_ros.tools.train.augmentation import (
    change_colors,
    change_light,
    change_range,
    change_sensor,
    change_tint,
    compressed,
)

SEEDS = range(40)


@pytest.fixture
def clip():
    """Two gray images with a square of glass."""
    material = np.zeros((2, 48, 64), np.int64)
    material[:, 16:32, 20:44] = Material.TRANSPARENT
    return np.full((2, 48, 64, 3), 0.5, np.float32), material


def test_some_images_get_shadows_or_patches_of_light():
    image = np.full((48, 64, 3), 100, np.uint8)
    lit = [change_light(image, np.random.default_rng(seed)).astype(int) for seed in SEEDS]
    changed = [np.ptp(one) > 5 for one in lit]
    assert 0.4 < np.mean(changed) < 0.9
    assert min(one.min() for one in lit) < 80 and max(one.max() for one in lit) > 110
    # Light has no colour, and what no patch covers keeps its own.
    assert all((np.ptp(one, axis=-1) == 0).all() for one in lit)
    assert np.median([np.median(one) for one in lit]) == 100


def test_glass_takes_one_tint_in_all_frames_and_the_rest_none(clip):
    rgb, material = clip
    tinted = [change_tint(rgb, material, np.random.default_rng(seed)) for seed in SEEDS]
    changed = [one for one in tinted if np.abs(one - rgb).max() > 0.02]
    assert 0.2 < len(changed) / len(tinted) < 0.6
    for one in changed:
        inside = one[:, 20:28, 24:40].reshape(-1, 3)
        assert (np.ptp(inside, axis=0) < 1e-5).all() and inside.max() <= 0.5
        np.testing.assert_array_equal(one[:, :10], rgb[:, :10])
    assert np.ptp([one[0, 24, 32] for one in changed], axis=0).min() > 0.1


def test_without_glass_nothing_is_tinted(clip):
    rgb, material = clip
    opaque = np.where(material > 0, int(Material.REFLECTIVE), 0)
    for seed in SEEDS:
        np.testing.assert_array_equal(change_tint(rgb, opaque, np.random.default_rng(seed)), rgb)


def test_colours_stay_in_range_and_differ_between_draws(clip):
    looks = [change_colors(clip[0], np.random.default_rng(seed)) for seed in SEEDS]
    assert all(one.shape == clip[0].shape and one.dtype == np.float32 for one in looks)
    assert min(one.min() for one in looks) >= 0 and max(one.max() for one in looks) <= 1
    assert np.std([one.mean() for one in looks]) > 0.03


def test_jpeg_keeps_channels_and_scale():
    rgb = np.zeros((1, 32, 32, 3), np.float32) + np.array([0.8, 0.4, 0.1], np.float32)
    np.testing.assert_allclose(compressed(rgb, 90), rgb, atol=0.02)
    noisy = np.random.default_rng(0).random((1, 32, 32, 3), np.float32)
    error = [np.abs(compressed(noisy, quality) - noisy).mean() for quality in (95, 40)]
    assert 0.01 < error[0] < error[1]


def test_a_sensor_errs_in_every_way_and_never_measures_where_it_saw_nothing(clip):
    material = clip[1]
    seen = np.full(material.shape, 2.0, np.float32)
    seen[:, 16:32, 20:44] = 2.5
    seen[:, :3] = 0.0
    glass = material > 0
    found = [change_sensor(seen, material, np.random.default_rng(seed)) for seed in SEEDS]
    assert all(one.shape == seen.shape and one.dtype == np.float32 for one in found)
    assert all(one.min() >= 0 and one.max() < 3 for one in found)
    lost = np.mean([not one[glass].any() for one in found])
    table = np.mean([bool(one[glass].any()) and np.median(one[glass][one[glass] > 0]) < 2.2
                     for one in found])
    assert 0.05 < lost < 0.4 and 0.05 < table < 0.4
    assert np.mean([(one[:, 4:14] == 0).mean() > 0.01 for one in found]) > 0.3
    assert min((one == 0).sum() for one in found) >= (seen == 0).sum()


def test_a_blind_sensor_stays_blind(clip):
    blind = np.zeros(clip[1].shape, np.float32)
    for seed in SEEDS:
        assert not change_sensor(blind, clip[1], np.random.default_rng(seed)).any()


def test_a_range_moves_and_stays_a_range():
    ranges = [change_range(SensorRange(1.0, 2.0), np.random.default_rng(seed)) for seed in SEEDS]
    assert min(one.high - one.low for one in ranges) >= 0.5 - 1e-9
    assert np.std([one.low for one in ranges]) > 0.05
