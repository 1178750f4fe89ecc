"""
The scene folder: one reader, one writer, one check. No ROS.

    scene.json                 name, seed, camera, poses, objects, settings, which layers exist
    rgb/000000.png             8 bit sRGB
    depth/000000.exr           float32 channel Z: depth of the first surface [m], NaN invalid
    normals/000000.exr         half channels X Y Z, optical frame, towards the camera
    instance/000000.png        uint16, 0 where there is no object
    material/000000.png        uint8, values of `Material`
    sensor_depth/000000.png    uint16 millimetres, 0 invalid: what a depth camera would report
    sensor_disparity/...exr    float32 channel Z: raw disparity of the left infrared camera [px],
                               NaN unmatched; only for frames whose sensor was rendered as a pair
    meshes/0001.ply            triangles of instance 1 in the object's frame [m]

Only `rgb` is compulsory for a reader; the renderer writes all of them.
"""
from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dkt_ros.camera import PinholeCamera
from dkt_ros.data.exr import read_depth_exr, read_normals_exr, write_depth_exr, write_normals_exr
from dkt_ros.data.images import (
    depth_to_millimetres,
    read_depth_png,
    read_ids,
    read_rgb,
    write_image,
)
from dkt_ros.data.ply import read_mesh, write_mesh
from dkt_ros.errors import UserError
from dkt_ros.frame import Frame

FORMAT = 'dkt-scene/1'
EVALUATION_SEED = 1_000_000
"""Seeds from here up are for evaluation only; training refuses them."""

LAYERS = {'rgb': '.png', 'depth': '.exr', 'normals': '.exr', 'instance': '.png',
          'material': '.png', 'sensor_depth': '.png'}
SPARSE_LAYERS = {'sensor_disparity': '.exr'}
"""Layers that some frames of a scene may lack."""
CAMERA_KEYS = ('width', 'height', 'fx', 'fy', 'cx', 'cy')


@dataclass(frozen=True)
class SceneFrame:
    """
    One frame with everything that is known to be true about it.

    Attributes
    ----------
    index : int
        Position in the scene.
    frame : Frame
        What the camera gave, sensor depth included.
    depth : (H, W) float32 or None
        True depth of the first surface [m]; NaN where there is none.
    normals : (H, W, 3) float32 or None
        True unit normals, optical frame, towards the camera; 0 where there is no surface.
    instance : (H, W) uint16 or None
        Object id, 0 where there is no object.
    material : (H, W) uint8 or None
        Values of `Material`.
    T_world_camera : (4, 4) float64 or None
        Pose of the optical frame.
    sensor_disparity : (h, w) float32 or None
        Raw disparity of the infrared pair at the left one's pixels [px]; NaN where unmatched.

    """

    index: int
    frame: Frame
    depth: np.ndarray | None = None
    normals: np.ndarray | None = None
    instance: np.ndarray | None = None
    material: np.ndarray | None = None
    T_world_camera: np.ndarray | None = None
    sensor_disparity: np.ndarray | None = None


