"""Fits of a whole clip against truth and sensor, on numbers worked out by hand."""
import dataclasses

import numpy as np
import pytest
from scene_factory import scene_frame

from dkt_ros.errors import UserError
from dkt_ros.metrics import affine_fit
from dkt_ros.tools.protocols import ClipFit, fit_tukey


def fitted(kind, reference, values_of, frames=3):
    fit = ClipFit(kind, reference)
    for index in range(frames):
        item = scene_frame(index)
        fit.add(values_of(item.depth), item)
    return fit


def test_truth_is_the_same_least_squares_as_over_all_pixels_at_once():
    rng = np.random.default_rng(0)
    noise = [rng.normal(0, 0.05, (48, 64)) for _ in range(3)]
    items = [scene_frame(i) for i in range(3)]
    fit = ClipFit('disparity', 'truth')
    disparity = [1 / item.depth + n for item, n in zip(items, noise)]
    for item, values in zip(items, disparity):
        fit.add(values, item)
    expected = affine_fit(np.stack(disparity), np.stack([item.depth for item in items]))
    assert fit.solve() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('kind, values_of', [
    ('disparity', lambda depth: (1 / depth - 0.3) / 2),
    ('depth', lambda depth: (depth - 0.3) / 2)])
@pytest.mark.parametrize('reference', ['truth', 'oracle', 'sensor'])
def test_scale_and_shift_are_found(kind, values_of, reference):
    fit = fitted(kind, reference, values_of)
    scale, shift = fit.solve()
    assert (scale, shift) == pytest.approx((2.0, 0.3), abs=0.02 if reference == 'sensor' else 1e-4)
    truth = scene_frame(1).depth
    np.testing.assert_allclose(fit.apply(values_of(truth), 2.0, 0.3), truth, rtol=1e-5)


def test_the_oracle_does_not_look_at_glass():
    item = scene_frame(0)
    sensor = np.where(item.material == 1, np.float32(3.0), item.frame.sensor_depth)
    item = dataclasses.replace(item, frame=dataclasses.replace(item.frame, sensor_depth=sensor))
    fit = ClipFit('disparity', 'oracle')
    fit.add(1 / item.depth, item)
    assert fit.solve() == pytest.approx((1.0, 0.0), abs=1e-4)


def test_tukey_leaves_a_third_of_wrong_pixels_alone():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, 900)
    y = 2 * x + 0.5
    y[:250] += 3.0
    assert fit_tukey(x, y, np.ones(900)) == pytest.approx((2.0, 0.5), abs=1e-3)


def test_depth_that_would_not_be_positive_is_missing():
    fit = ClipFit('depth', 'truth')
    np.testing.assert_array_equal(fit.apply(np.array([[1.0, -1.0]]), 1.0, 0.0), [[1.0, np.nan]])


def test_mistakes():
    item = scene_frame(0)
    with pytest.raises(UserError, match='0 pixels.*true depth'):
        ClipFit('disparity', 'truth').solve()
    bare = dataclasses.replace(item, material=None)
    with pytest.raises(UserError, match='true mask'):
        ClipFit('disparity', 'oracle').add(1 / item.depth, bare)
