"""
`dkt bench stream`: speed, age, memory and seams of each live preset, 640x480 in and out.

The whole chain of `Perception` is timed, on the bundled clip, in four threads as in `depth_node`:
encoder, transformer, decoder and maps each work on a window of their own.
Each preset runs in a process of its own, so that its peak memory is its own.
"""
from __future__ import annotations

import os
import resource
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dkt_ros.config import PRESETS, BenchConfig, NormalsConfig, PerceptionConfig, StreamConfig
from dkt_ros.data.clips import open_clip
from dkt_ros.errors import UserError
from dkt_ros.frame import DepthEstimate, Frame
from dkt_ros.pacer import Pacer
from dkt_ros.provenance import provenance
from dkt_ros.resources import resolve_model, share_path
from dkt_ros.tools.processes import in_own_process

CAMERA_HZ = 6.0
WARM_UP_WINDOWS = 2
GROWTH_FROM_FRAME = 200
MEGABYTE = 2 ** 20


@dataclass
class _Timeline:
    """
    What was measured while frames were pushed.

    Attributes
    ----------
    seconds, finished : list
        Time [s] and estimates of each push; a push that fills a window waits until the one
        before is denoised.
    maps : list of float
        Time for the maps of each window [s].
    rss_mb : list of float
        Memory [MB], as it was when the last window had been decoded: what a moment in the middle
        shows depends on the moment, not on how much is kept.

    """

    seconds: list[float] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)
    maps: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)


def run_bench_stream(model: str | Path = 'dkt-tiny', presets: Sequence[str] = tuple(PRESETS),
                     config: BenchConfig | None = None,
                     console: Console | None = None) -> dict:
    """
    Measure each preset and show a table.

    Parameters
    ----------
    model : str or Path
        A bundled model or a model folder.
    presets : sequence of str
        Live presets.
    config : BenchConfig, optional
        What to run.
    console : Console, optional
        Where the table goes.

    Returns
    -------
    dict
        `presets`, figures by preset, beside version, model, machine and config.

    """
    config, folder = config or BenchConfig(), resolve_model(model)
    for preset in presets:
        StreamConfig(preset=preset)
    console = console or Console()
    figures = {}
    for preset in presets:
        with console.status(f'{preset}: {config.num_frames} frames'):
            figures[preset] = in_own_process(measure_preset, folder, preset, config)
    console.print(_table(figures, config))
    record = provenance(folder, config.to_dict() | {'camera_hz': CAMERA_HZ}, config.seed)
    return {**record, 'torch': _torch_version(), 'presets': figures}


def measure_preset(folder: Path, preset: str, config: BenchConfig) -> dict:
    """Return the figures of one preset; call it in a process that did nothing else."""
    import torch

    from dkt_ros.model.loading import load_pipeline
    from dkt_ros.perception import Perception, share_processor, share_torch

    share_processor()
    share_torch(config.threads)
    stream = StreamConfig(preset=preset, height=config.working_height,
                          width=config.working_width, seed=config.seed)
    normals = NormalsConfig(source='model' if config.normals else 'none')
    pipeline = load_pipeline(folder, config.device)
    perception = Perception(pipeline, PerceptionConfig(stream=stream, normals=normals))
    timeline = play(perception, bench_frames(config))
    working = perception.stream.working_size
    return {'working_size': [working[1], working[0]], 'threads': torch.get_num_threads(),
            **summarise(timeline, perception.stream)}


def bench_frames(config: BenchConfig) -> Iterator[Frame]:
    """Yield frames of the camera's size, the clip forwards and backwards for as long as asked."""
    clip = open_clip(config.clip or share_path('clips', 'demo'))
    frames = [_resized(frame, config) for frame, _ in zip(clip, range(64))]
    if not frames:
        raise UserError(f'clip {config.clip} has no frames; give another one')
    there_and_back = frames + frames[-2:0:-1]
    for i in range(config.num_frames):
        yield replace(there_and_back[i % len(there_and_back)],
                      stamp_ns=round(i * 1e9 / CAMERA_HZ))


def _resized(frame: Frame, config: BenchConfig) -> Frame:
    size = (config.width, config.height)
    if (frame.camera.width, frame.camera.height) == size:
        return frame
    depth = frame.sensor_depth
    if depth is not None:
        depth = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST)
    return Frame(cv2.resize(frame.rgb, size, interpolation=cv2.INTER_LINEAR), frame.stamp_ns,
                 frame.camera.resized(*size), depth)


def play(perception, frames: Iterator[Frame]) -> _Timeline:
    """Push frames as fast as they are taken."""
    timeline = _Timeline()

    def complete(estimates: list[DepthEstimate]) -> None:
        start = time.perf_counter()
        deque(perception.complete(estimates), maxlen=0)
        timeline.maps.append(time.perf_counter() - start)

    def decode(pending: list, before: Future | None) -> Future:
        estimates = perception.decode(pending)
        if before is not None:
            before.result()
        return finisher.submit(complete, estimates)

    def denoise(pending: list, before: Future | None) -> Future:
        pending = perception.denoise(pending)
        maps = None if before is None else before.result()
        return decoder.submit(decode, pending, maps)

    # A window is handed on when the one before has been taken on, as in depth_node.
    with ThreadPoolExecutor(1) as finisher, ThreadPoolExecutor(1) as decoder, \
            ThreadPoolExecutor(1) as denoiser:
        denoising: Future | None = None
        memory = rss_mb()
        for frame in frames:
            start = time.perf_counter()
            pending = perception.advance(frame)
            if pending:
                decoding = None if denoising is None else denoising.result()
                memory = rss_mb()
                denoising = denoiser.submit(denoise, pending, decoding)
            timeline.seconds.append(time.perf_counter() - start)
            timeline.finished.append(len(pending))
            del pending
            timeline.rss_mb.append(memory)
        if denoising is not None:
            denoising.result().result().result()
    return timeline


