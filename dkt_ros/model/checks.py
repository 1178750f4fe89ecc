"""Checks of what is put together into a pipeline, and of what it is asked to do."""
from __future__ import annotations

from collections.abc import Sequence

from diffusers import AutoencoderKLWan, WanTransformer3DModel

from dkt_ros.errors import UserError
from dkt_ros.model.causal_vae import latent_statistics
from dkt_ros.model.prompt import PromptRows
from dkt_ros.model.sampler import INITIAL_NOISES

# The attention of diffusers finds the image tokens by counting 512 text tokens from the end.
TEXT_TOKENS_BESIDE_IMAGE = 512


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise UserError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise UserError(f'{name} is {value!r}; allowed: {", ".join(map(repr, allowed))}')


def check_components(transformer: WanTransformer3DModel, vae: AutoencoderKLWan,
                     prompt_rows: PromptRows, initial_noise: str) -> None:
    """Raise ValueError unless the networks fit one another."""
    latent_statistics(vae)
    z, config = vae.config.z_dim, transformer.config
    if config.out_channels != z or config.in_channels < 2 * z:
        raise ValueError(f'the transformer has {config.in_channels} input and '
                         f'{config.out_channels} output channels; for the {z} latent channels of '
                         f'the VAE it needs at least {2 * z} and exactly {z}')
    if prompt_rows.config.text_dim != config.text_dim:
        raise ValueError(f'prompt rows have {prompt_rows.config.text_dim} values, the '
                         f'transformer wants text_dim {config.text_dim}')
    tokens = prompt_rows.config.num_text_tokens
    if config.image_dim is not None and tokens != TEXT_TOKENS_BESIDE_IMAGE:
        raise ValueError(f'num_text_tokens is {tokens}; a transformer with an image branch needs '
                         f'{TEXT_TOKENS_BESIDE_IMAGE}')
    check_choice('initial_noise', initial_noise, INITIAL_NOISES)
