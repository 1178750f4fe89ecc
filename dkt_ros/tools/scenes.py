"""Folders of scenes: proof that they are whole, pictures, and how hard the sensor makes them."""
from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
from rich.table import Table

from dkt_ros.data.images import write_image
from dkt_ros.data.scene_check import check_scene
from dkt_ros.data.scenes import Scene, SceneFrame, list_scenes, open_scene
from dkt_ros.errors import UserError
from dkt_ros.material import Material
from dkt_ros.metrics import average, depth_metrics
from dkt_ros.tools.baselines.filled import fill_holes
from dkt_ros.tools.montage import GAP, scene_panels, write_montage
from dkt_ros.tools.turntable import write_turntable

FILLED_MAE_M = (0.030, 0.070)
FILLED_DELTA_105 = (0.30, 0.55)
CONTACT_TILE_WIDTH = 200
JPEG_QUALITY = 88
MIN_GLASS = 0.02
MIN_HEIGHT_M = 0.060


def run_check(folder: str | Path, every: int = 1) -> dict:
    """
    Look for anything missing or inconsistent in the scenes of a folder.

    Returns
    -------
    dict
        `num_scenes` and `problems`, a list of sentences.

    """
    paths = list_scenes(folder)
    return {'num_scenes': len(paths),
            'problems': [problem for path in paths for problem in check_scene(path, every)]}


