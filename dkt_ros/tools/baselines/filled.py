"""The classical baseline: the sensor's depth with its holes filled from the pixels around."""
from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

from dkt_ros.errors import UserError

METHODS = ('nearest', 'inpaint')
INPAINT_RADIUS_PX = 3


def fill_holes(sensor_depth: np.ndarray, method: str = 'nearest') -> np.ndarray:
    """
    Fill the holes of a depth image.

    Where the sensor measured the wrong surface (the table behind a glass), the result is as wrong
    as the sensor: a filler trusts what it sees.

    Parameters
    ----------
    sensor_depth : (H, W) float32
        Depth along z [m]; NaN where there is none.
    method : str
        'nearest' copies the nearest measured pixel (the one called `filled` in tables); 'inpaint'
        continues the surroundings smoothly (Bertalmio 2001).

    Returns
    -------
    (H, W) float32
        Depth [m] at every pixel; all NaN if nothing at all was measured.

    """
    if method not in METHODS:
        raise UserError(f'filling method is {method!r}; allowed: {", ".join(METHODS)}')
    holes = ~np.isfinite(sensor_depth)
    if not holes.any() or holes.all():
        return np.array(sensor_depth, np.float32)
    if method == 'inpaint':
        return cv2.inpaint(np.where(holes, 0, sensor_depth).astype(np.float32),
                           holes.astype(np.uint8), INPAINT_RADIUS_PX, cv2.INPAINT_NS)
    rows, columns = ndimage.distance_transform_edt(
        holes, return_distances=False, return_indices=True)
    return np.ascontiguousarray(sensor_depth[rows, columns], np.float32)
