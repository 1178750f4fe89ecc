"""
ClearGrasp's rendered frames (Sajjan et al. 2020): single views of clear plastic, for training.

    <object>/rgb-imgs/000000000-rgb.jpg
    <object>/depth-imgs-rectified/000000000-depth-rectified.exr       true depth along z [m]
    <object>/segmentation-masks/000000000-segmentation-mask.png       not zero: transparent
    <object>/camera-normals/000000000-cameraNormals.exr               y up, z to the camera

There is no sensor depth. The intrinsics follow from the data set's field of view.
"""
from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from dkt_ros.camera import PinholeCamera
from dkt_ros.data.datasets.sequence import (
    DataSet,
    FrameSequence,
    Images,
    existing,
    first_size,
    frame_names,
    split_of,
)
from dkt_ros.data.exr import read_depth_exr, read_normals_exr
from dkt_ros.data.images import read_ids, read_rgb
from dkt_ros.geometry import opengl_to_optical
from dkt_ros.material import Material

FOV_RAD = (1.2113, 0.7428)
"""Horizontal and vertical field of view."""
COLOR = '-rgb.jpg'


def is_cleargrasp_synthetic(folder: Path) -> bool:
    """Return True if the folder is one object's: rgb-imgs beside depth-imgs-rectified."""
    return (folder / 'rgb-imgs').is_dir() and (folder / 'depth-imgs-rectified').is_dir()


def open_cleargrasp_synthetic(folder: Path) -> list[FrameSequence]:
    """Open the views of one object."""
    names = frame_names(folder / 'rgb-imgs', COLOR)
    width, height = first_size(folder, names,
                               lambda name: read_rgb(folder / 'rgb-imgs' / f'{name}{COLOR}'))
    fx, fy = (size / 2 / math.tan(fov / 2) for size, fov in zip((width, height), FOV_RAD))
    camera = PinholeCamera(width, height, fx, fy, (width - 1) / 2, (height - 1) / 2)

    def read(name: str) -> Images:
        mask = read_ids(existing(
            folder / 'segmentation-masks' / f'{name}-segmentation-mask.png', 'mask'))
        material = np.where(mask > 0, int(Material.TRANSPARENT), int(Material.BACKGROUND))
        normals = folder / 'camera-normals' / f'{name}-cameraNormals.exr'
        return Images(
            read_rgb(folder / 'rgb-imgs' / f'{name}{COLOR}'),
            read_depth_exr(folder / 'depth-imgs-rectified' / f'{name}-depth-rectified.exr'),
            material=material.astype(np.uint8),
            normals=opengl_to_optical(read_normals_exr(normals)) if normals.is_file() else None)

    return [FrameSequence(folder, folder.name, 'cleargrasp-synthetic', camera, names, read,
                          split=split_of(folder))]


CLEARGRASP_SYNTHETIC = DataSet(
    'cleargrasp-synthetic', 'https://github.com/Shreeyak/cleargrasp (synthetic data set)',
    'as stated there', is_cleargrasp_synthetic, open_cleargrasp_synthetic)
