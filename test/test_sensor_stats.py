"""Sensors measured on glass: exact figures on an analytic scene, the band, the real frames."""
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scene_factory import CAMERA, make_scene, scene_frame, scene_objects

from dkt_ros.data.scenes import write_scene
from dkt_ros.errors import UserError
from dkt_ros.tools import sensor_stats
from dkt_ros.tools.montage import GAP, TILE_WIDTH

REAL = Path(__file__).resolve().parents[2] / 'shared' / 'data' / 'cleargrasp_d435'


def test_figures_of_the_analytic_frame():
    item = scene_frame(0)
    figures = sensor_stats.frame_figures(item, item.frame.sensor_depth)
    assert figures['glass_holes'] == pytest.approx(0.5, abs=0.07)
    assert figures['glass_median_m'] == pytest.approx(0.1) and figures['glass_delta_105'] == 0.0
    assert figures['background_mae_m'] == 0.0 and figures['background_holes'] == 0.0
    assert sensor_stats.frame_figures(replace(item, material=0 * item.material),
                                      item.frame.sensor_depth) is None
    # A few pixels that the sensor saw say nothing about its error.
    blind = item.frame.sensor_depth.copy()
    blind[tuple(np.argwhere((item.material == 1) & np.isfinite(blind))[5:].T)] = np.nan
    figures = sensor_stats.frame_figures(item, blind)
    assert figures['glass_holes'] > 0.9 and np.isnan(figures['glass_median_m'])


def test_frames_with_a_pair_are_compared_with_both_models(tmp_path):
    frames = [scene_frame(0), scene_frame(1)]
    frames[0] = replace(frames[0], sensor_disparity=np.ones((4, 5), np.float32))
    write_scene(tmp_path / 'scene_a', name='a', seed=0, preset='test', fps=6.0, camera=CAMERA,
                frames=frames, objects=scene_objects())
    figures = sensor_stats.run_sensor_stats(tmp_path)
    counts = {name: row['num_frames'] for name, row in figures['sources'].items()}
    assert counts == {'stereo': 1, 'statistical, stereo frames': 1, 'statistical': 1}
    assert not figures['holds']['stereo']['glass_median_m']
    table = sensor_stats.sensor_table(figures)
    assert table.row_count == 3
    sensor_stats.write_sensor_picture(tmp_path / 'p.png', tmp_path)
    picture = cv2.imread(str(tmp_path / 'p.png'))
    assert picture.shape[1] == 4 * (TILE_WIDTH + GAP) and picture.std() > 0


def test_no_pair_and_no_real_frames_are_named(tmp_path):
    make_scene(tmp_path / 'scene_a')
    with pytest.raises(UserError, match='--sensor stereo'):
        sensor_stats.write_sensor_picture(tmp_path / 'p.png', tmp_path)
    with pytest.raises(UserError, match='no real frames'):
        sensor_stats.run_sensor_stats(tmp_path, tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason='no real frames in ../shared/data')
def test_real_frames_lie_in_the_band(tmp_path):
    make_scene(tmp_path / 'scene_a')
    figures = sensor_stats.run_sensor_stats(tmp_path, REAL)
    real = figures['sources']['real D435']
    assert real['num_frames'] == 2 and all(figures['holds']['real D435'].values())
    np.testing.assert_allclose(sorted(real['glass_holes'][1:]), [0.45, 0.75], atol=0.02)
