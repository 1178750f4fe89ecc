"""
DREDS and STD (Dai et al. 2022): specular and transparent things, simulated and real.

    DREDS-CatKnown/{train,val,test}/<scene>/0000_color.png   1280x720
        0000_depth_120.exr (or _depth_0.exr)   true depth [m]
        0000_simDepthImage.exr                 simulated active stereo [m], about -0.001 invalid
        0000_mask.exr                          instance = round(value x 255), 255 background
        0000_meta.txt                          a line an instance, its material among the words
    DREDS-CatNovel/<scene>/...                 the same
    STD-CatKnown/test_0/0000_color.png  0000_gt_depth.exr (truth)  0000_depth_415.exr (sensor)
        0000_mask.png (255 background)  0000_meta.txt
    STD-CatNovel/...                           the same

The intrinsics are the data set's constant; frames have the size of their true depth. Its normals
are left alone: their axes are documented nowhere.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np

from dkt_ros.camera import PinholeCamera
from dkt_ros.data.datasets.sequence import (
    DataSet,
    FrameSequence,
    Images,
    first_size,
    frame_names,
    resized,
    split_of,
)
from dkt_ros.data.exr import read_depth_exr, read_exr
from dkt_ros.data.images import read_ids, read_rgb
from dkt_ros.material import Material

COLOR = '_color.png'
TRUTHS = ('_depth_120.exr', '_gt_depth.exr', '_depth_0.exr')
SENSORS = ('_simDepthImage.exr', '_depth_415.exr')
MASKS = ('_mask.exr', '_mask.png')
FOCAL_WIDTHS = 446.31 / 640
"""Focal length in image widths."""
BACKGROUND_ID = 255
MATERIALS = {0: Material.DIFFUSE, 1: Material.DIFFUSE, 2: Material.TRANSPARENT,
             3: Material.REFLECTIVE}
LONG_LINE, SHORT_PLACE = 5, 2


def is_dreds(folder: Path) -> bool:
    """Return True if the folder holds colour images with DREDS's or STD's true depth beside."""
    return any(folder.glob(f'*{COLOR}')) and any(any(folder.glob(f'*{suffix}'))
                                                 for suffix in TRUTHS)


def open_dreds(folder: Path) -> list[FrameSequence]:
    """Open one scene of DREDS (unrelated views) or of STD (video)."""
    names = frame_names(folder, COLOR)
    is_real = any(folder.glob('*_gt_depth.exr')) or any(folder.glob('*_depth_415.exr'))
    width, height = first_size(
        folder, names, lambda name: read_depth_exr(_find(folder, name, TRUTHS, 'true depth')))
    focal = FOCAL_WIDTHS * width
    camera = PinholeCamera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)

    def read(name: str) -> Images:
        ids = resized(_read_mask(_find(folder, name, MASKS, 'mask')), camera)
        materials = read_materials(folder / f'{name}_meta.txt')
        return Images(
            resized(read_rgb(folder / f'{name}{COLOR}'), camera, smooth=True),
            read_depth_exr(_find(folder, name, TRUTHS, 'true depth')),
            resized(read_depth_exr(_find(folder, name, SENSORS, 'sensor depth')), camera),
            material_of(ids, materials), np.where(ids == BACKGROUND_ID, 0, ids + 1))

    name = f'{folder.parent.name}_{folder.name}'
    return [FrameSequence(folder, name, 'std' if is_real else 'dreds', camera, names, read,
                          is_video=is_real, split='test' if is_real else split_of(folder))]


def read_materials(path: Path) -> dict[int, Material]:
    """
    Read the material of each instance.

    A line is `idx label folder name scale material qw qx qy qz tx ty tz` (the name may be in one
    word with the folder), or `idx label material`.
    """
    if not path.is_file():
        raise ValueError(f'{path.name} does not exist, so that no material is known')
    materials = {}
    for line in filter(None, map(str.strip, path.read_text().splitlines())):
        words = line.split()
        # Counted from the end: pose (7 words) and, before it, the material.
        place = len(words) - 8 if len(words) > LONG_LINE else SHORT_PLACE
        try:
            materials[int(words[0])] = MATERIALS[int(words[place])]
        except (ValueError, IndexError, KeyError) as error:
            raise ValueError(f'{path.name} has the line {line!r}; an instance and a material from '
                             '0 to 3 are expected') from error
    return materials


def material_of(ids: np.ndarray, materials: dict[int, Material]) -> np.ndarray:
    """Return the `Material` of each pixel, (H, W) uint8; unknown instances are background."""
    result = np.full(ids.shape, int(Material.BACKGROUND), np.uint8)
    for instance, material in materials.items():
        result[ids == instance] = int(material)
    return result


def _find(folder: Path, name: str, suffixes: tuple[str, ...], what: str) -> Path:
    for suffix in suffixes:
        if (folder / f'{name}{suffix}').is_file():
            return folder / f'{name}{suffix}'
    names = ' or '.join(f'{name}{suffix}' for suffix in suffixes)
    raise ValueError(f'its {what} is missing ({names})')


def _read_mask(path: Path) -> np.ndarray:
    if path.suffix == '.png':
        return read_ids(path).astype(np.uint16)
    channels = read_exr(path)
    values = channels.get('R', next(iter(channels.values())))
    return np.rint(values * 255).astype(np.uint16)


SOURCE = 'https://github.com/PKU-EPIC/DREDS (project page)'
DREDS = DataSet('dreds', SOURCE, 'CC BY-NC 4.0', is_dreds, open_dreds)
