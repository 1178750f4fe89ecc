"""The user's own environments and photographs: found, tried, bad ones named and left out."""
from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np

from dkt_ros.config import RenderConfig
from dkt_ros.data.exr import read_exr
from dkt_ros.errors import UserError

LOG = logging.getLogger(__name__)
ENVIRONMENTS = ('.hdr', '.exr')
PHOTOGRAPHS = ('.jpg', '.jpeg', '.png', '.webp', '.tif', '.tiff', '.bmp')


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
    """Return True for an image that can be read to its end; name it in the log otherwise."""
    try:
        if file.suffix.lower() == '.exr':
            read_exr(file)
        elif cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_COLOR) is None:
            raise ValueError(f'OpenCV cannot decode {file}')
    except OSError as error:
        reason = error.strerror
    except (ValueError, cv2.error):
        reason = 'it is no image that can be read'
    else:
        return True
    LOG.warning('skipped %s: %s', file, reason)
    return False
