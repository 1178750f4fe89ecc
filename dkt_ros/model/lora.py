"""
A LoRA on the DiT, in the layout in which DKT's are published.

    blocks.N.{self_attn,cross_attn}.{q,k,v,o}.lora_{A,B}.default.weight
    blocks.N.ffn.{0,2}.lora_{A,B}.default.weight

Merging is W += B A, with alpha 1 and no rank scaling, in float32.
"""
from __future__ import annotations

import os
import re
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dkt_ros.errors import UserError
from dkt_ros.model.released import BLOCK_NAMES

PARTS = tuple(f'{kind}.{p}' for kind in ('self_attn', 'cross_attn') for p in 'qkvo') + (
    'ffn.0', 'ffn.2')
"""What the released LoRAs train, by its published name within a block."""
DIFFUSERS_PARTS = {BLOCK_NAMES[part]: part for part in PARTS}
TARGETS = rf'blocks\.\d+\.({"|".join(re.escape(part) for part in DIFFUSERS_PARTS)})'
"""The same as one pattern over the modules of `WanTransformer3DModel`."""


def add_lora(transformer: WanTransformer3DModel, rank: int, seed: int) -> None:
    """Put an untrained LoRA on the released targets: B is zero, alpha equals the rank."""
    from peft import LoraConfig
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS))


def lora_parameters(transformer: WanTransformer3DModel) -> dict[str, torch.nn.Parameter]:
    """Return the matrices of the LoRA by their name in the module."""
    return {name: parameter for name, parameter in transformer.named_parameters()
            if '.lora_A.' in name or '.lora_B.' in name}


def released_key(name: str) -> str:
    """Return the published name of `blocks.0.attn1.to_q.lora_A.default.weight`."""
    match = re.fullmatch(r'blocks\.(\d+)\.(.+)\.lora_([AB])\.(?:default\.)?weight', name)
    if match is None or match[2] not in DIFFUSERS_PARTS:
        raise ValueError(f'{name!r} is no matrix of a LoRA on the released targets')
    return f'blocks.{match[1]}.{DIFFUSERS_PARTS[match[2]]}.lora_{match[3]}.default.weight'


def save_lora(path: str | Path, matrices: dict[str, torch.Tensor]) -> Path:
    """Write the matrices of `lora_parameters` as a published file, whole or not at all."""
    path = Path(path)
    state = {released_key(name): matrix.detach().float().cpu().contiguous()
             for name, matrix in matrices.items()}
    if not state:
        raise ValueError('the transformer has no LoRA')
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{os.getpid()}')
    save_file(state, str(partial), {'format': 'pt'})
    os.replace(partial, path)
    return path


@torch.no_grad()
def merge_lora_file(transformer: WanTransformer3DModel, path: str | Path) -> int:
    """
    Merge a published LoRA into the weights of a transformer, in place.

    Returns
    -------
    int
        How many weights were changed.

    Raises
    ------
    UserError
        If the file is missing or broken, or a matrix finds no weight or one of another shape.

    """
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    weights = dict(transformer.named_parameters())
    for key, value in _read(Path(path)).items():
        match = re.fullmatch(
            r'(?:diffusion_model\.)?blocks\.(\d+)\.(.+)\.lora_([AB])\.(?:default\.)?weight', key)
        target = f'blocks.{match[1]}.{BLOCK_NAMES.get(match[2])}.weight' if match else None
        if target not in weights:
            raise UserError(f'LoRA tensor {key!r} of {path} belongs to no weight of the model; '
                            'give the base the LoRA was trained on')
        pairs.setdefault(target, {})[match[3]] = value.float()
    for target, pair in pairs.items():
        weight = weights[target]
        if pair.keys() != {'A', 'B'} or (pair['B'] @ pair['A']).shape != weight.shape:
            raise UserError(f'the LoRA of {target!r} in {path} lacks a matrix or has another '
                            f'shape than {tuple(weight.shape)}; give the base it was trained on')
        weight.copy_((weight.float() + (pair['B'] @ pair['A']).to(weight.device)).to(weight.dtype))
    return len(pairs)


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise UserError(f'LoRA {path} does not exist; give a .safetensors file')
    try:
        return load_file(str(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f'{path} is truncated or no safetensors file ({error}); get it again') \
            from error
