"""MetricAnchor on analytic scenes: accuracy, refusal, behaviour over time."""
import cv2
import numpy as np
import pytest

from dkt_ros.alignment import fit_least_squares
from dkt_ros.anchor import MetricAnchor, near_holes
from dkt_ros.camera import PinholeCamera
from dkt_ros.config import AnchorConfig

CAMERA = PinholeCamera(160, 120, 150.0, 150.0, 79.5, 59.5)
SCALE, SHIFT = 3.2, 0.5
PLANE = (0.0, float(np.cos(0.6)), float(np.sin(0.6)), 0.42)


def scene_depth():
    """Return a table seen from above with a wall behind, (h, w) [m]."""
    with np.errstate(divide='ignore'):
        table = PLANE[3] / (CAMERA.rays() @ np.float32(PLANE[:3]))
    return np.where((table > 0) & (table < 1.5), table, 1.5).astype(np.float32)


def disparity_of(depth, scale=SCALE, shift=SHIFT):
    return ((1 / depth - shift) / scale).astype(np.float32)


def smooth_noise(rng, shape, sigma):
    field = cv2.GaussianBlur(rng.normal(size=shape), (0, 0), sigma)
    return field / field.std()


def spoilt(depth, rng, kind):
    """Let 40 % of the pixels see through glass and take 30 % away."""
    sensor = depth + rng.normal(0, 0.002, depth.shape)
    blobs = smooth_noise(rng, depth.shape, 8)
    glass = blobs > np.quantile(blobs, 0.6)
    if kind == 'scattered':
        glass = rng.random(depth.shape) < 0.4
    behind = {'background': 0.3, 'scattered': 0.2, 'biased': rng.uniform(0.01, 0.05, depth.shape)}
    sensor = np.where(glass, sensor + behind.get(kind, 0.3), sensor)
    holes = rng.random(depth.shape) < 0.3
    if kind == 'disjoint':
        holes = ~glass & (rng.random(depth.shape) < 0.5)
    return np.where(holes, np.nan, sensor).astype(np.float32)


def lock(anchor=None, depth=None, sensor=None, **gauge):
    depth = scene_depth() if depth is None else depth
    anchor = anchor or MetricAnchor(AnchorConfig())
    sensor = depth if sensor is None else sensor
    return anchor, anchor.update(disparity_of(depth, **gauge)[None], sensor[None])


@pytest.mark.parametrize('kind', ['background', 'scattered', 'biased', 'disjoint'])
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_glass_and_holes_do_not_move_the_scale(kind, seed):
    depth = scene_depth()
    _, state = lock(sensor=spoilt(depth, np.random.default_rng(seed), kind))
    assert state.status == 'locked'
    assert abs(state.scale / SCALE - 1) <= 0.01
    error = np.abs(1 / state.inverse_depth(disparity_of(depth)) - depth)
    assert error.mean() <= 0.004


def test_a_clean_sensor_gives_the_exact_fit_and_says_so():
    _, state = lock()
    assert state.scale == pytest.approx(SCALE, rel=1e-4)
    assert state.shift == pytest.approx(SHIFT, abs=1e-3)
    assert state.inlier_ratio == 1.0
    assert state.residual_m < 1e-4
    assert '100%' in state.reason


