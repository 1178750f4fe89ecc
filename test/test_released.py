"""The published key layout, LoRA, VAE: equal to numbers of the reference (test/data)."""
import hashlib
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanTransformer3DModel
from safetensors.torch import load_file
from toy_model import (
    published_lora,
    published_transformer_shapes,
    published_vae_shapes,
    published_weights,
    randn,
)

from dkt_ros.errors import UserError
from dkt_ros.model.causal_vae import decode_clip, encode_clip
from dkt_ros.model.released import (
    check_tensors,
    convert_transformer,
    convert_vae,
    load_transformer,
    load_vae,
    merge_lora,
    shapes_of,
    transformer_config,
    transformer_key,
    vae_config,
)
from dkt_ros.model.sampler import denoise_joint, flow_schedule

DATA = Path(__file__).parent / 'data'
VAE = {'base_dim': 16, 'z_dim': 16, 'dim_mult': [1, 2, 4, 4], 'num_res_blocks': 2,
       'temperal_downsample': [False, True, True]}


@pytest.fixture(scope='module')
def golden():
    return load_file(DATA / 'dit.safetensors')


@pytest.fixture(scope='module')
def network():
    state = published_weights(published_transformer_shapes())
    model = load_transformer(state, published_lora(), head_dim=48).requires_grad_(False)
    context = torch.zeros(1, 512, 32)
    context[0, :3] = randn(7000, 3, 32)

    def velocity(latents, timestep, rgb):
        inputs = torch.cat([latents, rgb, torch.zeros_like(rgb)], dim=1)
        return model(inputs, timestep.reshape(1), context, torch.zeros(1, 257, 1280),
                     return_dict=False)[0]

    return velocity


@pytest.mark.parametrize('timestep', [1000, 884, 556])
def test_velocity_with_the_lora_merged_equals_the_reference(network, golden, timestep):
    velocity = network(randn(1, 1, 16, 3, 8, 12), torch.tensor(float(timestep)),
                       randn(2, 1, 16, 3, 8, 12))
    expected = golden[f'velocity_{timestep}']
    assert (velocity - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_sigmas_and_timesteps_equal_the_reference(golden):
    schedule = flow_schedule(FlowMatchEulerDiscreteScheduler(shift=5.0), 5)
    torch.testing.assert_close(schedule.sigmas[:-1], golden['sigmas'], atol=1e-6, rtol=0)
    torch.testing.assert_close(schedule.timesteps, golden['timesteps'], atol=1e-3, rtol=0)


def test_joint_windows_equal_the_reference(network, golden):
    schedule = flow_schedule(FlowMatchEulerDiscreteScheduler(shift=5.0), 5, round_timesteps=True)
    rgb = randn(3, 1, 16, 26, 4, 6)
    latents = denoise_joint(lambda x, t, part: network(x, t, rgb[:, :, part]),
                            randn(1, 1, 16, 26, 4, 6), schedule, window=9, overlap=3)
    expected = golden['joint_latents']
    assert (latents - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_vae_equals_the_reference():
    golden = load_file(DATA / 'vae.safetensors')
    vae = load_vae(published_weights(published_vae_shapes(**VAE)))
    latents = encode_clip(vae, randn(4, 1, 3, 13, 32, 48).clamp(-1, 1))
    assert (latents - golden['latents']).abs().max() <= 1e-5 * golden['latents'].abs().max()
    decoded = decode_clip(vae, golden['latents']).clamp(-1, 1)
    torch.testing.assert_close(decoded, golden['decoded'].clamp(-1, 1), atol=1e-5, rtol=0)


def test_configurations_are_read_off_the_shapes():
    shapes = published_transformer_shapes()
    state = {key: torch.empty(shape, device='meta') for key, shape in shapes.items()}
    config = transformer_config(state, head_dim=48)
    assert (config['num_attention_heads'], config['num_layers'], config['ffn_dim'],
            config['in_channels'], config['out_channels'], config['text_dim'],
            config['freq_dim'], config['image_dim'], config['patch_size']) == (
                2, 2, 128, 48, 16, 32, 64, 1280, (1, 2, 2))
    shapes = published_vae_shapes(**VAE)
    state = {key: torch.empty(shape, device='meta') for key, shape in shapes.items()}
    assert vae_config(state) == VAE | {'decoder_base_dim': 16}


def test_head_dim_that_does_not_divide_is_refused():
    state = {key: torch.empty(shape, device='meta')
             for key, shape in published_transformer_shapes().items()}
    with pytest.raises(UserError, match='96 channels.*128'):
        transformer_config(state)


def test_unknown_missing_and_misshapen_tensors_are_named():
    shapes = published_transformer_shapes(layers=1, image=8)
    state = {key: torch.zeros(shape) for key, shape in shapes.items()}
    with pytest.raises(UserError, match=r"'ref_conv\.weight'"):
        convert_transformer(state | {'ref_conv.weight': torch.zeros(1)})
    missing = dict(state)
    del missing['blocks.0.norm3.bias']
    with pytest.raises(UserError, match=r"'blocks\.0\.norm2\.bias'.*missing"):
        load_transformer(missing, head_dim=48)
    with pytest.raises(UserError, match=r"'proj_out\.bias'.*\(3,\)"):
        load_transformer(state | {'head.head.bias': torch.zeros(3)}, head_dim=48)


def test_lora_is_strict_and_does_not_change_the_base():
    base = {'blocks.0.ffn.0.weight': torch.zeros(3, 2)}
    a, b = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0], [0.0], [2.0]])
    name = 'blocks.0.ffn.0.lora_'
    good = {f'{name}A.default.weight': a, f'{name}B.default.weight': b}
    merged = merge_lora(base, good)['blocks.0.ffn.0.weight']
    assert merged.tolist() == [[1.0, 2.0], [0.0, 0.0], [2.0, 4.0]]
    assert not base['blocks.0.ffn.0.weight'].any()
    prefixed = {f'diffusion_model.{key.replace(".default", "")}': v for key, v in good.items()}
    assert torch.equal(merge_lora(base, prefixed)['blocks.0.ffn.0.weight'], merged)
    with pytest.raises(UserError, match='blocks.9'):
        merge_lora(base, {'blocks.9.ffn.0.lora_A.default.weight': a})
    with pytest.raises(UserError, match='lacks its B'):
        merge_lora(base, {f'{name}A.default.weight': a})
    with pytest.raises(UserError, match=r'\(2, 1\) times \(1, 2\)'):
        merge_lora(base, good | {f'{name}B.default.weight': b[:2]})


