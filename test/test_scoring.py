"""Metrics by class and source against a scene whose errors are known."""
import numpy as np
import pytest
from scene_factory import TABLE_M, TOP_M, scene_frame

from dkt_ros.frame import DepthEstimate
from dkt_ros.tools.scoring import (
    ClipScore,
    bootstrap_interval,
    estimate_sources,
    mean_table,
    sensor_sources,
)


def clip_score(frames=2):
    score = ClipScore()
    for index in range(frames):
        item = scene_frame(index)
        score.add(item, {**sensor_sources(item.frame), 'dkt': item.depth + 0.01})
    return score


def test_known_errors():
    table = clip_score().table()
    glass = table['transparent']
    # half of the glass is blind, the other half shows the table 100 mm behind
    assert glass['sensor']['coverage'] == pytest.approx(0.5, abs=0.05)
    assert glass['sensor']['mae_m'] == pytest.approx(TABLE_M - TOP_M, abs=1e-6)
    assert glass['sensor']['median_bias_m'] == pytest.approx(TABLE_M - TOP_M, abs=1e-6)
    assert glass['filled']['coverage'] == 1 and glass['filled']['mae_m'] > 0.09
    assert glass['sensor']['delta_105'] == 0
    assert table['diffuse']['sensor']['mae_m'] == 0
    # the blind half is no part of what the sensor saw
    assert glass['sensor']['mae_seen_m'] == glass['sensor']['mae_m']
    assert glass['filled']['mae_seen_m'] == pytest.approx(TABLE_M - TOP_M, abs=1e-6)
    for rows in table.values():
        assert rows['dkt']['mae_m'] == pytest.approx(0.01, abs=1e-6)
        assert rows['dkt']['delta_105'] == 1
    assert 'translucent' not in table
    assert table['object'] == glass


def test_frames_without_truth_are_left_out():
    score = ClipScore()
    item = scene_frame(0)
    score.add(type(item)(0, item.frame), {'dkt': item.depth})
    assert len(score) == 0 and score.table() == {}


def test_no_metres_is_no_coverage():
    item = scene_frame(0)
    sources = estimate_sources(DepthEstimate(item.frame, np.zeros((48, 64), np.float32)))
    score = ClipScore()
    score.add(item, sources)
    row = score.table()['all']['dkt']
    assert row['coverage'] == 0 and row['delta_125'] == 0 and np.isnan(row['mae_m'])
    np.testing.assert_array_equal(sources['fused'], item.frame.sensor_depth)


def test_mean_over_clips():
    tables = [{'all': {'dkt': dict.fromkeys(('mae_m', 'rel', 'rmse_m', 'delta_105', 'delta_110',
                                             'delta_125', 'coverage', 'median_bias_m',
                                             'mae_seen_m'), value)}}
              for value in (1.0, 3.0, float('nan'))]
    assert mean_table([*tables, {}])['all']['dkt']['mae_m'] == 2.0


def test_interval_holds_the_mean_and_is_repeatable():
    values = list(np.random.default_rng(0).normal(5, 1, 40))
    low, high = bootstrap_interval(values, seed=3)
    assert low < np.mean(values) < high and high - low < 1
    assert bootstrap_interval(values, seed=3) == [low, high]
    assert bootstrap_interval([2.0, 2.0]) == [2.0, 2.0]
