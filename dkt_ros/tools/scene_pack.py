"""
Scene folders as WebDataset shards: tar files that training reads from end to end.

A sample is a frame: `<scene>-<index>.<layer>.<suffix>` for each layer, and `.json` with what
scene.json says about the frame. A scene is never split over two shards.
"""
from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from dkt_ros.data.scenes import CAMERA_KEYS, LAYERS, SPARSE_LAYERS, Scene, list_scenes, open_scene
from dkt_ros.errors import UserError

FORMAT = 'dkt-shards/1'


def run_pack(folder: str | Path, out: str | Path, shard_mb: float = 512.0) -> dict:
    """
    Pack the scenes of a folder into `out`/shard-000000.tar and so on, and index.json.

    Each file is written under a temporary name first; the index comes last, so that a folder with
    an index is whole. The same scenes give the same bytes.

    Returns
    -------
    dict
        `num_scenes`, `num_frames`, `shards` (names), `bytes`.

    """
    paths, out = list_scenes(folder), Path(out)
    if (out / 'index.json').exists():
        raise UserError(f'{out} holds shards already; give another folder or remove it')
    out.mkdir(parents=True, exist_ok=True)
    index = []
    for number, share in enumerate(_shares([open_scene(path) for path in paths], shard_mb * 1e6)):
        name = f'shard-{number:06d}.tar'
        partial = out / f'.{name}.{os.getpid()}'
        try:
            frames = _write_shard(partial, share)
            os.replace(partial, out / name)
        finally:
            partial.unlink(missing_ok=True)
        index.append({'name': name, 'scenes': [scene.path.name for scene in share],
                      'num_frames': frames, 'bytes': (out / name).stat().st_size})
    temporary = out / '.index.json.tmp'
    temporary.write_text(json.dumps({'format': FORMAT, 'shards': index}, indent=1))
    os.replace(temporary, out / 'index.json')
    return {'num_scenes': len(paths), 'num_frames': sum(item['num_frames'] for item in index),
            'shards': [item['name'] for item in index],
            'bytes': sum(item['bytes'] for item in index)}


def _shares(scenes: list[Scene], limit: float) -> Iterator[list[Scene]]:
    share, size = [], 0
    for scene in scenes:
        own = sum(path.stat().st_size for path in scene.path.rglob('*') if path.is_file())
        if share and size + own > limit:
            yield share
            share, size = [], 0
        share.append(scene)
        size += own
    yield share


def _write_shard(path: Path, scenes: list[Scene]) -> int:
    frames = 0
    with tarfile.open(path, 'w', format=tarfile.USTAR_FORMAT) as tar:
        for scene in scenes:
            for index in range(len(scene)):
                # The key of a sample ends at the first dot of its files' names.
                key = f'{scene.path.name.replace(".", "_")}-{index:06d}'
                _add(tar, f'{key}.json', json.dumps(frame_record(scene, index)).encode())
                for layer in (*scene.layers, *SPARSE_LAYERS):
                    source = scene.layer_path(layer, index)
                    if layer in LAYERS or source.is_file():
                        _add(tar, f'{key}.{layer}{source.suffix}', source.read_bytes())
                frames += 1
    return frames


def frame_record(scene: Scene, index: int) -> dict:
    """Return what a sample's json says: scene, index, stamp, camera, pose, objects, sensor."""
    return {'scene': scene.name, 'index': index, 'num_frames': len(scene), 'seed': scene.seed,
            'preset': scene.preset, 'stamp_ns': round(index * 1e9 / scene.fps),
            'camera': {key: getattr(scene.camera, key) for key in CAMERA_KEYS},
            'T_world_camera': None if scene.poses is None else scene.poses[index].tolist(),
            'objects': list(scene.objects), 'infrared': scene.infrared}


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    # No time and no owner: the same scenes give the same bytes.
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def read_shard(path: str | Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """
    Yield the samples of a shard: key and files by extension (`rgb.png`, `depth.exr`, `json`).

    Raises
    ------
    ValueError
        If the shard is truncated or no tar file.

    """
    key, files = None, {}
    try:
        with tarfile.open(path, 'r:') as tar:
            for member in tar:
                own, _, extension = member.name.partition('.')
                if own != key:
                    if files:
                        yield key, files
                    key, files = own, {}
                files[extension] = tar.extractfile(member).read()
    except tarfile.ReadError as error:
        raise ValueError(f'{path} is truncated or no tar file ({error}); pack it again') from error
    if files:
        yield key, files
