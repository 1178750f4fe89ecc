"""
How a loaded pipeline runs: which arithmetic, and by whom one step of the network is computed.

The step is `FoldedTransformer.forward` at a fixed shape. It runs eagerly, compiled layer by layer
by `torch.compile` (on a GPU recorded as one CUDA graph besides), by onnxruntime or by a TensorRT
engine, which the streaming steps of the VAE then have too; all the rest is the same code.
"""
from __future__ import annotations

import torch

from dkt_ros.config import ATTENTIONS, EXECUTIONS, PRECISIONS, PRESETS
from dkt_ros.errors import UserError
from dkt_ros.model.attention import (
    MAX_LOGIT,
    bounded_attention,
    check_gelu_linear,
    choose_attention,
    gelu_linear,
    largest_logit,
)
from dkt_ros.model.checks import check_choice
from dkt_ros.model.coders import VaeEngines
from dkt_ros.model.engines import EngineCache, engine_folder
from dkt_ros.model.float8 import FLOAT8, check_float8, input_dtype, multiply_in_float8
from dkt_ros.model.folded import FoldedTransformer
from dkt_ros.model.int8 import check_int8, multiply_in_int8
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.model.runners import (
    CudaGraphRunner,
    EngineSteps,
    OnnxRunner,
    RowByRow,
    TensorRtRunner,
)
from dkt_ros.model.selftest import check_convolutions
from dkt_ros.model.wan_layers import multiply_in_bfloat16

GRAPH_EXECUTIONS = ('onnxruntime', 'tensorrt')
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def choose_precision(name: str, device: str, has_bfloat16: bool) -> torch.dtype:
    """
    Return in which arithmetic the networks multiply.

    Parameters
    ----------
    name : str
        One of `PRECISIONS`; `auto` takes bfloat16 on a GPU and where the processor has
        instructions for it, else float32. float8 is for the large products of the transformer,
        int8 (on a processor only) for convolutions of the VAE; all else is then in bfloat16.
    device : str
        `cpu`, `cuda` or `cuda:N`.
    has_bfloat16 : bool
        Whether the processor has such instructions.

    """
    check_choice('precision', name, PRECISIONS)
    if name == 'auto':
        name = 'bfloat16' if device != 'cpu' or has_bfloat16 else 'float32'
    if name == 'int8' and device != 'cpu':
        raise UserError(f'precision is int8 and the device {device}; int8 is for processors: set '
                        'precision to auto, bfloat16 or float8')
    return {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float8': FLOAT8,
            'int8': torch.int8}[name]


def storage_dtype(precision: torch.dtype, device: str) -> torch.dtype:
    """Return the dtype of weights: on a CPU only the large products are not in float32."""
    if device == 'cpu':
        return torch.float32
    return torch.bfloat16 if precision == FLOAT8 else precision


def cpu_has_bfloat16() -> bool:
    """Return whether this processor multiplies bfloat16 in hardware."""
    if not torch.backends.mkldnn.is_available():
        return False
    names = ('_is_avx512_bf16_supported', '_is_amx_tile_supported')
    return any(getattr(torch.cpu, name, bool)() for name in names)


@torch.no_grad()
def prepare(pipeline: DKTPipeline, execution: str = 'auto',
            precision: torch.dtype = torch.float32, model_hash: str = '',
            attention: str = 'auto') -> DKTPipeline:
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
        On a CPU: float32, or bfloat16 for the large products; all else stays in float32. int8 is
        that with convolutions of the VAE in 8 bits. float8 anywhere, for the transformer alone.
    model_hash : str
        Under which engines are kept.
    attention : str
        One of `ATTENTIONS`; measured over a window of preset `balanced` at the model's own size.

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
    is_rounded_here = device.type == 'cpu' and precision != torch.float32
    if is_rounded_here:
        multiply_in_bfloat16(pipeline.vae)
    if precision != torch.float32:
        check_convolutions(device)
    if precision == torch.int8:
        check_int8()
        multiply_in_int8(pipeline.vae)
    if precision == FLOAT8:
        if execution in GRAPH_EXECUTIONS:
            raise UserError(f'precision is float8 and execution {execution}, whose graphs have no '
                            'float8; set execution to eager or compile')
        check_float8(device)
        multiply_in_float8(network.blocks)
    if is_rounded_here and execution != 'onnxruntime':
        _multiply_blocks_in_bfloat16(network, fuses_itself=execution == 'compile')
    _choose_attention(pipeline, network, execution, attention)
    pipeline.register_modules(transformer=network)
    _choose_step(network, execution, model_hash)
    if execution == 'tensorrt':
        engines = EngineSteps(device, model_hash, EngineCache(engine_folder()))
        network.runner = TensorRtRunner(network, engines)
        pipeline.vae_engines = VaeEngines(pipeline.vae, engines)
    return pipeline


def _choose_attention(pipeline: DKTPipeline, network: FoldedTransformer, execution: str,
                      name: str) -> None:
    check_choice('attention', name, ATTENTIONS)
    if name == 'auto':
        return
    if execution in GRAPH_EXECUTIONS:
        raise UserError(f'attention is {name} and execution {execution}, which has its own; set '
                        'attention to auto')
    config, first = pipeline.config, network.blocks[0]
    rows, columns = pipeline.size_multiple
    tokens = PRESETS['balanced'][0] * (config.default_height // rows) * (
        config.default_width // columns)
    width = network.proj_out.in_features
    example = torch.randn(1, first.heads, tokens, width // first.heads, device=network.device)
    chosen = choose_attention(name, first.attend, example.to(input_dtype(first.qkv)))
    for block in network.blocks:
        block.attend = chosen


def _multiply_blocks_in_bfloat16(network: FoldedTransformer, fuses_itself: bool) -> None:
    has_gelu_linear = not fuses_itself and check_gelu_linear()
    for block in network.blocks:
        for parameter in block.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
        if has_gelu_linear and isinstance(block.widen, torch.nn.Linear):
            block.activate = gelu_linear
        if largest_logit(*block.qk_weight, block.heads) < MAX_LOGIT:
            block.attend = bounded_attention


def _choose_step(network: FoldedTransformer, execution: str, model_hash: str) -> None:
    kind = network.device.type
    if kind == 'cpu':
        network.runner = RowByRow(network)
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
