"""Figures on cases worked out by hand."""
import numpy as np
import pytest

from dkt_ros import metrics

NAN = float('nan')


def test_depth_figures_by_hand():
    truth = np.array([[1.0, 1.0, 2.0, 1.0]])
    prediction = np.array([[1.04, 0.9, 2.0, NAN]])
    result = metrics.depth_metrics(prediction, truth)
    assert result['mae_m'] == pytest.approx(0.14 / 3)
    assert result['rel'] == pytest.approx(0.14 / 3)
    assert result['rmse_m'] == pytest.approx(((0.04**2 + 0.1**2) / 3) ** 0.5)
    # 1.04 and 1.0 are within 1.05; 1 / 0.9 = 1.11 is not, and the missing one is wrong.
    assert result['delta_105'] == 0.5
    assert result['delta_110'] == 0.5
    assert result['delta_125'] == 0.75
    assert result['coverage'] == 0.75
    assert result['median_bias_m'] == 0.0
    assert result['count'] == 4


def test_bias_is_positive_behind_the_truth():
    result = metrics.depth_metrics(np.full((2, 2), 1.03), np.ones((2, 2)))
    assert result['median_bias_m'] == pytest.approx(0.03)


@pytest.mark.parametrize('missing', [NAN, np.inf, 0.0, -1.0])
@pytest.mark.filterwarnings('error')
def test_what_is_missing_is_left_out_of_truth_and_held_against_the_prediction(missing):
    result = metrics.depth_metrics(np.array([[1.0, 1.0]]), np.array([[1.0, missing]]))
    assert (result['count'], result['coverage'], result['delta_105']) == (1, 1.0, 1.0)
    result = metrics.depth_metrics(np.array([[1.0, missing]]), np.array([[1.0, 1.0]]))
    assert (result['count'], result['coverage'], result['delta_105']) == (2, 0.5, 0.5)
    assert result['mae_m'] == 0.0


def test_only_the_mask_is_evaluated():
    result = metrics.depth_metrics(np.array([[1.0, 9.0]]), np.ones((1, 2)),
                                   np.array([[True, False]]))
    assert (result['mae_m'], result['count']) == (0.0, 1)


@pytest.mark.filterwarnings('error')
def test_nothing_to_evaluate_is_nan_and_not_zero():
    result = metrics.depth_metrics(np.ones((2, 2)), np.full((2, 2), NAN))
    assert result['count'] == 0
    assert all(np.isnan(result[name]) for name in ('mae_m', 'rel', 'rmse_m', 'delta_105',
                                                   'coverage', 'median_bias_m'))
    result = metrics.depth_metrics(np.full((2, 2), NAN), np.ones((2, 2)))
    assert (result['delta_125'], result['coverage']) == (0.0, 0.0)
    assert np.isnan(result['mae_m'])


def test_a_sequence_counts_every_frame_once():
    truth = np.ones((3, 1, 4))
    prediction = truth + np.array([0.1, 0.3, 0.0])[:, None, None]
    mask = np.zeros(truth.shape, bool)
    mask[0], mask[1, 0, 0] = True, True
    result = metrics.depth_metrics(prediction, truth, mask)
    assert result['mae_m'] == pytest.approx(0.2)
    assert result['count'] == 5


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r'\(2, 2\).*\(2, 3\)'):
        metrics.depth_metrics(np.ones((2, 2)), np.ones((2, 3)))


def test_averages_skip_frames_without_a_figure():
    mean = metrics.average([{'mae_m': 1.0, 'count': 2}, {'mae_m': NAN, 'count': 0},
                            {'mae_m': 3.0, 'count': 5}])
    assert mean == {'mae_m': 2.0, 'count': 7}
    assert metrics.average([]) == {}


def test_one_fit_serves_the_whole_sequence():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.4, 2.0, (3, 8, 8))
    disparity = (1 / truth - 0.2) / 5.0
    truth_with_holes = np.where(rng.random(truth.shape) < 0.2, NAN, truth)
    assert metrics.affine_fit(disparity, truth_with_holes) == pytest.approx((5.0, 0.2))
    np.testing.assert_allclose(metrics.affine_gt(disparity, truth_with_holes), truth, rtol=1e-5)
    # A frame with a scale of its own cannot be put right by the one fit.
    disparity[1] *= 1.5
    assert metrics.depth_metrics(metrics.affine_gt(disparity, truth), truth)['rel'] > 0.05


def test_the_fit_keeps_to_the_mask():
    truth = np.array([[0.5, 1.0, 2.0]])
    disparity = np.array([[2.0, 1.0, 9.0]])
    assert metrics.affine_fit(disparity, truth, np.array([[True, True, False]])) == \
        pytest.approx((1.0, 0.0))
    with pytest.raises(ValueError, match='no pixel'):
        metrics.affine_fit(disparity, truth, np.zeros((1, 3), bool))


def test_inverse_depth_is_clipped_like_the_protocol():
    np.testing.assert_allclose(metrics.disparity_to_depth(np.array([1.0, -1.0]), 2.0, 0.0),
                               [0.5, 1000.0])


def test_normal_figures_by_hand():
    def tilted(degrees):
        a = np.radians(degrees)
        return [np.sin(a), 0.0, -np.cos(a)]
    truth = np.array([[tilted(0)] * 4])
    prediction = np.array([[tilted(0), tilted(20), tilted(40), [NAN] * 3]])
    result = metrics.normal_metrics(prediction, truth)
    assert result['mean_deg'] == pytest.approx(20)
    assert result['median_deg'] == pytest.approx(20)
    assert (result['within_11'], result['within_22'], result['within_30']) == (0.25, 0.5, 0.5)
    assert (result['coverage'], result['count']) == (0.75, 4)
    truth[0, 0] = 0
    assert metrics.normal_metrics(prediction, truth)['count'] == 3


def test_seams_are_told_from_the_inside_of_windows():
    steps = np.array([0, 1, 1, 3, 1, 1])
    disparity = np.cumsum(steps)[:, None, None] * np.ones((6, 2, 2))
    windows = np.array([0, 0, 0, 1, 1, 1])
    assert metrics.seam_ratio(disparity, windows) == 3.0
    assert np.isnan(metrics.seam_ratio(disparity, np.zeros(6)))
    with pytest.raises(ValueError, match=r'\(6, 2, 2\)'):
        metrics.seam_ratio(disparity, windows[:3])


def test_scale_std_sees_drift_and_nothing_else():
    truth = np.random.default_rng(0).uniform(0.5, 1.0, (2, 4, 4))
    assert metrics.scale_std(truth * 1.3, truth) == pytest.approx(0.0, abs=1e-12)
    drifting = truth * np.array([1.0, 1.25])[:, None, None]
    assert metrics.scale_std(drifting, truth) == pytest.approx(0.1 / 0.9)
