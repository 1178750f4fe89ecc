"""The simulated sensors beside each other and beside a real one, on glass and off it."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from rich.table import Table

from dkt_ros.colorize import depth_to_rgb
from dkt_ros.config import SensorConfig
from dkt_ros.data.datasets.cleargrasp import is_cleargrasp, open_cleargrasp
from dkt_ros.data.scenes import Scene, SceneFrame, list_scenes, open_scene
from dkt_ros.errors import UserError
from dkt_ros.material import Material
from dkt_ros.tools.montage import depth_range, scene_panels, write_montage
from dkt_ros.tools.render.sensor import simulate_sensor

BAND = {'glass_holes': (0.20, 0.75), 'glass_median_m': (0.010, 0.050),
        'background_mae_m': (0.0, 0.004)}
"""What real D435 frames of clear things show, with room for other things."""
MIN_PIXELS = 60
MAX_PICTURE_ROWS = 4
BACKGROUND_FAR_M = 1.0
"""Errors of stereo grow with the square of depth; the real frames' background lies within 1 m."""
RIM_SHARE = 0.02
"""The background is measured off the things by this share of the image width."""


def frame_figures(item: SceneFrame, sensor: np.ndarray) -> dict[str, float] | None:
    """
    Measure a sensor's depth (H, W) [m] on one frame; None if it shows too little glass.

    Returns
    -------
    dict
        glass_holes, background_holes: share without depth; glass_median_m: median distance
        behind the surface; glass_mae_m, background_mae_m; glass_delta_105: share within 5 %,
        holes left out. NaN where the sensor saw next to nothing of the glass.

    """
    known = np.isfinite(item.depth)
    glass = (item.material == Material.TRANSPARENT) & known
    side = 2 * round(RIM_SHARE * glass.shape[1]) + 1
    things = item.material != Material.BACKGROUND
    near = cv2.dilate(things.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
    background = ~near & known & (item.depth < BACKGROUND_FAR_M)
    seen = glass & np.isfinite(sensor)
    if glass.sum() < MIN_PIXELS or background.sum() < MIN_PIXELS:
        return None
    error, off = (sensor - item.depth)[seen], np.abs(sensor - item.depth)[background]
    nothing, enough = float('nan'), error.size >= MIN_PIXELS
    ratio = (np.maximum(sensor, item.depth) / np.minimum(sensor, item.depth))[seen]
    return {'glass_holes': float(1 - seen.sum() / glass.sum()),
            'glass_median_m': float(np.median(error)) if enough else nothing,
            'glass_mae_m': float(np.mean(np.abs(error))) if enough else nothing,
            'glass_delta_105': float(np.mean(ratio < 1.05)) if enough else nothing,
            'background_holes': float(np.mean(~np.isfinite(off))),
            'background_mae_m': float(np.nanmean(off)) if np.isfinite(off).any() else nothing}


def _drawn(scene: Scene, item: SceneFrame) -> np.ndarray:
    """Draw the statistical sensor's depth (H, W) [m] of a frame, with its scene's options."""
    options = scene.settings.get('render', {}).get('sensor', {})
    return simulate_sensor(item.depth, item.material, item.instance, scene.camera.fx,
                           SensorConfig.from_dict(options), scene.seed, item.index)


def _scene_rows(scene: Scene) -> Iterator[tuple[str, dict[str, float] | None]]:
    for item in scene:
        if item.depth is None or item.material is None or item.frame.sensor_depth is None:
            raise UserError(f'{scene.path} lacks depth, material or sensor_depth; sensor '
                            'statistics need all three')
        figures = frame_figures(item, item.frame.sensor_depth)
        if item.sensor_disparity is None:
            yield 'statistical', figures
            continue
        yield 'stereo', figures
        yield 'statistical, stereo frames', frame_figures(item, _drawn(scene, item))


def run_sensor_stats(folder: str | Path, real: str | Path | None = None) -> dict:
    """
    Measure the sensors of a folder of scenes, and a real one's frames in ClearGrasp's layout.

    Where a frame has a rendered pair, the statistical model is drawn for it too, so that both are
    compared on the same glass.

    Returns
    -------
    dict
        `sources`: for each source, `num_frames` and for each figure [mean, lowest, highest] over
        the frames; `band` and, by source, `holds`.

    """
    rows = defaultdict(list)
    for path in list_scenes(folder):
        for source, figures in _scene_rows(open_scene(path)):
            rows[source].append(figures)
    if real is not None:
        rows['real D435'] = [frame_figures(item, item.frame.sensor_depth)
                             for item in real_frames(real)]
    sources = {name: _summary([f for f in figures if f is not None])
               for name, figures in rows.items()}
    holds = {name: {key: bool(low <= found[key][0] <= high) for key, (low, high) in BAND.items()}
             for name, found in sources.items() if found['num_frames']}
    return {'sources': sources, 'band': {k: list(v) for k, v in BAND.items()}, 'holds': holds}


def real_frames(folder: str | Path) -> list[SceneFrame]:
    """Read each real still of a ClearGrasp folder once."""
    if not is_cleargrasp(Path(folder)):
        raise UserError(f'{folder} holds no real frames in the layout of ClearGrasp; give the '
                        'folder with *-transparent-rgb-img.jpg, or leave --real out')
    return list(open_cleargrasp(Path(folder), repeat=1).items())


def _summary(rows: list[dict[str, float]]) -> dict:
    summary: dict = {'num_frames': len(rows)}
    for key in rows[0] if rows else ():
        values = np.array([row[key] for row in rows])
        values = values[np.isfinite(values)]
        summary[key] = [float(f(values)) if values.size else float('nan')
                        for f in (np.mean, np.min, np.max)]
    return summary


def sensor_table(figures: dict) -> Table:
    """Return the sensors as a table: mean, lowest and highest over the frames."""
    table = Table(title='depth sensors on glass and off it')
    for title in ('sensor', 'frames', 'holes on glass', 'behind it mm', 'within 5 %',
                  'background mm (to 1 m)', 'in the band'):
        table.add_column(title, justify='left' if title == 'sensor' else 'right')
    for name, row in figures['sources'].items():
        if not row['num_frames']:
            continue
        percent = [f'{v:.0%}' for v in row['glass_holes']]
        behind = [f'{1000 * v:+.0f}' for v in row['glass_median_m']]
        verdict = [key for key, holds in figures['holds'][name].items() if not holds]
        table.add_row(name, str(row['num_frames']), f'{percent[0]} ({percent[1]} to {percent[2]})',
                      f'{behind[0]} ({behind[1]} to {behind[2]})',
                      f'{row["glass_delta_105"][0]:.0%}',
                      f'{1000 * row["background_mae_m"][0]:.1f}',
                      'yes' if not verdict else f'not {", ".join(verdict)}')
    return table


def write_sensor_picture(path: str | Path, folder: str | Path,
                         real: str | Path | None = None) -> None:
    """
    Draw real frames above rendered ones: RGB, what the sensor reports, the truth.

    A rendered frame also shows the statistical sensor beside the pair.
    """
    rows, titles = [], []
    for item in real_frames(real)[:MAX_PICTURE_ROWS] if real is not None else ():
        rows.append(_panels(item))
        titles.append(f'real D435 {len(titles)}')
    for scene_path in list_scenes(folder):
        scene = open_scene(scene_path)
        index = next((i for i in range(len(scene))
                      if scene.layer_path('sensor_disparity', i).is_file()), None)
        if index is not None and len(rows) < 2 * MAX_PICTURE_ROWS:
            item = scene[index]
            rows.append({**_panels(item), 'statistical sensor': depth_to_rgb(
                _drawn(scene, item), *depth_range(item.depth))})
            titles.append(f'rendered stereo, {scene.name}')
    if not rows:
        raise UserError(f'{folder} holds no frame with a rendered pair; render with --sensor '
                        'stereo')
    write_montage(path, rows, titles)


def _panels(item: SceneFrame) -> dict[str, np.ndarray]:
    panels = scene_panels(item)
    return {key: panels[key] for key in ('RGB', 'sensor depth', 'true depth')}
