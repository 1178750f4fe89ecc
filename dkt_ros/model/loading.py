"""From the words of a user (`dkt-tiny`, `auto`) to a pipeline on a device."""
from __future__ import annotations

import logging
from pathlib import Path

import torch

from dkt_ros.errors import UserError
from dkt_ros.model.beside import attach_normals
from dkt_ros.model.execution import (
    choose_precision,
    cpu_has_bfloat16,
    prepare,
    storage_dtype,
)
from dkt_ros.model.folder import is_bare_base
from dkt_ros.model.int8 import check_int8, cpu_has_int8
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.model.tiny_decoder import load_tiny_decoder
from dkt_ros.provenance import model_hash
from dkt_ros.resources import resolve_model

log = logging.getLogger(__name__)


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


def load_pipeline(model: str | Path, device: str = 'auto', execution: str = 'auto',
                  precision: str = 'auto', decoder: str | Path = '',
                  normals_model: str | Path = '', attention: str = 'auto') -> DKTPipeline:
    """
    Load a model folder, or a bundled model by its name, onto a device, ready to run.

    Parameters
    ----------
    model : str or Path
        The folder or the name.
    device : str
        `auto`, `cpu`, `cuda` or `cuda:N`.
    execution : str
        Who computes a step, see `execution.EXECUTIONS`.
    precision : str
        In which arithmetic, see `execution.choose_precision`.
    decoder : str or Path
        A small decoder to take instead of the VAE's, see `tiny_decoder`; empty for none.
    normals_model : str or Path
        Another model for the task `normal`, see `beside`; empty for none.
    attention : str
        Who computes self-attention, see `attention.choose_attention`.

    """
    chosen = choose_device(device, torch.cuda.is_available(), torch.cuda.device_count())
    dtype = choose_precision(precision, chosen, cpu_has_bfloat16())
    folder, stored = resolve_model(model), storage_dtype(dtype, chosen)
    pipeline = DKTPipeline.from_pretrained(folder, torch_dtype=stored).to(chosen)
    if (precision, chosen, dtype) == ('auto', 'cpu', torch.bfloat16) and cpu_has_int8():
        dtype = _own_precision(pipeline.config.cpu_precision, dtype)
    if is_bare_base(folder):
        log.warning('%s is the bare base, made without --lora: it is there to be trained, and '
                    'what it gives is no depth', folder)
    # reading the weights once more is worth it only where graphs are kept under the hash
    digest = model_hash(folder) if execution in ('onnxruntime', 'tensorrt') else ''
    prepare(pipeline, execution, dtype, digest, attention)
    if decoder:
        pipeline.tiny_decoder = load_tiny_decoder(decoder, pipeline.vae)
    if normals_model:
        other = load_pipeline(normals_model, device, execution, precision, attention=attention)
        attach_normals(pipeline, other, str(normals_model))
    return pipeline


def _own_precision(name: str, otherwise: torch.dtype) -> torch.dtype:
    """Return what a model asks for on processors; `otherwise` where this torch cannot do it."""
    try:
        if name == 'int8':
            check_int8()
    except UserError as error:
        log.warning('%s; bfloat16 is taken, since nobody asked for int8', error)
        return otherwise
    return choose_precision(name, 'cpu', True)
