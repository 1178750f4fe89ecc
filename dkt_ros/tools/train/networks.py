"""
The networks of dkt-tiny and how training runs them: with gradients, clip by clip.

Stills are the first frame of a causal clip, so every 3-D convolution sees zeros before it: on a
single frame it equals a 2-D convolution with its last temporal tap, at a third of the work.
"""
from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanCausalConv3d,
    WanResample,
    patchify,
    unpatchify,
)
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import nn
from torch.nn import functional as F

from dkt_ros.model.causal_vae import spatial_ratio, temporal_ratio
from dkt_ros.model.sensor_encoder import SensorEncoder
from dkt_ros.train_config import TransformerConfig, VaeConfig

TASKS = ('depth', 'normal')


def build_vae(config: VaeConfig) -> AutoencoderKLWan:
    """Make an untrained VAE in Wan 2.2's patchified form, treating each frame by itself."""
    channels = 3 * config.patch_size ** 2
    levels = len(config.dim_mult)
    if levels < 3:
        raise ValueError(f'dim_mult is {config.dim_mult}; three levels or more are needed to pack '
                         'four frames into a latent')
    temporal = [False] * (levels - 3) + [True, True]
    vae = AutoencoderKLWan(
        base_dim=config.base_dim, decoder_base_dim=config.decoder_base_dim, z_dim=config.z_dim,
        dim_mult=list(config.dim_mult), num_res_blocks=config.num_res_blocks,
        temperal_downsample=temporal, in_channels=channels, out_channels=channels,
        patch_size=config.patch_size, latents_mean=[0.0] * config.z_dim,
        latents_std=[1.0] * config.z_dim, scale_factor_temporal=4,
        scale_factor_spatial=config.patch_size * 2 ** (levels - 1))
    forget_time(vae)
    return vae


