"""Networks of a few thousand parameters in the shapes that matter, and the published layout."""
import numpy as np
import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanTransformer3DModel

from dkt_ros.camera import PinholeCamera
from dkt_ros.frame import Frame
from dkt_ros.model.causal_vae import CausalVAEDecoder, CausalVAEEncoder
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.model.prompt import PromptRows

HEIGHT, WIDTH = 32, 48


def randn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def toy_vae(patchified=True):
    """Build a VAE, 8 times in space: Wan 2.2's patchified form, or that of Wan 2.1."""
    torch.manual_seed(0)
    shape = {'patch_size': 2, 'in_channels': 12, 'out_channels': 12, 'dim_mult': [1, 2, 2],
             'temperal_downsample': [True, True]} if patchified else {
        'dim_mult': [1, 1, 2, 2], 'temperal_downsample': [False, True, True]}
    return AutoencoderKLWan(base_dim=8, z_dim=4, num_res_blocks=1, latents_std=[1.5, 1, 2, 1],
                            latents_mean=[0.1, -0.2, 0.3, 0.0], **shape).eval()


def smallest_vae():
    """Build a VAE that exports to a graph in a moment: 2 times in space, 2 in time."""
    torch.manual_seed(0)
    return AutoencoderKLWan(base_dim=4, z_dim=2, dim_mult=[1, 2], num_res_blocks=1,
                            temperal_downsample=[True], latents_mean=[0.1, 0.2],
                            latents_std=[1.5, 0.5]).eval().requires_grad_(False)


def toy_transformer(extra_channels=0):
    torch.manual_seed(1)
    return WanTransformer3DModel(
        patch_size=(1, 1, 1), num_attention_heads=2, attention_head_dim=12, text_dim=6,
        in_channels=8 + extra_channels, out_channels=4, freq_dim=16, ffn_dim=32,
        num_layers=2).eval()


def toy_pipeline(steps=1, initial_noise='zeros', patchified=True, extra_channels=0):
    rows = PromptRows.from_rows({'depth': randn(1, 2, 6), 'normal': randn(2, 3, 6)}, 4)
    pipeline = DKTPipeline(
        toy_transformer(extra_channels), toy_vae(patchified),
        FlowMatchEulerDiscreteScheduler(shift=5.0), rows, default_num_inference_steps=steps,
        initial_noise=initial_noise, default_height=HEIGHT, default_width=WIDTH)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def toy_clip(num_frames, height=HEIGHT, width=WIDTH, seed=0):
    """Return a noisy picture that moves, (T, H, W, 3) uint8."""
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.stack([np.roll(picture, 2 * t, axis=1) for t in range(num_frames)])


def toy_frames(num_frames, interval_ns=100_000_000, start_ns=0, **size):
    clip = toy_clip(num_frames, **size)
    height, width = clip.shape[1:3]
    camera = PinholeCamera(width, height, 50.0, 50.0, width / 2, height / 2)
    return [Frame(rgb, start_ns + i * interval_ns, camera) for i, rgb in enumerate(clip)]


def published_weights(shapes):
    """Fill an original state dict by the rule of the golden files."""
    state = {}
    for i, key in enumerate(sorted(shapes)):
        r = randn(1000 + i, *shapes[key])
        if key.endswith('modulation'):
            r = 0.05 * r
        elif key.endswith('gamma') or (key.endswith('weight') and r.ndim == 1):
            r = 1 + 0.1 * r
        elif r.ndim == 1:
            r = 0.05 * r
        else:
            r = r / r[0].numel() ** 0.5
        state[key] = r
    return state


def _linear(shapes, name, rows, columns):
    shapes[f'{name}.weight'], shapes[f'{name}.bias'] = (rows, columns), (rows,)


