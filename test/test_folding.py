"""The folded network says what the network said, with fewer weights and less work."""
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanTransformer3DModel,
)
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode
from toy_model import published_lora, published_transformer_shapes, published_weights, randn

from dkt_ros.model.faithful import Request, denoise_clip
from dkt_ros.model.folding import fold
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.model.prompt import PromptRows
from dkt_ros.model.released import load_transformer
from dkt_ros.model.windows import WindowShape
from dkt_ros.resources import resolve_model

STEPS = (1000.0, 884.0, 556.0)
TASKS = ('depth', 'normal')


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def perturbed(network):
    """Norm weights and biases away from the ones and zeros they start with."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return network.requires_grad_(False).eval()


def wan(image_dim=None, patch=(1, 2, 2), layers=2, heads=2, size=48, z=4, extra=4):
    torch.manual_seed(1)
    return perturbed(WanTransformer3DModel(
        patch_size=patch, num_attention_heads=heads, attention_head_dim=size, text_dim=6,
        in_channels=2 * z + extra, out_channels=z, freq_dim=16, ffn_dim=64, num_layers=layers,
        image_dim=image_dim, added_kv_proj_dim=heads * size if image_dim else None))


def rows(counts=(2, 3), tokens=512):
    return PromptRows.from_rows({task: randn(i, count, 6) for i, (task, count)
                                 in enumerate(zip(TASKS, counts))}, tokens)


def unfolded(network, prompts, latents, rgb, timestep, tasks):
    """Call the network as the reference does: all text rows, empty image, zero channels."""
    rgb = rgb.expand(len(latents), -1, -1, -1, -1)
    zeros = latents.new_zeros(len(latents), network.config.in_channels - 2 * latents.shape[1],
                              *latents.shape[2:])
    image = None
    if network.config.image_dim is not None:
        image = latents.new_zeros(len(latents), 257, network.config.image_dim)
    times = latents.new_full((len(latents),), timestep)
    return network(torch.cat([latents, rgb, zeros], 1), times, prompts(tasks), image,
                   return_dict=False)[0]


def inputs(z=4, tasks=2, k=3, h=8, w=12):
    return randn(11, tasks, z, k, h, w), randn(12, 1, z, k, h, w)


def assert_equal_velocity(network, prompts, tasks=TASKS, tolerance=1e-5, **shape):
    latents, rgb = inputs(network.config.out_channels, len(tasks), **shape)
    folded = fold(network, prompts)
    velocity = folded.velocity(rgb, tasks)
    for step in STEPS:
        expected = unfolded(network, prompts, latents, rgb, step, tasks)
        error = (velocity(latents, torch.tensor(step)) - expected).abs().max()
        assert error <= tolerance * expected.abs().max()
    return folded


@pytest.mark.parametrize('image_dim', [None, 10])
@pytest.mark.parametrize('counts', [(2, 3), (1, 1), (4, 2)])
def test_few_rows_and_padding(image_dim, counts):
    assert_equal_velocity(wan(image_dim), rows(counts))


@pytest.mark.parametrize('tasks', [('normal',), ('normal', 'depth'), ('depth', 'depth')])
def test_the_tasks_of_a_batch_may_be_any_of_those_folded(tasks):
    assert_equal_velocity(wan(), rows(), tasks)
    assert_equal_velocity(wan(extra=0), rows((1, 1), 1), tasks)


def test_one_row_without_padding_leaves_a_vector():
    network, prompts = wan(), rows((1, 1), 1)
    folded = assert_equal_velocity(network, prompts)
    assert not [name for name, _ in folded.named_parameters() if 'context' in name]


def test_rows_that_fill_the_prompt_have_no_padding():
    assert_equal_velocity(wan(), rows((3, 3), 3))
    assert_equal_velocity(wan(), rows((3, 2), 3))


@pytest.fixture(scope='module')
def published():
    """The network and the prompt of the golden files, test/data."""
    state = published_weights(published_transformer_shapes())
    network = load_transformer(state, published_lora(), head_dim=48).requires_grad_(False)
    return network, PromptRows.from_rows({'depth': randn(7000, 3, 32)}, 512)


@pytest.fixture(scope='module')
def golden():
    return load_file(Path(__file__).parent / 'data' / 'dit.safetensors')


def test_the_published_layout_with_its_lora(published):
    assert_equal_velocity(*published, ('depth',))


@pytest.mark.parametrize('timestep', [1000, 884, 556])
def test_folded_it_says_what_the_reference_said(published, golden, timestep):
    velocity = fold(*published).velocity(randn(2, 1, 16, 3, 8, 12), ('depth',))
    expected = golden[f'velocity_{timestep}']
    error = velocity(randn(1, 1, 16, 3, 8, 12), torch.tensor(float(timestep))) - expected
    assert error.abs().max() <= 1e-5 * expected.abs().max()


def test_a_faithful_run_folded_is_that_of_the_reference(published, golden):
    """The pipeline's own path: rounded timesteps, joint windows of 9 latents with overlap 3."""
    network, prompts = published
    scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
    with torch.device('meta'):
        vae = AutoencoderKLWan(base_dim=8)
    pipeline = DKTPipeline(network, vae, scheduler, prompts)
    pipeline.set_progress_bar_config(disable=True)
    request = Request(None, 'depth', WindowShape(9, 3), 5, None, None, None,
                      randn(1, 1, 16, 26, 4, 6), keep_size=False)
    with torch.no_grad():
        latents = denoise_clip(pipeline, randn(3, 1, 16, 26, 4, 6), request)
    expected = golden['joint_latents']
    assert (latents - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_dkt_tiny():
    pipeline = DKTPipeline.from_pretrained(resolve_model('dkt-tiny'))
    assert_equal_velocity(pipeline.transformer, pipeline.prompt_rows, k=2, h=5, w=7)


@pytest.mark.parametrize('num_held', [1, 2])
def test_held_latents_have_no_velocity_and_the_others_their_own(num_held):
    folded = fold(wan(10), rows())
    latents, rgb = inputs()
    expected = folded.velocity(rgb, TASKS)(latents, torch.tensor(884.0))
    held = folded.velocity(rgb, TASKS, num_held)(latents, torch.tensor(884.0))
    assert not held[:, :, :num_held].any()
    torch.testing.assert_close(held[:, :, num_held:], expected[:, :, num_held:], atol=1e-5,
                               rtol=1e-5)


def test_the_network_is_not_changed_and_shares_what_is_not_folded():
    network = wan(10)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    folded = fold(network, rows())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert folded.blocks[0].narrow is network.blocks[0].ffn.net[2]


def test_constants_stay_in_float32():
    folded = fold(wan(10), rows()).to(torch.bfloat16)
    assert folded.dtype == torch.bfloat16
    assert {buffer.dtype for buffer in folded.buffers()} == {torch.float32}
    again = fold(wan(10), rows())
    assert torch.equal(folded.angles, again.angles)


def test_half_precision_is_near():
    network, prompts = wan(10), rows()
    latents, rgb = inputs()
    expected = unfolded(network, prompts, latents, rgb, 884.0, TASKS)
    folded = fold(network.to(torch.bfloat16), prompts)
    velocity = folded.velocity(rgb, TASKS)(latents, torch.tensor(884.0))
    assert velocity.dtype == torch.float32
    assert (velocity - expected).norm() <= 0.02 * expected.norm()


def test_a_folded_network_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match='cannot be saved'):
        fold(wan(), rows()).save_pretrained(tmp_path)


