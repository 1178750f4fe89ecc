"""The renderer: shapes, sensor statistics, passes, and one real scene where bpy is installed."""
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dkt_ros.camera import PinholeCamera
from dkt_ros.config import RenderConfig, SensorConfig
from dkt_ros.data.scenes import open_scene
from dkt_ros.errors import UserError
from dkt_ros.material import Material
from dkt_ros.tools.render import run
from dkt_ros.tools.render.passes import (
    auto_exposure,
    camera_normals,
    roll_off,
    to_srgb,
)
from dkt_ros.tools.render.sensor import shadow_of_baseline, simulate_sensor
from dkt_ros.tools.render.setup import find_interpreter

sys.path.insert(0, str(Path(run.__file__).parent / 'worker'))
import shapes  # noqa: E402


def signed_volume(shape):
    volume = 0.0
    for face in shape.faces:
        a, *rest = shape.vertices[list(face)]
        for b, c in zip(rest, rest[1:]):
            volume += np.dot(a, np.cross(b, c)) / 6
    return volume


@pytest.mark.parametrize('family', sorted(shapes.FAMILIES))
def test_shapes_are_watertight_and_turned_outwards(family):
    for seed in range(4):
        shape = shapes.FAMILIES[family](np.random.default_rng(seed))
        edges = Counter()
        for face in shape.faces:
            edges.update((a, b) for a, b in zip(face, face[1:] + face[:1]))
        assert set(edges.values()) == {1}
        assert all((b, a) in edges for a, b in edges)
        assert signed_volume(shape) > 0
        assert shape.vertices[:, 2].min() == pytest.approx(0, abs=1e-9)
        assert shape.vertices[:, 2].max() == pytest.approx(shape.height, abs=0.003)


def test_a_tumbler_is_hollow():
    shape = shapes.tumbler(np.random.default_rng(0))
    solid = np.pi * shape.radius ** 2 * shape.height
    assert signed_volume(shape) < 0.35 * solid


def test_an_open_profile_is_refused():
    with pytest.raises(ValueError, match='axis'):
        shapes.lathe([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)])


@pytest.fixture(scope='module')
def sensed():
    """Sensor depth of a table at 0.8 m with a glass block at 0.6 m, over many seeds."""
    depth = np.full((192, 256), 0.8, np.float32)
    material = np.zeros(depth.shape, np.uint8)
    material[60:140, 100:170] = Material.TRANSPARENT
    depth[material > 0] = 0.6
    instance = (material > 0).astype(np.uint16)
    draws = [simulate_sensor(depth, material, instance, 245.0, SensorConfig(), seed, 0)
             for seed in range(30)]
    return depth, material, draws


def test_the_sensor_lies_in_the_measured_band(sensed):
    depth, material, draws = sensed
    glass = material > 0
    holes = [np.isnan(d[glass]).mean() for d in draws]
    bias = [np.nanmedian((d - depth)[glass]) for d in draws]
    background = [np.nanmean(np.abs(d - depth)[~glass]) for d in draws]
    assert 0.20 < np.mean(holes) < 0.75
    assert 0.010 < np.mean(bias) < 0.050
    assert 0.001 < np.mean(background) < 0.004


def test_the_sensor_is_drawn_from_its_seed(sensed):
    depth, material, draws = sensed
    instance = (material > 0).astype(np.uint16)
    again = simulate_sensor(depth, material, instance, 245.0, SensorConfig(), 3, 0)
    np.testing.assert_array_equal(again, draws[3])
    assert not np.array_equal(again, draws[4], equal_nan=True)


def test_the_second_camera_is_blocked_on_one_side_only():
    depth = np.full((4, 100), 1.0, np.float32)
    depth[:, 40:60] = 0.5
    shadow = shadow_of_baseline(depth, 200.0, 0.05)
    assert not shadow[:, 40:60].any()
    assert shadow[:, :40].sum() == 4 * 8
    assert not shadow[:, 60:].any()


def test_srgb_and_exposure():
    linear = np.array([[[0.0, 0.18, 1.0]]], np.float32)
    assert to_srgb(linear).tolist() == [[[0, 118, 255]]]
    gray = np.full((8, 8, 3), 0.05, np.float32)
    assert np.mean(gray * auto_exposure(gray, 0.2)) == pytest.approx(0.2, rel=0.03)


def test_highlights_are_compressed_and_nothing_below_them():
    linear = np.linspace(0.0, 6.0, 601, dtype=np.float32)
    rolled = roll_off(linear, 0.5)
    assert np.array_equal(rolled[:51], linear[:51]) and rolled[-1] < 1.0
    steps = np.diff(rolled)
    assert (steps > 0).all() and steps[50] == pytest.approx(0.01, rel=0.05)
    assert roll_off(np.float32(1.0), 0.5) == pytest.approx(0.75)  # Reinhard's t / (1 + t) at t = 1
    assert roll_off(linear, 1.0) is linear


def test_normals_turn_to_the_camera():
    camera = PinholeCamera(8, 6, 8.0, 8.0, 3.5, 2.5)
    down = np.diag([1.0, -1.0, -1.0, 1.0])  # looks along -z of the world
    up = np.zeros((6, 8, 3), np.float32)
    up[..., 2] = 1.0
    for normals in (up, -up):
        np.testing.assert_allclose(camera_normals(normals, down, camera)[3, 4], [0, 0, -1])


def test_scenes_and_attempts_draw_from_different_seeds():
    config = RenderConfig()
    seeds = {run.scene_spec(s, k, config)['seed'] for s in range(50) for k in range(6)}
    assert len(seeds) == 300


def test_a_bad_shard_a_file_for_a_folder_and_a_missing_interpreter_are_named(tmp_path):
    with pytest.raises(UserError, match='shard 2/2'):
        run.run_render(tmp_path, 1, shard=(2, 2))
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='file is a file'):
        run.run_render(tmp_path / 'file', 1)
    with pytest.raises(UserError, match='--setup'):
        find_interpreter(str(tmp_path / 'python'))


def renderer_is_missing():
    try:
        find_interpreter()
    except UserError:
        return True
    return False


@pytest.mark.slow
@pytest.mark.skipif(renderer_is_missing(), reason='no bpy; `dkt render --setup` installs it')
def test_a_rendered_scene_is_true_to_its_geometry(tmp_path):
    config = RenderConfig(width=96, height=72, samples=1, num_frames=2, workers=1)
    done = run.run_render(tmp_path, 1, 1_000_007, config)
    assert done['rendered'] == 1
    again = run.run_render(tmp_path, 1, 1_000_007, config)
    assert again == {'rendered': 0, 'skipped': 1, 'rejected': 0}
    scene = open_scene(tmp_path / run.scene_name(1_000_007))
    for item in scene:
        points = scene.camera.unproject(item.depth).reshape(-1, 3)
        world = points @ item.T_world_camera[:3, :3].T + item.T_world_camera[:3, 3]
        upwards = item.normals.reshape(-1, 3) @ item.T_world_camera[2, :3] > 0.999
        table = upwards & (item.instance.reshape(-1) == 0)
        assert table.sum() > 500
        assert np.median(np.abs(world[table, 2])) < 0.001
        assert np.mean(item.material == Material.TRANSPARENT) > 0.005
