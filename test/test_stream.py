"""A frame in, finished estimates out: order, overlap, resets, statistics, bounded memory."""
import dataclasses
import gc
import warnings

import numpy as np
import pytest
import torch
from toy_model import HEIGHT, WIDTH, toy_frames, toy_pipeline

from dkt_ros.config import OVERLAPS, PRESETS, StreamConfig
from dkt_ros.errors import UserError
from dkt_ros.model.windows import WindowShape, WindowStream
from dkt_ros.seams import SeamMonitor
from dkt_ros.stream import DKTStream

BALANCED = StreamConfig()


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope='module')
def pipeline():
    return toy_pipeline()


def run(stream, frames):
    return [stream.push(frame) for frame in frames]


@pytest.mark.parametrize(('preset', 'sizes'), [
    ('image', [1] * 20),
    ('low_latency', [0, 0, 0, 0, 5, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0]),
    ('balanced', [0] * 8 + [9] + [0] * 7 + [8] + [0] * 3),
    ('long', [0] * 20),
])
def test_windows_come_when_they_are_full(pipeline, preset, sizes):
    stream = DKTStream(pipeline, StreamConfig(preset=preset))
    frames = toy_frames(20)
    batches = run(stream, frames)
    assert [len(batch) for batch in batches] == sizes
    tail = stream.flush()
    estimates = [estimate for batch in batches for estimate in batch] + tail
    assert [e.frame for e in estimates] == frames
    assert stream.num_waiting == 0
    ids = [e.window_id for e in estimates]
    assert ids == sorted(ids)
    assert all(e.disparity.shape == (HEIGHT, WIDTH) and e.disparity.dtype == np.float32
               for e in estimates)


@pytest.mark.parametrize('preset', PRESETS)
@pytest.mark.parametrize('num_frames', [1, 4, 9, 30])
def test_the_pipeline_gives_the_same_maps(preset, num_frames):
    pipeline = toy_pipeline(2, 'gaussian')
    frames = toy_frames(num_frames)
    stream = DKTStream(pipeline, StreamConfig(preset=preset, seam_blend=0), normals=True)
    estimates = [e for batch in run(stream, frames) for e in batch] + stream.flush()
    clip = np.stack([frame.rgb for frame in frames])
    for task, field in (('depth', 'disparity'), ('normal', 'normals')):
        expected = pipeline(clip, task, preset=preset).prediction
        np.testing.assert_allclose(np.stack([getattr(e, field) for e in estimates]), expected,
                                   atol=1e-4)


def test_each_frame_is_encoded_and_decoded_once(pipeline, monkeypatch):
    counts = {'encoder': 0, 'decoder': 0}
    for name in counts:
        forward = getattr(pipeline.vae, name).forward

        def counted(x, *args, _name=name, _forward=forward, **kwargs):
            result = _forward(x, *args, **kwargs)
            counts[_name] += (x if _name == 'encoder' else result).shape[2]
            return result

        monkeypatch.setattr(getattr(pipeline.vae, name), 'forward', counted)
    stream = DKTStream(pipeline, BALANCED, normals=True)
    run(stream, toy_frames(25))
    assert counts == {'encoder': 25, 'decoder': 25}


@pytest.mark.parametrize('steps', [1, 3])
def test_the_overlap_of_a_window_is_what_the_window_before_said(steps):
    pipeline = toy_pipeline(steps, 'gaussian')
    calls, network = [], pipeline.folded()
    network.register_forward_pre_hook(lambda module, inputs: calls.append(inputs[0].clone()))
    pipeline.register_modules(transformer=network)
    stream = WindowStream(pipeline, ('depth',), WindowShape(3, 1), HEIGHT, WIDTH, steps, 1)
    for frame in toy_frames(17):
        stream.push(frame.rgb)
    first, second = calls[:steps], calls[steps:]
    assert len(second) == steps
    if steps == 1:
        clean = first[0] - network.velocity(torch.zeros(1, 4, 3, 4, 6), ('depth',))(
            first[0], torch.tensor(1000.0))
        assert second[0][:, :, :1].shape == clean[:, :, -1:].shape
        assert not torch.equal(second[0][:, :, :1], first[0][:, :, -1:])
    else:
        for before, after in zip(first, second, strict=True):
            assert torch.equal(before[:, :, -1:], after[:, :, :1])


@pytest.mark.parametrize('overlap', OVERLAPS)
def test_encoder_transformer_and_decoder_may_be_windows_apart(overlap):
    """Each stage takes its windows in order, one after the other, as late as it likes."""
    pipeline, config = toy_pipeline(2, 'gaussian'), StreamConfig(overlap=overlap)
    frames, late = toy_frames(30), DKTStream(pipeline, config, normals=True)
    pending = [late.advance(frame) for frame in frames[:20]] + [late.drain()]
    pending += [late.advance(frame) for frame in frames[20:]] + [late.drain()]
    assert [len(window) for window in pending if window] == [9, 8, 3, 9, 1]
    found = [e for window in [late.denoise(window) for window in pending]
             for e in late.decode(window)]
    at_once = DKTStream(pipeline, config, normals=True)
    expected = []
    for part in (frames[:20], frames[20:]):
        expected += [e for batch in run(at_once, part) for e in batch] + at_once.flush()
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.frame is theirs.frame
        np.testing.assert_array_equal(ours.disparity, theirs.disparity)
        np.testing.assert_array_equal(ours.normals, theirs.normals)
    assert set(late.stats.stage_seconds) == {'encode', 'dit', 'decode'}


def test_image_mode_knows_no_past(pipeline):
    frames = toy_frames(6)
    stream = DKTStream(pipeline, StreamConfig(preset='image'))
    together = [stream.push(frame)[0].disparity for frame in frames]
    for frame, disparity in zip(frames, together, strict=True):
        alone = DKTStream(pipeline, StreamConfig(preset='image')).push(frame)[0].disparity
        np.testing.assert_allclose(disparity, alone, atol=1e-6)