def layout_hash(shapes):
    """Return the MD5 by which the reference tells published files: of all names and shapes."""
    names = sorted([*shapes, *(f'{key}:{"_".join(map(str, s))}' for key, s in shapes.items())])
    return hashlib.md5(','.join(names).encode()).hexdigest()


@pytest.mark.parametrize(('size', 'layers', 'expected'), [
    ({'dim': 1536, 'ffn': 8960}, 30, '349723183fc063b2bfc10bb2835cf677'),
    ({'dim': 5120, 'ffn': 13824}, 40, 'efa44cddf936c70abd0ea28b6cbe946c')])
def test_the_published_transformers_find_their_place(size, layers, expected):
    shapes = published_transformer_shapes(layers=layers, text=4096, freq=256, **size)
    assert layout_hash(shapes) == expected
    config = transformer_config({key: torch.empty(shape, device='meta')
                                 for key, shape in shapes.items()})
    assert (config['num_layers'], config['num_attention_heads']) == (layers, size['dim'] // 128)
    with torch.device('meta'):
        wanted = shapes_of(WanTransformer3DModel(**config))
    check_tensors(wanted, {transformer_key(key): shape for key, shape in shapes.items()})


def test_the_published_vae_finds_its_place():
    shapes = published_vae_shapes(base_dim=96, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2,
                                  temperal_downsample=[False, True, True])
    assert layout_hash(shapes) == 'ccc42284ea13e1ad04693284c7a09be6'
    state = {key: torch.empty(shape, device='meta') for key, shape in shapes.items()}
    with torch.device('meta'):
        wanted = shapes_of(AutoencoderKLWan(**vae_config(state)))
    check_tensors(wanted, {key: value.shape for key, value in convert_vae(state).items()})
