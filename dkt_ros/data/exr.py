"""OpenEXR files as named float channels; OpenCV's wheels have no EXR codec."""
from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import OpenEXR


def write_exr(path: str | Path, channels: dict[str, np.ndarray]) -> None:
    """
    Write one image, ZIP compressed, under a temporary name first.

    Parameters
    ----------
    path : str or Path
        The file; its folder exists.
    channels : dict of str to (H, W) float16 or float32
        Name of each channel ('Z' for depth, 'X' 'Y' 'Z' for normals); the type is kept.

    """
    path = Path(path)
    partial = path.with_name(f'.{path.stem}.{os.getpid()}.exr')
    header = {'compression': OpenEXR.ZIP_COMPRESSION, 'type': OpenEXR.scanlineimage}
    pixels = {name: np.ascontiguousarray(values) for name, values in channels.items()}
    with OpenEXR.File(header, pixels) as file:
        file.write(str(partial))
    os.replace(partial, path)


def write_depth_exr(path: str | Path, depth: np.ndarray) -> None:
    """Write depth or disparity (H, W) as one float32 channel 'Z'; NaN stays NaN."""
    write_exr(path, {'Z': np.asarray(depth, np.float32)})


def write_normals_exr(path: str | Path, normals: np.ndarray) -> None:
    """Write normals (H, W, 3) as half channels 'X' 'Y' 'Z'."""
    write_exr(path, {name: np.asarray(normals[..., axis], np.float16)
                     for axis, name in enumerate('XYZ')})


def read_exr(path: str | Path) -> dict[str, np.ndarray]:
    """
    Read all channels of one image.

    Returns
    -------
    dict of str to (H, W) float32

    Raises
    ------
    ValueError
        If the file is missing, truncated or no EXR image.

    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f'{path} does not exist; give the path of an EXR image')
    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            return {name: np.array(channel.pixels, np.float32)
                    for name, channel in file.channels().items()}
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(f'{path} is truncated or no EXR image; copy or render it '
                         'again') from error


def read_depth_exr(path: str | Path) -> np.ndarray:
    """
    Read depth from channel Z, D or R (R as ClearGrasp stores it).

    Returns
    -------
    (H, W) float32
        Depth [m]; NaN where the file has 0, a negative number, NaN or infinity.

    """
    channels = read_exr(path)
    name = next((name for name in ('Z', 'D', 'R', 'Y') if name in channels), None)
    if name is None:
        raise ValueError(f'{path} has the channels {", ".join(channels)}; depth is expected in '
                         'Z, D or R')
    return clean_depth(channels[name])


def read_normals_exr(path: str | Path) -> np.ndarray:
    """Read normals (H, W, 3) float32 from channels X Y Z (or R G B)."""
    channels = read_exr(path)
    for names in ('XYZ', 'RGB'):
        if all(name in channels for name in names):
            return np.stack([channels[name] for name in names], axis=-1)
    raise ValueError(f'{path} has the channels {", ".join(channels)}; normals are expected in '
                     'X, Y and Z')


def clean_depth(depth: np.ndarray) -> np.ndarray:
    """Return depth as float32 [m] with NaN for each way of saying 'nothing measured'."""
    depth = np.asarray(depth, np.float32)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(np.nan))
