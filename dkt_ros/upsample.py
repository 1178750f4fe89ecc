"""
From the model's working size to the image's, edge-aware: no value floats between two surfaces.

On smooth surfaces interpolation is bilinear: disparity is linear on a plane, and a guide would
only print its texture on the table. At depth edges every pixel takes the near or the far surface
whole; which one is decided by the interpolated share of the near surface, sharpened by the image
(a guided filter on that share). No ROS, no files.
"""
from __future__ import annotations

import cv2
import numpy as np

from dkt_ros.averaging import as_bytes

NEXT = np.ones((3, 3), np.uint8)
DETECT = np.ones((5, 5), np.uint8)
WIDE = np.ones((9, 9), np.uint8)
# Every pixel that is split must see both sides.
SPLIT = np.ones((9, 9), np.uint8)
# Contrast of the guide (0 to 1, squared) below which it decides nothing.
GUIDE_NOISE = 1e-3


class Upsampler:
    """
    Upsamples the maps of one frame to the size of its image.

    Parameters
    ----------
    values : (h, w) float32
        Inverse depth or disparity at the working size, finite; decides where the edges are.
    jump : float or (h, w) float32
        Smallest step within 5 pixels, in units of `values`, that is an edge between surfaces.
    rgb : (H, W, 3) uint8
        The image.

    Attributes
    ----------
    edges : (H, W) bool
        Where values were snapped to one of two surfaces.

    """

    def __init__(self, values: np.ndarray, jump: float | np.ndarray, rgb: np.ndarray) -> None:
        self._values = np.asarray(values, np.float32)
        self._size = (rgb.shape[1], rgb.shape[0])
        edge = self._find_edges(jump)
        self._has_edges = bool(edge.any())
        self.edges = np.zeros(rgb.shape[:2], bool)
        if self._has_edges:
            self._split(edge)
            self.edges = self._resize(edge.astype(np.float32)) > 0
            self._is_near = self._near_share_at_full_size(rgb) > 0.5

    def values(self) -> np.ndarray:
        """Return `values` at the size of the image, (H, W) float32."""
        smooth = self._resize(self._values)
        if not self._has_edges:
            return smooth
        near, far = self._resize(self._near), self._resize(self._far)
        return np.where(self.edges, np.where(self._is_near, near, far), smooth)

    def normals(self, normals: np.ndarray) -> np.ndarray:
        """Return normals (h, w, 3) as (H, W, 3) float32 of unit length, not mixed at edges."""
        normals = np.nan_to_num(np.asarray(normals, np.float32))
        planes = [self._resize(plane) for plane in cv2.split(normals)]
        if self._has_edges:
            index = np.flatnonzero(self.edges)
            sides = np.concatenate([_of_side(normals, sure).reshape(-1, 3)
                                    for sure in (self._sure_far, self._sure_near)])
            on_near = self._is_near.ravel()[index]
            values = sides[self._working_index(index) + on_near * self._values.size]
            for i in range(3):
                planes[i].ravel()[index] = values[:, i]
        return _normalised(planes)

    def smooth(self, values: np.ndarray) -> np.ndarray:
        """Return a map (h, w) that has no edges of its own, bilinear, (H, W) float32."""
        return self._resize(np.asarray(values, np.float32))

    def _find_edges(self, jump: float | np.ndarray) -> np.ndarray:
        step = cv2.dilate(self._values, DETECT) - cv2.erode(self._values, DETECT)
        # On a slope a window of twice the size spans twice the step; at an edge it does not.
        wide = cv2.dilate(self._values, WIDE) - cv2.erode(self._values, WIDE)
        edge = (step > jump) & (step > 0.65 * wide)
        # The flanks of a blurred edge reach further than where it is seen.
        return cv2.dilate(edge.astype(np.uint8), NEXT) > 0

    def _split(self, edge: np.ndarray) -> None:
        """Make two layers around the edges: the near surface and the far one, both unmixed."""
        values = self._values
        # Interpolation reaches one pixel further than the edge.
        region = cv2.dilate(edge.astype(np.uint8), NEXT) > 0
        high, low = cv2.dilate(values, SPLIT), cv2.erode(values, SPLIT)
        middle, step = 0.5 * (high + low), high - low
        # On the flank of the step a value belongs to neither surface.
        level = region & (cv2.dilate(values, NEXT) - cv2.erode(values, NEXT) < 0.12 * step)
        self._sure_near = level & (values > middle)
        self._sure_far = level & (values <= middle)
        near = _fill(values, region & ~self._sure_near, self._sure_near, high)
        far = _fill(values, region & ~self._sure_far, self._sure_far, low)
        self._near, self._far = np.maximum(near, middle), np.minimum(far, middle)
        self._near[~region] = self._far[~region] = values[~region]
        apart = self._near - self._far
        share = (values - self._far) / np.maximum(apart, np.float32(1e-12))
        # Where both layers are one, the neighbours decide.
        self._share = np.where(apart > 0.1 * step, np.clip(share, 0, 1), np.float32(0.5))
        self._region = region

    def _near_share_at_full_size(self, rgb: np.ndarray) -> np.ndarray:
        guide = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) * np.float32(1 / 255)
        height, width = self._values.shape
        small = cv2.resize(guide, (width, height), interpolation=cv2.INTER_AREA)
        weight = self._region.astype(np.float32)
        total = _box(weight) + np.float32(1e-6)
        share = self._share * weight
        mean_guide, mean_share = _box(weight * small) / total, _box(share) / total
        covariance = _box(share * small) / total - mean_guide * mean_share
        variance = _box(weight * small * small) / total - mean_guide * mean_guide
        slope = weight * covariance / (variance + GUIDE_NOISE)
        detail = guide - self._resize(small)
        return self._resize(self._share) + self._resize(slope) * detail

    def _working_index(self, index: np.ndarray) -> np.ndarray:
        """Return the flat index of the working pixel below each pixel of the image."""
        (height, width), (rows, columns) = self._values.shape, np.divmod(index, self._size[0])
        return (rows * height // self._size[1]) * width + columns * width // self._size[0]

    def _resize(self, values: np.ndarray) -> np.ndarray:
        return cv2.resize(values, self._size, interpolation=cv2.INTER_LINEAR)


def _fill(values: np.ndarray, holes: np.ndarray, known: np.ndarray, otherwise: np.ndarray
          ) -> np.ndarray:
    """Replace `holes` by the mean of the known pixels around, or by `otherwise` without any."""
    weight = known.astype(np.float32)
    total = _box(weight)
    mean = _box(values * weight) / np.maximum(total, np.float32(1e-6))
    # Running sums leave rounding errors where there is nothing to sum.
    return np.where(holes, np.where(total > 0.5, mean, otherwise), values)


def _of_side(normals: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """Replace normals (h, w, 3) that are not `sure` by the sum of those around that are."""
    around = _box(cv2.copyTo(normals, as_bytes(sure)))
    alone = _box(sure.astype(np.float32)) < 0.5
    return cv2.copyTo(normals, as_bytes(sure | alone), around)


def _box(values: np.ndarray) -> np.ndarray:
    return cv2.boxFilter(values, -1, SPLIT.shape, normalize=False,
                         borderType=cv2.BORDER_REFLECT_101)


def _normalised(planes: list[np.ndarray]) -> np.ndarray:
    # In place: fresh megabytes cost more than the arithmetic.
    length, square = planes[0] * planes[0], np.empty_like(planes[0])
    for plane in planes[1:]:
        length += np.multiply(plane, plane, out=square)
    np.sqrt(length, out=length)
    length[length < 1e-6] = np.nan
    for plane in planes:
        plane /= length
    return cv2.merge(planes)
