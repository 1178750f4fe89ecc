"""`dkt scenes`: proof, pictures and sensor statistics of folders of scenes."""
from pathlib import Path

import cv2
import numpy as np
import pytest
from scene_factory import make_scene

from dkt_ros.data.images import read_rgb
from dkt_ros.data.scenes import list_scenes, open_scene
from dkt_ros.errors import UserError
from dkt_ros.tools import turntable
from dkt_ros.tools.scenes import run_check, run_photographs, run_show, run_stats, stats_table


@pytest.fixture
def folder(tmp_path):
    make_scene(tmp_path / 'scene_a', num_frames=2)
    make_scene(tmp_path / 'scene_b', num_frames=2)
    return tmp_path


def test_whole_scenes_have_no_problems_and_a_lost_file_is_named(folder):
    assert run_check(folder) == {'num_scenes': 2, 'problems': []}
    (folder / 'scene_b' / 'depth' / '000001.exr').unlink()
    problem, = run_check(folder)['problems']
    assert 'scene_b' in problem and '000001.exr' in problem


def test_pictures_show_the_first_frames(folder, tmp_path):
    shown = run_show(folder, tmp_path / 'out', num_scenes=1, num_frames=2)
    assert [Path(name).name for name in shown['pictures']] == ['scene_a.png', 'contact.png']
    assert all(cv2.imread(name).std() > 0 for name in shown['pictures'])
    video = cv2.VideoCapture(shown['videos'][0])
    assert (video.get(cv2.CAP_PROP_FRAME_WIDTH), video.get(cv2.CAP_PROP_FRAME_COUNT)) == (64, 36)


def test_photographs_lie_side_by_side(folder, tmp_path):
    count = len(list_scenes(folder))
    done = run_photographs(folder, tmp_path / 'deep' / 'sheet.png', num_scenes=9, columns=2)
    sheet, first = read_rgb(done), open_scene(list_scenes(folder)[0])[0].frame.rgb
    height, width = first.shape[:2]
    rows = -(-count // 2)
    assert sheet.shape[:2] == (rows * (height + 4) - 4, 2 * width + 4)
    np.testing.assert_array_equal(sheet[:height, :width], first)
    with pytest.raises(UserError, match='neither a .jpg nor a .png'):
        run_photographs(folder, tmp_path / 'sheet.pdf', 9, 2)


def test_the_turntable_shows_a_frame_from_its_own_place(folder):
    scene = open_scene(folder / 'scene_a')
    points, colors = turntable.scene_points(scene, 1)
    view = turntable.draw_points(points, colors, scene.camera, scene.poses[0])
    np.testing.assert_array_equal(view, scene[0].frame.rgb)
    target = np.array([0.1, 0.2, 0.3])
    turned = turntable.swing(np.eye(4), target, 0.5)
    assert np.linalg.norm(turned[:3, 3] - target) == pytest.approx(np.linalg.norm(target))


def test_statistics_of_the_analytic_scene(folder):
    stats = run_stats(folder)
    glass, plain = (stats['by_material'][key] for key in ('transparent', 'diffuse'))
    assert (stats['num_scenes'], stats['num_frames']) == (2, 4)
    # Half of the glass is a hole, the other half reads the table 100 mm behind the top.
    assert glass['holes'] == pytest.approx(0.5, abs=0.07)
    assert glass['sensor_mae_m'] == pytest.approx(0.1, abs=1e-3)
    assert glass['filled_delta_105'] < 0.6
    assert plain['holes'] == 0 and plain['sensor_mae_m'] == pytest.approx(0, abs=1e-3)
    conditions = stats['tabletop_v1']
    assert not conditions['filled_mae_m']['holds'] or not conditions['filled_delta_105']['holds']
    assert conditions['scenes_with_tall_glass']['holds']


def test_statistics_need_truth(tmp_path):
    scene = make_scene(tmp_path / 'scene_a')
    with pytest.raises(UserError, match='does not exist'):
        run_stats(scene / 'nothing')


def test_the_table_says_what_fails(folder):
    stats = run_stats(folder)
    assert 'FAILS' in stats_table(stats).caption and 'holds' in stats_table(stats).caption