def summarise(timeline: _Timeline, stream) -> dict:
    """Turn a timeline into the figures of a preset; the first windows warm up."""
    stats, first, last = stream.stats, _steady_from(timeline.finished), 0
    ends = [i + 1 for i, count in enumerate(timeline.finished) if count]
    last = ends[-1] if ends else 0
    if last <= first:
        raise UserError(f'{len(timeline.seconds)} frames are too few for a window after '
                        f'{WARM_UP_WINDOWS} of warm-up; give more frames')
    seconds, finished = timeline.seconds[first:last], timeline.finished[first:last]
    per_frame = sum(seconds) / sum(finished)
    stages = {name: value / stats.frames_out for name, value in stats.stage_seconds.items()}
    stages['maps'] = sum(timeline.maps) / stats.frames_out
    ages, drops = camera_ages(seconds, finished, stages['dit'] + stages['decode'], stages['maps'],
                              CAMERA_HZ, 600)
    return {
        'frames_in': stats.frames_in, 'frames_out': stats.frames_out, 'drops': drops,
        'fps': 1.0 / per_frame, 'ms_per_frame': 1000 * per_frame,
        'stage_ms': {name: 1000 * value for name, value in stages.items()},
        'age_ms': {'p50': 1000 * float(np.percentile(ages, 50)),
                   'p95': 1000 * float(np.percentile(ages, 95))},
        'peak_rss_mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        'rss_growth_mb': rss_growth(timeline.rss_mb), 'seam_ratio': stats.seam_ratio,
    }


def _steady_from(finished: Sequence[int]) -> int:
    """Return the push after which the windows of warm-up are done."""
    ends = [i + 1 for i, count in enumerate(finished) if count]
    return ends[WARM_UP_WINDOWS - 1] if len(ends) >= WARM_UP_WINDOWS else len(finished)


def camera_ages(seconds: Sequence[float], finished: Sequence[int], window_s: float,
                maps_s: float, rate_hz: float, num_images: int) -> tuple[list[float], int]:
    """
    Play measured computing times against a camera on a virtual clock.

    Parameters
    ----------
    seconds, finished : sequence
        Computing time [s] and number of finished estimates of each push, whole windows, repeated
        for as long as needed.
    window_s, maps_s : float
        Time for transformer and decoder, and for the maps, of one estimate [s]; a window goes
        through the networks whole, then its maps follow one after the other.
    rate_hz : float
        Images a second.
    num_images : int
        Images the camera takes.

    Returns
    -------
    ages : list of float
        From the capture of a frame until its estimate is there [s].
    drops : int
        Images the pacer left out.

    """
    pacer, waiting, ages = Pacer(sum(seconds) / sum(finished)), deque(), []
    free_at, push = 0.0, 0
    for image in range(num_images):
        now = image / rate_hz
        if not pacer.admit(round(now * 1e9)):
            continue
        free_at = max(free_at, now) + seconds[push]
        waiting.append(now)
        for number in range(finished[push]):
            done_at = free_at + finished[push] * window_s + (number + 1) * maps_s
            ages.append(done_at - waiting.popleft())
        push = (push + 1) % len(seconds)
    return ages, pacer.drops


def rss_mb() -> float:
    """Return the resident memory of this process [MB]; 0 where the system does not tell."""
    try:
        pages = int(Path('/proc/self/statm').read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf('SC_PAGE_SIZE') / MEGABYTE


def rss_growth(rss: Sequence[float]) -> float | None:
    """
    Return by how much memory rose after frame 200 [MB]; None for shorter runs.

    Peak against the peak of the hundred frames before: within a window memory swings.
    """
    late = rss[GROWTH_FROM_FRAME:]
    before = rss[GROWTH_FROM_FRAME // 2:GROWTH_FROM_FRAME]
    return max(late) - max(before) if late else None


def _torch_version() -> str:
    import torch
    return torch.__version__


def _table(figures: dict[str, dict], config: BenchConfig) -> Table:
    tasks = 'disparity and normals' if config.normals else 'disparity'
    working = next(iter(figures.values()))['working_size'] if figures else (0, 0)
    table = Table(title=f'{config.width}x{config.height} in and out, {tasks} at '
                        f'{working[0]}x{working[1]}; ms a frame; age at {CAMERA_HZ:g} Hz',
                  box=SIMPLE_HEAD, collapse_padding=True)
    for name in ('preset', 'fps', 'all', 'enc', 'dit', 'dec', 'maps', 'age p50', 'p95', 'MB',
                 '+MB', 'seam'):
        table.add_column(name, justify='left' if name == 'preset' else 'right', no_wrap=True)
    for preset, row in figures.items():
        stages = (row['stage_ms'].get(name) for name in ('encode', 'dit', 'decode', 'maps'))
        age = row['age_ms']
        table.add_row(preset, f'{row["fps"]:.1f}',
                      *(_number(n, '.0f') for n in (row['ms_per_frame'], *stages)),
                      f'{age["p50"] / 1000:.1f} s', f'{age["p95"] / 1000:.1f} s',
                      _number(row['peak_rss_mb'], '.0f'), _number(row['rss_growth_mb'], '.0f'),
                      _number(row['seam_ratio'], '.2f'))
    return table


def _number(value: float | None, style: str) -> str:
    return '-' if value is None else format(value, style)
