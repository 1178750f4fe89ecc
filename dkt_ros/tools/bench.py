"""
`dkt bench stream`: speed, age, memory and seams of each live preset, 640x480 in and out.

The whole chain of `Perception` is timed, on the bundled clip, in four threads as in `depth_node`:
encoder, transformer, decoder and maps each work on a window of their own. Speed is measured with
frames as fast as they are taken, age with frames at the pace of a camera.
Each preset runs in a process of its own, so that its peak memory is its own.
"""
from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
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
AGE_S = 20.0
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
    figures = summarise(play(perception, bench_frames(config)), perception.stream)
    frames = list(islice(bench_frames(config), round(AGE_S * CAMERA_HZ)))
    ages, drops = camera_ages(perception, frames, 1e-3 * figures['ms_per_frame'], CAMERA_HZ)
    p50, p95 = (1e3 * np.percentile(ages, (50, 95)) if ages else (None, None))
    working = perception.stream.working_size
    return {'working_size': [working[1], working[0]], 'threads': torch.get_num_threads(),
            **figures, 'age_ms': {'p50': p50, 'p95': p95}, 'drops': drops}


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


class _Chain:
    """
    `Perception` in four threads; a window is handed on when the one before has been, as in a node.

    Parameters
    ----------
    perception : Perception
    completed : callable
        Called with each finished estimate, in the last thread.

    """

    def __init__(self, perception, completed: Callable[[DepthEstimate], None]) -> None:
        self._perception, self._completed = perception, completed
        self._threads = [ThreadPoolExecutor(1) for _ in range(3)]
        self._handed: Future | None = None
        self.maps_s: list[float] = []

    def push(self, frame: Frame, handing_on: Callable[[], None] = lambda: None) -> int:
        """
        Take a frame; return how many are in the window that it filled.

        `handing_on` is called once the window before has been denoised.
        """
        pending = self._perception.advance(frame)
        if pending:
            before = None if self._handed is None else self._handed.result()
            handing_on()
            self._handed = self._threads[0].submit(self._denoise, pending, before)
        return len(pending)

    def close(self) -> None:
        """Wait for all windows; what went wrong is raised."""
        future = self._handed
        while future is not None:
            future = future.result()
        for thread in self._threads:
            thread.shutdown()

    def _denoise(self, pending: list, before: Future | None) -> Future:
        pending = self._perception.denoise(pending)
        maps = None if before is None else before.result()
        return self._threads[1].submit(self._decode, pending, maps)

    def _decode(self, pending: list, before: Future | None) -> Future:
        estimates = self._perception.decode(pending)
        if before is not None:
            before.result()
        return self._threads[2].submit(self._complete, estimates)

    def _complete(self, estimates: list[DepthEstimate]) -> None:
        start = time.perf_counter()
        for estimate in self._perception.complete(estimates):
            self._completed(estimate)
        self.maps_s.append(time.perf_counter() - start)


def play(perception, frames: Iterable[Frame]) -> _Timeline:
    """Push frames as fast as they are taken."""
    memory = [rss_mb()]
    chain = _Chain(perception, lambda estimate: None)
    timeline = _Timeline(maps=chain.maps_s)
    for frame in frames:
        start = time.perf_counter()
        timeline.finished.append(chain.push(frame, lambda: memory.append(rss_mb())))
        timeline.seconds.append(time.perf_counter() - start)
        timeline.rss_mb.append(memory[-1])
    chain.close()
    return timeline


def camera_ages(perception, frames: Sequence[Frame], seconds_per_frame: float, rate_hz: float
                ) -> tuple[list[float], int]:
    """
    Push frames at the pace of a camera, those that a `Pacer` admits.

    Parameters
    ----------
    perception : Perception
        Is started anew.
    frames : sequence of Frame
        Stamped at that pace.
    seconds_per_frame : float
        What the pacer is told of the speed [s].
    rate_hz : float
        Images a second.

    Returns
    -------
    ages : list of float
        From the moment at which a frame is there until its estimate is finished [s], of the frames
        after the first window.
    drops : int
        Images that the pacer left out.

    """
    perception.reset('camera')
    pacer, ages = Pacer(seconds_per_frame), []
    begin, first_ns = time.perf_counter(), frames[0].stamp_ns

    def age(estimate: DepthEstimate) -> None:
        if estimate.window_id > first_id:
            taken_s = (estimate.frame.stamp_ns - first_ns) * 1e-9
            ages.append(time.perf_counter() - begin - taken_s)

    first_id = perception.stream.stats.windows
    chain = _Chain(perception, age)
    for index, frame in enumerate(frames):
        time.sleep(max(0.0, begin + index / rate_hz - time.perf_counter()))
        if pacer.admit(frame.stamp_ns):
            chain.push(frame)
    chain.close()
    return ages, pacer.drops


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
    return {
        'frames_in': stats.frames_in, 'frames_out': stats.frames_out,
        'fps': 1.0 / per_frame, 'ms_per_frame': 1000 * per_frame,
        'stage_ms': {name: 1000 * value for name, value in stages.items()},
        'peak_rss_mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        'rss_growth_mb': rss_growth(timeline.rss_mb), 'seam_ratio': stats.seam_ratio,
    }


def _steady_from(finished: Sequence[int]) -> int:
    """Return the push after which the windows of warm-up are done."""
    ends = [i + 1 for i, count in enumerate(finished) if count]
    return ends[WARM_UP_WINDOWS - 1] if len(ends) >= WARM_UP_WINDOWS else len(finished)


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
                        f'{working[0]}x{working[1]}; ms a frame; age [ms] at {CAMERA_HZ:g} Hz',
                  box=SIMPLE_HEAD, collapse_padding=True)
    for name in ('preset', 'fps', 'all', 'enc', 'dit', 'dec', 'maps', 'age p50', 'p95', 'MB',
                 '+MB', 'seam'):
        table.add_column(name, justify='left' if name == 'preset' else 'right', no_wrap=True)
    for preset, row in figures.items():
        stages = (row['stage_ms'].get(name) for name in ('encode', 'dit', 'decode', 'maps'))
        age = row['age_ms']
        table.add_row(preset, f'{row["fps"]:.1f}',
                      *(_number(n, '.0f') for n in (row['ms_per_frame'], *stages)),
                      _number(age['p50'], '.0f'), _number(age['p95'], '.0f'),
                      _number(row['peak_rss_mb'], '.0f'), _number(row['rss_growth_mb'], '.0f'),
                      _number(row['seam_ratio'], '.2f'))
    return table


def _number(value: float | None, style: str) -> str:
    return '-' if value is None else format(value, style)
