"""Checks of what is put together into a pipeline, and of what it is asked to do."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from dkt_ros.errors import UserError
from dkt_ros.model.causal_vae import latent_statistics, spatial_ratio, temporal_ratio
from dkt_ros.model.prompt import PromptRows
from dkt_ros.model.sampler import INITIAL_NOISES
from dkt_ros.model.sensor_encoder import SensorEncoder

# The attention of diffusers finds the image tokens by counting 512 text tokens from the end.
TEXT_TOKENS_BESIDE_IMAGE = 512


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise UserError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise UserError(f'{name} is {value!r}; allowed: {", ".join(map(repr, allowed))}')


def check_components(transformer: WanTransformer3DModel, vae: AutoencoderKLWan,
                     prompt_rows: PromptRows, initial_noise: str,
                     sensor_encoder: SensorEncoder | None = None) -> None:
    """Raise ValueError unless the networks fit one another."""
    latent_statistics(vae)
    z, config = vae.config.z_dim, transformer.config
    needed = 2 * z + (0 if sensor_encoder is None else sensor_encoder.config.out_channels)
    if config.out_channels != z or config.in_channels < needed:
        raise ValueError(f'the transformer has {config.in_channels} input and '
                         f'{config.out_channels} output channels; for the {z} latent channels of '
                         f'the VAE it needs at least {needed} and exactly {z}')
    if sensor_encoder is not None:
        ratios = temporal_ratio(vae), spatial_ratio(vae)
        found = sensor_encoder.config.num_frames, sensor_encoder.config.spatial_ratio
        if found != ratios:
            raise ValueError(f'the sensor encoder packs {found} frames and pixels into a latent, '
                             f'the VAE {ratios}')
    if prompt_rows.config.text_dim != config.text_dim:
        raise ValueError(f'prompt rows have {prompt_rows.config.text_dim} values, the '
                         f'transformer wants text_dim {config.text_dim}')
    tokens = prompt_rows.config.num_text_tokens
    if config.image_dim is not None and tokens != TEXT_TOKENS_BESIDE_IMAGE:
        raise ValueError(f'num_text_tokens is {tokens}; a transformer with an image branch needs '
                         f'{TEXT_TOKENS_BESIDE_IMAGE}')
    check_choice('initial_noise', initial_noise, INITIAL_NOISES)


def check_sensor_depth(depth: np.ndarray | None, frames: np.ndarray,
                       sensor_encoder: SensorEncoder | None) -> None:
    """Raise ValueError unless a model with this encoder takes `depth` beside `frames`."""
    if depth is None:
        return
    if depth.shape != frames.shape[:3]:
        raise ValueError(f'sensor_depth is {depth.shape}; {frames.shape[:3]} is expected, at the '
                         'pixels of the frames')
    if sensor_encoder is None:
        raise ValueError('sensor_depth is given, but this model works from colour alone: leave it '
                         'out, or take a model folder with a sensor_encoder')
