"""
Windows of a stream joined without a jump.

A window that holds its overlap to the one before still sees the scene anew, and its first frame
jumps by what it thinks different. So the first frame takes a part of the estimate before, carried
along the optical flow, and the second half that part; what has changed its colour on the way was
hidden or has moved, and is taken as it is. Arrays in, arrays out; no ROS, no files.
"""
from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from dkt_ros.temporal import warp, warping_weights

NUM_FRAMES = 2
SIDE = 5
"""A pixel is carried as far as those around it agree in colour, too [px]."""


class SeamBlend:
    """
    Joins the windows of one stream.

    Parameters
    ----------
    share : float
        Part of the estimate before in the first frame of a window, 0 to 1; each frame after it
        takes half as much as the one before.

    """

    def __init__(self, share: float) -> None:
        self._shares = [share / 2 ** row for row in range(NUM_FRAMES)] if share > 0 else []
        self._solver = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._before: tuple[np.ndarray, dict[str, np.ndarray]] | None = None

    def reset(self) -> None:
        """Begin a new stream: the next window follows no other."""
        self._before = None

    def join(self, maps: dict[str, np.ndarray], rgb: Sequence[np.ndarray]
             ) -> dict[str, np.ndarray]:
        """
        Blend the first frames of a window with the last of the one before.

        Parameters
        ----------
        maps : dict of str to (n, h, w) or (n, h, w, 3) float32
            What the window holds by task; vectors are unit normals.
        rgb : sequence of (H, W, 3) uint8
            The pictures of its n frames, of any size.

        Returns
        -------
        dict
            The same, in new arrays where something changed.

        """
        if not self._shares:
            return maps
        size = next(iter(maps.values())).shape[2:0:-1]
        if self._before is not None:
            maps = {task: np.array(values) for task, values in maps.items()}
            for row, (share, picture) in enumerate(zip(self._shares, rgb)):
                small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
                self._mix({task: values[row] for task, values in maps.items()}, small, share)
        last = {task: np.array(values[-1]) for task, values in maps.items()}
        self._before = cv2.resize(rgb[-1], size, interpolation=cv2.INTER_AREA), last
        return maps

    def _mix(self, frame: dict[str, np.ndarray], picture: np.ndarray, share: float) -> None:
        """Blend a frame in place, and let it be the one before."""
        picture_before, before = self._before
        grays = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (picture, picture_before)]
        flow = self._solver.calc(*grays, None)
        weights = np.nan_to_num(warping_weights(picture, picture_before, flow))
        weights = share * cv2.blur(weights, (SIDE, SIDE))
        for task, values in frame.items():
            carried = warp(before[task], flow)
            scalar = values.ndim == 2
            known = np.isfinite(carried if scalar else carried[..., 0])
            part = np.where(known, weights, 0).astype(values.dtype)
            part = part if scalar else part[..., None]
            values += part * (np.nan_to_num(carried) - values)
            if not scalar:
                values /= np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-6)
        self._before = picture, frame
