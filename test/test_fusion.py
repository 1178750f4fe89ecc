"""Where the sensor is wrong, what replaces it, and how far that is believed."""
import numpy as np
import pytest

from dkt_ros import fusion
from dkt_ros.config import FusionConfig

CONFIG = FusionConfig()
SHAPE = (120, 160)
GLASS = (slice(40, 80), slice(60, 100))
TORN = (slice(40, 80, 6), slice(60, 100))
RESIDUAL = 0.004


def flat(depth=0.6):
    return np.full(SHAPE, depth, np.float32)


def mask_of(sensor, depth=None, residual=RESIDUAL, config=CONFIG):
    depth = flat() if depth is None else depth
    return fusion.sensor_mask(sensor, (1 / depth).astype(np.float32), residual, config)


def test_an_agreeing_sensor_is_not_masked():
    rng = np.random.default_rng(0)
    sensor = (flat() + rng.normal(0, 0.002, SHAPE)).astype(np.float32)
    assert not mask_of(sensor).any()


def test_holes_are_masked_exactly():
    sensor = flat()
    sensor[10, 10], sensor[50:60, 20:30] = np.nan, np.nan
    np.testing.assert_array_equal(mask_of(sensor), np.isnan(sensor))


@pytest.mark.parametrize('behind_m', [0.02, 0.05, 0.3])
def test_a_sensor_that_looks_through_glass_is_wrong(behind_m):
    sensor = flat()
    sensor[GLASS] += behind_m
    sensor[TORN] = np.nan
    mask = mask_of(sensor)
    assert mask[42:78, 62:98].all()
    outside = mask.copy()
    outside[GLASS] = False
    assert not outside.any()


def test_a_small_bias_counts_only_beside_crowded_holes():
    sensor = flat()
    sensor[GLASS] *= 1 + np.mean(fusion.thresholds(RESIDUAL, CONFIG))
    assert not mask_of(sensor).any()
    sensor[44:76:2, 64:96] = np.nan
    assert mask_of(sensor)[42:78, 62:98].mean() > 0.95


def test_thresholds_follow_the_residual():
    sensor = flat()
    sensor[GLASS] += 0.03
    sensor[TORN] = np.nan
    assert mask_of(sensor)[50, 80]
    assert not mask_of(sensor, residual=0.02)[50, 80]
    low, high = fusion.thresholds(0.0, CONFIG)
    assert (low, high) == (CONFIG.min_disagreement, 2 * CONFIG.min_disagreement)
    assert fusion.thresholds(float('nan'), CONFIG) == \
        fusion.thresholds(fusion.UNKNOWN_RESIDUAL, CONFIG)


def test_an_object_that_the_model_missed_stays():
    sensor = flat()
    sensor[GLASS] -= 0.1
    assert not mask_of(sensor).any()
    sensor[GLASS] = 0.2
    assert not mask_of(sensor).any()


def test_an_edge_that_is_a_pixel_off_is_no_error():
    depth, sensor = flat(0.9), flat(0.9)
    depth[:, 80:], sensor[:, 81:] = 0.6, 0.6
    assert not mask_of(sensor, depth).any()


def test_a_model_without_depth_does_not_overrule_the_sensor():
    mask = fusion.sensor_mask(flat(), np.full(SHAPE, -0.1, np.float32), RESIDUAL, CONFIG)
    assert not mask.any()


@pytest.mark.filterwarnings('error')
def test_fused_is_the_sensor_outside_the_mask_and_the_model_inside():
    depth, sensor = flat(), flat()
    depth[GLASS] = 0.5
    sensor[GLASS] = np.nan
    mask = mask_of(sensor, depth)
    fused = fusion.fuse(sensor, depth, mask, RESIDUAL, CONFIG)
    np.testing.assert_array_equal(fused[~mask], sensor[~mask])
    # Another surface than the border's: nothing is carried over to it.
    np.testing.assert_allclose(fused[GLASS], 0.5, atol=1e-4)


