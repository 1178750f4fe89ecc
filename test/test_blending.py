"""Windows that jump are joined; what moved, and what follows nothing, is left alone."""
import numpy as np
import pytest
from toy_model import toy_frames, toy_pipeline

from dkt_ros.blending import SeamBlend
from dkt_ros.config import StreamConfig
from dkt_ros.seams import SeamMonitor
from dkt_ros.stream import DKTStream

SIZE = 48, 64


def texture(seed=0, shift=0):
    """Return a picture (H, W, 3) uint8 of soft spots, moved to the right."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (SIZE[0] // 4, SIZE[1] // 4))
    wide = np.kron(coarse, np.ones((4, 4)))
    return np.repeat(np.roll(wide, shift, axis=1)[..., None], 3, axis=2).astype(np.uint8)


def maps(*levels):
    """Return one map a level (n, H, W) float32."""
    return {'depth': np.stack([np.full(SIZE, level, np.float32) for level in levels])}


def test_a_jump_is_shared_among_the_first_frames():
    blend, rgb = SeamBlend(0.5), [texture()] * 3
    first = maps(1, 1, 1)
    assert blend.join(first, rgb) is first
    second = maps(2, 2, 2)
    joined = blend.join(second, rgb)['depth']
    assert joined[:, 24, 32] == pytest.approx([1.5, 1.875, 2.0], abs=1e-3)
    assert (second['depth'] == 2).all()  # in arrays of its own


def test_what_the_camera_passes_is_carried_along():
    blend = SeamBlend(0.5)
    edge = np.where(np.arange(SIZE[1]) < 32, 1.0, 2.0).astype(np.float32)
    before = {'depth': np.tile(edge, (1, SIZE[0], 1))}
    after = {'depth': np.roll(before['depth'], 3, axis=2) + np.float32(0.2)}
    blend.join(before, [texture()])
    joined = blend.join(after, [texture(shift=3)])['depth'][0]
    # Half of the jump of 0.2 is gone on both sides of an edge that moved by three pixels.
    assert np.median(joined[10:38, 15:30]) == pytest.approx(1.1, abs=0.02)
    assert np.median(joined[10:38, 36:50]) == pytest.approx(2.1, abs=0.02)


def test_another_picture_and_another_stream_are_left_alone():
    blend = SeamBlend(0.5)
    blend.join(maps(1), [texture()])
    joined = blend.join(maps(2), [255 - texture(7)])['depth'][0]
    assert np.median(joined) == pytest.approx(2, abs=0.1)
    blend.reset()
    following = maps(3)
    assert blend.join(following, [texture()]) is following


def test_normals_stay_unit_vectors():
    blend = SeamBlend(0.6)
    for direction in ((0, 0, -1), (0.6, 0, -0.8)):
        vectors = np.tile(np.float32(direction), (1, *SIZE, 1))
        joined = blend.join(maps(1) | {'normal': vectors}, [texture()])['normal']
    np.testing.assert_allclose(np.linalg.norm(joined, axis=-1), 1, atol=1e-5)
    assert 0.1 < joined[0, 24, 32, 0] < 0.4


def test_nothing_is_done_without_a_share():
    blend, rgb = SeamBlend(0.0), [texture()]
    blend.join(maps(1), rgb)
    following = maps(2)
    assert blend.join(following, rgb) is following


def test_a_stream_joins_its_windows():
    ratios = {}
    for share in (0.0, 0.5):
        frames = toy_frames(33)
        stream = DKTStream(toy_pipeline(2, 'gaussian'), StreamConfig(seam_blend=share), True)
        steady = [type(frame)(frames[0].rgb, frame.stamp_ns, frame.camera) for frame in frames]
        estimates = [e for frame in steady for e in stream.push(frame)]
        monitor, windows = SeamMonitor(), {}
        for estimate in estimates:
            windows.setdefault(estimate.window_id, []).append(estimate.disparity)
        for window in windows.values():
            monitor.add(np.stack(window))
        ratios[share] = monitor.ratio
        assert stream.stats.seam_ratio == pytest.approx(monitor.ratio)
    assert ratios[0.5] < 0.8 * ratios[0.0]
