"""
A scene folder packed small enough to come with the package.

    clip.json                   as scene.json, with `depth_unit_m` and `truth_every`
    rgb/000000.webp             colour, lossy
    sensor_depth/000000.webp    uint16 in `depth_unit_m`, 0 invalid; lossless, the high byte in
                                red, the low byte in green: half the size of a 16 bit PNG
    depth/000000.webp           the same of the truth, of each `truth_every`-th frame
    material/000000.png         values of `Material`, of the same frames
"""
from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dkt_ros.camera import PinholeCamera
from dkt_ros.data.clip import Clip
from dkt_ros.data.exr import clean_depth
from dkt_ros.data.images import read_ids, read_rgb, write_image
from dkt_ros.data.scenes import CAMERA_KEYS, Scene, SceneFrame, open_scene
from dkt_ros.errors import UserError
from dkt_ros.frame import Frame

FORMAT = 'dkt-clip/1'
LOSSLESS = 101
"""OpenCV's quality for lossless WebP."""


def is_packed(path: Path) -> bool:
    """Return True if `path` is the folder of a packed clip."""
    return (path / 'clip.json').is_file()


def pack_clip(scene: str | Path, out: str | Path, *, quality: int = 90, truth_every: int = 1,
              depth_unit_m: float = 0.001, max_frames: int | None = None) -> int:
    """
    Pack a scene folder.

    Parameters
    ----------
    scene, out : str or Path
        The scene folder and the new folder, which must not exist.
    quality : int
        Of the colour images (WebP), 1 to 100.
    truth_every : int
        Truth is kept for each n-th frame; an odd number meets every phase of a latent.
    depth_unit_m : float
        Step of the stored depth [m].
    max_frames : int, optional
        Leave out what comes after.

    Returns
    -------
    int
        Size of the clip [bytes].

    """
    source, out = open_scene(scene), Path(out)
    if out.exists():
        raise UserError(f'{out} exists already; give another folder or remove it')
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f'.{out.name}.partial-{os.getpid()}')
    shutil.rmtree(partial, ignore_errors=True)
    num_frames = min(len(source), max_frames or len(source))
    settings = {'depth_unit_m': depth_unit_m, 'truth_every': truth_every}
    try:
        for layer in ('rgb', 'sensor_depth', 'depth', 'material'):
            (partial / layer).mkdir(parents=True)
        for index in range(num_frames):
            _pack_frame(partial, source[index], quality, **settings)
        record = _record(source, num_frames, settings)
        (partial / 'clip.json').write_text(json.dumps(record, allow_nan=False))
        os.rename(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sum(file.stat().st_size for file in out.rglob('*') if file.is_file())


def _pack_frame(folder: Path, item: SceneFrame, quality: int, *, depth_unit_m: float,
                truth_every: int) -> None:
    name = f'{item.index:06d}'
    write_image(folder / 'rgb' / f'{name}.webp', item.frame.rgb, quality)
    if item.frame.sensor_depth is not None:
        write_depth_webp(folder / 'sensor_depth' / f'{name}.webp', item.frame.sensor_depth,
                         depth_unit_m)
    if item.index % truth_every == 0 and item.depth is not None:
        write_depth_webp(folder / 'depth' / f'{name}.webp', item.depth, depth_unit_m)
        if item.material is not None:
            write_image(folder / 'material' / f'{name}.png', item.material)


def write_depth_webp(path: Path, depth: np.ndarray, unit_m: float) -> None:
    """Write depth (H, W) [m] in steps of `unit_m`, lossless otherwise."""
    valid = np.isfinite(depth) & (depth > 0) & (depth < 65535 * unit_m)
    steps = np.where(valid, np.rint(np.where(valid, depth, 0) / unit_m), 0).astype(np.uint16)
    bytes_ = np.stack([steps >> 8, steps & 255, np.zeros_like(steps)], axis=-1).astype(np.uint8)
    write_image(path, bytes_, LOSSLESS)


def read_depth_webp(path: Path, unit_m: float) -> np.ndarray | None:
    """Read depth (H, W) float32 [m], NaN invalid; None if there is no such file."""
    if not path.is_file():
        return None
    image = read_rgb(path).astype(np.uint16)
    return clean_depth((image[..., 0] << 8 | image[..., 1]) * np.float32(unit_m))


def _record(source: Scene, num_frames: int, settings: dict) -> dict:
    return {
        'format': FORMAT, 'name': source.name, 'seed': source.seed, 'preset': source.preset,
        'fps': source.fps, 'num_frames': num_frames,
        'camera': {key: getattr(source.camera, key) for key in CAMERA_KEYS},
        'T_world_camera': None if source.poses is None
        else np.round(source.poses[:num_frames], 6).tolist(),
        'objects': [{key: value for key, value in item.items() if key != 'T_world_object'}
                    for item in source.objects], **settings}


def open_packed(path: Path) -> Clip:
    """Open a packed clip; items without stored truth have None there."""
    try:
        record = json.loads((path / 'clip.json').read_text())
        if record['format'] != FORMAT:
            raise ValueError(f'format {record["format"]!r}, {FORMAT!r} is read here')
        camera = PinholeCamera(**{key: record['camera'][key] for key in CAMERA_KEYS})
        num_frames, fps = int(record['num_frames']), float(record['fps'])
        unit_m, poses = float(record['depth_unit_m']), record.get('T_world_camera')
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f'{path / "clip.json"} is broken ({error}); pack the clip again') \
            from error

    def read() -> Iterator[SceneFrame]:
        for index in range(num_frames):
            rgb, sensor, truth = (path / layer / f'{index:06d}.webp'
                                  for layer in ('rgb', 'sensor_depth', 'depth'))
            material = path / 'material' / f'{index:06d}.png'
            frame = Frame(read_rgb(rgb), round(index * 1e9 / fps), camera,
                          read_depth_webp(sensor, unit_m))
            yield SceneFrame(
                index, frame, read_depth_webp(truth, unit_m),
                material=read_ids(material) if material.is_file() else None,
                T_world_camera=None if poses is None else np.reshape(poses[index], (4, 4)))

    return Clip(path, 'packed', fps, camera, read, num_frames,
                has_truth=any((path / 'depth').glob('*.webp')),
                objects=tuple(record.get('objects', ())))
