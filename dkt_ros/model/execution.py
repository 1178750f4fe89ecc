"""
How a loaded pipeline runs: which arithmetic, and by whom one step of the network is computed.

The step is `FoldedTransformer.forward` at a fixed shape. It runs eagerly, compiled layer by layer
by `torch.compile` (on a GPU recorded as one CUDA graph besides), by onnxruntime or by a TensorRT
engine, which the streaming steps of the VAE then have too; all the rest is the same code.
"""
from __future__ import annotations

import torch

from dkt_ros.config import EXECUTIONS, PRECISIONS
from dkt_ros.errors import UserError
from dkt_ros.model.attention import (
    MAX_LOGIT,
    bounded_attention,
    gelu_linear,
    largest_logit,
)
from dkt_ros.model.checks import check_choice
from dkt_ros.model.coders import VaeEngines
from dkt_ros.model.engines import EngineCache, engine_folder
from dkt_ros.model.folded import FoldedTransformer
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.model.runners import CudaGraphRunner, EngineSteps, OnnxRunner, TensorRtRunner
from dkt_ros.model.selftest import check_convolutions
from dkt_ros.model.wan_layers import multiply_in_bfloat16

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def choose_precision(name: str, device: str, has_bfloat16: bool) -> torch.dtype:
    """
    Return in which arithmetic the networks multiply.

    Parameters
    ----------
    name : str
        One of `PRECISIONS`; `auto` takes bfloat16 on a GPU and where the processor has
        instructions for it, else float32.
    device : str
        `cpu`, `cuda` or `cuda:N`.
    has_bfloat16 : bool
        Whether the processor has such instructions.

    """
    check_choice('precision', name, PRECISIONS)
    if name == 'auto':
        name = 'bfloat16' if device != 'cpu' or has_bfloat16 else 'float32'
    return torch.bfloat16 if name == 'bfloat16' else torch.float32


def cpu_has_bfloat16() -> bool:
    """Return whether this processor multiplies bfloat16 in hardware."""
    if not torch.backends.mkldnn.is_available():
        return False
    names = ('_is_avx512_bf16_supported', '_is_amx_tile_supported')
    return any(getattr(torch.cpu, name, bool)() for name in names)


@torch.no_grad()
def prepare(pipeline: DKTPipeline, execution: str = 'auto',
            precision: torch.dtype = torch.float32, model_hash: str = '') -> DKTPipeline:
    """
    Fold the transformer, lay out the weights and choose who computes a step, in place.

    A pipeline prepared so cannot be saved: one that is to be saved is loaded with
    `DKTPipeline.from_pretrained` alone.

    Parameters
    ----------
    pipeline : DKTPipeline
        On its device; on a GPU in the dtype it is to run in.
    execution : str
        One of `EXECUTIONS`.
    precision : torch.dtype
        On a CPU: float32, or bfloat16 for the large products; all else stays in float32.
    model_hash : str
        Under which engines are kept.

    Raises
    ------
    UserError
        If this machine cannot run it so; the sentence says what is missing.

    """
    check_choice('execution', execution, EXECUTIONS)
    device = pipeline.vae.device
    for parameter in pipeline.vae.parameters():
        if parameter.ndim in FORMATS and min(parameter.shape[:2]) > 1:
            parameter.data = parameter.data.contiguous(memory_format=FORMATS[parameter.ndim])
    network = pipeline.folded()
    if device.type == 'cpu' and precision == torch.bfloat16:
        multiply_in_bfloat16(pipeline.vae)
        if execution != 'onnxruntime':
            _multiply_blocks_in_bfloat16(network)
    if precision == torch.bfloat16:
        check_convolutions(device)
    pipeline.register_modules(transformer=network)
    _choose_step(network, execution, model_hash)
    if execution == 'tensorrt':
        engines = EngineSteps(device, model_hash, EngineCache(engine_folder()))
        network.runner = TensorRtRunner(network, engines)
        pipeline.vae_engines = VaeEngines(pipeline.vae, engines)
    return pipeline


def _multiply_blocks_in_bfloat16(network: FoldedTransformer) -> None:
    for block in network.blocks:
        for parameter in block.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
        block.activate = gelu_linear
        if largest_logit(*block.qk_weight, block.heads) < MAX_LOGIT:
            block.attend = bounded_attention


def _choose_step(network: FoldedTransformer, execution: str, model_hash: str) -> None:
    kind = network.device.type
    if execution == 'compile':
        for block in network.blocks:
            block.compile(fullgraph=True, dynamic=False)
        if kind == 'cuda':
            network.runner = CudaGraphRunner(network)
    elif execution == 'onnxruntime':
        if kind != 'cpu':
            raise UserError('execution is onnxruntime, which runs on the CPU here; set device to '
                            'cpu, or execution to auto, compile or tensorrt')
        network.runner = OnnxRunner(network, engine_folder() / (model_hash or 'unnamed'))
    elif execution == 'tensorrt' and kind != 'cuda':
        raise UserError(f'execution is tensorrt and the device {kind}; TensorRT needs an NVIDIA '
                        'GPU: set device to cuda, or execution to auto')
