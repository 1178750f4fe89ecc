"""`dkt scenes check`: each kind of damage to a good scene is found, and only damage is."""
import json

import numpy as np
import pytest
from scene_factory import CAMERA, make_scene, scene_frame

from dkt_ros.data.exr import write_depth_exr, write_normals_exr
from dkt_ros.data.images import depth_to_millimetres, write_image
from dkt_ros.data.ply import read_mesh, write_mesh
from dkt_ros.data.scene_check import check_scene

FRAME = scene_frame(1)


def edit(path, change):
    record = json.loads((path / 'scene.json').read_text())
    change(record)
    (path / 'scene.json').write_text(json.dumps(record))


def damage_depth(path, change):
    depth = FRAME.depth.copy()
    change(depth)
    write_depth_exr(path / 'depth' / '000001.exr', depth)


def millimetres(path):
    for index in range(3):
        write_depth_exr(path / 'depth' / f'{index:06d}.exr', 1000 * scene_frame(index).depth)


def hole_in_an_object(path):
    def change(depth):
        depth[15:20, 12:15] = np.nan
    damage_depth(path, change)


def tilted_object(path):
    normals = FRAME.normals.copy()
    normals[FRAME.instance == 1] = (0.6, 0.0, -0.8)
    write_normals_exr(path / 'normals' / '000001.exr', normals)


def nan_normals(path):
    normals = FRAME.normals.copy()
    normals[:3] = np.nan
    write_normals_exr(path / 'normals' / '000001.exr', normals)


def lost_normals(path):
    normals = FRAME.normals.copy()
    normals[:10] = 0
    write_normals_exr(path / 'normals' / '000001.exr', normals)


def vanished_object(path):
    def change(depth):
        depth[FRAME.instance == 1] = 0.7
    damage_depth(path, change)


def backwards_motion(path):
    def change(record):
        for pose in record['T_world_camera']:
            pose[2][3] = 0.05 * (pose[0][3] > 0.005)
    edit(path, change)


def sideways_pose(path):
    def change(record):
        for pose in record['T_world_camera']:
            pose[1][3] += 0.06
    edit(path, change)


def swapped_ids(path):
    instance = FRAME.instance.copy()
    instance[FRAME.instance == 1], instance[FRAME.instance == 3] = 3, 1
    write_image(path / 'instance' / '000001.png', instance)


def erased_ids(path):
    instance, depth = FRAME.instance.copy(), FRAME.depth.copy()
    instance[12:24][instance[12:24] == 1] = 0
    depth[12:24][FRAME.instance[12:24] == 1] = 0.7
    write_image(path / 'instance' / '000001.png', instance)
    write_depth_exr(path / 'depth' / '000001.exr', depth)


def large_object(path):
    edit(path, lambda record: record['objects'][0].update(size_m=[100.0, 200.0, 100.0]))


def normalised_focal(path):
    edit(path, lambda record: record['camera'].update(fx=0.94, fy=0.94))


WATER = {'material': 'water', 'material_class': 'transparent', 'level': 0.5}


def first_object(**fields):
    return lambda path: edit(path, lambda record: record['objects'][0].update(fields))


def leaning(**fields):
    pose = np.eye(4)
    pose[1:3, 1:3] = [[0.9, -0.436], [0.436, 0.9]]
    return first_object(T_world_object=pose.tolist(), **fields)


def milk_elsewhere(path):
    first_object(liquid={**WATER, 'material_class': 'translucent'})(path)
    material = FRAME.material.copy()
    material[20:24][FRAME.instance[20:24] == 1] = 4
    write_image(path / 'material' / '000001.png', material)


def blind_sensor(path):
    write_image(path / 'sensor_depth' / '000001.png', np.zeros((48, 64), np.uint16))


def scaled_sensor(path):
    write_image(path / 'sensor_depth' / '000001.png',
                depth_to_millimetres(1.1 * FRAME.frame.sensor_depth))


