"""The driver beside Blender started anew for each scene, at the same samples and denoiser."""
from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from dkt_ros.config import RenderConfig
from dkt_ros.tools.render.assemble import accept_scene, infrared_spec
from dkt_ros.tools.render.estimate import children_seconds
from dkt_ros.tools.render.media import media_files
from dkt_ros.tools.render.run import rendered_records, require_known, scene_spec
from dkt_ros.tools.render.setup import find_interpreter

WAYS = {'driver': 'dkt render', 'anew': 'Blender anew', 'plain': 'anew, its own settings'}


def run_compare(sizes: Sequence[tuple[int, int]], num_scenes: int, config: RenderConfig,
                seed: int = 0) -> dict:
    """
    Render the same scenes whole in three ways at each size (width, height) [px].

    `driver`: as `dkt render` does, one process a core for many scenes. `anew`: one Blender after
    another, each with all cores for one scene, at the same settings. `plain`: so, too, and with
    Blender's own settings for all that `worker/thrift.py` changes.

    Returns
    -------
    dict
        `rows`: by size and way `seconds` and `processor`, both a frame and with everything that
        is written [s].

    """
    require_known(config)
    rows = []
    for width, height in sizes:
        sized = dataclasses.replace(config, width=width, height=height, min_glass=0.0)
        rows += [{'width': width, 'height': height, 'way': way,
                  **_rendered(way, num_scenes, seed, sized)} for way in WAYS]
    return {'num_scenes': num_scenes, 'num_frames': config.num_frames,
            'samples': config.samples, 'preset': config.preset, 'rows': rows}


def _rendered(way: str, num_scenes: int, seed: int, config: RenderConfig) -> dict:
    """Return seconds and processor seconds a frame of the scenes that come to rest."""
    interpreter, frames = find_interpreter(config.interpreter), 0
    with tempfile.TemporaryDirectory(prefix='dkt-compare-') as folder:
        out = Path(folder)
        shared = {**media_files(config), 'infrared': infrared_spec(config, out),
                  'thrifty': way != 'plain'}
        specs = [{**scene_spec(seed + i, 0, config), **shared} for i in range(num_scenes)]
        begin = _clocks()
        for started in [specs] if way == 'driver' else [[spec] for spec in specs]:
            for record in rendered_records(started, out, interpreter, config.workers):
                if 'failed' not in record and accept_scene(record, out, out, config):
                    frames += config.num_frames
        elapsed, processor = (after - before for before, after in zip(begin, _clocks()))
    return {'seconds': elapsed / max(frames, 1), 'processor': processor / max(frames, 1)}


def _clocks() -> tuple[float, float]:
    return time.monotonic(), time.process_time() + children_seconds()


def compare_table(figures: dict) -> Table:
    """Return the comparison as a table, each way with how many times as long it takes."""
    table = Table(title=f'{figures["preset"]}, {figures["num_scenes"]} scenes of '
                        f'{figures["num_frames"]} frames, {figures["samples"]} samples; '
                        'seconds a frame')
    for title in ('size', 'way', 'by the clock', 'of processor time'):
        table.add_column(title, justify='left' if title == 'way' else 'right')
    for row in figures['rows']:
        ours = next(other for other in figures['rows'] if other['way'] == 'driver' and all(
            other[key] == row[key] for key in ('width', 'height')))
        table.add_row(f'{row["width"]}x{row["height"]}', WAYS[row['way']],
                      *(f'{row[key]:.2f} ({row[key] / ours[key]:.2f}x)'
                        for key in ('seconds', 'processor')))
    return table
