"""
`dkt bench model`: where the time of a model goes, what it must at least be, and the memory.

Stages are timed by themselves, at the shapes that a preset gives them: one latent encoded, one
evaluation of the network, one latent decoded, and the rest. What a frame costs follows. The floor
is the work counted, over the speed at which this device multiplies matrices.
"""
from __future__ import annotations

import itertools
import resource
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dkt_ros.bench_config import BenchModelConfig
from dkt_ros.config import PRESETS
from dkt_ros.errors import UserError
from dkt_ros.model import imaging
from dkt_ros.model.causal_vae import (
    CausalVAEDecoder,
    CausalVAEEncoder,
    spatial_ratio,
    temporal_ratio,
)
from dkt_ros.model.checks import check_choice
from dkt_ros.model.execution import choose_precision, cpu_has_bfloat16, prepare
from dkt_ros.model.folding import fold
from dkt_ros.model.loading import choose_device, load_pipeline
from dkt_ros.model.pipeline import FAITHFUL, FAITHFUL_WINDOW, DKTPipeline
from dkt_ros.model.random_weights import random_pipeline
from dkt_ros.model.windows import WindowShape
from dkt_ros.provenance import provenance
from dkt_ros.resources import resolve_model
from dkt_ros.tools.bench_reference import (
    compare_folded,
    count_flops,
    on_meta,
    prompts_on_meta,
    reference_step,
    seconds_in_turn,
)
from dkt_ros.tools.stage_plot import write_stage_plot

CAMERA_HZ = 30.0
WARM_UPS = 3
COMPACT = {'box': SIMPLE_HEAD, 'padding': 0}
STAGES = ('encode', 'dit', 'decode', 'rest')


def run_bench_model(model: str | Path | None = None, shape: str | None = None,
                    config: BenchModelConfig | None = None, plot: Path | None = None,
                    console: Console | None = None) -> dict:
    """
    Time a model folder, or a released shape with random weights, and show a table.

    Parameters
    ----------
    model : str or Path, optional
        A bundled model or a model folder.
    shape : str, optional
        Instead of a model: `1.3b` or `14b`.
    config : BenchModelConfig, optional
        What to time.
    plot : Path, optional
        Where to draw the stages.
    console : Console, optional
        Where the table goes.

    Returns
    -------
    dict
        `rows`, one for each size, preset and number of steps, `reference` likewise, `fold` for
        each size and preset, beside parameters, peak speed, memory, versions and machine.

    """
    config, console = config or BenchModelConfig(), console or Console()
    if (model is None) == (shape is None):
        raise UserError('give either a model or --shape with --random-weights')
    sizes, steps = _sizes(config.sizes), _numbers(config.steps)
    presets = [preset.strip() for preset in config.presets.split(',')]
    for preset in presets:
        check_choice('preset', preset, (*PRESETS, FAITHFUL))
    device = choose_device(config.device, torch.cuda.is_available(), torch.cuda.device_count())
    dtype = choose_precision(config.precision, device, cpu_has_bfloat16())
    pipeline = _load(model, shape, config, device, dtype)
    peak, rows = matmul_speed(device, dtype), []
    figures = {
        **provenance(resolve_model(model) if model else None, config.to_dict()),
        'torch': torch.__version__, 'shape': shape, 'layers': len(pipeline.transformer.blocks),
        'device_name': torch.cuda.get_device_name(device) if device != 'cpu' else 'cpu',
        'dtype': str(dtype).removeprefix('torch.'), 'threads': torch.get_num_threads(),
        'peak_tflops': peak / 1e12, **_parameters(pipeline), 'rows': rows, 'reference': [],
        'fold': []}
    cases = list(itertools.product(sizes, presets))
    with console.status('timing'):
        for size, preset in cases if config.stages else ():
            reset_peak(device)
            found = measure(pipeline, size, preset, steps, config.repeats, peak)
            rows += [row | {'peak_gpu_mb': memory(device).get('peak_gpu_mb')} for row in found]
        figures |= memory(device)
        if config.reference:
            del pipeline
            figures |= _compare(_load_whole(model, shape, config, device, dtype), cases,
                                config.repeats, rows)
    _show(figures, plot, console)
    return figures