def published_transformer_shapes(dim=96, layers=2, ffn=128, text=32, freq=64, in_channels=48,
                                 out_channels=16, image=1280):
    """Return the tensors of an original Fun-Control DiT with image branch."""
    shapes = {'patch_embedding.weight': (dim, in_channels, 1, 2, 2),
              'patch_embedding.bias': (dim,), 'head.modulation': (1, 2, dim)}
    for name, rows, columns in (
            ('text_embedding.0', dim, text), ('text_embedding.2', dim, dim),
            ('time_embedding.0', dim, freq), ('time_embedding.2', dim, dim),
            ('time_projection.1', 6 * dim, dim), ('head.head', 4 * out_channels, dim),
            ('img_emb.proj.1', image, image), ('img_emb.proj.3', dim, image)):
        _linear(shapes, name, rows, columns)
    for name, size in (('img_emb.proj.0', image), ('img_emb.proj.4', dim)):
        shapes[f'{name}.weight'] = shapes[f'{name}.bias'] = (size,)
    for n in range(layers):
        block = f'blocks.{n}'
        shapes[f'{block}.modulation'] = (1, 6, dim)
        shapes[f'{block}.norm3.weight'] = shapes[f'{block}.norm3.bias'] = (dim,)
        _linear(shapes, f'{block}.ffn.0', ffn, dim)
        _linear(shapes, f'{block}.ffn.2', dim, ffn)
        for part in ('self_attn.q', 'self_attn.k', 'self_attn.v', 'self_attn.o', 'cross_attn.q',
                     'cross_attn.k', 'cross_attn.v', 'cross_attn.o', 'cross_attn.k_img',
                     'cross_attn.v_img'):
            _linear(shapes, f'{block}.{part}', dim, dim)
        for part in ('self_attn.norm_q', 'self_attn.norm_k', 'cross_attn.norm_q',
                     'cross_attn.norm_k', 'cross_attn.norm_k_img'):
            shapes[f'{block}.{part}.weight'] = (dim,)
    return shapes


def published_lora(layers=2, dim=96, ffn=128, rank=4):
    """Return DKT's LoRA of the golden files, published keys."""
    lora, n = {}, 0
    sizes = {'ffn.0': (ffn, dim), 'ffn.2': (dim, ffn)}
    parts = [f'{kind}.{p}' for kind in ('self_attn', 'cross_attn') for p in 'qkvo'] + list(sizes)
    for layer in range(layers):
        for part in parts:
            rows, columns = sizes.get(part, (dim, dim))
            key = f'blocks.{layer}.{part}.lora_'
            lora[f'{key}A.default.weight'] = 0.1 * randn(5000 + n, rank, columns)
            lora[f'{key}B.default.weight'] = 0.1 * randn(6000 + n, rows, rank)
            n += 1
    return lora


def published_vae_shapes(**config):
    """Return the tensors of an original Wan 2.1 VAE: those of diffusers, named as published."""
    state = AutoencoderKLWan(**config).state_dict()
    return {_published_vae_key(key, config['num_res_blocks'] + 2): tuple(value.shape)
            for key, value in state.items()}


def _published_vae_key(key, blocks_per_level):
    for new, old in (('norm1.', 'residual.0.'), ('conv1.', 'residual.2.'),
                     ('norm2.', 'residual.3.'), ('conv2.', 'residual.6.'),
                     ('conv_shortcut.', 'shortcut.'), ('post_quant_conv.', 'conv2.'),
                     ('quant_conv.', 'conv1.'), ('conv_in.', 'conv1.'), ('norm_out.', 'head.0.'),
                     ('conv_out.', 'head.2.'), ('mid_block.resnets.0.', 'middle.0.'),
                     ('mid_block.attentions.0.', 'middle.1.'),
                     ('mid_block.resnets.1.', 'middle.2.'), ('down_blocks.', 'downsamples.')):
        key = key.replace(new, old)
    if 'up_blocks' not in key:
        return key
    part, _, level, kind, place, rest = key.split('.', 5)
    place = int(place) if kind == 'resnets' else blocks_per_level - 1
    return f'{part}.upsamples.{int(level) * blocks_per_level + place}.{rest}'


@torch.no_grad()
def streamed(vae, frames, task):
    """Encode 9 frames as a stream does and decode the latents for a task; latents and frames."""
    encoder, decoder, results = CausalVAEEncoder(vae), CausalVAEDecoder(vae, (task,)), []
    for part in frames.split([1, 4, 4], dim=2):
        latent = encoder.encode(part)
        results.append((latent, decoder.decode(latent)))
    return [torch.cat(parts, dim=2) for parts in zip(*results, strict=True)]
