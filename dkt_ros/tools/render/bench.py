"""Seconds a frame of the renderer by image size, with and without the stereo sensor."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from rich.table import Table

from dkt_ros.config import RenderConfig
from dkt_ros.tools.render.assemble import stereo_frames
from dkt_ros.tools.render.estimate import measure_scene

PARTS = ('build', 'frame', 'pair', 'write')


def run_bench_render(sizes: Sequence[tuple[int, int]], config: RenderConfig,
                     seed: int = 0) -> dict:
    """
    Measure a scene at each size (width, height) [px] with each kind of sensor.

    Returns
    -------
    dict
        `rows`: what `measure_scene` found, the size, the sensor, `seconds_per_frame` of a scene
        of `config.num_frames`, and `anew`: the same if Blender were started for each scene.

    """
    rows = []
    for width, height in sizes:
        for kind in ('statistical', 'stereo'):
            sized = dataclasses.replace(
                config, width=width, height=height,
                sensor=dataclasses.replace(config.sensor, kind=kind))
            rows.append(_row(sized, measure_scene(sized, seed)))
    return {'num_frames': config.num_frames, 'samples': config.samples, 'preset': config.preset,
            'rows': rows}


def _row(config: RenderConfig, measured: dict) -> dict:
    frames = config.num_frames
    scene = measured['build'] + frames * (measured['frame'] + measured['write']) \
        + len(stereo_frames(config)) * measured['pair']
    return {'width': config.width, 'height': config.height, 'sensor': config.sensor.kind,
            **measured, 'seconds_per_frame': scene / frames,
            'anew': (scene + measured['start']) / frames}


def bench_table(figures: dict) -> Table:
    """Return the measurement as a table, in seconds."""
    table = Table(title=f'{figures["preset"]}, {figures["num_frames"]} frames a scene, '
                        f'{figures["samples"]} samples; seconds, one worker')
    for title in ('size', 'sensor', 'scene', 'frame', 'IR pair', 'write', 'a frame in all',
                  'Blender anew'):
        table.add_column(title, justify='right')
    for row in figures['rows']:
        table.add_row(f'{row["width"]}x{row["height"]}', row['sensor'],
                      *(f'{row[part]:.2f}' for part in PARTS),
                      f'{row["seconds_per_frame"]:.2f}', f'{row["anew"]:.2f}')
    return table
