"""What the renderer's worker draws without Blender: paths, arrangements, places; cameras."""
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from dkt_ros.config import RenderConfig, SensorConfig
from dkt_ros.data.exr import write_exr
from dkt_ros.errors import UserError
from dkt_ros.tools.render import assemble, media, run
from dkt_ros.tools.render.cameras import COLOR_CAMERAS, color_camera, intrinsics
from dkt_ros.tools.render.passes import shoot

sys.path.insert(0, str(Path(run.__file__).parent / 'worker'))
import arrange  # noqa: E402
import paths  # noqa: E402
import places  # noqa: E402

TARGET = np.array([0.05, -0.02, 0.05])
SPEC = {'num_frames': 40, 'azimuth_rad': 1.0, 'distance_m': (0.5, 0.7), 'fps': 30.0,
        'elevation_rad': (0.4, 0.8), 'step_rad': (0.02, 0.04), 'period_frames': 60,
        'target': TARGET}


@pytest.mark.parametrize('kind', paths.PATHS)
@pytest.mark.parametrize('seed', range(4))
def test_a_camera_moves_smoothly_above_the_table_and_sees_the_things(kind, seed):
    poses = paths.draw_path({**SPEC, 'path': kind}, np.random.default_rng(seed))
    assert poses.shape == (40, 4, 4)
    turn, place = poses[:, :3, :3], poses[:, :3, 3]
    np.testing.assert_allclose(turn @ turn.transpose(0, 2, 1), np.tile(np.eye(3), (40, 1, 1)),
                               atol=1e-9)
    assert np.allclose(np.linalg.det(turn), 1.0) and place[:, 2].min() >= paths.LOWEST_M
    seen = np.einsum('nji,nj->ni', turn, TARGET - place)
    assert (seen[:, 2] > 0.15).all()
    assert (np.abs(seen[:, :2] / seen[:, 2:]) < 0.35).all()
    # Image upright: the camera's y points down, but for a hand's roll.
    assert (turn[:, 2, 1] < 0).all()
    steps = np.linalg.norm(np.diff(place, axis=0), axis=1)
    assert steps.max() < 0.08 and steps.sum() > 0.02
    again = paths.draw_path({**SPEC, 'path': kind}, np.random.default_rng(seed))
    np.testing.assert_array_equal(again, poses)


def test_a_circle_goes_round_and_its_radius_and_height_swing():
    spec = {**SPEC, 'path': 'circle', 'num_frames': 200, 'step_rad': (0.04, 0.04)}
    poses = paths.draw_path(spec, np.random.default_rng(0))
    away = poses[:, :3, 3] - TARGET
    azimuth = np.unwrap(np.arctan2(away[:, 1], away[:, 0]))
    assert abs(azimuth[-1] - azimuth[0]) > 2 * np.pi
    assert (np.sign(np.diff(azimuth)) == np.sign(azimuth[-1] - azimuth[0])).mean() > 0.99
    radius = np.linalg.norm(away, axis=1)
    assert 0.01 < np.ptp(radius) < 0.25 and np.ptp(away[:, 2]) > 0.01


def test_a_wrist_comes_near():
    poses = paths.draw_path({**SPEC, 'path': 'wrist'}, np.random.default_rng(1))
    away = np.linalg.norm(poses[:, :3, 3] - TARGET, axis=1)
    assert away[-1] < 0.6 * away[0] and away[-1] > 0.15


def test_a_walk_has_the_size_asked_for():
    walk = paths.smooth_walk(4000, [0.02, 0.2], np.random.default_rng(0), 1 / 30)
    np.testing.assert_allclose(walk.std(axis=0), [0.02, 0.2], rtol=0.5)
    assert np.abs(np.diff(walk[:, 0])).max() < 0.02


@pytest.mark.parametrize('arrangement', arrange.ARRANGEMENTS)
def test_things_start_apart(arrangement):
    sizes = [(0.04, 0.12), (0.03, 0.2), (0.05, 0.08), (0.035, 0.1)] * 2
    poses = arrange.start_poses(arrangement, sizes, (0.2, 0.2), 0.01, np.random.default_rng(0))
    there = [(pose, size) for pose, size in zip(poses, sizes) if pose is not None]
    assert len(there) >= 5
    for i, (one, (r1, h1)) in enumerate(there):
        middle = one[:3, 3] + one[:3, :3] @ (0, 0, h1 / 2)
        assert middle[2] - np.hypot(r1, h1 / 2) >= 0.0 or arrangement != 'fall'
        for other, (r2, _) in there[:i]:
            if arrangement != 'fall':
                assert np.hypot(*(one - other)[:2, 3]) > r1 + r2
    tilt = [pose[2, 2] for pose, _ in there]
    assert (np.ptp(tilt) > 0.5) if arrangement == 'fall' else np.allclose(tilt, 1.0)


def test_packed_is_tighter_than_upright():
    sizes = [(0.03, 0.1)] * 6
    spread = {}
    for arrangement in ('upright', 'packed'):
        poses = arrange.start_poses(arrangement, sizes, (0.2, 0.2), 0.0, np.random.default_rng(3))
        spread[arrangement] = np.std([pose[:2, 3] for pose in poses if pose is not None])
    assert spread['packed'] < 0.75 * spread['upright']


