"""The hole filler against hand-made holes."""
import numpy as np
import pytest

from dkt_ros.errors import UserError
from dkt_ros.tools.baselines.filled import fill_holes

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
    for method in ('nearest', 'inpaint'):
        filled = fill_holes(sensor, method)
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


def test_nothing_measured():
    assert np.isnan(fill_holes(np.full((3, 4), NAN, np.float32))).all()


def test_unknown_method():
    with pytest.raises(UserError, match="'magic'.*nearest"):
        fill_holes(np.ones((2, 2), np.float32), 'magic')
