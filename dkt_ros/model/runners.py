"""Who computes a step of the network: rows in turn, a CUDA graph, onnxruntime or TensorRT."""
from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from dkt_ros.errors import UserError
from dkt_ros.model.engines import (
    Engine,
    EngineCache,
    EngineKey,
    build_engine,
    gpu_name,
    tensorrt_version,
)
from dkt_ros.model.folded import FoldedTransformer
from dkt_ros.model.graphs import Graph, StepGraph, export_onnx, open_onnx, run_onnx

log = logging.getLogger(__name__)
Step = Callable[..., Sequence[torch.Tensor]]
CALLS_BEFORE_RECORDING = 3


class RowByRow:
    """
    The rows of the batch one after the other: a processor's cache then holds more of each.

    Called like `FoldedTransformer.forward`, and gives the same.
    """

    def __init__(self, network: FoldedTransformer) -> None:
        self._network = network

    def __call__(self, latents: torch.Tensor, rgb_tokens: torch.Tensor, blocks: torch.Tensor,
                 head: torch.Tensor, rope: torch.Tensor, tasks: Sequence[int],
                 num_held: int = 0, past: torch.Tensor | None = None,
                 num_kept: int = 0) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Compute a step."""
        pasts = [None] * len(tasks) if past is None else past.split(1, dim=2)
        rows = [self._network(row, rgb_tokens, blocks, head, rope, [task], num_held, one_past,
                              num_kept)
                for row, task, one_past in zip(latents.split(1), tasks, pasts, strict=True)]
        velocities, kept = zip(*rows, strict=True)
        return torch.cat(velocities), torch.cat(kept, dim=2) if num_kept else None


class _ByShape:
    """
    One prepared step for each window shape a stream uses; the first call of a shape prepares it.

    Called like `FoldedTransformer.forward`; the rotary table is a part of the graph.
    """

    def __init__(self, network: FoldedTransformer) -> None:
        self._network = network
        self._steps: dict[tuple, Step] = {}

    def __call__(self, latents: torch.Tensor, rgb_tokens: torch.Tensor, blocks: torch.Tensor,
                 head: torch.Tensor, rope: torch.Tensor, tasks: Sequence[int],
                 num_held: int = 0, past: torch.Tensor | None = None,
                 num_kept: int = 0) -> tuple[torch.Tensor, torch.Tensor | None]:
        size = tuple(latents.shape[2:])
        num_before = 0 if past is None else \
            past.shape[3] * latents.shape[2] // rgb_tokens.shape[1]
        key = (size, tuple(tasks), num_held, num_before, num_kept)
        if key not in self._steps:
            self._steps[key] = self._make(StepGraph(self._network, *key))
        inputs = (latents, rgb_tokens, blocks, head)
        found = self._steps[key](*inputs) if past is None else self._steps[key](*inputs, past)
        return found[0], found[1] if num_kept else None

    def _make(self, graph: StepGraph) -> Step:
        raise NotImplementedError


class OnnxRunner(_ByShape):
    """
    Steps by onnxruntime on the CPU, in float32.

    Parameters
    ----------
    network : FoldedTransformer
        On the CPU, in float32.
    folder : Path
        Where graphs are written.

    """

    def __init__(self, network: FoldedTransformer, folder: Path) -> None:
        super().__init__(network)
        self._folder = Path(folder)

    def _make(self, graph: StepGraph) -> Step:
        name = 'x'.join(map(str, (*graph.size, *graph.tasks, graph.num_held, graph.num_before,
                                  graph.num_kept)))
        session = open_onnx(export_onnx(graph, self._folder / f'dit-{name}.onnx'),
                            torch.get_num_threads())
        return lambda *inputs: run_onnx(session, graph, inputs)


class CudaGraphRunner(_ByShape):
    """
    Steps recorded as CUDA graphs: one launch for all kernels of a step.

    A step that cannot be recorded runs as it is, and the log says why.

    Parameters
    ----------
    network : FoldedTransformer
        On its GPU, its layers compiled or not.
    record : callable
        From a graph to a step of the same arguments and result.

    """

    def __init__(self, network: FoldedTransformer,
                 record: Callable[[StepGraph], Step] | None = None) -> None:
        super().__init__(network)
        self._record = record or record_cuda_graph

    @torch.no_grad()
    def _make(self, graph: StepGraph) -> Step:
        try:
            return self._record(graph)
        except RuntimeError as error:
            reason = ' '.join(str(error).split())[:200]
            log.warning('the step for windows of %s is not recorded as a CUDA graph (%s)',
                        'x'.join(map(str, graph.size)), reason)
            return graph


def record_cuda_graph(graph: StepGraph) -> Step:
    """Record a step; what it is given is copied to the recorded inputs, its result copied out."""
    device = graph.rope.device
    inputs = tuple(tensor.clone() for tensor in graph.example())
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(CALLS_BEFORE_RECORDING):
            graph(*inputs)
    torch.cuda.current_stream(device).wait_stream(stream)
    recording = torch.cuda.CUDAGraph()
    with torch.cuda.device(device), torch.cuda.graph(recording):
        result = graph(*inputs)

    def step(*given: torch.Tensor) -> list[torch.Tensor]:
        for target, source in zip(inputs, given, strict=True):
            target.copy_(source)
        recording.replay()
        return [tensor.clone() for tensor in result]

    return step


class EngineSteps:
    """
    TensorRT engines of graphs, out of a cache or built for it.

    Parameters
    ----------
    device : torch.device
        A GPU.
    model_hash : str
        Of the model folder.
    cache : EngineCache
        Where engines are kept.
    build : callable
        From the path of an ONNX graph to an engine.

    """

    def __init__(self, device: torch.device, model_hash: str, cache: EngineCache,
                 build: Callable[[Path], bytes] = build_engine) -> None:
        self._device, self._model_hash, self._cache = device, model_hash, cache
        self._build = build

    def key(self, graph: Graph) -> EngineKey:
        """Return what an engine for `graph` depends on."""
        return EngineKey(
            graph.kind, self._model_hash, gpu_name(self._device), tensorrt_version(),
            torch.__version__, tuple(tuple(tensor.shape) for tensor in graph.example()),
            str(graph.dtype).removeprefix('torch.'), graph.options)

    def prepare(self, graph: Graph) -> bytes | None:
        """Return the engine of a graph, built now if need be; None if that cannot be."""
        key = self.key(graph)
        path = self._cache.folder / f'{key.graph}-{key.digest}.onnx'
        return self._cache.obtain(key, lambda: self._build(export_onnx(graph, path)))

    def open(self, graph: Graph) -> Step | None:
        """Return the graph as a step that an engine computes; None, and a log, if it cannot."""
        try:
            content = self.prepare(graph)
            if content is None:
                return None
            engine = Engine(content, self._device)
        except UserError as error:
            log.warning('%s; the step %s runs in torch', error, graph.kind)
            return None
        given, found = graph.input_names, graph.output_names

        def step(*inputs: torch.Tensor) -> list[torch.Tensor]:
            results = engine(dict(zip(given, inputs, strict=True)))
            return [results[name] for name in found]

        return step


class TensorRtRunner(_ByShape):
    """
    Steps by TensorRT engines; in torch where there is none.

    Parameters
    ----------
    network : FoldedTransformer
        On its GPU.
    engines : EngineSteps
        For its device and model.

    """

    def __init__(self, network: FoldedTransformer, engines: EngineSteps) -> None:
        super().__init__(network)
        self._engines = engines

    def _make(self, graph: StepGraph) -> Step:
        return self._engines.open(graph) or graph
