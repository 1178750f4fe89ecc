"""Windows fitted to each other as pictures: what each is, what joins them, what is given back."""
import numpy as np
import pytest
import torch
from toy_model import HEIGHT, WIDTH, toy_clip, toy_frames, toy_pipeline

from dkt_ros.config import StreamConfig
from dkt_ros.errors import UserError
from dkt_ros.model.aligned import AlignedWindowStream, fit_scale_shift, open_windows
from dkt_ros.model.windows import WindowShape, WindowStream
from dkt_ros.stream import DKTStream
from dkt_ros.tools.perceive import OfflineStream


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def open_stream(pipeline, window=3, overlap=1, tasks=('depth',)):
    return open_windows(pipeline, tasks, WindowShape(window, overlap), HEIGHT, WIDTH, None, 1,
                        overlap='align')


def run(stream, clip):
    windows = [stream.push(rgb) for rgb in clip] + [stream.flush()]
    return [window for window in windows if window is not None]


# of latents: first and last frame of each window, and how many the one before has too
WINDOWS = {(3, 1): ([(0, 9), (8, 17), (16, 20)], 1), (3, 2): ([(0, 9), (4, 13), (8, 17), (12, 20)],
                                                             5), (2, 0): ([(0, 5), (5, 10)], 0)}


@pytest.mark.parametrize('shape', WINDOWS)
def test_each_window_is_a_clip_of_its_own_at_the_scale_of_the_one_before(shape):
    clip, (parts, num_shared) = toy_clip(20), WINDOWS[shape]
    clip = clip[:parts[-1][1]]
    found = run(open_stream(toy_pipeline(), *shape), clip)
    assert [window.window_id for window in found] == list(range(len(parts)))
    assert sum(window.num_frames for window in found) == len(clip)
    alone = [toy_pipeline()(clip[a:b], output_size='working', window_latents=6).prediction
             for a, b in parts]
    np.testing.assert_allclose(found[0].maps['depth'], alone[0], atol=1e-5)
    before = alone[0]
    for window, own in zip(found[1:], alone[1:], strict=True):
        if num_shared:
            scale, shift = np.polyfit(own[:num_shared, ::2, ::2].ravel(),
                                      before[-num_shared:, ::2, ::2].ravel(), 1)
            own = scale * own + shift if scale > 0 else \
                own + (before[-num_shared:] - own[:num_shared])[:, ::2, ::2].mean()
        np.testing.assert_allclose(window.maps['depth'], own[num_shared:], atol=1e-4)
        before = own


def test_windows_of_any_scale_are_joined_to_one():
    """What the decoder says is made the truth, at another scale and shift in each window."""
    truth = np.random.default_rng(0).random((17, HEIGHT, WIDTH)).astype(np.float32)
    stream, parts = open_stream(toy_pipeline()), iter([(0, 9), (8, 17)])
    affine = iter([(1.0, 0.0), (0.4, -0.3)])

    def decode(latents, begins):
        assert begins
        (a, b), (scale, shift) = next(parts), next(affine)
        return {'depth': scale * truth[a:b] + shift}
    stream._branches[0].decode = decode
    given = np.concatenate([window.maps['depth'] for window in run(stream, toy_clip(17))])
    np.testing.assert_allclose(given, truth, atol=1e-5)


def test_shared_latents_begin_from_the_noise_they_had():
    pipeline = toy_pipeline(2, 'gaussian')
    network, seen = pipeline.folded(), []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    pipeline.register_modules(transformer=network)
    run(open_stream(pipeline), toy_clip(17))
    first, second = seen[0], seen[2]
    assert first.shape == second.shape and torch.equal(first[:, :, -1:], second[:, :, :1])
    # nothing is held: after a step the shared latent has gone its own way
    assert not torch.allclose(seen[1][:, :, -1:], seen[3][:, :, :1], atol=1e-4)


def test_a_fit():
    wanted = np.random.default_rng(1).random((2, 8, 8)).astype(np.float32)
    assert fit_scale_shift((wanted - 0.5) / 4, wanted) == pytest.approx((4, 0.5), rel=1e-5)
    scale, shift = fit_scale_shift(-wanted, wanted)  # near would become far
    assert scale == 1 and shift == pytest.approx(2 * wanted[:, ::2, ::2].mean(), rel=1e-5)
    assert fit_scale_shift(np.zeros_like(wanted), wanted)[0] == 1


def test_a_stream_has_the_option_and_begins_anew_after_a_flush():
    stream = DKTStream(toy_pipeline(), StreamConfig(overlap='align', seam_blend=0), normals=True)
    assert isinstance(stream._windows, AlignedWindowStream)
    first, second = ([e for frame in toy_frames(20) for e in stream.push(frame)] + stream.flush()
                     for _ in range(2))
    assert [e.stamp_ns for e in first] == [frame.stamp_ns for frame in toy_frames(20)]
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.disparity, b.disparity) and np.array_equal(a.normals, b.normals)
    np.testing.assert_allclose(np.linalg.norm(first[-1].normals, axis=-1), 1, atol=1e-4)
    maps = toy_pipeline()(toy_clip(20), overlap='align', output_size='working').prediction
    np.testing.assert_allclose(np.stack([e.disparity for e in first]), maps, atol=1e-5)


def test_windows_beside_the_preset():
    assert StreamConfig().window == (3, 1) and StreamConfig(overlap_latents=2).window == (3, 2)
    assert StreamConfig(preset='long', window_latents=4, overlap_latents=0).window == (4, 0)
    stream = DKTStream(toy_pipeline(), StreamConfig(window_latents=4, overlap_latents=2))
    assert stream.shape == WindowShape(4, 2) and type(stream._windows) is WindowStream
    with pytest.raises(UserError, match='3 latents and the overlap 3'):
        StreamConfig(overlap_latents=3)
    with pytest.raises(UserError, match='1 latents and the overlap 1'):
        StreamConfig(preset='image', overlap_latents=1)


def test_joint_windows_take_what_is_set_beside_the_preset_and_nothing_of_it():
    clip, maps = toy_clip(17), []
    for options, wanted in (({'window_latents': 2, 'overlap_latents': 1}, (2, 1)),
                            ({'preset': 'low_latency'}, (21, 3))):
        stream = OfflineStream(toy_pipeline(), StreamConfig(**options))
        for frame in toy_frames(17):
            stream.advance(frame)
        maps.append(np.stack([estimate.disparity for estimate in stream.drain()]))
        np.testing.assert_allclose(maps[-1], toy_pipeline()(
            clip, preset='faithful', window_latents=wanted[0], overlap_latents=wanted[1],
            output_size='working').prediction, atol=1e-5)
    assert np.abs(maps[0] - maps[1]).max() > 1e-4
