"""The hole filler against hand-made holes."""
import numpy as np
import pytest

from dkt_ros.errors import UserError
from dkt_ros.tools.baselines.filled import BEST, METHODS, fill_holes

NAN = np.nan


def test_nearest_by_hand():
    depth = np.array([[1, NAN, NAN, NAN, 2], [1, 1, NAN, 2, 2]], np.float32)
    expected = [[1, 1, (1, 2), 2, 2], [1, 1, (1, 2), 2, 2]]
    filled = fill_holes(depth)
    assert filled.dtype == np.float32
    for row, wanted in zip(filled, expected):
        for value, allowed in zip(row, wanted):
            assert value in (allowed if isinstance(allowed, tuple) else (allowed,))


def test_what_was_measured_stays():
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.4, 0.9, (40, 50)).astype(np.float32)
    holes = rng.random(depth.shape) < 0.3
    sensor = np.where(holes, np.float32(NAN), depth)
    rgb = rng.integers(0, 255, (40, 50, 3), np.uint8)
    for method in METHODS:
        filled = fill_holes(sensor, method, rgb)
        np.testing.assert_array_equal(filled[~holes], depth[~holes])
        assert np.isfinite(filled).all() and filled.min() >= 0.3 and filled.max() <= 1.0
    assert np.isnan(sensor).sum() == holes.sum()


def test_inpaint_continues_a_slope():
    depth = np.tile(np.linspace(0.5, 0.7, 40, dtype=np.float32), (30, 1))
    sensor = depth.copy()
    sensor[10:20, 15:25] = NAN
    errors = {method: np.abs(fill_holes(sensor, method) - depth).mean()
              for method in ('nearest', 'inpaint')}
    assert errors['inpaint'] < errors['nearest']


def test_bilateral_keeps_to_the_side_of_its_colour():
    depth = np.full((20, 40), 0.5, np.float32)
    depth[:, 20:] = 0.9
    rgb = np.zeros((20, 40, 3), np.uint8)
    rgb[:, 20:] = 200
    sensor = depth.copy()
    sensor[5:15, 18:34] = NAN  # the nearest measured pixel is often beyond the edge
    np.testing.assert_allclose(fill_holes(sensor, 'bilateral', rgb), depth, atol=1e-4)
    assert np.abs(fill_holes(sensor, 'nearest') - depth).max() > 0.3
    with pytest.raises(ValueError, match='colour image'):
        fill_holes(sensor, 'bilateral')


def test_bilateral_goes_by_distance_where_no_colour_is_alike():
    sensor = np.full((8, 8), 0.5, np.float32)
    sensor[3:5, 3:5] = NAN
    rgb = np.zeros((8, 8, 3), np.uint8)
    rgb[3:5, 3:5] = 255
    np.testing.assert_allclose(fill_holes(sensor, 'bilateral', rgb), 0.5)


def test_the_best_is_one_of_them():
    assert BEST in METHODS


def test_nothing_measured():
    assert np.isnan(fill_holes(np.full((3, 4), NAN, np.float32))).all()


def test_unknown_method():
    with pytest.raises(UserError, match="'magic'.*nearest"):
        fill_holes(np.ones((2, 2), np.float32), 'magic')