@pytest.mark.parametrize(('change', 'reason'), [
    ({'start_ns': 2_000_000_000}, 'gap'),
    ({'start_ns': 0}, 'jump back'),
    ({'start_ns': 500_000_000, 'height': 24, 'width': 40}, 'new size'),
])
def test_a_break_starts_a_new_stream_and_loses_nothing(pipeline, change, reason):
    stream = DKTStream(pipeline, BALANCED)
    before, after = toy_frames(5), toy_frames(9, **change)
    assert run(stream, before) == [[]] * 5
    batches = run(stream, after)
    assert [e.frame for e in batches[0]] == before
    assert [e.frame for e in batches[8]] == after
    assert stream.stats.resets == {reason: 1}
    fresh = DKTStream(pipeline, BALANCED)
    expected = run(fresh, after)[8]
    for a, b in zip(batches[8], expected, strict=True):
        np.testing.assert_allclose(a.disparity, b.disparity, atol=1e-6)


def test_a_new_camera_starts_a_new_stream(pipeline):
    stream, frames = DKTStream(pipeline, BALANCED), toy_frames(2)
    stream.push(frames[0])
    other = dataclasses.replace(frames[1].camera, fx=51.0)
    assert len(stream.push(dataclasses.replace(frames[1], camera=other))) == 1
    assert stream.stats.resets == {'new camera': 1}


def test_a_slow_computer_may_have_long_gaps(pipeline):
    stream = DKTStream(pipeline, BALANCED)
    stream.stats.seconds_per_frame = 0.8
    run(stream, toy_frames(3, interval_ns=2_000_000_000))
    assert not stream.stats.resets
    run(stream, toy_frames(1, start_ns=9_000_000_000))
    assert stream.stats.resets == {'gap': 1}


def test_explicit_reset_drops_and_counts_what_waits(pipeline):
    stream = DKTStream(pipeline, BALANCED)
    run(stream, toy_frames(4))
    stream.reset('operator')
    assert (stream.stats.drops, stream.stats.resets) == (4, {'operator': 1})
    assert stream.flush() == []
    assert (stream.stats.frames_in, stream.stats.frames_out) == (4, 0)


def test_statistics(pipeline):
    stream = DKTStream(pipeline, BALANCED)
    assert stream.window_frames == 8
    run(stream, toy_frames(25))
    stats = stream.stats
    assert (stats.frames_in, stats.frames_out, stats.windows) == (25, 25, 3)
    assert stats.seconds_per_frame > 0
    assert set(stats.stage_seconds) == {'encode', 'dit', 'decode'}
    assert stats.seam_ratio > 0


def test_measuring_leaves_no_trace(pipeline):
    stream = DKTStream(pipeline, BALANCED)
    assert stream.measure(60, 80) > 0
    assert (stream.stats.frames_in, stream.stats.windows) == (0, 0)
    assert [len(batch) for batch in run(stream, toy_frames(9))] == [0] * 8 + [9]


def test_portrait_frames_are_worked_upright(pipeline):
    stream = DKTStream(pipeline, StreamConfig(preset='image'))
    assert stream.push(toy_frames(1, height=48, width=32)[0])[0].disparity.shape == (WIDTH, HEIGHT)
    fixed = DKTStream(pipeline, StreamConfig(preset='image', height=16, width=24))
    assert fixed.push(toy_frames(1, height=48, width=32)[0])[0].disparity.shape == (16, 24)


def test_a_size_or_task_the_model_cannot_do_is_refused(pipeline):
    with pytest.raises(UserError, match='working size is 50x16'):
        DKTStream(pipeline, StreamConfig(height=16, width=50))
    with pytest.raises(UserError, match="'mask'"):
        DKTStream(pipeline, tasks=('depth', 'mask'))
    with pytest.raises(UserError, match="'depth' must"):
        DKTStream(pipeline, tasks=('normal',))


def live_tensors():
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        kinds = torch.Tensor, torch.nn.Parameter  # not what an export of a graph traced
    sizes = [t.nbytes for t in gc.get_objects() if type(t) in kinds]
    return len(sizes), sum(sizes)


@pytest.mark.parametrize('overlap', OVERLAPS)
def test_memory_does_not_grow_with_the_stream(pipeline, overlap):
    stream, sizes = DKTStream(pipeline, StreamConfig(overlap=overlap), normals=True), []
    for frame in toy_frames(65, interval_ns=10_000_000):
        stream.push(frame)
        if stream.num_waiting == 0:
            sizes.append(live_tensors())
    assert len(sizes) == 8
    assert sizes[2] == sizes[-1]


def test_seams_of_a_steady_and_of_a_jumping_stream():
    ramp = np.arange(16, dtype=np.float32)[:, None, None] * 0.1 + np.zeros((1, 8, 8), np.float32)
    ramp = ramp + np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8)
    steady, jumping = SeamMonitor(), SeamMonitor()
    assert steady.ratio is None
    for window in range(4):
        part = ramp[4 * window:4 * window + 4]
        steady.add(part)
        jumping.add(part + 0.3 * window)
    assert steady.ratio == pytest.approx(1.0, abs=1e-4)
    assert jumping.ratio == pytest.approx(4.0, abs=1e-3)
    assert jumping.scale == pytest.approx(1.0, abs=1e-4)
    assert jumping.shift == pytest.approx(0.4, abs=1e-4)
    assert jumping.residual == pytest.approx(0.0, abs=1e-4)
    jumping.reset()
    jumping.add(ramp[:4] + 100)
    assert jumping.ratio == pytest.approx(4.0, abs=1e-3)
