"""The chain around a stand-in for the stream: groups, states, and which maps come out."""
import numpy as np
import pytest

from dkt_ros.camera import PinholeCamera
from dkt_ros.config import AnchorConfig, FusionConfig, NormalsConfig, PerceptionConfig
from dkt_ros.frame import DepthEstimate, Frame
from dkt_ros.perception import FIELDS, Perception

CAMERA = PinholeCamera(160, 120, 150.0, 150.0, 79.5, 59.5)
SMALL = PinholeCamera(80, 60, 75.0, 75.0, 39.5, 29.5)
PLANE = (0.0, float(np.cos(0.7)), float(np.sin(0.7)), 0.42)
GLASS = (slice(50, 90), slice(60, 90))
WINDOW = 4


def table(camera):
    with np.errstate(divide='ignore'):
        depth = PLANE[3] / (camera.rays() @ np.float32(PLANE[:3]))
    return np.where((depth > 0) & (depth < 1.4), depth, 1.4).astype(np.float32)


def truth():
    """Return a table with a box of glass on it, (H, W) [m]."""
    depth = table(CAMERA)
    depth[GLASS] = 0.45
    return depth


class StreamOfTruth:
    """Gives the true disparity of the scene, a window at a time, as DKTStream would."""

    def __init__(self, with_normals=True):
        self.waiting, self.window_id, self.resets = [], 0, []
        depth = table(SMALL)
        depth[25:45, 30:45] = 0.45
        self.disparity = ((1 / depth - 0.4) / 3).astype(np.float32)
        self.normals = np.zeros((60, 80, 3), np.float32) - np.float32([0, 0, 1])
        self.with_normals = with_normals

    def advance(self, frame):
        self.waiting.append(frame)
        return self.drain() if len(self.waiting) == WINDOW else []

    def denoise(self, pending):
        return pending

    def decode(self, pending):
        return pending

    def drain(self):
        frames, self.waiting = self.waiting, []
        self.window_id += 1
        return [DepthEstimate(frame, self.disparity, self.window_id,
                              self.normals if self.with_normals else None) for frame in frames]

    def reset(self, reason):
        self.waiting = []
        self.resets.append(reason)


def frame(index=0, sensor='glass', camera=CAMERA):
    rgb = np.full((120, 160, 3), 90, np.uint8)
    rgb[GLASS] = 160
    depth = None
    if sensor != 'none':
        depth = truth() + np.random.default_rng(index).normal(0, 0.001, (120, 160))
        depth = depth.astype(np.float32)
    if sensor == 'glass':
        depth[GLASS] = table(CAMERA)[GLASS]
        depth[50:70, 60:90] = np.nan
    if sensor == 'noise':
        depth = np.random.default_rng(index).uniform(0.3, 1.5, (120, 160)).astype(np.float32)
    return Frame(rgb, index * 100_000_000, camera, depth)


def run(num_frames=WINDOW, sensor='glass', config=None, stream=None, wanted=FIELDS):
    perception = Perception(stream or StreamOfTruth(), config, wanted)
    estimates = [e for i in range(num_frames) for e in perception.push(frame(i, sensor))]
    return perception, estimates


@pytest.mark.filterwarnings('error')
def test_every_map_comes_out_at_the_size_of_the_image():
    _, estimates = run()
    assert [e.stamp_ns for e in estimates] == [i * 100_000_000 for i in range(WINDOW)]
    for estimate in estimates:
        assert estimate.anchor.status == 'locked'
        for name in FIELDS:
            value = getattr(estimate, name)
            assert value.shape[:2] == (120, 160), name
            assert value.dtype == (bool if name == 'mask' else np.float32), name
        assert (estimate.confidence >= 0).all() and (estimate.confidence <= 1).all()


