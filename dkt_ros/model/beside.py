"""
A model for normals beside one for depth: released are DKT-Depth-1-3B and DKT-Normal-14B.

Where their VAEs are equal, as those of all released models are, one of them is kept: the RGB is
encoded once for both, and both results are decoded as one batch.
"""
from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan

from dkt_ros.errors import UserError
from dkt_ros.model.causal_vae import temporal_ratio
from dkt_ros.model.pipeline import DKTPipeline


def attach_normals(pipeline: DKTPipeline, other: DKTPipeline, name: str = '') -> DKTPipeline:
    """
    Let `other` compute the task `normal` of `pipeline`, in place.

    Parameters
    ----------
    pipeline, other : DKTPipeline
        On one device, ready to run. The working size is that of `pipeline`.
    name : str
        What the user calls `other`.

    Raises
    ------
    UserError
        If `other` has no task for normals, or packs another number of frames into a latent.

    """
    if 'normal' not in other.tasks:
        raise UserError(f'normals.model is {name}, which has no task for normals, only '
                        f'{", ".join(other.tasks)}; give a folder that `dkt prepare` made with '
                        'DKT-Normal-14B, or leave normals.model empty')
    ratios = temporal_ratio(pipeline.vae), temporal_ratio(other.vae)
    if ratios[0] != ratios[1]:
        raise UserError(f'normals.model is {name}, whose latents hold {ratios[1]} frames; those '
                        f'of the model for depth hold {ratios[0]}: give two models of one family')
    if is_same_vae(pipeline.vae, other.vae):
        other.register_modules(vae=pipeline.vae)
        other.tiny_decoder, other.vae_engines = pipeline.tiny_decoder, pipeline.vae_engines
    other.register_to_config(default_height=pipeline.config.default_height,
                             default_width=pipeline.config.default_width)
    other.check_size(other.config.default_height, other.config.default_width)
    pipeline.normals_model = other
    return pipeline


def is_same_vae(vae: AutoencoderKLWan, other: AutoencoderKLWan) -> bool:
    """Return whether two VAEs give the same: one configuration, equal weights."""
    ours, theirs = ({key: value for key, value in part.config.items() if key[0] != '_'}
                    for part in (vae, other))
    if ours != theirs:
        return False
    state = other.state_dict()
    return all(torch.equal(value, state[key]) for key, value in vae.state_dict().items())