def test_noise_of_the_sensor_goes_and_its_steps_stay():
    rng = np.random.default_rng(0)
    depth = flat() + np.linspace(0, 0.3, SHAPE[1], dtype=np.float32)
    clean = depth * 1.01
    clean[GLASS] -= 0.03
    sensor = (clean + rng.normal(0, 0.003, SHAPE)).astype(np.float32)
    sensor[5, 5] = np.nan
    mask = np.isnan(sensor)
    fused = fusion.fuse(sensor, depth, mask, RESIDUAL, CONFIG)
    flat_parts = np.ones(SHAPE, bool)
    flat_parts[35:85, 55:105], flat_parts[46:74, 66:94] = False, True
    assert np.abs(fused - clean)[flat_parts].mean() < 0.5 * 0.0024
    assert np.abs(fused - clean).max() < 0.02
    raw = fusion.fuse(sensor, depth, mask, RESIDUAL, FusionConfig(smoothing=0.0))
    np.testing.assert_array_equal(raw[~mask], sensor[~mask])


def test_there_is_no_seam_on_one_surface():
    depth = flat()
    sensor = flat(0.604)
    sensor[GLASS] = np.nan
    mask = mask_of(sensor, depth)
    fused = fusion.fuse(sensor, depth, mask, RESIDUAL, CONFIG)
    step = np.abs(np.diff(fused[60, 55:105])).max()
    assert step < 0.0015
    assert fused[60, 80] < 0.6025


@pytest.mark.filterwarnings('error')
def test_what_one_does_not_know_the_other_says():
    depth, sensor = flat(), flat()
    depth[20:30, 20:30] = np.nan
    sensor[25:40, 25:40] = np.nan
    mask = np.isnan(sensor)
    fused = fusion.fuse(sensor, depth, mask, RESIDUAL, CONFIG)
    assert fused[21, 21] == np.float32(0.6)
    assert np.isnan(fused[27, 27])
    assert fused[35, 35] == pytest.approx(0.6)


def confidence(sensor_depth=None, residual=RESIDUAL, cosine=1.0, edges=False, masked=False):
    one = (1, 1)
    sensor = None if sensor_depth is None else np.full(one, sensor_depth, np.float32)
    return float(fusion.confidence(sensor, np.full(one, 1 / 0.6, np.float32),
                                   np.full(one, masked), np.full(one, edges),
                                   np.full(one, cosine, np.float32), residual, CONFIG)[0, 0])


def test_confidence_falls_with_every_doubt():
    best = confidence(0.6)
    assert 0.9 < best <= 1.0
    assert best > confidence(0.603) > confidence(0.606) > 0
    # Glass is never measured too near.
    assert best > confidence(0.594) > confidence(0.585) > confidence(0.606)
    assert best > confidence(0.6, residual=0.03) > confidence(0.6, residual=0.1)
    assert best > confidence(0.6, cosine=0.5) > confidence(0.6, cosine=0.1)
    assert best > confidence(0.6, masked=True) == confidence(0.9, masked=True) > 0
    assert best > confidence(0.6, edges=True)
    assert confidence(0.6, cosine=float('nan')) == 0


def test_no_depth_has_no_confidence():
    result = fusion.confidence(None, np.zeros(SHAPE, np.float32), np.ones(SHAPE, bool),
                               np.zeros(SHAPE, bool), np.ones(SHAPE, np.float32), 0.01, CONFIG)
    assert (result == 0).all()


def test_garbage_of_a_sensor_becomes_nan():
    cleaned = fusion.clean_sensor(np.float32([[1.0, 0.0, -1.0, np.inf, np.nan]]))
    np.testing.assert_array_equal(np.isfinite(cleaned), [[True, False, False, False, False]])
    assert cleaned.dtype == np.float32


def test_shrinking_keeps_slopes_in_place_and_edges_unmixed():
    sensor = (0.5 + 0.002 * np.mgrid[:120, :160][1]).astype(np.float32)
    sensor[:, 81:] += 0.3
    small = fusion.shrink_sensor(sensor, 80, 60)
    np.testing.assert_allclose(small[30, 20], 0.5 + 0.002 * 40.5, atol=1e-4)
    assert np.abs(sensor[60] - small[30, 40]).min() < 1e-6


