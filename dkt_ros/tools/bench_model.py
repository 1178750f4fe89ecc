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

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dkt_ros.bench_config import BenchModelConfig
from dkt_ros.config import PRESETS
from dkt_ros.errors import UserError
from dkt_ros.model.beside import attach_normals
from dkt_ros.model.causal_vae import temporal_ratio
from dkt_ros.model.checks import check_choice
from dkt_ros.model.execution import (
    choose_precision,
    cpu_has_bfloat16,
    prepare,
    storage_dtype,
)
from dkt_ros.model.faithful import FAITHFUL, FAITHFUL_WINDOW, preset_window
from dkt_ros.model.float8 import FLOAT8
from dkt_ros.model.loading import choose_device, load_pipeline
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.model.random_weights import random_pipeline
from dkt_ros.model.tiny_decoder import load_tiny_decoder
from dkt_ros.provenance import provenance
from dkt_ros.resources import resolve_model
from dkt_ros.tools.bench_reference import (
    compare_folded,
    on_meta,
    reference_step,
    seconds_in_turn,
)
from dkt_ros.tools.bench_stages import (
    Plan,
    branches,
    compare_overlap,
    count_work,
    past_bytes,
    stage_calls,
    timed_tasks,
)
from dkt_ros.tools.stage_plot import write_stage_plot

CAMERA_HZ = 30.0
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
        `rows`, one for each size, preset and number of steps, `reference` likewise, `fold` and
        `overlap` for each size and preset, beside parameters, peak speed, memory, versions and
        machine.

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
        'fold': [], 'overlap': []}
    cases = list(itertools.product(sizes, presets))
    with console.status('timing'):
        for size, preset in cases if config.stages else ():
            reset_peak(device)
            found = measure(pipeline, size, preset, steps, config.repeats, peak,
                            pipeline.overlap_of(config.overlap))
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
    if figures['overlap']:
        console.print(_overlap_table(figures))
    if plot is not None and figures['rows']:
        write_stage_plot(plot, figures['rows'] + figures['reference'], STAGES)
        console.print(f'stages drawn in {plot}', highlight=False)


def _load(model: str | Path | None, shape: str | None, config: BenchModelConfig, device: str,
          dtype: torch.dtype) -> DKTPipeline:
    if model is not None:
        return load_pipeline(model, device, config.execution, config.precision, config.decoder,
                             config.normals, config.attention)

    def drawn(shape: str, task: str) -> DKTPipeline:
        pipeline = random_pipeline(shape, config.layers, device, storage_dtype(dtype, device),
                                   task)
        return prepare(pipeline, config.execution, dtype, f'random-{shape}-{task}',
                       config.attention)

    pipeline = drawn(shape, 'depth')
    if config.decoder:
        pipeline.tiny_decoder = load_tiny_decoder(config.decoder, pipeline.vae)
    if config.normals:
        attach_normals(pipeline, drawn(config.normals, 'normal'), config.normals)
    return pipeline


def _parameters(pipeline: DKTPipeline) -> dict:
    network = on_meta(pipeline.transformer)
    before, after, vae = (sum(parameter.numel() for parameter in module.parameters())
                          for module in (network, pipeline.transformer, pipeline.vae))
    figures = {'parameters': before, 'parameters_folded': after, 'parameters_vae': vae}
    for name, module in (('decoder', pipeline.tiny_decoder),
                         ('normals', getattr(pipeline.normals_model, 'transformer', None))):
        if module is not None:
            figures[f'parameters_{name}'] = sum(p.numel() for p in module.parameters())
    return figures


def _load_whole(model: str | Path | None, shape: str | None, config: BenchModelConfig,
                device: str, dtype: torch.dtype) -> DKTPipeline:
    """Load it with its transformer not folded."""
    stored = storage_dtype(dtype, device)
    if model is None:
        return random_pipeline(shape, config.layers, device, stored)
    return DKTPipeline.from_pretrained(resolve_model(model), torch_dtype=stored).to(device)


