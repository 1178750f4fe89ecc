"""`open_clip` on every kind of source, whole and damaged."""
import cv2
import numpy as np
import pytest
from bag_factory import write_bag
from scene_factory import CAMERA, make_scene, scene_frame

from dkt_ros.camera import PinholeCamera
from dkt_ros.data.clips import open_clip
from dkt_ros.data.images import write_image
from dkt_ros.data.packed import pack_clip
from dkt_ros.errors import UserError


def frames(count=4):
    return [scene_frame(i) for i in range(count)]


def make_video(path, count=10, fps=15.0):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), fps, (64, 48))
    for item in frames(count):
        writer.write(item.frame.rgb[..., ::-1])
    writer.release()
    return path


def test_scene(tmp_path):
    clip = open_clip(make_scene(tmp_path / 'a'))
    assert (clip.kind, clip.num_frames, clip.has_truth, clip.notes) == ('scene', 3, True, ())
    items = list(clip.items())
    assert len(items) == 3 and items[1].depth is not None and items[1].T_world_camera[0, 3] > 0
    assert [f.stamp_ns for f in clip] == [i.frame.stamp_ns for i in items]


def test_video(tmp_path):
    clip = open_clip(make_video(tmp_path / 'a.mp4'))
    assert (clip.kind, clip.num_frames, clip.fps) == ('video', 10, 15.0)
    assert '69.4 degrees' in clip.notes[0]
    result = list(clip)
    assert len(result) == 10 and result[0].sensor_depth is None
    assert result[1].stamp_ns == round(1e9 / 15)
    # lossy, but red stays red
    box = result[0].rgb[20:28, 50:56].astype(float)
    assert box[..., 0].mean() > box[..., 2].mean() + 40


def test_video_with_camera(tmp_path):
    path = make_video(tmp_path / 'a.mp4')
    assert open_clip(path, camera=CAMERA).notes == ()
    assert open_clip(path, fov_deg=90.0).camera.fx == pytest.approx(32.0)
    with pytest.raises(UserError, match='64x48'):
        open_clip(path, camera=PinholeCamera(32, 24, 30, 30, 16, 12))