def _show(figures: dict, plot: Path | None, console: Console) -> None:
    if figures['rows']:
        console.print(_table(figures))
    if figures['fold']:
        console.print(_fold_table(figures))
    if plot is not None and figures['rows']:
        write_stage_plot(plot, figures['rows'] + figures['reference'], STAGES)
        console.print(f'stages drawn in {plot}', highlight=False)


def _load(model: str | Path | None, shape: str | None, config: BenchModelConfig, device: str,
          dtype: torch.dtype) -> DKTPipeline:
    if model is not None:
        return load_pipeline(model, device, config.execution, config.precision)
    pipeline = random_pipeline(shape, config.layers, device, _stored(device, dtype))
    return prepare(pipeline, config.execution, dtype, f'random-{shape}')


def _stored(device: str, dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if device == 'cpu' else dtype


def _parameters(pipeline: DKTPipeline) -> dict:
    network = on_meta(pipeline.transformer)
    before, after, vae = (sum(parameter.numel() for parameter in module.parameters())
                          for module in (network, pipeline.transformer, pipeline.vae))
    return {'parameters': before, 'parameters_folded': after, 'parameters_vae': vae}


def _load_whole(model: str | Path | None, shape: str | None, config: BenchModelConfig,
                device: str, dtype: torch.dtype) -> DKTPipeline:
    """Load it with its transformer not folded."""
    stored = _stored(device, dtype)
    if model is None:
        return random_pipeline(shape, config.layers, device, stored)
    return DKTPipeline.from_pretrained(resolve_model(model), torch_dtype=stored).to(device)


def _compare(pipeline: DKTPipeline, cases: list[tuple[tuple[int, int], str]], repeats: int,
             rows: list[dict]) -> dict[str, list[dict]]:
    """Time the unfolded network: beside the folded one, and as the reference runs it."""
    found: dict[str, list[dict]] = {'fold': [], 'reference': []}
    device = str(pipeline.vae.device)
    for size, preset in cases:
        window = PRESETS.get(preset, FAITHFUL_WINDOW)[0]
        found['fold'].append({'preset': preset} | compare_folded(pipeline, size, window, repeats))
        same = [row for row in rows if (tuple(row['size']), row['preset']) == (size, FAITHFUL)]
        if preset != FAITHFUL or not same:
            continue
        reset_peak(device)
        seconds, held = reference_step(pipeline, size, repeats), memory(device)
        frames = temporal_ratio(pipeline.vae) * (FAITHFUL_WINDOW[0] - FAITHFUL_WINDOW[1])
        found['reference'] += [_reference_row(row, 1e3 * row['steps'] * seconds / frames) | held
                               for row in same]
    return found


def _reference_row(row: dict, dit_ms: float) -> dict:
    stages = row['stage_ms'] | {'dit': dit_ms}
    total = sum(stages.values())
    return {**row, 'preset': 'reference', 'stage_ms': stages, 'floor_ms': None,
            'ms_per_frame': total, 'ratio': total / row['ms_per_frame']}


@torch.no_grad()
def measure(pipeline: DKTPipeline, size: tuple[int, int], preset: str, steps: list[int],
            repeats: int, peak: float) -> list[dict]:
    """
    Time the stages of a preset at a working size.

    Parameters
    ----------
    pipeline : DKTPipeline
        Ready to run.
    size : tuple of int
        Width and height [px].
    preset : str
        A live preset, or `faithful`.
    steps : list of int
        Denoising steps to report.
    repeats : int
        The median of so many counts.
    peak : float
        Matrix speed of the device [FLOP/s].

    Returns
    -------
    list of dict
        One for each number of steps: `stage_ms` and `floor_ms` a frame, `age_ms`.

    """
    window = WindowShape(*PRESETS.get(preset, FAITHFUL_WINDOW))
    width, height = size
    pipeline.check_size(height, width)
    seconds = _stage_seconds(pipeline, window, height, width, repeats)
    work = count_work(pipeline, window, height, width)
    new = window.new_latents
    frames = new * (1 if window.is_single else temporal_ratio(pipeline.vae))
    rows = []
    for count in steps:
        times = {'encode': new, 'dit': count, 'decode': new, 'rest': frames}
        stages = {name: 1e3 * times[name] * seconds[name] / frames for name in STAGES}
        floors = {name: 1e3 * times[name] * work[name] / peak / frames for name in work}
        busy = sum(stages.values()) * frames
        # what the joint windows of `faithful` give is there at the end of the clip only
        age = (frames - 1) / CAMERA_HZ * 1e3 + busy
        rows.append({
            'size': list(size), 'preset': preset, 'steps': count, 'stage_ms': stages,
            'ms_per_frame': busy / frames, 'floor_ms': sum(floors.values()),
            'floor_stage_ms': floors, 'tflop_per_step': work['dit'] / 1e12,
            'age_ms': None if preset == FAITHFUL else age})
    return rows


def _stage_seconds(pipeline: DKTPipeline, window: WindowShape, height: int, width: int,
                   repeats: int) -> dict[str, float]:
    vae, network = pipeline.vae, pipeline.folded()
    device, z = vae.device, vae.config.z_dim
    h, w = height // spatial_ratio(vae), width // spatial_ratio(vae)
    encoder, decoder = CausalVAEEncoder(vae), CausalVAEDecoder(vae)
    frames = torch.zeros(1, 3, temporal_ratio(vae), height, width, device=device)
    latent = torch.randn(1, z, 1, h, w, device=device)
    if not window.is_single:
        for _ in range(WARM_UPS):
            encoder.encode(frames[:, :, :encoder.num_frames])
            decoder.decode(latent)

    def encode() -> torch.Tensor:
        if window.is_single:
            encoder.reset()
        return encoder.encode(frames[:, :, :encoder.num_frames])

    def decode() -> torch.Tensor:
        if window.is_single:
            decoder.reset()
        return decoder.decode(latent)

    rgb = torch.randn(1, z, window.window_latents, h, w, device=device)
    # the joint windows of the clip need the velocity of every latent
    held = window.overlap_latents if window.window_latents < FAITHFUL_WINDOW[0] else 0
    velocity = network.velocity(rgb, pipeline.tasks[:1], held)
    picture = np.random.default_rng(0).integers(0, 256, (1, 480, 640, 3), dtype=np.uint8)
    video = torch.zeros(3, 1, height, width, device=device)

    def rest() -> torch.Tensor:
        imaging.to_maps(video, 'depth')
        return imaging.to_video(imaging.resize_rgb(picture, height, width)).to(device)

    return {'encode': seconds_of(encode, device, repeats),
            'dit': seconds_of(lambda: velocity(rgb, torch.tensor(1000.0)), device, repeats),
            'decode': seconds_of(decode, device, repeats),
            'rest': seconds_of(rest, device, repeats)}


def seconds_of(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the median time of a call [s], after one that is not counted."""
    return statistics.median(seconds_in_turn([call], device, repeats)[0])


@torch.no_grad()
def count_work(pipeline: DKTPipeline, window: WindowShape, height: int,
               width: int) -> dict[str, float]:
    """Return the FLOPs of one latent encoded, one evaluation and one latent decoded."""
    vae_config, prompts = pipeline.vae.config, prompts_on_meta(pipeline.prompt_rows)
    with torch.device('meta'):
        vae = AutoencoderKLWan.from_config(vae_config)
    network = fold(on_meta(pipeline.transformer), prompts)
    h, w = height // spatial_ratio(vae), width // spatial_ratio(vae)
    rgb = torch.empty(1, vae_config.z_dim, window.window_latents, h, w, device='meta')
    encoder, decoder = CausalVAEEncoder(vae), CausalVAEDecoder(vae)
    frames = torch.empty(1, 3, temporal_ratio(vae), height, width, device='meta')
    if not window.is_single:
        for _ in range(WARM_UPS):
            encoder.encode(frames[:, :, :encoder.num_frames])
            decoder.decode(rgb[:, :, :1])
    velocity = network.velocity(rgb, prompts.tasks[:1])
    velocity(rgb, torch.tensor(1000.0))
    return {'encode': count_flops(lambda: encoder.encode(frames[:, :, :encoder.num_frames])),
            'dit': count_flops(lambda: velocity(rgb, torch.tensor(1000.0))),
            'decode': count_flops(lambda: decoder.decode(rgb[:, :, :1]))}


@torch.no_grad()
def matmul_speed(device: str, dtype: torch.dtype) -> float:
    """Return the speed at which the device multiplies large matrices [FLOP/s]."""
    size = 1024 if device == 'cpu' else 8192
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    calls = 1 if device == 'cpu' else 10

    def multiply() -> None:
        for _ in range(calls):
            torch.mm(left, right)

    return 2.0 * calls * size ** 3 / seconds_of(multiply, torch.device(device), 5)


def memory(device: str) -> dict:
    """Return the peak memory so far: of the GPU where there is one, of the process."""
    figures = {'peak_rss_mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if device != 'cpu':
        figures['peak_gpu_mb'] = torch.cuda.max_memory_allocated(device) / 2 ** 20
    return figures


def reset_peak(device: str) -> None:
    """Forget the peak memory of a GPU; that of the process cannot be forgotten."""
    if device != 'cpu':
        torch.cuda.reset_peak_memory_stats(device)


def _sizes(text: str) -> list[tuple[int, int]]:
    sizes = []
    for part in text.split(','):
        width, _, height = part.strip().partition('x')
        if not (width.isdecimal() and height.isdecimal()):
            raise UserError(f'a size is {part!r}; WxH is expected, such as 640x480')
        sizes.append((int(width), int(height)))
    return sizes


def _numbers(text: str) -> list[int]:
    numbers = [part.strip() for part in text.split(',')]
    if not all(part.isdecimal() and int(part) > 0 for part in numbers):
        raise UserError(f'steps are {text!r}; numbers from 1 up with commas between are expected')
    return [int(part) for part in numbers]


def _table(figures: dict) -> Table:
    table = Table(title=f'{figures["device_name"]}, {figures["dtype"]}, {figures["layers"]} '
                        f'layers; ms a frame; age at {CAMERA_HZ:g} Hz', **COMPACT)
    for name in ('size', 'preset', 'steps', 'all', *STAGES, 'floor', 'age', 'GPU MB'):
        table.add_column(name, justify='right', no_wrap=True)
    for row in figures['rows'] + figures['reference']:
        age, floor, peak = row['age_ms'], row['floor_ms'], row.get('peak_gpu_mb')
        table.add_row('x'.join(map(str, row['size'])), row['preset'], str(row['steps']),
                      f'{row["ms_per_frame"]:.1f}',
                      *(f'{row["stage_ms"][name]:.1f}' for name in STAGES),
                      '-' if floor is None else f'{floor:.1f}',
                      '-' if age is None else f'{age / 1000:.2f} s',
                      '-' if peak is None else f'{peak:.0f}')
    return table


def _fold_table(figures: dict) -> Table:
    before, after = figures['parameters'], figures['parameters_folded']
    table = Table(title=f'folded: {before / 1e6:.0f} to {after / 1e6:.0f} million weights '
                        f'({after / before:.1%}); one step', **COMPACT)
    for name in ('size', 'preset', 'TFLOP', 'folded', 'ms', 'folded', 'ratio'):
        table.add_column(name, justify='right', no_wrap=True)
    for row in figures['fold']:
        table.add_row('x'.join(map(str, row['size'])), row['preset'],
                      *(f'{value:.3g}' for value in row['tflop']),
                      *(f'{value:.1f}' for value in row['step_ms']), f'{row["ratio"]:.3f}')
    return table