@pytest.mark.parametrize(('name', 'needle'), [
    ('nothing', 'gives no depth'), ('nan', 'Only 0 pixels'), ('inf', 'Only 0 pixels'),
    ('zero', 'Only 0 pixels'), ('negative', 'Only 0 pixels'), ('disjoint', 'Only 0 pixels'),
    ('noise', ''), ('narrow noise', ''), ('smooth noise', ''), ('flat', ''),
])
@pytest.mark.filterwarnings('error')
def test_a_reference_that_says_nothing_is_refused(name, needle):
    rng = np.random.default_rng(3)
    disparity = disparity_of(scene_depth())
    shape = disparity.shape
    if name == 'disjoint':
        disparity[:, :80] = np.nan
    half = scene_depth()
    half[:, 80:] = np.nan
    sensor = {
        'nothing': lambda: None, 'nan': lambda: np.full(shape, np.nan),
        'inf': lambda: np.full(shape, np.inf), 'zero': lambda: np.zeros(shape),
        'negative': lambda: np.full(shape, -1.0), 'disjoint': lambda: half,
        'noise': lambda: rng.uniform(0.3, 1.5, shape),
        'narrow noise': lambda: rng.normal(0.7, 0.02, shape),
        'smooth noise': lambda: 0.7 + 0.1 * smooth_noise(rng, shape, 4),
        'flat': lambda: rng.normal(0.7, 0.002, shape),
    }[name]()
    sensor = None if sensor is None else sensor.astype(np.float32)[None]
    state = MetricAnchor(AnchorConfig()).update(disparity[None], sensor)
    assert state.status == 'unlocked'
    assert not state.is_metric
    assert np.isnan(state.scale)
    assert needle in state.reason
    assert state.reason.endswith('.')


@pytest.mark.parametrize('name', ['constant', 'noise', 'far is large', 'nan'])
def test_a_disparity_that_says_nothing_is_refused(name):
    depth = scene_depth()
    disparity = {
        'constant': np.full(depth.shape, 0.4),
        'noise': np.random.default_rng(0).random(depth.shape),
        'far is large': -disparity_of(depth), 'nan': np.full(depth.shape, np.nan),
    }[name].astype(np.float32)
    state = MetricAnchor(AnchorConfig()).update(disparity[None], depth[None])
    assert state.status == 'unlocked'


def test_invalid_pixels_are_ignored_one_by_one():
    sensor = scene_depth()
    sensor[::3], sensor[1::7] = np.nan, np.inf
    sensor[:, ::5], sensor[:, 1::9] = 0.0, -2.0
    _, state = lock(sensor=sensor)
    assert state.scale == pytest.approx(SCALE, rel=1e-3)


@pytest.mark.parametrize('share', [0.02, 0.05])
def test_slow_errors_of_a_small_model_are_tolerated_and_reported(share):
    depth = scene_depth()
    wrong = np.exp(share * smooth_noise(np.random.default_rng(4), depth.shape, 16))
    _, state = lock(depth=(depth * wrong).astype(np.float32), sensor=depth)
    assert state.status == 'locked'
    assert 0.2 * share < state.residual < 2 * share


def test_lowpass_takes_slow_errors_out_around_glass_and_not_into_it():
    rng = np.random.default_rng(5)
    depth = scene_depth()
    model = (depth * np.exp(0.03 * smooth_noise(rng, depth.shape, 20))).astype(np.float32)
    sensor = (depth + rng.normal(0, 0.002, depth.shape)).astype(np.float32)
    glass = np.zeros(depth.shape, bool)
    glass[60:90, 60:85] = True
    sensor[glass] += 0.04
    sensor[glass & (smooth_noise(rng, depth.shape, 2) > 0)] = np.nan
    anchor, state = lock(depth=model, sensor=sensor)
    inverse = state.inverse_depth(disparity_of(model))
    factor, left = anchor.correction(inverse, sensor, near_holes(sensor))
    before, after = np.abs(1 / inverse - depth), np.abs(factor / inverse - depth)
    assert after[~glass].mean() < 0.4 * before[~glass].mean()
    assert np.median((factor / inverse - depth)[glass]) < 0.015
    assert left < 0.02


def test_lowpass_fades_to_nothing_where_no_pixel_is_trusted():
    depth = scene_depth()
    sensor = 1.05 * depth
    sensor[:, 60:] = np.nan
    anchor, state = lock()
    factor, _ = anchor.correction(state.inverse_depth(disparity_of(depth)), sensor)
    assert factor[:, :30].mean() == pytest.approx(1.05, abs=0.005)
    np.testing.assert_allclose(factor[:, 140:], 1.0, atol=2e-3)