def test_corrupt_video(tmp_path):
    whole = make_video(tmp_path / 'a.mp4').read_bytes()
    cut = tmp_path / 'cut.mp4'
    cut.write_bytes(whole[:len(whole) // 2])
    with pytest.raises(UserError, match='corrupt or cut short'):
        open_clip(cut)
    noise = tmp_path / 'noise.mp4'
    noise.write_bytes(bytes(range(256)) * 40)
    with pytest.raises(UserError, match='no video'):
        open_clip(noise)
    (tmp_path / 'empty.mp4').touch()
    with pytest.raises(UserError, match='empty file'):
        open_clip(tmp_path / 'empty.mp4')


def test_video_without_frames(tmp_path):
    with pytest.raises(UserError):
        open_clip(make_video(tmp_path / 'a.mp4', count=0))


def make_images(folder, count=3):
    folder.mkdir(parents=True)
    for item in frames(count):
        write_image(folder / f'{item.index:03d}.png', item.frame.rgb)
    return folder


def test_image_folder(tmp_path):
    make_images(tmp_path / 'a')
    (tmp_path / 'a' / 'notes.txt').write_text('not an image')
    clip = open_clip(tmp_path / 'a', camera=CAMERA, fps=10)
    assert (clip.kind, clip.num_frames, clip.fps) == ('images', 3, 10)
    np.testing.assert_array_equal([f.rgb for f in clip], [i.frame.rgb for i in frames(3)])


def test_image_folder_with_camera_and_depth(tmp_path):
    make_images(tmp_path / 'a' / 'rgb')
    (tmp_path / 'a' / 'depth').mkdir()
    write_image(tmp_path / 'a' / 'depth' / '000.png', np.full((48, 64), 700, np.uint16))
    (tmp_path / 'a' / 'camera.json').write_text(
        '{"width": 64, "height": 48, "fx": 60, "fy": 60, "cx": 31.5, "cy": 23.5}')
    clip = open_clip(tmp_path / 'a')
    first, second, _ = clip
    assert clip.camera == CAMERA and clip.notes == ()
    assert first.sensor_depth[0, 0] == pytest.approx(0.7) and second.sensor_depth is None


def test_stills_are_repeated_apart(tmp_path):
    clip = open_clip(make_images(tmp_path / 'a', 2), repeat=3, fps=10)
    stamps = np.array([f.stamp_ns for f in clip]) / 1e9
    assert clip.num_frames == len(stamps) == 6
    np.testing.assert_allclose(np.diff(stamps), [0.1, 0.1, 10.1, 0.1, 0.1], atol=1e-6)
    assert open_clip(tmp_path / 'a' / '000.png', repeat=5).num_frames == 5


def test_images_of_two_sizes(tmp_path):
    folder = make_images(tmp_path / 'a', 2)
    write_image(folder / '002.png', np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UserError, match='8x8'):
        list(open_clip(folder))


@pytest.mark.parametrize('mcap, encoding, compressed', [
    (True, 'rgb8', True), (True, 'bgr8', False), (False, 'rgb8', False), (False, 'bgr8', True)])
def test_bags(tmp_path, mcap, encoding, compressed):
    bag = write_bag(tmp_path / 'bag', frames(), mcap, encoding, compressed=compressed)
    for path in [bag, *(bag.glob('*.mcap') if mcap and not compressed else ())]:
        clip = open_clip(path)
        assert (clip.kind, clip.num_frames, clip.camera) == ('bag', 4, CAMERA)
        assert clip.fps == pytest.approx(6.0, abs=0.01)
        for frame, truth in zip(clip, frames()):
            np.testing.assert_array_equal(frame.rgb, truth.frame.rgb)
            np.testing.assert_allclose(frame.sensor_depth, truth.frame.sensor_depth, atol=1e-3)
            assert frame.stamp_ns == truth.frame.stamp_ns + 10**9


def test_bag_with_late_depth(tmp_path):
    bag = write_bag(tmp_path / 'bag', frames(), depth_late_ns=240_000_000)
    result = list(open_clip(bag))
    assert len(result) == 4 and all(f.sensor_depth is not None for f in result)


def test_bag_with_colour_only(tmp_path):
    clip = open_clip(write_bag(tmp_path / 'bag', frames(), with_info=False, with_depth=False))
    assert len(clip.notes) == 2 and next(iter(clip)).sensor_depth is None


def test_bag_topics(tmp_path):
    bag = write_bag(tmp_path / 'bag', frames())
    with pytest.raises(UserError, match="'/nope'.*camera_info"):
        open_clip(bag, color_topic='/nope')
    clip = open_clip(bag, color_topic='/camera/camera/color/image_raw')
    assert clip.num_frames == 4


def test_corrupt_bags(tmp_path):
    mcap = next(write_bag(tmp_path / 'a', frames()).glob('*.mcap'))
    mcap.write_bytes(mcap.read_bytes()[:3000])
    for path in (mcap, tmp_path / 'a'):
        with pytest.raises(UserError, match='truncated or corrupt'):
            list(open_clip(path))
    bag = write_bag(tmp_path / 'b', frames(), mcap=False)
    next(bag.glob('*.db3')).unlink()
    with pytest.raises(UserError, match='cannot be read as a bag'):
        open_clip(bag)
    with pytest.raises(UserError, match='no colour image topic'):
        open_clip(write_bag(tmp_path / 'c', []))


def test_packed_clip(tmp_path):
    scene = make_scene(tmp_path / 'a', 7)
    size = pack_clip(scene, tmp_path / 'packed', truth_every=3)
    assert 0 < size < 200_000
    clip = open_clip(tmp_path / 'packed')
    items = list(clip.items())
    assert (clip.kind, clip.num_frames, clip.camera, len(items)) == ('packed', 7, CAMERA, 7)
    assert [i.depth is not None for i in items] == [i % 3 == 0 for i in range(7)]
    truth = scene_frame(3, seed=1_000_000)
    np.testing.assert_allclose(items[3].depth, truth.depth, atol=6e-4)
    np.testing.assert_array_equal(items[3].material, truth.material)
    np.testing.assert_allclose(items[3].T_world_camera, truth.T_world_camera, atol=1e-6)
    np.testing.assert_allclose(items[4].frame.sensor_depth,
                               scene_frame(4, seed=1_000_000).frame.sensor_depth, atol=6e-4)
    error = np.abs(items[3].frame.rgb.astype(int) - truth.frame.rgb)
    assert error.mean() < 12
    with pytest.raises(UserError, match='exists already'):
        pack_clip(scene, tmp_path / 'packed')


@pytest.mark.parametrize('make, words', [
    (lambda p: p / 'nothing', 'does not exist'),
    (lambda p: p, 'it is empty'),
    (lambda p: make_scene(p / 'scenes' / 'a').parent, 'holds 1 scenes')])
def test_nothing_to_open(tmp_path, make, words):
    with pytest.raises(UserError, match=words):
        open_clip(make(tmp_path))


def test_bad_repeat(tmp_path):
    with pytest.raises(UserError, match='repeat is 0'):
        open_clip(tmp_path, repeat=0)
