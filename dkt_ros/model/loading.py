"""From the words of a user (`dkt-tiny`, `auto`) to a pipeline on a device."""
from __future__ import annotations

from pathlib import Path

import torch

from dkt_ros.errors import UserError
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.resources import resolve_model


def choose_device(name: str, cuda_available: bool, cuda_count: int) -> str:
    """
    Return the torch device of a `device` option.

    Raises
    ------
    UserError
        For a device that does not exist here: nothing falls back to the CPU silently.

    """
    if name == 'auto':
        return 'cuda' if cuda_available else 'cpu'
    kind, _, index = name.partition(':')
    if kind not in ('cpu', 'cuda') or (index and (kind == 'cpu' or not index.isdigit())):
        raise UserError(f'device is {name!r}; allowed: auto, cpu, cuda, cuda:N')
    if kind == 'cuda' and not cuda_available:
        raise UserError(f'device is {name!r}, but torch finds no CUDA here; install a CUDA build '
                        'of torch and a driver, or set device to cpu')
    if index and int(index) >= cuda_count:
        raise UserError(f'device is {name!r}, but there are {cuda_count} CUDA devices; count '
                        'from cuda:0')
    return name


def lay_out_for_speed(pipeline: DKTPipeline) -> DKTPipeline:
    """
    Fold the transformer and store the VAE's convolutions with channels last, in place.

    The results are the same. oneDNN takes a third less time to decode that way. Such a pipeline
    cannot be saved: one that is to be saved is loaded with `from_pretrained` alone.
    """
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in pipeline.vae.parameters():
        if parameter.ndim in formats and min(parameter.shape[:2]) > 1:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])
    pipeline.register_modules(transformer=pipeline.folded())
    return pipeline


def load_pipeline(model: str | Path, device: str = 'auto') -> DKTPipeline:
    """Load a model folder, or a bundled model by its name, onto a device."""
    chosen = choose_device(device, torch.cuda.is_available(), torch.cuda.device_count())
    dtype = torch.float32 if chosen == 'cpu' else torch.bfloat16
    pipeline = DKTPipeline.from_pretrained(resolve_model(model), torch_dtype=dtype).to(chosen)
    return lay_out_for_speed(pipeline)
