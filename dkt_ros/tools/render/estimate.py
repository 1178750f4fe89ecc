"""What a set will take: time, disk and money, from one scene that is really rendered."""
from __future__ import annotations

import dataclasses
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.table import Table

from dkt_ros.config import RenderConfig
from dkt_ros.errors import UserError
from dkt_ros.tools.render.assemble import (
    accept_scene,
    infrared_spec,
    scene_name,
    sense_pair,
    stereo_frames,
)
from dkt_ros.tools.render.media import media_files
from dkt_ros.tools.render.run import (
    MAX_ATTEMPTS,
    rendered_records,
    require_known,
    scene_spec,
)
from dkt_ros.tools.render.setup import find_interpreter

MEASURED_FRAMES = 2


def measure_scene(config: RenderConfig, seed: int = 0) -> dict:
    """
    Render a scene of few frames and time its parts.

    Returns
    -------
    dict
        Seconds: `start` (of Blender, once a worker), `build` (a scene), `frame`, `pair` (of
        infrared images, with its matching), `write` (a frame); `processor` (the same of processor
        time, which a busy machine does not stretch); `device` that Cycles rendered with;
        `frame_bytes` and `scene_bytes`.

    """
    short = dataclasses.replace(config, num_frames=min(config.num_frames, MEASURED_FRAMES),
                                min_glass=0.0, workers=1)
    require_known(short)
    interpreter = find_interpreter(config.interpreter)
    with tempfile.TemporaryDirectory(prefix='dkt-estimate-') as folder:
        out = Path(folder)
        record, started = _drawn(short, seed, out, interpreter)
        clock = [_clocks()]
        for index in stereo_frames(short):
            sense_pair(record, out / f'{record["name"]}.frames', index, short)
        clock.append(_clocks())
        accept_scene(record, out, out, short)
        clock.append(_clocks())
        # Writing matches the pairs once more, which is not to count for frames that have none.
        matched, written = np.diff(clock, axis=0)
        written = np.maximum(written - matched, 0.0)
        scene = out / scene_name(seed)
        sizes = {path: path.stat().st_size for path in scene.rglob('*') if path.is_file()}
        frames = sum(size for path, size in sizes.items()
                     if path.parent.name not in ('meshes', scene.name))
        real, processor = (
            {'start': start - sum(seconds.values()), 'build': seconds['build'],
             'frame': seconds['frames'] / short.num_frames,
             'pair': (seconds['infrared'] + match) / max(len(stereo_frames(short)), 1),
             'write': write / short.num_frames}
            for start, seconds, match, write in zip(
                started, (record['seconds'], record['processor_seconds']), matched.tolist(),
                written.tolist()))
        return {**real, 'processor': processor, 'device': record['device'],
                'frame_bytes': frames / short.num_frames,
                'scene_bytes': sum(sizes.values()) - frames}


def _drawn(config: RenderConfig, seed: int, out: Path,
           interpreter: Path) -> tuple[dict, tuple[float, float]]:
    """Return the record of a scene, at the first attempt that comes to rest, and what it took."""
    for attempt in range(MAX_ATTEMPTS):
        spec = {**scene_spec(seed, attempt, config), **media_files(config),
                'infrared': infrared_spec(config, out)}
        begin = time.monotonic(), children_seconds()
        record, = rendered_records([spec], out, interpreter, 1)
        if 'failed' not in record:
            return record, (time.monotonic() - begin[0], children_seconds() - begin[1])
    raise UserError(f'scene {seed} failed {MAX_ATTEMPTS} times ({record["failed"]}); lower '
                    'min_objects or raise settle_s')


def _clocks() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


def children_seconds() -> float:
    """
    Return the processor time of the processes that this one has started and seen end [s].

    Without what the kernel took, as the worker counts it.
    """
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


def estimate(num_scenes: int, config: RenderConfig, measured: dict | None = None) -> dict:
    """
    Extrapolate a measured scene.

    A worker draws with one processor core; one process writes what all of them drew. What is
    drawn by the processor counts in its time: the measured scene had all cores to itself, or
    shared them with somebody else's work. What a GPU draws counts by the clock.

    Returns
    -------
    dict
        `hours` on this machine, `core_hours`, `gigabytes`, `cost`, `seconds_per_frame` (of one
        core) and what was `measured`.

    """
    measured = measured or measure_scene(config)
    cores = min(config.workers or os.cpu_count() or 1, num_scenes)
    frames, pairs = config.num_frames, len(stereo_frames(config))
    spent = measured['processor'] if measured['device'] == 'CPU' else measured
    drawing = spent['build'] + frames * spent['frame'] + pairs * spent['pair']
    writing = frames * spent['write']
    core_seconds = num_scenes * (drawing + writing) + cores * spent['start']
    elapsed = max(core_seconds / cores, num_scenes * writing)
    size = num_scenes * (frames * measured['frame_bytes'] + measured['scene_bytes'])
    return {'num_scenes': num_scenes, 'num_frames': num_scenes * frames, 'cores': cores,
            'hours': elapsed / 3600, 'core_hours': core_seconds / 3600, 'gigabytes': size / 1e9,
            'cost': core_seconds / 3600 * config.cost_per_hour,
            'seconds_per_frame': (drawing + writing) / frames, 'measured': measured}


def estimate_table(figures: dict) -> Table:
    """Return the estimate as a table."""
    table = Table(title=f'{figures["num_scenes"]} scenes, {figures["num_frames"]} frames')
    for title in ('time here', 'core hours', 'disk', 'cost', 'a frame, one core'):
        table.add_column(title, justify='right')
    hours = figures['hours']
    table.add_row(f'{hours:.1f} h' if hours < 48 else f'{hours / 24:.1f} days',
                  f'{figures["core_hours"]:.1f}', f'{figures["gigabytes"]:.2f} GB',
                  f'{figures["cost"]:.2f}', f'{figures["seconds_per_frame"]:.2f} s')
    return table
