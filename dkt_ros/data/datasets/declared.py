"""
Data sets that are described by a YAML file instead of by code.

The file `dataset.yaml` lies in the data set's folder; every pattern is relative to it. A layer's
`files` names one file a frame with `{sequence}` and `{frame}` in it:

    name: my-set            # in tables
    source: where it is obtained
    licence: under which terms
    confirmed: true         # false where the layout was not checked against a released copy
    video: true             # false for unrelated views
    fps: 30.0
    camera: {width: 640, height: 480, fx: 600.0, fy: 600.0, cx: 319.5, cy: 239.5}
    layers:
      rgb: {files: '{sequence}/rgb/{frame}.png'}
      depth: {files: '{sequence}/depth/{frame}.png', divisor: 1000.0}  # an EXR needs none: metres
      sensor_depth: {files: ...}
      mask: {files: ..., transparent: [255]}    # values; without, whatever is not zero
      normals: {files: ..., axes: optical}      # or `opengl`: y up, z towards the camera
"""
from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dkt_ros.data.datasets.sequence import (
    DataSet,
    FrameSequence,
    Images,
    check_camera,
    existing,
    resized,
    split_of,
)
from dkt_ros.data.exr import read_depth_exr, read_normals_exr
from dkt_ros.data.images import read_depth_png, read_ids, read_rgb
from dkt_ros.errors import UserError
from dkt_ros.geometry import opengl_to_optical
from dkt_ros.material import Material
from dkt_ros.options import Config, option

FILE_NAME = 'dataset.yaml'


@dataclass(frozen=True)
class LayerConfig(Config):
    """Where one layer of the frames lies and how its values are meant."""

    files: str = option('', 'Path of a frame, with {sequence} and {frame} in it.')
    divisor: float = option(1.0, 'Depth images of integers are divided by this to get metres.',
                            minimum=1e-3, maximum=1e6)
    transparent: tuple[int, ...] = option((), 'Mask values that mean transparent; none given: all '
                                          'but 0.', minimum=0, maximum=65535)
    axes: str = option('optical', 'Axes of normals.', choices=('optical', 'opengl'))


@dataclass(frozen=True)
class LayersConfig(Config):
    """The layers of a frame; those without files do not exist."""

    rgb: LayerConfig = option(LayerConfig(), 'Colour.')
    depth: LayerConfig = option(LayerConfig(), 'True depth.')
    sensor_depth: LayerConfig = option(LayerConfig(), "A depth camera's.")
    mask: LayerConfig = option(LayerConfig(), 'What is transparent.')
    normals: LayerConfig = option(LayerConfig(), 'True normals, EXR.')


@dataclass(frozen=True)
class CameraConfig(Config):
    """Intrinsics of all frames [px]."""

    width: int = option(0, 'Image width [px].', minimum=0, maximum=16384)
    height: int = option(0, 'Image height [px].', minimum=0, maximum=16384)
    fx: float = option(0.0, 'Focal length [px].', minimum=0.0)
    fy: float = option(0.0, 'Focal length [px].', minimum=0.0)
    cx: float = option(0.0, 'Principal point [px].')
    cy: float = option(0.0, 'Principal point [px].')


@dataclass(frozen=True)
class DeclaredConfig(Config):
    """What `dataset.yaml` says."""

    name: str = option('', 'Name of the data set.')
    source: str = option('', 'Where it is obtained.')
    licence: str = option('', 'Under which terms.')
    confirmed: bool = option(False, 'The layout was checked against a released copy.')
    video: bool = option(True, 'False for unrelated views.')
    fps: float = option(30.0, 'Frame rate [Hz].', minimum=0.1, maximum=240.0)
    camera: CameraConfig = option(CameraConfig(), 'Intrinsics.')
    layers: LayersConfig = option(LayersConfig(), 'The files.')


def is_declared(folder: Path) -> bool:
    """Return True if the folder says how it is laid out."""
    return (folder / FILE_NAME).is_file()


