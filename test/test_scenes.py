"""The scene folder: what is written is what is read, and damage is found."""
import json

import cv2
import numpy as np
import pytest
from scene_factory import CAMERA, make_scene, scene_frame, scene_objects

from dkt_ros.data.exr import read_depth_exr, read_exr, write_normals_exr
from dkt_ros.data.scene_check import check_scene
from dkt_ros.data.scenes import list_scenes, open_scene, write_scene
from dkt_ros.errors import UserError


def test_round_trip(tmp_path):
    scene = open_scene(make_scene(tmp_path / 'a'))
    assert (len(scene), scene.seed, scene.fps, scene.camera) == (3, 1_000_000, 6.0, CAMERA)
    truth = scene_frame(2, seed=1_000_000)
    item = scene[-1]
    np.testing.assert_array_equal(item.frame.rgb, truth.frame.rgb)
    np.testing.assert_array_equal(item.depth, truth.depth)
    np.testing.assert_array_equal(item.instance, truth.instance)
    np.testing.assert_array_equal(item.material, truth.material)
    np.testing.assert_allclose(item.normals, truth.normals, atol=1e-3)
    np.testing.assert_allclose(item.frame.sensor_depth, truth.frame.sensor_depth, atol=5.1e-4)
    np.testing.assert_allclose(item.T_world_camera, truth.T_world_camera)
    assert item.frame.stamp_ns == round(2e9 / 6)
    assert scene.objects[0]['material_class'] == 'transparent'
    assert [i.index for i in scene] == [0, 1, 2]
    with pytest.raises(IndexError):
        scene[3]


def test_whole_scene_has_no_problem(tmp_path):
    assert check_scene(make_scene(tmp_path / 'a')) == []


def test_nan_depth_survives_exr(tmp_path):
    item = scene_frame(0)
    item.depth[0, 0] = np.nan
    path = write_scene(tmp_path / 'a', name='a', seed=0, preset='', fps=1, camera=CAMERA,
                       frames=[item], objects=scene_objects())
    depth = read_depth_exr(path / 'depth' / '000000.exr')
    assert np.isnan(depth[0, 0]) and depth[1, 1] == item.depth[1, 1]
    assert read_exr(path / 'depth' / '000000.exr').keys() == {'Z'}


def test_failed_write_leaves_nothing(tmp_path):
    def frames():
        yield scene_frame(0)
        raise RuntimeError('render failed')

    with pytest.raises(RuntimeError):
        write_scene(tmp_path / 'a', name='a', seed=0, preset='', fps=1, camera=CAMERA,
                    frames=frames())
    assert list(tmp_path.iterdir()) == []


def test_existing_scene_is_kept(tmp_path):
    make_scene(tmp_path / 'a')
    with pytest.raises(UserError, match='exists already'):
        make_scene(tmp_path / 'a')


def test_list_scenes(tmp_path):
    make_scene(tmp_path / 'b', 1)
    make_scene(tmp_path / 'a', 1)
    assert [p.name for p in list_scenes(tmp_path)] == ['a', 'b']
    assert list_scenes(tmp_path / 'a') == [tmp_path / 'a']
    with pytest.raises(UserError, match='no scene folder'):
        list_scenes(tmp_path / 'a' / 'rgb')


def _remove_depth(path):
    (path / 'depth' / '000001.exr').unlink()


def _truncate_depth(path):
    file = path / 'depth' / '000001.exr'
    file.write_bytes(file.read_bytes()[:400])


def _flip_normals(path):
    write_normals_exr(path / 'normals' / '000001.exr', -scene_frame(1).normals)


def _other_size(path):
    cv2.imwrite(str(path / 'material' / '000001.png'), np.zeros((8, 8), np.uint8))


def _bad_material(path):
    cv2.imwrite(str(path / 'material' / '000001.png'), np.full((48, 64), 9, np.uint8))


def _stranger(path):
    cv2.imwrite(str(path / 'instance' / '000001.png'), np.full((48, 64), 77, np.uint16))


def _edit_json(path, key, value):
    record = json.loads((path / 'scene.json').read_text())
    record[key] = value
    (path / 'scene.json').write_text(json.dumps(record))


def _bad_pose(path):
    _edit_json(path, 'T_world_camera', [np.diag([2.0, 1, 1, 1]).tolist()] * 3)


def _wrong_motion(path):
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[1, 2, 3] = 0.1
    _edit_json(path, 'T_world_camera', poses.tolist())


def _other_format(path):
    _edit_json(path, 'format', 'other/9')


@pytest.mark.parametrize('damage, words', [
    (_remove_depth, 'lacks 1 of 3 files of depth'), (_truncate_depth, 'truncated'),
    (_flip_normals, 'away from the camera'), (_other_size, 'material is'),
    (_bad_material, r'values \[9\]'), (_stranger, r'ids \[77\]'), (_bad_pose, 'no rigid pose'),
    (_wrong_motion, 'poses and depth disagree'), (_other_format, 'other/9')])
def test_damage_is_found(tmp_path, damage, words):
    path = make_scene(tmp_path / 'a')
    damage(path)
    problems = check_scene(path)
    assert problems
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(' | '.join(problems))
