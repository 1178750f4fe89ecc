"""`dkt export`: the steps of a stream as ONNX graphs that agree with torch, and as engines."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from dkt_ros.config import OVERLAP_CHOICES, PRESETS, StreamConfig
from dkt_ros.errors import RunError, UserError
from dkt_ros.model.causal_vae import spatial_ratio
from dkt_ros.model.checks import check_choice
from dkt_ros.model.engines import EngineCache, engine_folder
from dkt_ros.model.graphs import (
    DecodeGraph,
    EncodeGraph,
    Graph,
    StepGraph,
    export_onnx,
    open_onnx,
    run_onnx,
)
from dkt_ros.model.loading import load_pipeline
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.model.runners import EngineSteps
from dkt_ros.provenance import model_hash, provenance
from dkt_ros.resources import resolve_model

TOLERANCE = 1e-4


def run_export(model: str | Path, *, onnx: bool, tensorrt: bool, preset: str,
               height: int | None, width: int | None, tasks: Sequence[str] | None, out: Path,
               overlap: str = StreamConfig.overlap, console: Console | None = None) -> dict:
    """
    Export what is asked for.

    Parameters
    ----------
    model : str or Path
        A bundled model or a model folder.
    onnx, tensorrt : bool
        What to make; at least one.
    preset : str
        Whose window the graphs have.
    height, width : int, optional
        Working size [px]; the model's own when not given.
    tasks : sequence of str, optional
        Rows of the batch; all tasks of the model when not given.
    out : Path
        Where ONNX graphs go; engines go to the cache that `execution: tensorrt` reads.
    overlap : str
        One of `OVERLAP_CHOICES`; with `cache` the step has keys and values as inputs and outputs.
    console : Console, optional
        For progress.

    Returns
    -------
    dict
        `graphs`, with the largest difference from torch, and `engines`.

    Raises
    ------
    RunError
        If a graph does not agree with torch.

    """
    if not (onnx or tensorrt):
        raise UserError('nothing is asked for; give --onnx, --tensorrt or both')
    check_choice('preset', preset, tuple(PRESETS))
    check_choice('overlap', overlap, OVERLAP_CHOICES)
    console, folder = console or Console(), resolve_model(model)
    figures = {**provenance(folder, {'preset': preset}), 'graphs': [], 'engines': []}
    if onnx:
        pipeline = load_pipeline(folder, 'cpu', precision='float32')
        for name, graph in _graphs(pipeline, preset, height, width, tasks, overlap).items():
            with console.status(f'{name}: exporting'):
                figures['graphs'].append(_export(name, graph, Path(out) / f'{name}.onnx'))
            console.print(f'{figures["graphs"][-1]["path"]}: differs from torch by '
                          f'{figures["graphs"][-1]["difference"]:.1e}', highlight=False)
    if tensorrt:
        figures['engines'] = _build_engines(folder, preset, height, width, tasks, overlap,
                                            console)
    return figures


def _graphs(pipeline: DKTPipeline, preset: str, height: int | None, width: int | None,
            tasks: Sequence[str] | None, overlap: str) -> dict[str, Graph]:
    """Return the steps of a stream's windows after the first one."""
    height, width = pipeline.working_size(height, width)
    rows = _rows(pipeline, tasks)
    ratio = spatial_ratio(pipeline.vae)
    return {'dit': _step(pipeline, preset, (height // ratio, width // ratio), rows, overlap),
            'encode': EncodeGraph(pipeline.vae, height, width),
            'decode': DecodeGraph(pipeline.vae, len(rows), height // ratio, width // ratio)}


def _rows(pipeline: DKTPipeline, tasks: Sequence[str] | None) -> list[int]:
    for task in tasks or ():
        check_choice('task', task, pipeline.tasks)
    return [pipeline.tasks.index(task) for task in tasks or pipeline.tasks]


def _step(pipeline: DKTPipeline, preset: str, size: tuple[int, int], rows: Sequence[int],
          overlap: str) -> StepGraph:
    window, before = PRESETS[preset]
    overlap = pipeline.overlap_of(overlap)
    if overlap != 'cache':
        held = 0 if overlap == 'align' else before
        return StepGraph(pipeline.folded(), (window, *size), rows, held)
    return StepGraph(pipeline.folded(), (window - before, *size), rows, 0, before, before)


@torch.no_grad()
def _export(name: str, graph: Graph, path: Path) -> dict:
    """Write a graph and run it on noise beside torch."""
    session = open_onnx(export_onnx(graph, path), torch.get_num_threads())
    generator = torch.Generator().manual_seed(0)
    inputs = list(graph.example())
    inputs[0] = torch.randn(inputs[0].shape, generator=generator)
    expected = graph(*inputs)
    expected = [expected] if isinstance(expected, torch.Tensor) else expected
    difference = max(((a - b).abs().max() / b.abs().max().clamp_min(1.0)).item()
                     for a, b in zip(run_onnx(session, graph, inputs), expected, strict=True))
    if not difference <= TOLERANCE:
        raise RunError(f'{path} differs from torch by {difference:.1e}, more than {TOLERANCE}; '
                       'do not use it, and report the versions of torch and onnxruntime')
    return {'name': name, 'path': str(path), 'bytes': path.stat().st_size,
            'inputs': {key: list(tensor.shape)
                       for key, tensor in zip(graph.input_names, inputs, strict=True)},
            'outputs': list(graph.output_names), 'difference': difference}


def _build_engines(folder: Path, preset: str, height: int | None, width: int | None,
                   tasks: Sequence[str] | None, overlap: str,
                   console: Console) -> list[dict]:
    if not torch.cuda.is_available():
        raise UserError('--tensorrt needs an NVIDIA GPU, and torch finds none here; run it on '
                        'the machine that is to use the engines')
    pipeline, built = load_pipeline(folder, 'cuda'), []
    engines = EngineSteps(pipeline.vae.device, model_hash(folder), EngineCache(engine_folder()))
    for name, graph in _graphs(pipeline, preset, height, width, tasks, overlap).items():
        with console.status(f'{name}: building the engine, minutes'):
            content = engines.prepare(graph)
        if content is None:
            raise RunError(f'the engine for {name} could not be built; the log above says why')
        key = engines.key(graph)
        console.print(f'{name}: engine {key.digest}, {len(content) / 1e6:.0f} MB',
                      highlight=False)
        built.append({'graph': name, 'digest': key.digest, 'bytes': len(content)})
    return built
