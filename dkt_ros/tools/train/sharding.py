"""
A run whose weights are split among its processes (FSDP2), for models that one GPU cannot hold.

Each process keeps a share of every matrix, of its gradient and of its optimiser's state; the
shares of one block are put together while it computes. accelerate starts the processes and shards
nothing: its own FSDP leaves out CPU processes, the only ones this has run on (with gloo). What is
written to disk is whole, so that a run may go on with another number of processes, sharded or not.

Functions that say so are for all processes at once: one that stays away makes the others wait.
"""
from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator, PartialState, init_empty_weights
from accelerate.state import AcceleratorState
from diffusers import WanTransformer3DModel
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from dkt_ros.errors import UserError
from dkt_ros.lora_config import LoraTrainConfig
from dkt_ros.model.folder import check_model_folder
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.tools.train.flow import Denoiser
from dkt_ros.tools.train.networks import draw_transformer

ASKED, OFFLOAD = 'ACCELERATE_USE_FSDP', 'FSDP_OFFLOAD_PARAMS'
PATIENCE = timedelta(hours=2)
"""How long processes wait for the one that reads the base, measures or writes."""


def as_launched(config: LoraTrainConfig) -> LoraTrainConfig:
    """
    Return the options with what `accelerate launch` was asked for: --use_fsdp is `fsdp: true`.

    Raises
    ------
    UserError
        If the launcher asks for weights kept in the memory of the CPU, which nobody does here.

    """
    if not _flag(ASKED):
        return config
    if _flag(OFFLOAD):
        raise UserError('accelerate is set to FSDP with fsdp_offload_params true; allowed: false. '
                        'Take more processes, or a smaller batch_size or size of the images')
    return dataclasses.replace(config, fsdp=True)


def _flag(name: str) -> bool:
    return os.environ.get(name, 'false').lower() in ('true', '1')


def make_accelerator(mixed_precision: str) -> Accelerator:
    """Return what knows the processes, the device and the precision; it will shard nothing."""
    # One process may make several runs, such as the cells of an ablation, each with its own
    # precision; what accelerate knows of the processes themselves stays.
    AcceleratorState._reset_state()
    with _without_fsdp():
        start_processes()
        return Accelerator(mixed_precision=mixed_precision, cpu=not torch.cuda.is_available())


def start_processes() -> PartialState:
    """Meet the other processes, unless that is done; return who this one is."""
    with _without_fsdp():
        return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


@contextmanager
def _without_fsdp() -> Iterator[None]:
    asked = os.environ.pop(ASKED, None)
    try:
        yield
    finally:
        if asked is not None:
            os.environ[ASKED] = asked


def open_base(config: LoraTrainConfig) -> DKTPipeline:
    """
    Load the base; of a run that will be sharded, one process reads the DiT's weights.

    Weights that are drawn are the same in all processes.
    """
    others = {}
    is_drawn = config.initial_weights == 'random'
    if config.fsdp and not is_drawn and not start_processes().is_main_process:
        folder = check_model_folder(config.base, DKTPipeline.__name__)
        others['transformer'] = hollow(WanTransformer3DModel.load_config(folder / 'transformer'))
    pipeline = DKTPipeline.from_pretrained(config.base, **others)
    if is_drawn:
        transformer = draw_transformer(config.transformer, pipeline.vae.config.z_dim,
                                       pipeline.prompt_rows.config.text_dim, config.seed)
        pipeline.register_modules(transformer=transformer)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def hollow(config: dict[str, Any]) -> WanTransformer3DModel:
    """Return a DiT without weights: they are on the meta device."""
    with init_empty_weights(include_buffers=False):
        return WanTransformer3DModel.from_config(dict(config))


def shard(denoiser: Denoiser, device: torch.device) -> None:
    """
    Split the weights among the processes, in place; for all processes at once.

    Parameters
    ----------
    denoiser : Denoiser
        Only the first process's needs weights, on the CPU; the others may have them on meta.
    device : torch.device
        Where this process keeps its share.

    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    weights = denoiser.state_dict()
    _hollow_out(denoiser)
    # Weights are gathered as they are stored, so that autocast rounds what it rounds in an
    # unsharded run and norms stay in float32; gradients are averaged in float32.
    how = {'mesh': mesh, 'reshard_after_forward': True,
           'mp_policy': MixedPrecisionPolicy(reduce_dtype=torch.float32)}
    for block in denoiser.transformer.blocks:
        fully_shard(block, **how)
    # Resharding the rest too costs a little, but nothing of what is put in its place for a
    # validation can stay behind.
    fully_shard(denoiser, **how)
    # Nothing is changed in place here.
    warnings.filterwarnings('ignore', 'FSDP2-wrapped module .* returned a view', UserWarning)
    denoiser.load_state_dict(dict(_handed_out(weights, denoiser, device)), assign=True)


def _handed_out(weights: dict[str, torch.Tensor], denoiser: Denoiser,
                device: torch.device) -> Iterator[tuple[str, DTensor]]:
    """Give every process its share of the weights that the first one has."""
    for name, like in denoiser.named_parameters():
        weight = weights.pop(name)
        weight = torch.empty_like(weight, device=device) if weight.is_meta else weight.to(device)
        torch.distributed.broadcast(weight, src=0)
        yield name, _cut(weight, like)


def _hollow_out(module: nn.Module) -> None:
    """Move the parameters to meta; buffers stay, for no state dict has them."""
    for child in module.modules():
        for name, parameter in child.named_parameters(recurse=False):
            setattr(child, name, nn.Parameter(parameter.to('meta'), parameter.requires_grad))


def whole(value: Any, keep: bool = True) -> Any:
    """
    Put shares together, on the CPU; for all processes at once.

    Parameters
    ----------
    value : object
        Dictionaries and lists of tensors, sharded or not, and of anything else.
    keep : bool
        False gives None for every tensor: for processes that only hand over their shares.

    """
    if isinstance(value, dict):
        return {key: whole(item, keep) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(whole(item, keep) for item in value)
    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach()
    if isinstance(value, DTensor):
        value = value.full_tensor()
    return value.cpu() if keep else None


def share(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Copy this process's share of a whole tensor: all of it, unless it is split like `like`."""
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor.clone()
    return _cut(tensor.to(like.device), like)


def _cut(tensor: torch.Tensor, like: DTensor) -> DTensor:
    # A clone, for what is cut out alone would keep the whole in memory.
    return distribute_tensor(tensor, like.device_mesh, like.placements,
                             src_data_rank=None).clone()


def local_parts(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Return what this process holds, as plain parameters in the same memory."""
    return [nn.Parameter(p.detach().to_local()) if isinstance(p, DTensor) else p
            for p in parameters]


def joined(parts: list[torch.Tensor], like: list[nn.Parameter]) -> list[torch.Tensor]:
    """Return local parts as sharded tensors again, split as `like` is."""
    return [DTensor.from_local(part, p.device_mesh, p.placements, shape=p.shape,
                               stride=p.stride()) if isinstance(p, DTensor) else part
            for part, p in zip(parts, like, strict=True)]


def whole_transformer(transformer: WanTransformer3DModel,
                      keep: bool = True) -> WanTransformer3DModel | None:
    """Return an unsharded DiT, itself if it is one; for all processes at once."""
    if not any(isinstance(p, DTensor) for p in transformer.parameters()):
        return transformer
    weights = whole(transformer.state_dict(), keep)
    if not keep:
        return None
    network = hollow(transformer.config)
    network.load_state_dict(weights, assign=True)
    return network