def test_metres_are_right_on_glass_and_around_it():
    estimate = run()[1][-1]
    error = np.abs(estimate.depth - truth())
    inside = (slice(54, 86), slice(64, 86))
    assert error[inside].max() < 0.005
    assert np.median(error) < 0.002
    assert estimate.mask[inside].all()
    away = np.ones((120, 160), bool)
    away[46:94, 56:94] = False
    assert estimate.mask[away].mean() < 0.01
    np.testing.assert_allclose(estimate.depth_fused[inside], estimate.depth[inside], atol=0.005)
    sensor = estimate.frame.sensor_depth
    kept = ~estimate.mask
    np.testing.assert_allclose(estimate.depth_fused[kept], sensor[kept], atol=0.03)
    noise = np.abs(sensor - truth())[kept].mean()
    assert np.abs(estimate.depth_fused - truth())[kept].mean() < 0.7 * noise
    raw = run(config=PerceptionConfig(fusion=FusionConfig(smoothing=0.0)))[1][-1]
    np.testing.assert_array_equal(raw.depth_fused[kept], sensor[kept])
    assert estimate.confidence[inside].max() < np.median(estimate.confidence[away])


def test_disparity_and_depth_tell_the_same_story():
    estimate = run(config=PerceptionConfig(anchor=AnchorConfig(refine='none')))[1][0]
    np.testing.assert_allclose(1 / estimate.anchor.inverse_depth(estimate.disparity),
                               estimate.depth, rtol=1e-4)


def test_disparity_stays_the_model_s_own_when_depth_is_refined():
    estimate = run()[1][0]
    plain = run(config=PerceptionConfig(anchor=AnchorConfig(refine='none')))[1][0]
    # Along edges a pixel may go to the other side.
    difference = np.abs(estimate.disparity - plain.disparity)
    assert np.quantile(difference, 0.98) < 2e-3


@pytest.mark.parametrize('sensor', ['noise', 'none'])
@pytest.mark.filterwarnings('error')
def test_without_an_anchor_there_is_disparity_and_nothing_else(sensor):
    estimate = run(sensor=sensor)[1][-1]
    assert estimate.anchor.status == 'unlocked'
    assert estimate.disparity.shape == (120, 160)
    assert estimate.normals is not None
    for name in ('depth', 'depth_fused', 'mask', 'confidence'):
        assert getattr(estimate, name) is None, name


@pytest.mark.filterwarnings('error')
def test_an_rgb_camera_over_a_known_table_gives_metres():
    config = PerceptionConfig(anchor=AnchorConfig(source='plane', plane=PLANE, far_m=1.3))
    estimate = run(sensor='none', config=config)[1][-1]
    assert estimate.anchor.status == 'locked'
    assert np.median(np.abs(estimate.depth - truth())) < 0.005
    assert estimate.mask.all()
    np.testing.assert_array_equal(estimate.depth_fused, estimate.depth)


@pytest.mark.parametrize('name', sorted(FIELDS))
def test_only_what_is_wanted_is_computed(name):
    estimate = run(wanted={name})[1][-1]
    for other in FIELDS - {'disparity'}:
        assert (getattr(estimate, other) is not None) == (other == name), other
    size = (120, 160) if name == 'disparity' else (60, 80)
    assert estimate.disparity.shape == size


def test_wanted_can_change_and_is_checked():
    perception, _ = run(wanted=())
    perception.wanted = {'depth'}
    estimates = [e for i in range(WINDOW) for e in perception.push(frame(i + WINDOW))]
    assert estimates[0].depth is not None
    with pytest.raises(ValueError, match='cloud.*confidence'):
        perception.wanted = {'cloud'}


@pytest.mark.parametrize(('source', 'expected'), [
    ('model', (0.0, 0.0, -1.0)), ('none', None),
    ('depth', (0.0, -PLANE[1], -PLANE[2])),
])
def test_normals_come_from_where_they_are_told_to(source, expected):
    config = PerceptionConfig(normals=NormalsConfig(source=source))
    normals = run(config=config)[1][-1].normals
    if expected is None:
        assert normals is None
    else:
        np.testing.assert_allclose(normals[105, 30], expected, atol=0.03)