def on_meta(layers=2, **config):
    with torch.device('meta'):
        network = WanTransformer3DModel(
            patch_size=(1, 2, 2), num_attention_heads=12, attention_head_dim=128, text_dim=4096,
            in_channels=48, out_channels=16, freq_dim=256, ffn_dim=8960, num_layers=layers,
            image_dim=1280, added_kv_proj_dim=1536, **config)
        prompts = PromptRows(['depth'], [3], 4096, 512)
    return network.to('meta'), prompts.to('meta')


def num_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_1_3b_loses_a_fifth_of_its_weights():
    network, prompts = on_meta(layers=30)
    folded = fold(network, prompts)
    assert num_parameters(network) == pytest.approx(1.5645e9, rel=1e-3)
    assert num_parameters(folded) <= 0.78 * num_parameters(network)


def test_the_1_3b_needs_less_work():
    network, prompts = on_meta()
    folded = fold(network, prompts)
    latents = torch.empty(1, 16, 3, 60, 104, device='meta')
    with FlopCounterMode(display=False) as before:
        unfolded(network, prompts, latents, latents, 1000.0, ('depth',))
    velocity = folded.velocity(latents, ('depth',))
    velocity(latents, torch.tensor(1000.0))
    with FlopCounterMode(display=False) as after:
        velocity(latents, torch.tensor(1000.0))
    # per layer and token: k, v of 769 context tokens, o of the cross-attention, its scores
    assert after.get_total_flops() <= 0.92 * before.get_total_flops()


def test_two_steps_embed_the_rgb_once(monkeypatch):
    folded = fold(wan(), rows())
    calls = []
    monkeypatch.setattr(folded, 'embed_rgb',
                        lambda rgb, embed=folded.embed_rgb: calls.append(1) or embed(rgb))
    latents, rgb = inputs()
    velocity = folded.velocity(rgb, TASKS)
    for step in STEPS:
        velocity(latents, torch.tensor(step))
    assert len(calls) == 1
    assert sorted(folded._modulations) == sorted(STEPS)