@torch.no_grad()
def forget_time(vae: AutoencoderKLWan) -> None:
    """
    Set the temporal taps so that a clip is treated frame by frame.

    What is then learnt on stills holds for clips from the first step on: a latent is its chunk's
    last frame, and decodes to four copies of it. Training on clips starts from there.
    """
    for module in vae.modules():
        if isinstance(module, WanResample) and hasattr(module, 'time_conv'):
            weight = module.time_conv.weight
            weight.zero_()
            eye = torch.eye(weight.shape[1])
            weight[:, :, -1, 0, 0] = torch.cat([eye] * (weight.shape[0] // weight.shape[1]))
            module.time_conv.bias.zero_()
    for module in vae.modules():
        if isinstance(module, WanCausalConv3d) and module.kernel_size == (3, 3, 3):
            module.weight[:, :, :-1] = 0.0


def build_transformer(config: TransformerConfig, z_dim: int,
                      sensor_prompt: bool = False) -> WanTransformer3DModel:
    """Make an untrained DiT whose inputs are the noisy target, the RGB latents, the sensor's."""
    transformer = WanTransformer3DModel(
        patch_size=(1, config.patch_size, config.patch_size), num_attention_heads=config.num_heads,
        attention_head_dim=config.head_dim, in_channels=(2 + sensor_prompt) * z_dim,
        out_channels=z_dim, text_dim=config.text_dim, freq_dim=config.freq_dim,
        ffn_dim=config.ffn_dim, num_layers=config.num_layers, cross_attn_norm=True,
        qk_norm='rms_norm_across_heads', eps=1e-6, rope_max_seq_len=256)
    for block in transformer.blocks:
        block.attn2.set_processor(PromptProcessor())
    return transformer


def build_sensor_encoder(vae: AutoencoderKLWan) -> SensorEncoder:
    """Make an untrained encoder of a depth camera's depth with the latents' shape of `vae`."""
    return SensorEncoder(vae.config.z_dim, temporal_ratio(vae), spatial_ratio(vae))


def draw_transformer(config: TransformerConfig, z_dim: int, text_dim: int,
                     seed: int) -> WanTransformer3DModel:
    """Make an untrained DiT for prompts of another width; the seed alone decides its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_transformer(dataclasses.replace(config, text_dim=text_dim), z_dim)


class PromptProcessor(WanAttnProcessor):
    """
    Cross attention to a prompt of one row, which is its value whatever is asked.

    The softmax over a single key is 1, so queries and keys have no effect and no gradient; they
    are a tenth of the DiT's work.
    """

    def __call__(self, attn: nn.Module, hidden_states: torch.Tensor,
                 encoder_hidden_states: torch.Tensor | None = None, *args, **kwargs,
                 ) -> torch.Tensor:
        """Return the answer (B, tokens, channels) to each of the tokens."""
        if encoder_hidden_states.shape[1] != 1:
            return super().__call__(attn, hidden_states, encoder_hidden_states, *args, **kwargs)
        row = attn.to_out[0](attn.to_v(encoder_hidden_states))
        return row.expand(-1, hidden_states.shape[1], -1)


def draw_prompt_rows(text_dim: int, seed: int) -> dict[str, torch.Tensor]:
    """Draw the stored prompt rows, one (1, text_dim) row a task, orthogonal and of unit RMS."""
    generator = torch.Generator().manual_seed(seed)
    rows, _ = torch.linalg.qr(torch.randn(text_dim, len(TASKS), generator=generator))
    return {task: rows[:, i:i + 1].T.contiguous() * text_dim ** 0.5
            for i, task in enumerate(TASKS)}


def _still_forward(self: WanCausalConv3d, x: torch.Tensor, cache_x=None) -> torch.Tensor:
    if x.shape[2] != 1 or cache_x is not None or self.kernel_size[0] == 1:
        return WanCausalConv3d.forward(self, x, cache_x)
    pad = self._padding[0]
    return F.conv2d(x[:, :, 0], self.weight[:, :, -1], self.bias, padding=pad)[:, :, None]


@contextlib.contextmanager
def still_convolutions(vae: nn.Module) -> Iterator[None]:
    """Run the 3-D convolutions of `vae` on single frames as the 2-D ones that they equal."""
    modules = [m for m in vae.modules() if isinstance(m, WanCausalConv3d)]
    for module in modules:
        module.forward = _still_forward.__get__(module)
    try:
        yield
    finally:
        for module in modules:
            del module.forward


def encode(vae: AutoencoderKLWan, clips: torch.Tensor) -> torch.Tensor:
    """
    Encode with gradients.

    Parameters
    ----------
    clips : (B, 3, T, H, W) float32
        In [-1, 1], T = 4 N + 1.

    Returns
    -------
    (B, 2 z, N + 1, h, w) float32
        Mean and log-variance.

    """
    x = patchify(clips, patch_size=vae.config.patch_size)
    if x.shape[2] == 1:
        with still_convolutions(vae):
            return vae.quant_conv(vae.encoder(x))
    cache = [None] * vae._cached_conv_counts['encoder']
    parts = [vae.encoder(chunk, feat_cache=cache, feat_idx=[0])
             for chunk in (x[:, :, :1], *x[:, :, 1:].split(4, dim=2))]
    return vae.quant_conv(torch.cat(parts, dim=2))


def decode(vae: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    """Decode (B, z, N + 1, h, w) to (B, 3, 4 N + 1, H, W) with gradients, not clamped."""
    z = vae.post_quant_conv(latents)
    if z.shape[2] == 1:
        with still_convolutions(vae):
            out = vae.decoder(z, first_chunk=True)
    else:
        cache = [None] * vae._cached_conv_counts['decoder']
        out = torch.cat([vae.decoder(z[:, :, i:i + 1], feat_cache=cache, feat_idx=[0],
                                     first_chunk=i == 0) for i in range(z.shape[2])], dim=2)
    return unpatchify(out, patch_size=vae.config.patch_size)


def velocity(transformer: WanTransformer3DModel, noisy: torch.Tensor, rgb: torch.Tensor,
             sigma: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """
    Run the DiT once.

    Parameters
    ----------
    noisy, rgb : (B, z, T', h, w) float32
        Noisy target and RGB latents, which may have those of the sensor beside them.
    sigma : (B,) float32
        Noise level in [0, 1].
    rows : (B, n, text_dim) float32
        Prompt rows of each clip's task.

    """
    return transformer(hidden_states=torch.cat([noisy, rgb], dim=1), timestep=1000 * sigma,
                       encoder_hidden_states=rows, return_dict=False)[0]
