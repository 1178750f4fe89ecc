"""Trained networks as a model folder."""
from __future__ import annotations

import copy
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanTransformer3DModel

from dkt_ros.model.folder import replace_folder
from dkt_ros.model.pipeline import SCHEDULE_SHIFT, DKTPipeline
from dkt_ros.model.prompt import PromptRows
from dkt_ros.model.sensor_encoder import SensorEncoder

MAX_SHARD_SIZE = '14MB'


def save_model_folder(folder: str | Path, transformer: WanTransformer3DModel,
                      vae: AutoencoderKLWan, prompt_rows: dict[str, torch.Tensor],
                      num_text_tokens: int | None = None, dtype: torch.dtype = torch.float16,
                      sensor_encoder: SensorEncoder | None = None, **config) -> Path:
    """
    Write trained networks as a model folder, in one go.

    Parameters
    ----------
    folder : str or Path
        Where to; an older model there is replaced, its documents are kept.
    transformer, vae : torch.nn.Module
        Not changed.
    prompt_rows : dict of str to (n, text_dim) torch.Tensor
        The rows of each task.
    num_text_tokens : int, optional
        Rows the network is given, zero-padded; those of the longest task when not given.
    dtype : torch.dtype
        How weights are stored.
    sensor_encoder : SensorEncoder, optional
        Of a model that is told what a depth camera saw. Not changed.
    **config
        The scalars of `DKTPipeline`: default_num_inference_steps, initial_noise, ...

    Returns
    -------
    Path
        The folder.

    """
    networks = [_stored(module, dtype) for module in (transformer, vae)]
    rows = PromptRows.from_rows({task: row.detach().float().cpu()
                                 for task, row in prompt_rows.items()}, num_text_tokens)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=SCHEDULE_SHIFT)
    encoder = sensor_encoder and _stored(sensor_encoder, dtype)
    pipeline = DKTPipeline(*networks, scheduler, _stored(rows, dtype), sensor_encoder=encoder,
                           **config)
    replace_folder(Path(folder), lambda new: pipeline.save_pretrained(
        str(new), safe_serialization=True, max_shard_size=MAX_SHARD_SIZE))
    return Path(folder)


def _stored(module: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    # Module.to and not diffusers' own, which warns: loading gives float32 again
    return torch.nn.Module.to(copy.deepcopy(module), 'cpu', dtype)