def test_refine_none_corrects_nothing():
    anchor, state = lock(MetricAnchor(AnchorConfig(refine='none')))
    depth = scene_depth()
    assert anchor.correction(state.inverse_depth(disparity_of(depth)), depth)[0] is None


def test_it_coasts_without_depth_and_then_lets_go():
    anchor, locked = lock(MetricAnchor(AnchorConfig(coast_windows=2)))
    disparity = disparity_of(scene_depth())[None]
    states = [anchor.update(disparity, None) for _ in range(3)]
    assert [state.status for state in states] == ['coasting', 'coasting', 'unlocked']
    assert states[0].scale == locked.scale
    assert '1 windows old' in states[0].reason
    assert lock(anchor)[1].status == 'locked'


def test_a_new_fit_is_averaged_in():
    anchor, _ = lock(MetricAnchor(AnchorConfig(smoothing=0.5)))
    _, state = lock(anchor, scale=SCALE * 1.04, shift=SHIFT * 1.04)
    assert state.scale == pytest.approx(SCALE * 1.02, rel=1e-3)


def test_a_jump_is_taken_only_when_it_is_confirmed():
    anchor, _ = lock(MetricAnchor(AnchorConfig(confirm_windows=2)))
    _, first = lock(anchor, scale=2 * SCALE, shift=0.1)
    assert first.status == 'unlocked'
    assert 'jumped' in first.reason
    _, second = lock(anchor, scale=2 * SCALE, shift=0.1)
    assert second.status == 'locked'
    assert second.scale == pytest.approx(2 * SCALE, rel=1e-3)


def test_one_odd_window_does_not_move_the_fit():
    anchor, _ = lock()
    lock(anchor, scale=2 * SCALE, shift=0.1)
    _, state = lock(anchor)
    assert state.status == 'locked'
    assert state.scale == pytest.approx(SCALE, rel=1e-3)


def test_reset_forgets():
    anchor, _ = lock()
    anchor.reset()
    assert anchor.state.status == 'unlocked'


def test_a_support_plane_anchors_what_stands_on_it():
    depth = scene_depth()
    depth[40:80, 50:90] *= 0.8
    anchor = MetricAnchor(AnchorConfig(source='plane', plane=PLANE, far_m=1.45))
    state = anchor.update(disparity_of(depth)[None], None, CAMERA)
    assert state.status == 'locked'
    assert state.scale == pytest.approx(SCALE, rel=0.01)


def test_fixed_numbers_are_used_as_they_are():
    anchor = MetricAnchor(AnchorConfig(source='fixed', scale=2.0, shift=0.25))
    state = anchor.update(np.zeros((1, 4, 4), np.float32))
    assert (state.status, state.scale, state.shift) == ('locked', 2.0, 0.25)
    assert state.inverse_depth(np.float32(0.5)) == 1.25


def test_without_a_source_there_are_no_metres():
    anchor = MetricAnchor(AnchorConfig(source='none'))
    depth = scene_depth()
    assert anchor.update(disparity_of(depth)[None], depth[None]).status == 'unlocked'


def test_depth_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r'\(1, 6, 8\).*\(1, 3, 4\)'):
        MetricAnchor(AnchorConfig()).update(np.zeros((1, 3, 4)), np.zeros((1, 6, 8)))


@pytest.mark.parametrize('options', [{'plane': (0.0, 0.0, 2.0, 1.0)}, {'plane': (1.0, 0.0)},
                                     {'scale': -1.0}, {'source': 'guess'},
                                     {'near_m': 2.0, 'far_m': 1.0}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValueError, match='AnchorConfig'):
        AnchorConfig(**options)


def test_least_squares_by_hand():
    assert fit_least_squares([0, 1, 2], [1, 3, 5]) == pytest.approx((2.0, 1.0))
    assert fit_least_squares([0, 1, 2], [1, 3, 99], [1, 1, 0]) == pytest.approx((2.0, 1.0))
    assert fit_least_squares([3, 3], [1, 2]) == pytest.approx((0.0, 1.5))
