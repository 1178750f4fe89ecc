"""Averages of images (H, W): over the pixels that shrinking merges, over what is near; masks."""
from __future__ import annotations

import cv2
import numpy as np


def as_bytes(mask: np.ndarray) -> np.ndarray:
    """Return a mask as the uint8 0 and 1 that OpenCV takes, without a copy where it can."""
    return np.ascontiguousarray(mask).view(np.uint8)


def shrunk(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize to (width, height) [px], each pixel the mean of its area; float32."""
    return cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_AREA)


def spread(values: np.ndarray, radius: int) -> np.ndarray:
    """Average twice over the square within `radius` [px] of each pixel; float32."""
    size = (2 * radius + 1, 2 * radius + 1)
    return cv2.blur(cv2.blur(values.astype(np.float32), size), size)
