"""The user's own environments and photographs: found, tried, bad ones named and left out."""
from __future__ import annotations

import logging
from pathlib import Path

import cv2

from dkt_ros.config import RenderConfig
from dkt_ros.errors import UserError

LOG = logging.getLogger(__name__)
ENVIRONMENTS = ('.hdr', '.exr')
PHOTOGRAPHS = ('.jpg', '.jpeg', '.png', '.webp', '.tif', '.tiff', '.bmp')
MAGIC = {'.exr': b'\x76\x2f\x31\x01', '.hdr': b'#?'}


def media_files(config: RenderConfig) -> dict[str, list[str]]:
    """Return `hdri_files` and `texture_files` that the worker may draw from."""
    return {'hdri_files': usable(config.hdri_folder, ENVIRONMENTS, 'hdri_folder'),
            'texture_files': usable(config.texture_folder, PHOTOGRAPHS, 'texture_folder')}


def usable(folder: str, suffixes: tuple[str, ...], option: str) -> list[str]:
    """
    Return the readable files below a folder, in order of name; none for an empty name.

    Raises
    ------
    UserError
        If the folder does not exist or holds nothing that can be read.

    """
    if not folder:
        return []
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise UserError(f'{option} {folder} does not exist; name a folder of '
                        f'{", ".join(suffixes)} files, or leave it empty')
    found = sorted(file for file in path.rglob('*') if file.suffix.lower() in suffixes)
    good = [str(file.resolve()) for file in found if _readable(file)]
    if not good:
        raise UserError(f'{option} {folder} holds no readable file ({len(found)} found) of '
                        f'{", ".join(suffixes)}; put some there, or leave it empty')
    return good


def _readable(file: Path) -> bool:
    """Return True for an image; name it in the log otherwise."""
    magic = MAGIC.get(file.suffix.lower())
    try:
        with file.open('rb') as stream:
            start = stream.read(16)
    except OSError as error:
        LOG.warning('skipped %s: %s', file, error.strerror)
        return False
    good = start.startswith(magic) if magic else cv2.imread(str(file)) is not None
    if not good:
        LOG.warning('skipped %s: it is no image that can be read', file)
    return good
