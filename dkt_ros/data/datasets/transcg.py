"""
TransCG (Fang et al. 2022): real views of transparent things by two cameras on a robot's arm.

    metadata.json  camera_intrinsics/1-camIntrinsics-D435.npy  2-camIntrinsics-L515.npy  (3x3)
    sceneN/metadata.json   {type, split, D435_valid_perspective_list, L515_valid_perspective_list}
    sceneN/<perspective>/rgb1.png  depth1.png  depth1-gt.png  depth1-gt-mask.png   (2: L515)

Depth is uint16, divided by 1000 (D435) or 4000 (L515); the mask is not zero on what is
transparent.
"""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from dkt_ros.data.datasets.sequence import (
    DataSet,
    FrameSequence,
    Images,
    camera_from_matrix,
    existing,
    first_size,
)
from dkt_ros.data.images import read_depth_png, read_ids, read_rgb
from dkt_ros.errors import UserError
from dkt_ros.material import Material

CAMERAS = {1: ('D435', 1000.0), 2: ('L515', 4000.0)}
"""Name and divisor of depth, by the digit in the file names."""


def is_transcg(folder: Path) -> bool:
    """Return True if the folder is a scene: its metadata list the perspectives that are valid."""
    try:
        record = json.loads((folder / 'metadata.json').read_text())
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and 'D435_valid_perspective_list' in record


def open_transcg(folder: Path) -> list[FrameSequence]:
    """Open one scene: a sequence of unrelated views for each camera that has valid ones."""
    record = json.loads((folder / 'metadata.json').read_text())
    return [_open_camera(folder, record, digit) for digit, (camera, _) in CAMERAS.items()
            if record.get(f'{camera}_valid_perspective_list')]


def _open_camera(folder: Path, record: dict, digit: int) -> FrameSequence:
    device, divisor = CAMERAS[digit]
    names = tuple(map(str, record[f'{device}_valid_perspective_list']))
    size = first_size(folder, names, lambda name: read_rgb(folder / name / f'rgb{digit}.png'))
    camera = camera_from_matrix(_intrinsics(folder.parent, digit, device), *size,
                                f'the {device} of TransCG')

    def read(name: str) -> Images:
        view = folder / name
        mask = read_ids(existing(view / f'depth{digit}-gt-mask.png', 'mask'))
        material = np.where(mask > 0, int(Material.TRANSPARENT), int(Material.BACKGROUND))
        return Images(read_rgb(view / f'rgb{digit}.png'),
                      read_depth_png(view / f'depth{digit}-gt.png', divisor),
                      read_depth_png(view / f'depth{digit}.png', divisor),
                      material.astype(np.uint8))

    return FrameSequence(folder, f'{folder.name}_{device}', 'transcg', camera, names, read,
                         split=str(record.get('split', '')))


def _intrinsics(root: Path, digit: int, device: str) -> np.ndarray:
    folder = root / 'camera_intrinsics'
    for name in (f'{digit}-camIntrinsics-{device}.npy', f'camIntrinsics-{device}.npy'):
        if (folder / name).is_file():
            return np.load(folder / name, allow_pickle=False)
    raise UserError(f'{folder} has no {digit}-camIntrinsics-{device}.npy; copy the folder from '
                    'the data set')


TRANSCG = DataSet('transcg', 'https://github.com/Galaxies99/TransCG (project page)',
                  'CC BY-NC-SA 4.0', is_transcg, open_transcg)
