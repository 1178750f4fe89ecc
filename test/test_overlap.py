"""What a window knows of the one before: keys and values against whole clips under masks."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler, WanTransformer3DModel
from toy_model import randn, toy_clip, toy_frames, toy_pipeline

from dkt_ros.config import StreamConfig
from dkt_ros.errors import UserError
from dkt_ros.model.folding import fold
from dkt_ros.model.overlap import (
    CachedOverlap,
    RecomputedOverlap,
    RenoisedOverlap,
    open_overlap,
)
from dkt_ros.model.prompt import PromptRows
from dkt_ros.model.runners import CudaGraphRunner, OnnxRunner, RowByRow
from dkt_ros.model.sampler import denoise_window, flow_schedule
from dkt_ros.stream import DKTStream

TASKS = ('depth', 'normal')
H, W = 4, 6
TOKENS = 6  # of a latent of 4 x 6 in patches of 2 x 2


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def network_of(layers=3):
    torch.manual_seed(1)
    network = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=24, text_dim=6,
        in_channels=12, out_channels=4, freq_dim=16, ffn_dim=64, num_layers=layers)
    rows = PromptRows.from_rows({'depth': randn(1, 2, 6), 'normal': randn(2, 3, 6)}, 8)
    return fold(network.requires_grad_(False).eval(), rows)


def schedule_of(steps):
    return flow_schedule(FlowMatchEulerDiscreteScheduler(shift=5.0), steps)


def windows_of(window, overlap, count):
    """Return the latents that each window adds, as slices of the clip."""
    stops = [window + i * (window - overlap) for i in range(count)]
    return [slice(a, b) for a, b in zip([0, *stops], stops)]


def stream(strategy, network, steps, parts, overlap, tasks=TASKS):
    """Denoise window after window; return the clean latents of the clip."""
    state = strategy(network, tasks, schedule_of(steps), overlap)
    rgb, noise = inputs(parts[-1].stop, len(tasks))
    return torch.cat([state.denoise(rgb[:, :, part], noise[:, :, part]) for part in parts], dim=2)


def inputs(num_latents, tasks=2):
    return randn(3, 1, 4, num_latents, H, W), randn(4, tasks, 4, num_latents, H, W)


def mask_with(network, mask):
    """Let tokens see what `mask` (N, N) allows; of fewer queries, the last ones are there."""
    for block in network.blocks:
        block.attend = lambda q, k, v: F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask[-q.shape[2]:])
    return network


def per_token(mask):
    return mask.repeat_interleave(TOKENS, 0).repeat_interleave(TOKENS, 1)


SHAPES = [(2, 1), (3, 1), (3, 2), (6, 1), (5, 3)]


@pytest.mark.parametrize('steps', [1, 3])
@pytest.mark.parametrize(('window', 'overlap'), SHAPES)
def test_cached_windows_are_the_whole_clip_under_a_mask(window, overlap, steps):
    parts = windows_of(window, overlap, 4)
    found = stream(CachedOverlap, network_of(), steps, parts, overlap)
    total = parts[-1].stop
    mask = torch.zeros(total, total, dtype=torch.bool)
    for part in parts:
        mask[part, max(part.start - overlap, 0):part.stop] = True
    rgb, noise = inputs(total)
    velocity = mask_with(network_of(), per_token(mask)).velocity(rgb, TASKS)
    whole = denoise_window(velocity, noise, schedule_of(steps))[-1]
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-5)


def test_of_one_layer_both_ways_are_the_same():
    parts = windows_of(3, 1, 3)
    found, expected = (stream(strategy, network_of(1), 3, parts, 1)
                       for strategy in (CachedOverlap, RecomputedOverlap))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('steps', [1, 3])
def test_of_several_layers_they_differ_after_the_first_window(steps):
    parts = windows_of(3, 1, 3)
    found, expected = (stream(strategy, network_of(), steps, parts, 1)
                       for strategy in (CachedOverlap, RecomputedOverlap))
    torch.testing.assert_close(found[:, :, :3], expected[:, :, :3])
    assert (found[:, :, 3:] - expected[:, :, 3:]).abs().max() > 1e-4


@pytest.mark.parametrize('steps', [1, 2])
def test_tasks_of_a_batch_keep_their_own_keys(steps):
    parts, network = windows_of(3, 1, 3), network_of()
    both = stream(CachedOverlap, network, steps, parts, 1)
    rgb, noise = inputs(parts[-1].stop)
    for row, task in enumerate(TASKS):
        alone = CachedOverlap(network, (task,), schedule_of(steps), 1)
        clean = [alone.denoise(rgb[:, :, part], noise[row:row + 1, :, part]) for part in parts]
        torch.testing.assert_close(both[row:row + 1], torch.cat(clean, 2), atol=1e-5, rtol=1e-5)


def test_of_one_step_renoising_is_holding():
    parts = windows_of(3, 1, 3)
    found, expected = (stream(strategy, network_of(), 1, parts, 1)
                       for strategy in (RenoisedOverlap, RecomputedOverlap))
    assert torch.equal(found, expected)


class StraightFlow:
    """A network that goes straight from any noise to a target made of the RGB."""

    def velocity(self, rgb, tasks, num_held=0):
        target = torch.cumsum(rgb, dim=2)  # each latent's depends on those of its window
        return lambda latents, timestep: (latents - target) / (timestep / 1000)


@pytest.mark.parametrize(('window', 'overlap'), SHAPES)
def test_where_the_flow_is_straight_renoising_is_holding(window, overlap):
    parts = windows_of(window, overlap, 3)
    found, expected = (stream(strategy, StraightFlow(), 4, parts, overlap)
                       for strategy in (RenoisedOverlap, RecomputedOverlap))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_of_several_steps_the_old_latents_are_noise_and_result_mixed():
    schedule, network, seen = schedule_of(3), network_of(), []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    state = RenoisedOverlap(network, TASKS, schedule, 1)
    rgb, noise = inputs(5)
    clean = state.denoise(rgb[:, :, :3], noise[:, :, :3])[:, :, -1:]
    state.denoise(rgb[:, :, 3:], noise[:, :, 3:])
    for latents, sigma in zip(seen[3:], schedule.sigmas[:3], strict=True):
        torch.testing.assert_close(latents[:, :, :1],
                                   (1 - sigma) * clean + sigma * noise[:, :, 2:3])
    parts = windows_of(3, 1, 2)
    renoised, held = (stream(strategy, network_of(), 3, parts, 1)
                      for strategy in (RenoisedOverlap, RecomputedOverlap))
    assert torch.equal(renoised[:, :, :3], held[:, :, :3])
    assert (renoised[:, :, 3:] - held[:, :, 3:]).abs().max() > 1e-4


def test_a_reset_forgets_the_keys():
    network, (rgb, noise) = network_of(), inputs(3)
    state = CachedOverlap(network, TASKS, schedule_of(2), 1)
    first = state.denoise(rgb, noise)
    assert not torch.allclose(state.denoise(rgb, noise), first, atol=1e-4)
    state.reset()
    assert torch.equal(state.denoise(rgb, noise), first)


def test_bfloat16_keys_are_near():
    parts = windows_of(3, 1, 3)
    expected = stream(CachedOverlap, network_of(), 2, parts, 1)
    found = stream(CachedOverlap, network_of().to(torch.bfloat16), 2, parts, 1)
    assert (found - expected).norm() < 0.03 * expected.norm()


@pytest.mark.parametrize('steps', [1, 2])
def test_a_recorded_step_takes_and_gives_the_keys(steps):
    parts, recorded = windows_of(3, 1, 3), []
    expected = stream(CachedOverlap, network_of(), steps, parts, 1)

    def record(graph):
        recorded.append((graph.size[0], graph.num_before, graph.num_kept))
        buffers = tuple(tensor.clone() for tensor in graph.example())

        def step(*given):
            for target, source in zip(buffers, given, strict=True):
                target.copy_(source)
            return [tensor.clone() for tensor in graph(*buffers)]
        return step

    network = network_of()
    network.runner = CudaGraphRunner(network, record)
    found = stream(CachedOverlap, network, steps, parts, 1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert recorded == [(3, 0, 1), (2, 1, 1)]


@pytest.mark.parametrize('strategy', [RecomputedOverlap, CachedOverlap])
@pytest.mark.parametrize('steps', [1, 2])
def test_rows_in_turn_are_the_batch(strategy, steps):
    parts, network, sizes = windows_of(3, 1, 3), network_of(), []
    expected = stream(strategy, network, steps, parts, 1)
    forward = network.forward
    network.forward = lambda *given: sizes.append(len(given[0])) or forward(*given)
    network.runner = RowByRow(network)
    found = stream(strategy, network, steps, parts, 1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert sizes == [1] * len(TASKS) * steps * len(parts)


def test_onnxruntime_takes_and_gives_the_keys(tmp_path):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    parts, network = windows_of(3, 1, 3), network_of(2)
    expected = stream(CachedOverlap, network, 2, parts, 1)
    network.runner = OnnxRunner(network, tmp_path)
    found = stream(CachedOverlap, network, 2, parts, 1)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert len(list(tmp_path.glob('dit-*.onnx'))) == 2


@pytest.mark.parametrize('steps', [1, 2])
def test_a_stream_and_the_pipeline_have_the_option(steps):
    pipeline, frames = toy_pipeline(steps, 'gaussian'), toy_frames(25)
    maps = {}
    for overlap in ('recompute', 'cache'):
        live = DKTStream(pipeline, StreamConfig(overlap=overlap, seam_blend=0), normals=True)
        estimates = [e for frame in frames for e in live.push(frame)] + live.flush()
        maps[overlap] = np.stack([e.disparity for e in estimates])
    offline = pipeline(toy_clip(25), overlap='cache').prediction
    np.testing.assert_allclose(maps['cache'], offline, atol=1e-5)
    assert np.abs(maps['cache'] - maps['recompute']).max() > 5e-5


def test_auto_takes_what_the_model_folder_says():
    frames, maps = toy_frames(17), {}
    for stored in ('recompute', 'cache'):
        pipeline = toy_pipeline(1, 'gaussian')
        pipeline.register_to_config(default_overlap=stored)
        for name in ('auto', stored):
            live = DKTStream(pipeline, StreamConfig(overlap=name, seam_blend=0))
            estimates = [e for frame in frames for e in live.push(frame)]
            maps[stored, name] = np.stack([e.disparity for e in estimates])
        np.testing.assert_array_equal(maps[stored, 'auto'], maps[stored, stored])
        offline = pipeline(np.stack([frame.rgb for frame in frames]), output_size='working')
        np.testing.assert_allclose(offline.prediction, maps[stored, stored], atol=1e-5)
    assert not np.array_equal(maps['cache', 'auto'], maps['recompute', 'auto'])


def test_a_wrong_name_is_told():
    with pytest.raises(UserError, match="overlap is 'blend'; allowed: 'recompute', 'cache'"):
        open_overlap('blend', network_of(1), TASKS, schedule_of(1), 1)
    with pytest.raises(UserError, match="StreamConfig.overlap is 'blend'"):
        StreamConfig(overlap='blend')