def run_show(folder: str | Path, out: str | Path, num_scenes: int, num_frames: int,
             turntable: bool = True) -> dict:
    """
    Draw the first frames of the first scenes, a contact sheet of them all, and turntables.

    Returns
    -------
    dict
        `pictures`: one a scene and contact.png; `videos`: one a scene that has depth and poses.

    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    pictures, videos, sheet, titles = [], [], [], []
    for path in list_scenes(folder)[:num_scenes]:
        scene = open_scene(path)
        picture = out / f'{path.name}.png'
        rows = [scene_panels(item) for item in scene[:num_frames]]
        write_montage(picture, rows, [f'{scene.name} frame {i}' for i in range(len(rows))])
        pictures.append(str(picture))
        sheet.append(rows[0])
        titles.append(_title(scene))
        if turntable and 'depth' in scene.layers and scene.poses is not None:
            videos.append(str(write_turntable(out / f'{path.name}.mp4', scene)))
    contact = out / 'contact.png'
    write_montage(contact, sheet, titles, CONTACT_TILE_WIDTH)
    return {'pictures': [*pictures, str(contact)], 'videos': videos}


def run_photographs(folder: str | Path, out: str | Path, num_scenes: int, columns: int) -> Path:
    """
    Lay out the colour image of the first frame of each scene, and nothing else.

    Returns
    -------
    Path
        The picture, .jpg or .png as `out` is named.

    """
    out = Path(out)
    if out.suffix not in ('.jpg', '.png'):
        raise UserError(f'{out} is neither a .jpg nor a .png file; name one')
    tiles = [open_scene(path).read_layer('rgb', 0) for path in list_scenes(folder)[:num_scenes]]
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        sheet[row * (height + GAP):, column * (width + GAP):][:height, :width] = cv2.resize(
            tile, (width, height), interpolation=cv2.INTER_AREA)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_image(out, sheet, JPEG_QUALITY)
    return out


def _title(scene: Scene) -> str:
    drawn = [str(scene.settings[key]) for key in ('place', 'arrangement', 'path')
             if key in scene.settings]
    return ', '.join([scene.name, *drawn, f'{len(scene.objects)} things'])


def run_stats(folder: str | Path, every: int = 1) -> dict:
    """
    Measure what the sensor does to each material, and whether a set is as hard as `tabletop-v1`.

    Returns
    -------
    dict
        `num_scenes`, `num_frames`, `by_material` (means over frames by class: share of the pixels,
        share of holes, and the errors of `sensor` and `filled`), `tabletop_v1` (the conditions of
        that preset, with what was found and whether it holds).

    """
    paths, rows, glass, tall = list_scenes(folder), defaultdict(list), [], []
    num_frames = 0
    for path in paths:
        scene = open_scene(path)
        tall.append(_has_tall_glass(scene.objects))
        shares = []
        for index in range(0, len(scene), every):
            item = scene[index]
            _require_truth(item, path)
            shares.append(np.mean(item.material == Material.TRANSPARENT))
            for material, row in _frame_rows(item).items():
                rows[material].append(row)
        num_frames += len(shares)
        glass.append(float(np.mean(shares)))
    by_material = {material: average(rows[material]) for material in
                   (m.label for m in Material) if rows[material]}
    return {'num_scenes': len(paths), 'num_frames': num_frames, 'by_material': by_material,
            'tabletop_v1': _conditions(by_material, glass, tall)}


def _require_truth(item: SceneFrame, path: Path) -> None:
    if item.depth is None or item.material is None or item.frame.sensor_depth is None:
        raise UserError(f'{path} lacks depth, material or sensor_depth; statistics need all three')


def _frame_rows(item: SceneFrame) -> dict[str, dict[str, float]]:
    filled = fill_holes(item.frame.sensor_depth)
    rows = {}
    for material in Material:
        mask = (item.material == material) & np.isfinite(item.depth)
        if not mask.any():
            continue
        row = {'pixels': float(mask.mean()),
               'holes': float(np.mean(~np.isfinite(item.frame.sensor_depth[mask])))}
        for source, depth in (('sensor', item.frame.sensor_depth), ('filled', filled)):
            figures = depth_metrics(depth, item.depth, mask)
            row.update({f'{source}_{key}': figures[key]
                        for key in ('mae_m', 'median_bias_m', 'delta_105')})
        rows[material.label] = row
    return rows


def _has_tall_glass(objects: tuple[dict, ...]) -> bool:
    return any(item.get('material_class') == Material.TRANSPARENT.label
               and item.get('size_m', [0.0])[-1] >= MIN_HEIGHT_M for item in objects)


def _conditions(by_material: dict, glass: list[float], tall: list[bool]) -> dict:
    found = by_material.get(Material.TRANSPARENT.label, {})
    mae, delta = (found.get(key, float('nan')) for key in ('filled_mae_m', 'filled_delta_105'))
    return {
        'filled_mae_m': {'found': mae, 'wanted': list(FILLED_MAE_M),
                         'holds': FILLED_MAE_M[0] <= mae <= FILLED_MAE_M[1]},
        'filled_delta_105': {'found': delta, 'wanted': list(FILLED_DELTA_105),
                             'holds': FILLED_DELTA_105[0] <= delta <= FILLED_DELTA_105[1]},
        'least_glass': {'found': min(glass), 'wanted': [MIN_GLASS, 1.0],
                        'holds': min(glass) >= MIN_GLASS},
        'scenes_with_tall_glass': {'found': float(np.mean(tall)), 'wanted': [1.0, 1.0],
                                   'holds': all(tall)},
    }


def stats_table(stats: dict) -> Table:
    """Return the statistics as a table: a row a material, and a line a condition below."""
    table = Table(title=f'{stats["num_scenes"]} scenes, {stats["num_frames"]} frames')
    table.add_column('pixels of')
    for title in ('share', 'holes', 'sensor MAE mm', 'sensor d1.05', 'filled MAE mm',
                  'filled d1.05'):
        table.add_column(title, justify='right')
    for material, row in stats['by_material'].items():
        table.add_row(material, f'{row["pixels"]:.1%}', f'{row["holes"]:.1%}',
                      f'{1000 * row["sensor_mae_m"]:.1f}', f'{row["sensor_delta_105"]:.2f}',
                      f'{1000 * row["filled_mae_m"]:.1f}', f'{row["filled_delta_105"]:.2f}')
    verdicts = [f'{name} {item["found"]:.3g} ({item["wanted"][0]:g} to {item["wanted"][1]:g}) '
                f'{"holds" if item["holds"] else "FAILS"}'
                for name, item in stats['tabletop_v1'].items()]
    table.caption = 'tabletop-v1: ' + '; '.join(verdicts)
    return table