def test_confidence_needs_no_normal_model():
    config = PerceptionConfig(normals=NormalsConfig(source='none'))
    estimate = run(config=config, stream=StreamOfTruth(with_normals=False))[1][-1]
    assert estimate.normals is None
    assert estimate.confidence[105, 30] > 0.5


def test_the_tail_of_a_clip_comes_out_at_the_end():
    perception, estimates = run(num_frames=WINDOW + 2)
    assert len(estimates) == WINDOW
    assert [e.stamp_ns for e in perception.flush()] == [400_000_000, 500_000_000]


def test_reset_reaches_stream_and_anchor():
    perception, _ = run()
    perception.reset('new camera')
    assert perception.stream.resets == ['new camera']
    assert perception.anchor.state.status == 'unlocked'


def test_another_camera_starts_with_no_metres():
    perception, _ = run()
    other = PinholeCamera(160, 120, 140.0, 140.0, 79.5, 59.5)
    blind = [e for i in range(WINDOW)
             for e in perception.push(frame(i + WINDOW, 'none', other))]
    assert blind[0].anchor.status == 'unlocked'


def test_a_short_loss_of_depth_is_bridged():
    perception, _ = run()
    estimates = [e for i in range(WINDOW) for e in perception.push(frame(i + WINDOW, 'none'))]
    assert estimates[0].anchor.status == 'coasting'
    assert estimates[0].depth is not None


@pytest.mark.filterwarnings('error')
def test_windows_are_told_apart_and_nan_disparity_does_no_harm():
    stream = StreamOfTruth()
    stream.disparity[5:9, 5:9] = np.nan
    perception = Perception(stream)
    two = [DepthEstimate(frame(i), stream.disparity, window_id=i // 2) for i in range(4)]
    stream.advance = lambda frame: two
    estimates = perception.push(frame(3))
    assert [e.window_id for e in estimates] == [0, 0, 1, 1]
    assert estimates[0].anchor is estimates[1].anchor
    assert estimates[1].anchor is not estimates[2].anchor
    assert np.isnan(estimates[0].depth[13, 13])
    assert np.isfinite(estimates[0].depth[60, 30])


def test_poses_are_asked_for_late_and_move_what_the_motion_says():
    perception = Perception(StreamOfTruth())
    pose, moved = np.eye(4), np.ones((60, 80), np.float32)
    moved[25:45, 30:45] = 1.1
    asked, seen = [], []
    perception.pose_of = lambda frame: asked.append(frame.stamp_ns) or pose
    perception.parallax.correct = lambda frame, inverse, sensor: seen.append(
        (frame.T_world_camera, inverse.shape, sensor.shape)) or moved
    for index in range(WINDOW - 1):
        assert perception.push(frame(index)) == [] and asked == []
    estimates = perception.push(frame(WINDOW - 1))
    assert asked == [estimate.stamp_ns for estimate in estimates]
    assert seen[0] == (pose, (60, 80), (60, 80)) and estimates[-1].frame.T_world_camera is pose
    plain = run()[1][-1]
    inside = (slice(54, 86), slice(64, 86))
    np.testing.assert_allclose(estimates[-1].depth[inside], 1.1 * plain.depth[inside], rtol=1e-3)
    np.testing.assert_allclose(estimates[-1].depth[100:], plain.depth[100:], rtol=1e-4)


def test_a_reset_or_another_camera_ends_the_views():
    perception, _ = run()
    ended = []
    perception.parallax.reset = lambda: ended.append(True)
    perception.reset('new camera')
    assert len(ended) == 1
    other = PinholeCamera(160, 120, 140.0, 140.0, 79.5, 59.5)
    for index, camera in enumerate((CAMERA,) * WINDOW + (other,) * WINDOW):
        perception.push(frame(index, camera=camera))
    assert len(ended) == 2