@pytest.mark.filterwarnings('error')
def test_shrinking_keeps_holes_and_heals_single_pixels():
    sensor = flat()
    sensor[GLASS] = np.nan
    sensor[10, 10] = np.nan
    small = fusion.shrink_sensor(sensor, 80, 60)
    assert np.isnan(small[20:40, 30:50]).all()
    assert np.isfinite(small).sum() == 60 * 80 - 400
    np.testing.assert_allclose(small[5, 5], 0.6, rtol=1e-6)


def test_what_the_model_sees_where_the_sensor_has_no_hole_is_a_ghost():
    sensor = flat()
    sensor[GLASS] = 0.9
    assert not mask_of(sensor).any()
    assert mask_of(sensor, config=FusionConfig(min_holes=0.0))[60, 80]
    # Holes elsewhere are no witness.
    sensor[90:110, 20:60] = np.nan
    assert not mask_of(sensor)[GLASS].any()
    sensor[TORN] = np.nan
    assert mask_of(sensor)[GLASS].mean() > 0.95


def test_a_poor_model_needs_holes_all_around_to_overrule_the_sensor():
    depth, sensor = flat(), flat()
    sensor[GLASS] = np.nan
    sensor[43:77, 63:97] = 0.9
    assert mask_of(sensor, depth, residual=0.004)[60, 80]
    assert not mask_of(sensor, depth, residual=0.03)[60, 80]
    sensor[44:76:2, 64:96] = np.nan
    assert mask_of(sensor, depth, residual=0.03)[61, 80]


def test_holes_at_the_rim_of_a_thing_that_the_model_missed_belong_to_it_by_colour():
    depth, sensor = flat(0.9), flat(0.9)
    sensor[GLASS] = 0.5
    rgb = np.full((*SHAPE, 3), 40, np.uint8)
    rgb[GLASS] = 200
    sensor[40:80, 98:102] = np.nan  # two columns of the thing, two of what is behind it
    mask = mask_of(sensor, depth)
    fused = fusion.fuse(sensor, depth, mask, RESIDUAL, CONFIG, rgb)
    np.testing.assert_allclose(fused[45:75, 98:100], 0.5, atol=1e-3)
    np.testing.assert_allclose(fused[45:75, 100:102], 0.9, atol=5e-3)
    without = fusion.fuse(sensor, depth, mask, RESIDUAL, CONFIG)
    assert np.abs(without[45:75, 98:100] - 0.5).min() > 0.2


def test_a_surface_behind_the_model_is_not_carried_into_holes():
    depth, sensor = flat(), flat()
    depth[GLASS] = 0.5
    sensor[GLASS] = np.nan
    rgb = np.full((*SHAPE, 3), 90, np.uint8)
    fused = fusion.fuse(sensor, depth, mask_of(sensor, depth), RESIDUAL, CONFIG, rgb)
    np.testing.assert_allclose(fused[GLASS], 0.5, atol=1e-3)


def assert_shadow_goes_by_colour(depth):
    """Between a thing and what lies behind it the sensor has a shadow, half of either colour."""
    sensor = flat(0.9)
    sensor[GLASS] = 0.5
    sensor[40:80, 99:101] = np.nan
    rgb = np.full((*SHAPE, 3), 40, np.uint8)
    rgb[GLASS] = 200
    fused = fusion.fuse(sensor, depth, np.isnan(sensor), RESIDUAL, CONFIG, rgb)
    np.testing.assert_allclose(fused[45:75, 99], 0.5, atol=1e-3)
    np.testing.assert_allclose(fused[45:75, 100], 0.9, atol=1e-3)


def test_a_hole_between_two_surfaces_belongs_to_the_one_of_its_colour():
    depth = flat(0.9)
    depth[GLASS] = 0.5
    # The model blurs the edge.
    depth[40:80, 96:106] = 0.7
    assert_shadow_goes_by_colour(depth)


def test_the_border_of_a_hole_belongs_to_a_surface_beside_it_whatever_the_model_says():
    assert_shadow_goes_by_colour(flat(0.4))