@pytest.mark.parametrize('name', places.PLACES)
def test_a_place_has_a_floor_under_the_things_and_nothing_where_they_fall(name):
    for seed in range(6):
        place = places.draw_place(name, 0.17, 0.5, np.random.default_rng(seed))
        tops = []
        for box in place.boxes:
            turn, middle = box.pose[:3, :3], box.pose[:3, 3]
            for x, y in (-1, -1), (1, 1), (1, -1), (-1, 1), (0, 0):
                probe = turn.T @ (np.array([0.7 * x * place.half[0], 0.7 * y * place.half[1],
                                            middle[2]]) - middle)
                if (np.abs(probe[:2]) < np.array(box.size[:2]) / 2).all():
                    tops.append(middle[2] + box.size[2] / 2)
        assert len(tops) >= 5 and max(tops) == pytest.approx(place.floor_m)
        assert place.reach_m > max(place.half)


@pytest.mark.parametrize('model', sorted(COLOR_CAMERAS))
def test_a_known_camera_keeps_its_field_of_view(model):
    full = COLOR_CAMERAS[model]
    small = color_camera(model, 640, 360)
    assert small.fx == pytest.approx(full[2] / 2)
    cut = color_camera(model, 640, 480)
    # 4:3 is cut out of the middle: the full height stays.
    assert 480 / cut.fy == pytest.approx(full[1] / full[2])
    assert intrinsics(RenderConfig(camera=model))[:2] == pytest.approx(
        [color_camera(model, 256, 192).fx] * 2)


def test_given_intrinsics_are_taken_and_bad_ones_refused():
    assert intrinsics(RenderConfig(K=(300.0, 310.0, 130.0, 90.0))) == [300.0, 310.0, 130.0, 90.0]
    assert intrinsics(RenderConfig()) is None
    with pytest.raises(UserError, match='four numbers'):
        RenderConfig(K=(300.0, 300.0))
    with pytest.raises(UserError, match='both given'):
        RenderConfig(K=(300.0, 310.0, 130.0, 90.0), camera='D435')


def test_a_preset_fills_in_what_is_left_out():
    config = RenderConfig.from_dict({'preset': 'transphy3d', 'sensor': {'every': 4}})
    assert (config.path, config.sensor.kind, config.sensor.every) == ('mix', 'stereo', 4)
    assert RenderConfig.from_dict(config.to_dict()) == config
    assert RenderConfig.from_dict({}) == RenderConfig()
    with pytest.raises(UserError, match='allowed with preset tabletop-v1'):
        RenderConfig(path='wrist')
    with pytest.raises(UserError, match='transphy3d'):
        RenderConfig.from_dict({'preset': 'nothing'})


def test_one_frame_a_scene_gets_a_pair_unless_asked():
    def frames(**sensor):
        return assemble.stereo_frames(RenderConfig(num_frames=6, sensor=SensorConfig(**sensor)))
    assert frames(kind='stereo') == [0]
    assert frames(kind='stereo', every=2) == [0, 2, 4]
    assert frames(kind='statistical', every=2) == []


def test_bad_pictures_are_named_and_left_out_and_an_empty_folder_is_refused(tmp_path, caplog):
    folder = tmp_path / 'photographs'
    with pytest.raises(UserError, match='does not exist'):
        media.usable(str(folder), media.PHOTOGRAPHS, 'texture_folder')
    folder.mkdir()
    with pytest.raises(UserError, match='no readable file'):
        media.usable(str(folder), media.PHOTOGRAPHS, 'texture_folder')
    cv2.imwrite(str(folder / 'good.png'), np.zeros((4, 4, 3), np.uint8))
    (folder / 'bad.jpg').write_bytes(b'no picture')
    (folder / 'notes.txt').write_text('no picture either')
    found = media.usable(str(folder), media.PHOTOGRAPHS, 'texture_folder')
    assert [Path(name).name for name in found] == ['good.png']
    assert 'bad.jpg' in caplog.text and 'notes.txt' not in caplog.text
    cv2.imwrite(str(folder / 'sky.hdr'), np.ones((4, 8, 3), np.float32))
    write_exr(folder / 'sky.exr', {name: np.ones((64, 128), np.float32) for name in 'RGB'})
    # The right beginning is not enough: a download that broke off has it, too.
    for kind in 'exr', 'hdr':
        whole = (folder / f'sky.{kind}').read_bytes()
        (folder / f'torn.{kind}').write_bytes(whole[:len(whole) * 2 // 3])
    (folder / 'none.hdr').write_bytes(b'')
    skies = media.usable(str(folder), media.ENVIRONMENTS, 'hdri_folder')
    assert [Path(name).name for name in skies] == ['sky.exr', 'sky.hdr']
    assert all(name in caplog.text for name in ('torn.exr', 'torn.hdr', 'none.hdr'))
    assert media.usable('', media.PHOTOGRAPHS, 'texture_folder') == []


def test_noise_grows_with_light():
    level = np.stack([np.full((64, 64), v, np.float32) for v in (0.0, 0.25, 1.0)], axis=-1)
    spread = (shoot(level, 0.02, np.random.default_rng(0)) - level).std(axis=(0, 1))
    np.testing.assert_allclose(spread, 0.02 * np.sqrt([0.01, 0.26, 1.01]), rtol=0.1)
    assert shoot(level, 0.0, np.random.default_rng(0)) is level
