"""WebDataset shards: written, read back, whole or not at all."""
import json

import cv2
import numpy as np
import pytest
from scene_factory import make_scene

from dkt_ros.data.scenes import open_scene
from dkt_ros.errors import UserError
from dkt_ros.tools import scene_pack


@pytest.fixture
def scenes(tmp_path):
    for name in 'abc':
        make_scene(tmp_path / 'scenes' / f'scene_{name}', num_frames=2)
    return tmp_path / 'scenes'


def test_every_frame_comes_back_with_its_layers_and_pose(scenes, tmp_path):
    done = scene_pack.run_pack(scenes, tmp_path / 'shards', shard_mb=0.001)
    assert (done['num_scenes'], done['num_frames'], len(done['shards'])) == (3, 6, 3)
    samples = [sample for name in done['shards']
               for sample in scene_pack.read_shard(tmp_path / 'shards' / name)]
    assert [key for key, _ in samples] == [f'scene_{n}-{i:06d}' for n in 'abc' for i in range(2)]
    scene = open_scene(scenes / 'scene_b')
    files = samples[3][1]
    record = json.loads(files['json'])
    np.testing.assert_array_equal(record['T_world_camera'], scene.poses[1])
    assert record['index'] == 1 and record['camera']['fx'] == scene.camera.fx
    assert [o['instance'] for o in record['objects']] == [1, 2, 3]
    image = cv2.imdecode(np.frombuffer(files['rgb.png'], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(image, scene[1].frame.rgb)
    assert set(files) == {'json', 'rgb.png', 'depth.exr', 'normals.exr', 'instance.png',
                          'material.png', 'sensor_depth.png'}


def test_the_same_scenes_give_the_same_bytes(scenes, tmp_path):
    for name in ('one', 'two'):
        scene_pack.run_pack(scenes, tmp_path / name)
    one, two = ((tmp_path / name / 'shard-000000.tar').read_bytes() for name in ('one', 'two'))
    assert one == two


def test_a_failed_pack_leaves_no_index_and_no_half_shard(scenes, tmp_path):
    (scenes / 'scene_b' / 'depth' / '000001.exr').unlink()
    with pytest.raises(FileNotFoundError):
        scene_pack.run_pack(scenes, tmp_path / 'shards', shard_mb=0.001)
    assert [path.name for path in (tmp_path / 'shards').iterdir()] == ['shard-000000.tar']


def test_shards_are_not_overwritten_and_torn_ones_are_named(scenes, tmp_path):
    scene_pack.run_pack(scenes, tmp_path / 'shards')
    with pytest.raises(UserError, match='already'):
        scene_pack.run_pack(scenes, tmp_path / 'shards')
    shard = tmp_path / 'shards' / 'shard-000000.tar'
    shard.write_bytes(shard.read_bytes()[:5000])
    with pytest.raises(ValueError, match='truncated'):
        list(scene_pack.read_shard(shard))
