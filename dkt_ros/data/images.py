"""PNG and JPEG files as arrays: R first, integers unchanged, clear errors."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def read_rgb(path: str | Path) -> np.ndarray:
    """Read a colour image, (H, W, 3) uint8, R first."""
    return np.ascontiguousarray(_read(path, cv2.IMREAD_COLOR)[..., ::-1])


def read_ids(path: str | Path) -> np.ndarray:
    """Read an image of integers, (H, W) uint8 or uint16, unchanged."""
    image = _read(path, cv2.IMREAD_UNCHANGED)
    return image[..., 0] if image.ndim == 3 else image


def read_depth_png(path: str | Path, divisor: float = 1000.0) -> np.ndarray:
    """Read a uint16 depth image as metres, (H, W) float32; 0 becomes NaN."""
    values = read_ids(path)
    if values.dtype != np.uint16:
        raise ValueError(f'{path} holds {values.dtype}; a depth image is 16 bit, in millimetres')
    return np.where(values > 0, values.astype(np.float32) / np.float32(divisor),
                    np.float32(np.nan))


def depth_to_millimetres(depth: np.ndarray) -> np.ndarray:
    """Round depth [m] to (H, W) uint16 millimetres; 0 where invalid or beyond 65.535 m."""
    valid = np.isfinite(depth) & (depth > 0) & (depth < 65.5355)
    return np.where(valid, np.rint(np.where(valid, depth, 0) * 1000.0), 0).astype(np.uint16)


def write_image(path: str | Path, image: np.ndarray, quality: int | None = None) -> None:
    """
    Write (H, W, 3) uint8 RGB or (H, W) uint8 or uint16; the suffix names the format.

    `quality` is for JPEG and WebP, 0 to 100.
    """
    path = Path(path)
    if image.ndim == 3:
        image = image[..., ::-1]
    flag = {'.jpg': cv2.IMWRITE_JPEG_QUALITY, '.webp': cv2.IMWRITE_WEBP_QUALITY}.get(path.suffix)
    options = [flag, quality] if flag is not None and quality is not None else []
    done, data = cv2.imencode(path.suffix, np.ascontiguousarray(image), options)
    if not done:
        raise ValueError(f'{path} cannot be encoded from {image.shape} {image.dtype}')
    partial = path.with_name(f'.{path.name}.partial')
    partial.write_bytes(data.tobytes())
    partial.replace(path)


def _read(path: str | Path, flags: int) -> np.ndarray:
    path = Path(path)
    if not path.is_file():
        raise ValueError(f'image {path} does not exist')
    image = cv2.imdecode(np.fromfile(path, np.uint8), flags) if path.stat().st_size else None
    if image is None:
        raise ValueError(f'{path} is truncated or no image that OpenCV reads; copy it again')
    return image
