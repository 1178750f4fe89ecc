"""
What lies in a bank of meshes: files, their hashes, their sizes, what was said of them.

A bank is any folder with meshes. Beside them may lie `sizes.json` (`{"cups/tall.glb": 0.14}`, the
longest side [m]) and `assets.json`, which `dkt assets filter` writes. No bpy.
"""
from __future__ import annotations

import hashlib
import json
from pathlib import Path

SUFFIXES = ('.glb', '.gltf', '.obj', '.ply', '.blend')


def mesh_files(folder: str | Path) -> list[Path]:
    """
    Return the meshes below a folder, sorted.

    Raises
    ------
    ValueError
        If there is no such folder, or no mesh in it.

    """
    folder = Path(folder).expanduser()
    allowed = ', '.join(SUFFIXES)
    if not folder.is_dir():
        raise ValueError(f'the bank {folder} is not a folder; name one with {allowed} files')
    files = sorted(path for path in folder.rglob('*')
                   if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise ValueError(f'the bank {folder} holds no mesh; put {allowed} files there, or name '
                         'another folder')
    return files


def digest(path: Path) -> str:
    """Return the SHA-256 of a mesh file and of the buffers that a .gltf names."""
    total = hashlib.sha256(path.read_bytes())
    if path.suffix.lower() == '.gltf':
        for name in _buffers(path):
            if (path.parent / name).is_file():
                total.update((path.parent / name).read_bytes())
    return total.hexdigest()


def _buffers(path: Path) -> list[str]:
    try:
        buffers = json.loads(path.read_text()).get('buffers', [])
    except (ValueError, AttributeError):  # no JSON: the importer will say so
        return []
    return [b['uri'] for b in buffers if not b.get('uri', 'data:').startswith('data:')]


def sizes(folder: str | Path) -> dict[str, float]:
    """Return the longest sides [m] that the bank's sizes.json gives, by file."""
    path = Path(folder).expanduser() / 'sizes.json'
    if not path.is_file():
        return {}
    try:
        given = json.loads(path.read_text())
        table = {str(name): float(size) for name, size in given.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f'{path} is no table of file to longest side in metres ({error}); '
                         'expected is {"cups/tall.glb": 0.14}') from None
    wrong = [name for name, size in table.items() if not 0.001 <= size <= 5.0]
    if wrong:
        raise ValueError(f'{path} gives {wrong[0]} a longest side of {table[wrong[0]]} m; 0.001 '
                         'to 5 is allowed')
    return table


def judged(folder: str | Path) -> dict[str, tuple[str, ...]]:
    """Return what assets.json says of each file: 'transparent', 'reflective', both or none."""
    path = Path(folder).expanduser() / 'assets.json'
    if not path.is_file():
        return {}
    return {item['file']: tuple(kind for kind in ('transparent', 'reflective') if item[kind])
            for item in json.loads(path.read_text())['assets'] if item.get('transparent')
            is not None}
