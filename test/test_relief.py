"""What the sensor saw although the model sees something nearer: whole things, not glass."""
import numpy as np
import pytest

from dkt_ros import fusion
from dkt_ros.config import FusionConfig
from dkt_ros.relief import standing

RELIEF = FusionConfig().min_relief
THING = (slice(50, 100), slice(90, 150))


def table(seed=0):
    """A table that recedes, 192x256, with a millimetre of noise."""
    inverse = np.linspace(1.0, 2.0, 192, dtype=np.float32)[:, None].repeat(256, 1)
    noise = np.random.default_rng(seed).normal(0, 0.0005, inverse.shape)
    return (1 / inverse + noise).astype(np.float32)


def wrong():
    mask = np.zeros((192, 256), bool)
    mask[THING] = True
    return mask


def test_a_smooth_thing_in_front_of_its_surroundings_is_believed():
    sensor = table()
    sensor[THING] = 0.55 + 0.001 * (sensor[THING] - 0.7)
    seen = standing(sensor, wrong(), RELIEF)
    assert seen[54:96, 94:146].mean() > 0.95
    assert not seen[~wrong()].any()


def test_a_thing_that_stands_out_by_a_hundredth_is_believed_up_to_its_rim():
    sensor = table()
    sensor[THING] *= 0.985
    seen = standing(sensor, wrong(), RELIEF)
    assert seen[THING].mean() > 0.9


def test_a_table_seen_through_glass_is_not():
    assert not standing(table(), wrong(), RELIEF).any()


def test_a_thing_full_of_holes_is_not():
    sensor, rng = table(), np.random.default_rng(1)
    sensor[THING] = 0.55
    for y, x in zip(rng.integers(52, 94, 30), rng.integers(92, 144, 30)):
        sensor[y:y + 6, x:x + 6] = np.nan
    assert standing(sensor, wrong(), RELIEF)[THING].mean() < 0.15


def test_a_torn_surface_is_not():
    sensor, rng = table(), np.random.default_rng(1)
    coarse = rng.normal(0, 0.02, (25, 30)).repeat(2, 0).repeat(2, 1)
    sensor[THING] = 0.55 + coarse.astype(np.float32)
    assert standing(sensor, wrong(), RELIEF)[THING].mean() < 0.1


@pytest.mark.parametrize('width', [256, 640])
def test_fusion_keeps_a_thing_that_the_model_sees_too_near(width):
    scale = width / 256
    rows, columns = (slice(int(s.start * scale), int(s.stop * scale)) for s in THING)
    inverse = np.linspace(1.0, 2.0, round(192 * scale), dtype=np.float32)[:, None].repeat(width, 1)
    sensor, model = 1 / inverse, inverse.copy()
    sensor[rows, columns], model[rows, columns] = 0.55, 1 / 0.50
    sensor += np.random.default_rng(0).normal(0, 0.0005, sensor.shape).astype(np.float32)
    inside = (slice(rows.start + 6, rows.stop - 6), slice(columns.start + 6, columns.stop - 6))
    blind = FusionConfig(min_relief=1.0, min_holes=0.0)
    # With no holes asked for, it is its relief alone that keeps the thing.
    kept = fusion.sensor_mask(sensor, model, 0.004, FusionConfig(min_holes=0.0))
    assert kept[inside].mean() < 0.1
    assert fusion.sensor_mask(sensor, model, 0.004, blind)[inside].all()


def test_without_trusted_pixels_nothing_is_believed():
    assert not standing(table(), np.ones((192, 256), bool), RELIEF).any()