def open_declared(folder: Path) -> list[FrameSequence]:
    """
    Open every sequence that the folder's dataset.yaml describes.

    Raises
    ------
    UserError
        If the file leaves something open, or its patterns find nothing.

    """
    config = DeclaredConfig.from_yaml(folder / FILE_NAME)
    _check(config, folder / FILE_NAME)
    notes = () if config.confirmed else (
        f'the layout of {config.name} is described by {folder / FILE_NAME} and not confirmed '
        'against a released copy: look at the pictures before believing figures',)
    camera = config.camera
    camera = check_camera(camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height,
                          str(folder / FILE_NAME))
    found = find_frames(folder, config.layers.rgb.files)
    if not found:
        raise UserError(f'{config.layers.rgb.files!r} finds nothing in {folder}; correct the '
                        f'pattern in {FILE_NAME}')
    return [FrameSequence(folder, f'{config.name}_{name}'.replace('/', '_').rstrip('_'),
                          config.name, camera, frames, _reader(folder, config, camera, name),
                          is_video=config.video, fps=config.fps, split=split_of(folder / name),
                          has_mask=bool(config.layers.mask.files),
                          has_depth=bool(config.layers.depth.files), notes=notes)
            for name, frames in found.items()]


def _check(config: DeclaredConfig, path: Path) -> None:
    layers = config.layers
    if not (config.name and config.source and config.licence):
        raise UserError(f'{path} leaves name, source or licence empty; say what the data are and '
                        'under which terms they may be used')
    if not layers.rgb.files:
        raise UserError(f'{path} names no files for the layer rgb; look at your copy of '
                        f'{config.name} and write its patterns there')
    for what in ('rgb', 'depth', 'sensor_depth', 'mask', 'normals'):
        files = getattr(layers, what).files
        if files and '{frame}' not in files:
            raise UserError(f'{path}: the files of layer {what} are {files!r}; {{frame}} must '
                            'stand in the pattern')


def find_frames(folder: Path, pattern: str) -> dict[str, tuple[str, ...]]:
    """Return the frames by sequence that a pattern finds; '' is the sequence without a name."""
    regex = re.escape(pattern).replace(r'\{sequence\}', '(?P<sequence>.+)', 1)
    regex = regex.replace(r'\{sequence\}', '(?P=sequence)')
    regex = regex.replace(r'\{frame\}', '(?P<frame>[^/]+)', 1).replace(r'\{frame\}', '(?P=frame)')
    suffix = Path(pattern).suffix
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob(f'*{suffix}')):
        match = re.fullmatch(regex, path.relative_to(folder).as_posix())
        if match:
            found.setdefault(match.groupdict().get('sequence', ''), []).append(match['frame'])
    return {name: tuple(frames) for name, frames in found.items()}


def _reader(folder: Path, config: DeclaredConfig, camera, sequence: str
            ) -> Callable[[str], Images]:
    layers = config.layers

    def place(layer: LayerConfig, frame: str) -> Path:
        return folder / layer.files.format(sequence=sequence, frame=frame)

    def depth(layer: LayerConfig, frame: str) -> np.ndarray | None:
        if not layer.files:
            return None
        path = place(layer, frame)
        image = read_depth_exr(path) / np.float32(layer.divisor) if path.suffix == '.exr' \
            else read_depth_png(path, layer.divisor)
        return resized(image, camera)

    def read(frame: str) -> Images:
        return Images(resized(read_rgb(place(layers.rgb, frame)), camera, smooth=True),
                      depth(layers.depth, frame), depth(layers.sensor_depth, frame),
                      _material(layers.mask, place, frame, camera),
                      normals=_normals(layers.normals, place, frame, camera))

    return read


def _material(layer: LayerConfig, place: Callable, frame: str, camera) -> np.ndarray | None:
    if not layer.files:
        return None
    mask = resized(read_ids(existing(place(layer, frame), 'mask')), camera)
    clear = np.isin(mask, layer.transparent) if layer.transparent else mask > 0
    return np.where(clear, int(Material.TRANSPARENT), int(Material.BACKGROUND)).astype(np.uint8)


def _normals(layer: LayerConfig, place: Callable, frame: str, camera) -> np.ndarray | None:
    if not layer.files:
        return None
    normals = resized(read_normals_exr(place(layer, frame)), camera)
    return opengl_to_optical(normals) if layer.axes == 'opengl' else normals


DECLARED = DataSet(
    'declared', 'any folder with a dataset.yaml; config/datasets/ has one to complete for '
    'TransPhy3D (Hugging Face, Daniellesry/TransPhy3D)', 'as the file says', is_declared,
    open_declared)