def add_disparity(path, value, shape=(30, 50)):
    (path / 'sensor_disparity').mkdir()
    write_depth_exr(path / 'sensor_disparity' / '000001.exr', np.full(shape, value, np.float32))
    edit(path, lambda record: record.update(infrared={
        'width': 50, 'height': 30, 'fx': 40.0, 'baseline_m': 0.05}))


def wrong_disparity(path):
    add_disparity(path, 40.0 * 0.05 / 7.0)


def disparity_of_another_size(path):
    add_disparity(path, 40.0 * 0.05 / 0.7, (20, 50))


def disparity_without_cameras(path):
    add_disparity(path, 40.0 * 0.05 / 0.7)
    edit(path, lambda record: record.pop('infrared'))


@pytest.mark.parametrize('damage, words', [
    (millimetres, 'metres from'), (hole_in_an_object, 'missing on 15 pixels of objects'),
    (tilted_object, 'disagree on object 1'), (nan_normals, 'NaN on 192'),
    (lost_normals, 'normals are missing on'), (vanished_object, 'hide what is seen behind'),
    (backwards_motion, 'poses and depth disagree'), (sideways_pose, 'outside of the outline'),
    (swapped_ids, 'outside of the outline'), (erased_ids, 'is missing on'),
    (first_object(liquid={**WATER, 'level': 1.2}), 'stands at 1.2'),
    (first_object(liquid={'material': 'water'}), 'liquid lacks level, material_class'),
    (first_object(liquid={**WATER, 'material_class': 'wet'}), "material_class 'wet'"),
    (leaning(liquid=WATER), 'tilted by 26 degrees'),
    (milk_elsewhere, 'not transparent or translucent'),
    (first_object(source={'file': 'a.glb'}), 'source lacks closed, sha256'),
    (first_object(source={'file': 'a.glb', 'sha256': '0', 'closed': False}), 'open mesh'),
    (large_object, '200 long'), (normalised_focal, 'image widths'),
    (blind_sensor, 'sees nothing'), (scaled_sensor, 'differ by 10%'),
    (wrong_disparity, 'means 7.00 m'), (disparity_of_another_size, r'\(20, 50\)'),
    (disparity_without_cameras, 'does not describe')])
def test_damage_is_found(tmp_path, damage, words):
    path = make_scene(tmp_path / 'a')
    assert check_scene(path) == []
    damage(path)
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(' | '.join(check_scene(path)))


def test_a_liquid_may_show_its_own_class(tmp_path):
    path = make_scene(tmp_path / 'a')
    first_object(liquid={**WATER, 'material_class': 'translucent'},
                 source={'file': 'a.glb', 'sha256': '0', 'closed': True})(path)
    material = FRAME.material.copy()
    material[20:24][FRAME.instance[20:24] == 1] = 2
    write_image(path / 'material' / '000001.png', material)
    assert check_scene(path) == []


def test_a_right_disparity_is_no_problem(tmp_path):
    path = make_scene(tmp_path / 'a')
    add_disparity(path, 40.0 * 0.05 / 0.7)
    assert check_scene(path) == []


def test_meshes_come_back(tmp_path):
    vertices, triangles = np.random.default_rng(0).random((5, 3)), np.array([[0, 1, 2], [2, 3, 4]])
    write_mesh(tmp_path / 'm.ply', vertices, triangles)
    again = read_mesh(tmp_path / 'm.ply')
    np.testing.assert_allclose(again[0], vertices, atol=1e-7)
    np.testing.assert_array_equal(again[1], triangles)
    with pytest.raises(ValueError, match='there are 5'):
        write_mesh(tmp_path / 'n.ply', vertices, [[0, 1, 5]])
    (tmp_path / 'm.ply').write_bytes((tmp_path / 'm.ply').read_bytes()[:-3])
    with pytest.raises(ValueError, match='truncated'):
        read_mesh(tmp_path / 'm.ply')
    assert CAMERA.width == 64
