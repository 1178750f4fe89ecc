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
        `rows`: what `measure_scene` found, the size, the sensor, and of a scene of
        `config.num_frames`: `seconds_per_frame`, `processor_per_frame`, and `anew`, the latter if
        Blender were started for each scene.

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
    frames, pairs = config.num_frames, len(stereo_frames(config))

    def a_frame(parts: dict, once: float = 0.0) -> float:
        return (once + parts['build'] + frames * (parts['frame'] + parts['write'])
                + pairs * parts['pair']) / frames

    processor = measured['processor']
    return {'width': config.width, 'height': config.height, 'sensor': config.sensor.kind,
            **measured, 'seconds_per_frame': a_frame(measured),
            'processor_per_frame': a_frame(processor),
            'anew': a_frame(processor, processor['start'])}


def bench_table(figures: dict) -> Table:
    """Return the measurement as a table, in seconds of processor time."""
    table = Table(title=f'{figures["preset"]}, {figures["num_frames"]} frames a scene, '
                        f'{figures["samples"]} samples; seconds of processor time')
    for title in ('size', 'sensor', 'scene', 'frame', 'IR pair', 'write', 'a frame in all',
                  'Blender anew', 'by the clock'):
        table.add_column(title, justify='right')
    for row in figures['rows']:
        table.add_row(f'{row["width"]}x{row["height"]}', row['sensor'],
                      *(f'{row["processor"][part]:.2f}' for part in PARTS),
                      f'{row["processor_per_frame"]:.2f}',
                      f'{row["anew"]:.2f} ({row["anew"] / row["processor_per_frame"]:.1f}x)',
                      f'{row["seconds_per_frame"]:.2f}')
    return table
