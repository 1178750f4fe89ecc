"""Maps to RGB pictures by look-up tables. Fixed ranges: a colour always means one value."""
from __future__ import annotations

import cv2
import numpy as np

INVALID_RGB = (64, 64, 64)
"""Colour of a pixel without a value; grey, which no scale here contains."""

MASK_RGB = (255, 64, 160)


def _table(colormap: int) -> np.ndarray:
    ramp = np.arange(256, dtype=np.uint8)[None]
    colors = cv2.applyColorMap(ramp, colormap)[0, :, ::-1]
    return np.ascontiguousarray(colors)


DEPTH_TABLE = _table(cv2.COLORMAP_TURBO)
DISPARITY_TABLE = _table(cv2.COLORMAP_INFERNO)
ERROR_TABLE = _table(cv2.COLORMAP_VIRIDIS)


def depth_to_rgb(depth: np.ndarray, near_m: float, far_m: float) -> np.ndarray:
    """
    Draw depth: warm is near, cold is far, grey is invalid.

    Parameters
    ----------
    depth : (H, W) float
        [m]; NaN where invalid. Out of the range means the colour of its end.
    near_m, far_m : float
        The range [m].

    Returns
    -------
    (H, W, 3) uint8

    """
    _check_range(near_m, far_m)
    return _look_up(DEPTH_TABLE, depth, far_m, near_m)


def disparity_to_rgb(disparity: np.ndarray, low: float, high: float) -> np.ndarray:
    """Draw disparity (H, W) from dark (`low`, far) to bright (`high`, near); grey is invalid."""
    _check_range(low, high)
    return _look_up(DISPARITY_TABLE, disparity, low, high)


def error_to_rgb(prediction: np.ndarray, truth: np.ndarray, max_error_m: float) -> np.ndarray:
    """Draw |prediction - truth| (H, W) [m] from dark (none) to bright (`max_error_m` or more)."""
    _check_range(0.0, max_error_m)
    return _look_up(ERROR_TABLE, np.abs(prediction - truth), 0.0, max_error_m)


def confidence_to_rgb(confidence: np.ndarray) -> np.ndarray:
    """Draw confidence (H, W) from dark (0) to bright (1)."""
    return _look_up(ERROR_TABLE, confidence, 0.0, 1.0)


def normals_to_rgb(normals: np.ndarray) -> np.ndarray:
    """
    Draw normals: rgb = (n * [1, -1, -1] + 1) / 2, so a wall facing the camera is light blue.

    Parameters
    ----------
    normals : (H, W, 3) float
        Unit, optical frame (x right, y down, z forward), towards the camera. NaN or zero where
        there is none.

    Returns
    -------
    (H, W, 3) uint8
        Red to the right, green up, blue towards the camera; grey is invalid.

    """
    rgb = cv2.convertScaleAbs(np.nan_to_num(normals) * np.float32([127.5, -127.5, -127.5]) + 127.5)
    squared = np.einsum('...c,...c', normals, normals)
    rgb[~(squared > 0.25)] = INVALID_RGB
    return rgb


def mask_to_rgb(mask: np.ndarray, rgb: np.ndarray | None = None) -> np.ndarray:
    """Draw a mask (H, W) bool: white on black, or tinted over `rgb` (H, W, 3) uint8."""
    if rgb is None:
        return np.repeat(np.where(mask, np.uint8(255), np.uint8(0))[..., None], 3, axis=2)
    tinted = cv2.addWeighted(rgb, 0.4, np.full_like(rgb, MASK_RGB), 0.6, 0)
    return np.where(mask[..., None], tinted, rgb)


def _look_up(table: np.ndarray, values: np.ndarray, first: float, last: float) -> np.ndarray:
    gain = np.float32(255.0 / (last - first))
    level = (np.asarray(values, np.float32) - np.float32(first)) * gain
    invalid = ~np.isfinite(level)
    level = np.clip(np.where(invalid, np.float32(0), level), 0, 255)
    rgb = table[(level + np.float32(0.5)).astype(np.uint8)]
    rgb[invalid] = INVALID_RGB
    return rgb


def _check_range(low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f'the range to draw is {low} to {high}; its first value must be the '
                         'smaller one')
