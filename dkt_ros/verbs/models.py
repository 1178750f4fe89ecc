"""`dkt prepare`, `dkt export`, `dkt bench model`: published files, graphs, times."""
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dkt_ros.bench_config import SHAPES, BenchModelConfig
from dkt_ros.config import (
    ATTENTIONS,
    OVERLAP_CHOICES,
    PRECISIONS,
    PRESETS,
    DepthNodeConfig,
    StreamConfig,
)
from dkt_ros.errors import UserError
from dkt_ros.verbs.common import Json, finish, two_numbers

Model = Annotated[str | None, typer.Argument(
    metavar='MODEL', help='A bundled model or the path of a model folder.')]


def prepare(
    base: Annotated[str, typer.Option(
        help='Folder of the published base, or its name on the hub: '
        'alibaba-pai/Wan2.1-Fun-1.3B-Control or -14B-Control.')],
    out: Annotated[Path, typer.Option(help='The model folder to write.')],
    lora: Annotated[str | None, typer.Option(
        help='File or folder of the LoRA of DKT, or its name on the hub: '
        'Daniellesry/DKT-Depth-1-3B-v1.1, DKT-Depth-14B, DKT-Normal-14B. Without it the folder '
        'is the bare base that `dkt train` starts from, of no use for depth.')] = None,
    prompt_rows: Annotated[Path | None, typer.Option(
        help='safetensors file with the text embedding of each task; without it the text encoder '
        'of the base is run once.')] = None,
    tokenizer: Annotated[str | None, typer.Option(
        help='Folder of google/umt5-xxl; that inside the base if not given.')] = None,
    tasks: Annotated[str | None, typer.Option(
        help='What the LoRA was trained for: depth, normal; told by its name if not given, both '
        'for a bare base.',
    )] = None,
    dtype: Annotated[str, typer.Option(
        help='How the transformer is stored: bfloat16, float16, float32.')] = 'bfloat16',
    head_dim: Annotated[int, typer.Option(
        min=2, help='Channels of an attention head.')] = 128,
    json: Json = None,
) -> None:
    """
    Make a model folder of the published base and a LoRA of DKT, or of the base alone.

    Example: `dkt prepare --base Wan2.1-Fun-1.3B-Control --lora DKT-Depth-1-3B-v1.1 --out dkt-1.3b`
    """
    from dkt_ros.tools.prepare import PrepareRequest, run_prepare
    names = tuple(name.strip() for name in tasks.split(',')) if tasks else None
    finish(run_prepare(PrepareRequest(base, lora, out, prompt_rows, tokenizer, names, dtype,
                                      head_dim)), json)


def bench_model(
    model: Model = None,
    shape: Annotated[str | None, typer.Option(
        help=f'Instead of a model, with --random-weights: {", ".join(SHAPES)}.')] = None,
    random_weights: Annotated[bool, typer.Option(
        '--random-weights', help='Draw the weights of --shape; times do not depend on them.',
    )] = False,
    sizes: Annotated[str, typer.Option(
        metavar='WxH,...', help='Working sizes [px].')] = BenchModelConfig.sizes,
    presets: Annotated[str, typer.Option(
        help=f'faithful, {", ".join(PRESETS)}, with commas between.')] = BenchModelConfig.presets,
    steps: Annotated[str, typer.Option(
        help='Denoising steps, with commas between.')] = BenchModelConfig.steps,
    layers: Annotated[int, typer.Option(
        min=0, help='With --shape: so many layers only; 0 for all.')] = BenchModelConfig.layers,
    repeats: Annotated[int, typer.Option(
        min=1, help='How often each stage is timed.')] = BenchModelConfig.repeats,
    device: Annotated[str, typer.Option(
        help='auto, cpu, cuda or cuda:N.')] = BenchModelConfig.device,
    execution: Annotated[str, typer.Option(
        help='Who computes a step.')] = BenchModelConfig.execution,
    precision: Annotated[str, typer.Option(
        help=f'{", ".join(PRECISIONS)}.')] = BenchModelConfig.precision,
    reference: Annotated[bool, typer.Option(
        help='Also time the network as the reference runs it.')] = BenchModelConfig.reference,
    stages: Annotated[bool, typer.Option(
        help='Time encode, DiT and decode; without, only one step before and after folding.',
    )] = BenchModelConfig.stages,
    overlap: Annotated[str, typer.Option(
        help=f'How a live window knows the one before: {", ".join(OVERLAP_CHOICES)}.',
    )] = BenchModelConfig.overlap,
    attention: Annotated[str, typer.Option(
        help=f"Torch's kernel for self-attention: {', '.join(ATTENTIONS)}.",
    )] = BenchModelConfig.attention,
    decoder: Annotated[str, typer.Option(
        metavar='FILE', help="Decode with a small decoder in TAEHV's layout.",
    )] = BenchModelConfig.decoder,
    normals: Annotated[str, typer.Option(
        metavar='MODEL', help='Also a model for normals beside it; with --shape another shape.',
    )] = BenchModelConfig.normals,
    plot: Annotated[Path | None, typer.Option(help='Draw the stages here (PNG).')] = None,
    json: Json = None,
) -> None:
    """
    Measure ms a frame by stage, the floor, age and memory of a model.

    Example: `dkt bench model --shape 1.3b --random-weights --layers 2 --sizes 208x128`
    """
    if (shape is not None) != random_weights:
        raise UserError('--shape and --random-weights belong together; a model folder is named '
                        'without them')
    from dkt_ros.tools.bench_model import run_bench_model
    config = BenchModelConfig(sizes, presets, steps, layers, repeats, device, execution,
                              precision, reference, stages, overlap, attention, decoder,
                              normals)
    finish(run_bench_model(model, shape, config, plot), json)


def export(
    model: Annotated[str, typer.Argument(
        metavar='MODEL', help='A bundled model or the path of a model folder.',
    )] = DepthNodeConfig.model,
    onnx: Annotated[bool, typer.Option(
        '--onnx', help="Write the DiT's step and the VAE's streaming steps as ONNX.")] = False,
    tensorrt: Annotated[bool, typer.Option(
        '--tensorrt', help='Build the engines that execution: tensorrt takes.')] = False,
    preset: Annotated[str, typer.Option(
        help=f'Window: {", ".join(PRESETS)}.')] = DepthNodeConfig().stream.preset,
    size: Annotated[str | None, typer.Option(
        metavar='WxH', help="Working size [px]; the model's own if not given.")] = None,
    tasks: Annotated[str | None, typer.Option(
        help="Tasks of a batch, with commas between; all of the model's if not given.")] = None,
    overlap: Annotated[str, typer.Option(
        help=f'How a window knows the one before: {", ".join(OVERLAP_CHOICES)}.',
    )] = StreamConfig.overlap,
    out: Annotated[Path, typer.Option(help='Folder for the graphs.')] = Path('export_out'),
    json: Json = None,
) -> None:
    """
    Write the steps of a model as ONNX graphs and compare them with torch; build engines.

    Example: `dkt export dkt-tiny --onnx --out graphs`
    """
    from dkt_ros.tools.export import run_export
    height, width = two_numbers(size, 'x', '--size')[::-1] if size else (None, None)
    names = tuple(name.strip() for name in tasks.split(',')) if tasks else None
    finish(run_export(model, onnx=onnx, tensorrt=tensorrt, preset=preset, height=height,
                      width=width, tasks=names, out=out, overlap=overlap), json)
