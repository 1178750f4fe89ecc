"""
ClearPose (Chen et al. 2022): real video of household and laboratory glass, Intel L515.

    setN/sceneM/metadata.mat           by frame: camera_intrinsics 3x3, factor_depth, ...
    setN/sceneM/000000-color.png
    setN/sceneM/000000-depth.png       what the sensor measured, uint16, divided by factor_depth
    setN/sceneM/000000-depth_true.png  the truth
    setN/sceneM/000000-label.png       object id; 1 to 63 are transparent, larger ones opaque

The variant `downsample_100` has a 000000-meta.mat a frame instead of metadata.mat. Normals are
left alone: they were computed from the true depth, in axes that are documented nowhere; so are
poses, whose direction is not documented either.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import loadmat

from dkt_ros.data.datasets.sequence import (
    DataSet,
    FrameSequence,
    Images,
    camera_from_matrix,
    existing,
    first_size,
    frame_names,
)
from dkt_ros.data.images import read_depth_png, read_ids, read_rgb
from dkt_ros.errors import UserError
from dkt_ros.material import Material

LAST_TRANSPARENT = 63
TRAINING_SCENES = {1: range(1, 5)} | {n: range(1, 6) for n in (4, 5, 6, 7)}
COLOR, SENSOR, TRUTH, LABEL = '-color.png', '-depth.png', '-depth_true.png', '-label.png'


def is_clearpose(folder: Path) -> bool:
    """Return True if the folder holds frames named as ClearPose names them."""
    return any(folder.glob(f'*{COLOR}'))


def open_clearpose(folder: Path) -> list[FrameSequence]:
    """Open one scene; the intrinsics and the divisor of depth are those of its metadata."""
    names = frame_names(folder, COLOR)
    meta = _Metadata(folder)
    width, height = first_size(folder, names, lambda name: read_rgb(folder / f'{name}{COLOR}'))
    camera = camera_from_matrix(meta.first(names)['camera_intrinsics'], width, height,
                                f'{folder} in its metadata')

    def read(name: str) -> Images:
        divisor = float(meta.of(name)['factor_depth'])
        label = read_ids(existing(folder / f'{name}{LABEL}', 'mask'))
        return Images(read_rgb(folder / f'{name}{COLOR}'),
                      read_depth_png(folder / f'{name}{TRUTH}', divisor),
                      read_depth_png(folder / f'{name}{SENSOR}', divisor),
                      material_of(label), label.astype(np.uint16))

    name = f'{folder.parent.name}_{folder.name}'
    return [FrameSequence(folder, name, 'clearpose', camera, names, read,
                          is_video='downsample' not in str(folder), split=_split(folder))]


def material_of(label: np.ndarray) -> np.ndarray:
    """Return the `Material` of each pixel of an image of object ids, (H, W) uint8."""
    material = np.full(label.shape, int(Material.BACKGROUND), np.uint8)
    material[label > 0] = int(Material.TRANSPARENT)
    material[label > LAST_TRANSPARENT] = int(Material.DIFFUSE)
    return material


class _Metadata:
    """The annotations of a scene, from one file for all frames or from one a frame."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._all = folder, None
        if (folder / 'metadata.mat').is_file():
            self._all = _load(folder / 'metadata.mat')

    def of(self, name: str) -> dict:
        if self._all is None:
            return _load(self._folder / f'{name}-meta.mat')
        for key in (name, str(int(name))) if name.isdecimal() else (name,):
            if isinstance(self._all.get(key), dict):
                return self._all[key]
        raise ValueError(f'metadata.mat has no entry {name!r}')

    def first(self, names: tuple[str, ...]) -> dict:
        for name in names:
            try:
                return self.of(name)
            except (ValueError, OSError):
                continue
        raise UserError(f'{self._folder} has neither metadata.mat nor a -meta.mat for any of its '
                        f'{len(names)} frames; copy them from the data set')


def _load(path: Path) -> dict:
    if not path.is_file():
        raise ValueError(f'{path.name} does not exist')
    try:
        return loadmat(str(path), simplify_cells=True)
    except (ValueError, TypeError, NotImplementedError, OSError) as error:
        raise ValueError(f'{path.name} cannot be read ({error})') from error


def _split(folder: Path) -> str:
    digits = [part.removeprefix(kind) for part, kind in
              ((folder.parent.name, 'set'), (folder.name, 'scene'))]
    if not all(text.isdecimal() for text in digits):
        return ''
    return 'train' if int(digits[1]) in TRAINING_SCENES.get(int(digits[0]), ()) else 'test'


CLEARPOSE = DataSet('clearpose', 'https://github.com/opipari/ClearPose (Google Drive)', 'MIT',
                    is_clearpose, open_clearpose)
