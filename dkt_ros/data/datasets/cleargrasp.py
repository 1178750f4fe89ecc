"""
ClearGrasp's real frames (Shreeyak/cleargrasp): stills of clear plastic with painted twins.

    NNN-transparent-rgb-img.jpg     colour
    NNN-transparent-depth-img.exr   what the sensor measured [m], channel R
    NNN-opaque-depth-img.exr        the truth: the same scene with painted twins [m]
    NNN-mask.png                    not zero on the transparent objects
    camera_intrinsics.yaml          xres yres fx fy cx cy [px]
"""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml

from dkt_ros.camera import PinholeCamera
from dkt_ros.data.clip import Clip, repeated
from dkt_ros.data.datasets.sequence import (
    STILL_REPEATS,
    DataSet,
    FrameSequence,
    Images,
    frame_names,
    split_of,
)
from dkt_ros.data.exr import read_depth_exr
from dkt_ros.data.images import read_ids, read_rgb
from dkt_ros.data.scenes import SceneFrame
from dkt_ros.errors import UserError
from dkt_ros.frame import Frame
from dkt_ros.material import Material

RGB_SUFFIX = '-transparent-rgb-img.jpg'


def is_cleargrasp(path: Path) -> bool:
    """Return True if the folder holds colour images named as ClearGrasp names them."""
    return any(path.glob(f'*{RGB_SUFFIX}'))


def open_cleargrasp(path: Path, repeat: int | None = None, fps: float = 6.0) -> Clip:
    """
    Open a folder in ClearGrasp's layout; each still is shown `repeat` times.

    The material of the mask's pixels is TRANSPARENT, of all others BACKGROUND.
    """
    names = sorted(file.name.removesuffix(RGB_SUFFIX) for file in path.glob(f'*{RGB_SUFFIX}'))
    camera = _read_camera(path)
    repeat = STILL_REPEATS if repeat is None else repeat

    def read() -> Iterator[SceneFrame]:
        stills = (_read_still(path, name, camera) for name in names)
        for index, (still, stamp_ns) in enumerate(repeated(stills, repeat, fps)):
            rgb, sensor, truth, material = still
            yield SceneFrame(index, Frame(rgb, stamp_ns, camera, sensor), truth, material=material)

    note = (f'{len(names)} stills, each shown {repeat} times: a still is no video, and '
            f'{len(names)} frames are no benchmark')
    return Clip(path, 'cleargrasp', fps, camera, read, len(names) * repeat, (note,),
                has_truth=any(path.glob('*-opaque-depth-img.exr')), is_video=False)


def open_sequences(path: Path) -> list[FrameSequence]:
    """Open the same folder as a sequence whose broken stills are left out."""
    camera = _read_camera(path)

    def read(name: str) -> Images:
        rgb, sensor, truth, material = _read_still(path, name, camera)
        return Images(rgb, truth, sensor, material)

    name = f'{path.parent.name}_{path.name}'
    return [FrameSequence(path, name, 'cleargrasp', camera, frame_names(path, RGB_SUFFIX), read,
                          split=split_of(Path(path.parent.name.removeprefix('real-'))))]


def _read_still(path: Path, name: str, camera: PinholeCamera) -> tuple:
    rgb = read_rgb(path / f'{name}{RGB_SUFFIX}')
    size = (camera.height, camera.width)
    sensor = read_depth_exr(path / f'{name}-transparent-depth-img.exr')
    truth_file, mask_file = path / f'{name}-opaque-depth-img.exr', path / f'{name}-mask.png'
    truth = read_depth_exr(truth_file) if truth_file.is_file() else None
    material = None
    if mask_file.is_file():
        material = np.where(read_ids(mask_file) > 0, int(Material.TRANSPARENT),
                            int(Material.BACKGROUND)).astype(np.uint8)
    for what, image in (('colour', rgb), ('raw depth', sensor), ('true depth', truth),
                        ('mask', material)):
        if image is not None and image.shape[:2] != size:
            raise UserError(f'{what} of {name} in {path} is {image.shape[1]}x{image.shape[0]}, '
                            f'camera_intrinsics.yaml says {camera.width}x{camera.height}')
    return rgb, sensor, truth, material


def _read_camera(path: Path) -> PinholeCamera:
    file = path / 'camera_intrinsics.yaml'
    try:
        values = yaml.safe_load(file.read_text())
        return PinholeCamera(int(values['xres']), int(values['yres']),
                             *(float(values[key]) for key in ('fx', 'fy', 'cx', 'cy')))
    except FileNotFoundError as error:
        raise UserError(f'{path} has no camera_intrinsics.yaml; copy it from the data set') \
            from error
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise UserError(f'{file} holds no camera ({error}); it needs xres, yres, fx, fy, cx, cy') \
            from error


CLEARGRASP = DataSet('cleargrasp', 'https://github.com/Shreeyak/cleargrasp (real-test, real-val)',
                     'Apache-2.0 (samples in the repository)', is_cleargrasp, open_sequences)