def _compare(pipeline: DKTPipeline, cases: list[tuple[tuple[int, int], str]], repeats: int,
             rows: list[dict]) -> dict[str, list[dict]]:
    """Time the unfolded network and the folded one, its overlap, and the reference's run."""
    found: dict[str, list[dict]] = {'fold': [], 'overlap': [], 'reference': []}
    device = str(pipeline.vae.device)
    for size, preset in cases:
        window = preset_window(preset)
        found['fold'].append({'preset': preset} | compare_folded(
            pipeline, size, window.window_latents, repeats))
        if preset != FAITHFUL and window.overlap_latents:
            found['overlap'].append({'preset': preset} | compare_overlap(
                pipeline, size, window, repeats))
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
            repeats: int, peak: float, overlap: str = 'recompute') -> list[dict]:
    """
    Time the stages of a preset at a working size.

    Parameters
    ----------
    pipeline : DKTPipeline
        Ready to run, alone or with a model for normals beside it, which then is timed too.
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
    overlap : str
        How a live window knows the one before.

    Returns
    -------
    list of dict
        One for each number of steps: `stage_ms` and `floor_ms` a frame, `age_ms`, `past_mb`.

    """
    window = preset_window(preset)
    width, height = size
    for task in timed_tasks(pipeline):
        pipeline.model_of(task).check_size(height, width)
    plan = Plan(window, height, width, 'recompute' if preset == FAITHFUL else overlap,
                is_joint=preset == FAITHFUL)
    seconds = {name: seconds_of(call, pipeline.vae.device, repeats)
               for name, call in stage_calls(branches(pipeline), plan).items()}
    work = count_work(pipeline, plan)
    new = window.new_latents
    frames = new * (1 if window.is_single else temporal_ratio(pipeline.vae))
    # aligned windows encode and decode their overlap again
    coded = window.window_latents if plan.overlap == 'align' else new
    rows = []
    for count in steps:
        times = {'encode': coded, 'dit': count, 'decode': coded, 'rest': frames}
        stages, floors = ({name: 1e3 * times[name] * found[name] / frames / scale
                           for name in found} for found, scale in ((seconds, 1), (work, peak)))
        busy = sum(stages.values()) * frames
        # what the joint windows of `faithful` give is there at the end of the clip only
        age = (frames - 1) / CAMERA_HZ * 1e3 + busy
        rows.append({
            'size': list(size), 'preset': preset, 'overlap': plan.overlap, 'steps': count,
            'stage_ms': stages, 'ms_per_frame': busy / frames, 'floor_ms': sum(floors.values()),
            'floor_stage_ms': floors, 'tflop_per_step': work['dit'] / 1e12,
            'age_ms': None if preset == FAITHFUL else age,
            'past_mb': past_bytes(pipeline, plan) * count / 2 ** 20})
    return rows


def seconds_of(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the median time of a call [s], after one that is not counted."""
    return statistics.median(seconds_in_turn([call], device, repeats)[0])


@torch.no_grad()
def matmul_speed(device: str, dtype: torch.dtype) -> float:
    """Return the speed of large matrix products [FLOP/s]; for float8 that of bfloat16."""
    dtype = torch.bfloat16 if dtype == FLOAT8 else dtype
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
                        f'layers; ms a frame; age at {CAMERA_HZ:g} Hz{_options(figures)}',
                  **COMPACT)
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


def _options(figures: dict) -> str:
    settings = figures.get('settings', {})
    told = [text for name, text in (('normals', 'with normals by {}'), ('decoder', 'decoder {}'))
            if settings.get(name) for text in (text.format(Path(settings[name]).name),)]
    past = max((row.get('past_mb', 0.0) for row in figures['rows']), default=0.0)
    if past:
        told.append(f'overlap in a cache of at most {past:.0f} MB')
    return ''.join(f'; {text}' for text in told)


def _fold_table(figures: dict) -> Table:
    before, after = figures['parameters'], figures['parameters_folded']
    return _pair_table(f'folded: {before / 1e6:.0f} to {after / 1e6:.0f} million weights '
                       f'({after / before:.1%}); one step', 'folded', figures['fold'])


def _overlap_table(figures: dict) -> Table:
    return _pair_table('one step of a live window, its overlap recomputed and in a cache', 'cache',
                       figures['overlap'])


def _pair_table(title: str, second: str, rows: list[dict]) -> Table:
    """Return work and time of two ways to make a step, side by side."""
    table = Table(title=title, **COMPACT)
    for name in ('size', 'preset', 'TFLOP', second, 'ms', second, 'ratio'):
        table.add_column(name, justify='right', no_wrap=True)
    for row in rows:
        table.add_row('x'.join(map(str, row['size'])), row['preset'],
                      *(f'{value:.3g}' for value in row['tflop']),
                      *(f'{value:.1f}' for value in row['step_ms']), f'{row["ratio"]:.3f}')
    return table