@dataclass(frozen=True)
class Scene(Sequence):
    """
    A scene folder; frames are read when asked for.

    `infrared` holds width, height, fx, fy, cx, cy, baseline_m and offset_m (of the left infrared
    camera, to the right of the colour camera) of a scene that has raw disparity, else nothing.
    """

    path: Path
    name: str
    seed: int
    preset: str
    fps: float
    camera: PinholeCamera
    num_frames: int
    layers: tuple[str, ...]
    objects: tuple[dict, ...] = ()
    poses: np.ndarray | None = None
    settings: dict = field(default_factory=dict)
    infrared: dict = field(default_factory=dict)

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, index: int | slice) -> SceneFrame | list[SceneFrame]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.num_frames))]
        if not -self.num_frames <= index < self.num_frames:
            raise IndexError(f'frame {index} of scene {self.name}, which has {self.num_frames}')
        return self._read(index % self.num_frames)

    def __iter__(self) -> Iterator[SceneFrame]:
        return (self._read(index) for index in range(self.num_frames))

    def layer_path(self, layer: str, index: int) -> Path:
        """Return the file of one layer of one frame."""
        suffix = (LAYERS | SPARSE_LAYERS)[layer]
        return self.path / layer / f'{index:06d}{suffix}'

    def read_layer(self, layer: str, index: int) -> np.ndarray | None:
        """Read one layer of one frame; None if the scene does not have it."""
        if layer not in self.layers:
            return None
        return READERS[layer](self.layer_path(layer, index))

    def read_mesh(self, instance: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Read vertices (N, 3) [m] and triangles (F, 3) of an object in its frame, or None."""
        path = self.path / 'meshes' / f'{instance:04d}.ply'
        return read_mesh(path) if path.is_file() else None

    def _read(self, index: int) -> SceneFrame:
        layers = {layer: self.read_layer(layer, index) for layer in LAYERS}
        for layer in SPARSE_LAYERS:
            path = self.layer_path(layer, index)
            layers[layer] = READERS[layer](path) if path.is_file() else None
        frame = Frame(layers.pop('rgb'), round(index * 1e9 / self.fps), self.camera,
                      layers.pop('sensor_depth'))
        pose = None if self.poses is None else self.poses[index]
        return SceneFrame(index, frame, T_world_camera=pose, **layers)


READERS = {'rgb': read_rgb, 'depth': read_depth_exr, 'normals': read_normals_exr,
           'instance': read_ids, 'material': read_ids, 'sensor_depth': read_depth_png,
           'sensor_disparity': read_depth_exr}


def is_scene(path: str | Path) -> bool:
    """Return True if `path` is a scene folder."""
    return (Path(path) / 'scene.json').is_file()


def list_scenes(folder: str | Path) -> list[Path]:
    """Return the scene folders in `folder` in order of name, or `folder` itself if it is one."""
    folder = Path(folder)
    if is_scene(folder):
        return [folder]
    if not folder.is_dir():
        raise UserError(f'{folder} does not exist; give a scene folder or a folder of them '
                        '(`dkt render` makes them)')
    scenes = sorted(path.parent for path in folder.glob('*/scene.json')
                    if not path.parent.name.startswith('.'))
    if not scenes:
        raise UserError(f'{folder} holds no scene folder (none has a scene.json); make some with '
                        '`dkt render`')
    return scenes


def open_scene(path: str | Path) -> Scene:
    """
    Open a scene folder; frames are read later.

    Raises
    ------
    UserError
        If scene.json is missing, broken or of another format.

    """
    path = Path(path)
    try:
        record = json.loads((path / 'scene.json').read_text())
    except FileNotFoundError as error:
        raise UserError(f'{path} has no scene.json; give a folder that `dkt render` wrote') \
            from error
    except ValueError as error:
        raise UserError(f'{path / "scene.json"} is no valid JSON ({error}); render the scene '
                        'again') from error
    if not isinstance(record, dict) or record.get('format') != FORMAT:
        found = record.get('format') if isinstance(record, dict) else type(record).__name__
        raise UserError(f'{path / "scene.json"} has the format {found!r}; {FORMAT!r} is read here')
    try:
        return _scene_from_record(path, record)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f'{path / "scene.json"} lacks or garbles a field ({error}); render the '
                        'scene again') from error


def _scene_from_record(path: Path, record: dict) -> Scene:
    camera = PinholeCamera(**{key: record['camera'][key] for key in CAMERA_KEYS})
    layers = record.get('layers') or [name for name in LAYERS if (path / name).is_dir()]
    unknown = set(layers) - set(LAYERS)
    if unknown or 'rgb' not in layers:
        raise ValueError(f'layers {layers}, allowed {list(LAYERS)}, rgb compulsory')
    poses = record.get('T_world_camera')
    if poses is not None:
        poses = np.asarray(poses, np.float64).reshape(int(record['num_frames']), 4, 4)
    return Scene(path=path, name=str(record['name']), seed=int(record['seed']),
                 preset=str(record.get('preset', '')), fps=float(record['fps']), camera=camera,
                 num_frames=int(record['num_frames']), layers=tuple(layers),
                 objects=tuple(record.get('objects', ())), poses=poses,
                 settings=dict(record.get('settings', {})),
                 infrared=dict(record.get('infrared') or {}))


def write_scene(path: str | Path, *, name: str, seed: int, preset: str, fps: float,
                camera: PinholeCamera, frames: Iterable[SceneFrame], objects: Sequence[dict] = (),
                settings: dict | None = None, overwrite: bool = False,
                infrared: dict | None = None,
                meshes: dict[int, tuple[np.ndarray, np.ndarray]] | None = None) -> Path:
    """
    Write a scene folder: into a temporary folder beside it, renamed when it is whole.

    Parameters
    ----------
    path : str or Path
        The scene folder; it must not exist unless `overwrite`.
    frames : iterable of SceneFrame
        Any object with the same attributes does; all frames have the same layers.
    objects : sequence of dict
        instance, family, material, material_class (a `Material` label), T_world_object (4x4),
        size_m (three lengths in the object's frame [m], the third one along its axis of height).
    infrared : dict, optional
        The pair that `sensor_disparity` comes from, as in `Scene`.
    meshes : dict of int to ((N, 3) float, (F, 3) int), optional
        Vertices [m] and triangles by instance, in the object's frame.

    Returns
    -------
    Path
        The scene folder.

    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise UserError(f'{path} exists already; give another folder or remove it')
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.partial-{os.getpid()}')
    shutil.rmtree(partial, ignore_errors=True)
    try:
        layers, poses = _write_frames(partial, frames, camera)
        _write_meshes(partial / 'meshes', meshes or {})
        record = {
            'format': FORMAT, 'name': name, 'seed': int(seed), 'preset': preset,
            'num_frames': len(poses), 'fps': float(fps), 'layers': list(layers),
            'camera': {key: getattr(camera, key) for key in CAMERA_KEYS},
            'T_world_camera': None if any(pose is None for pose in poses)
            else [np.asarray(pose, np.float64).tolist() for pose in poses],
            'objects': [_plain(item) for item in objects], 'settings': _plain(settings or {})}
        if infrared:
            record['infrared'] = _plain(infrared)
        (partial / 'scene.json').write_text(json.dumps(record, indent=1, allow_nan=False))
        if path.exists():
            shutil.rmtree(path)
        os.rename(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def _write_frames(folder: Path, frames: Iterable[SceneFrame],
                  camera: PinholeCamera) -> tuple[tuple[str, ...], list]:
    layers: tuple[str, ...] = ()
    poses: list = []
    for index, item in enumerate(frames):
        images = frame_layers(item)
        if index == 0:
            layers = tuple(images)
            for layer in layers:
                (folder / layer).mkdir(parents=True)
        if tuple(images) != layers:
            raise ValueError(f'frame {index} has the layers {tuple(images)}, frame 0 has {layers}')
        for layer, image in images.items():
            if image.shape[:2] != (camera.height, camera.width):
                raise ValueError(f'{layer} of frame {index} is {image.shape}; the camera has '
                                 f'({camera.height}, {camera.width}) pixels (height, width)')
            WRITERS[layer](folder / layer / f'{index:06d}{LAYERS[layer]}', image)
        disparity = getattr(item, 'sensor_disparity', None)
        if disparity is not None:
            (folder / 'sensor_disparity').mkdir(exist_ok=True)
            write_depth_exr(folder / 'sensor_disparity' / f'{index:06d}.exr', disparity)
        poses.append(item.T_world_camera)
    if not poses:
        raise ValueError('a scene needs at least one frame; none was given')
    return layers, poses


def _write_meshes(folder: Path, meshes: dict[int, tuple[np.ndarray, np.ndarray]]) -> None:
    for instance, (vertices, triangles) in meshes.items():
        folder.mkdir(exist_ok=True)
        write_mesh(folder / f'{instance:04d}.ply', vertices, triangles)


def frame_layers(item: SceneFrame) -> dict[str, np.ndarray]:
    """Return the images that `item` has, by layer name, in the order of `LAYERS`."""
    images = {'rgb': item.frame.rgb, 'depth': item.depth, 'normals': item.normals,
              'instance': item.instance, 'material': item.material,
              'sensor_depth': item.frame.sensor_depth}
    return {layer: image for layer, image in images.items() if image is not None}


WRITERS = {
    'rgb': write_image, 'depth': write_depth_exr, 'normals': write_normals_exr,
    'instance': lambda path, ids: write_image(path, np.asarray(ids, np.uint16)),
    'material': lambda path, ids: write_image(path, np.asarray(ids, np.uint8)),
    'sensor_depth': lambda path, depth: write_image(path, depth_to_millimetres(depth)),
}


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return value
