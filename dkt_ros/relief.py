"""
Where a depth camera saw a thing although the model disagrees.

Behind glass a camera measures the surroundings' surface continued, or a surface full of holes.
What is smooth, whole and stands clear of its surroundings is none of these.
"""
from __future__ import annotations

import cv2
import numpy as np

from dkt_ros.averaging import shrunk, spread

# A surface is smooth if it is bent by at most this many times what trusted surfaces usually are.
SMOOTH = 4.0
# What surrounds a thing is looked for within this radius, as a share of the width.
SURROUNDINGS = 0.3
# A region stands out if this share of its pixels does; those beside it need less relief.
STANDING, LESS_RELIEF = 0.3, 0.4
# A region is torn if holes of some thickness take this share of what lies within this radius, as a
# share of the width: measured glass is never far from where it is not measured.
TORN, TORN_REACH = 0.1, 0.06
# How wide the rim of a thing is, where its surface cannot be told smooth [px of 256].
RIM = 8
# Neighbours whose depths differ by less than this share lie on one surface.
CONTINUOUS = 0.025


def standing(sensor: np.ndarray, wrong: np.ndarray, min_relief: float) -> np.ndarray:
    """
    Find where the sensor saw a thing of its own, though the model sees something nearer.

    Parameters
    ----------
    sensor : (H, W) float32
        [m]; NaN where invalid.
    wrong : (H, W) bool
        Pixels that are called wrong for measuring behind the model.
    min_relief : float
        How much nearer than its surroundings a thing is, as a share of depth.

    Returns
    -------
    (H, W) bool
        Those among `wrong` that lie on a smooth surface in front of its surroundings.

    """
    height, width = sensor.shape
    if width >= 480:
        half = standing(sensor[::2, ::2], wrong[::2, ::2], min_relief)
        return wrong & (cv2.resize(np.uint8(half), (width, height),
                                   interpolation=cv2.INTER_NEAREST) > 0)
    kept = ~wrong & ~np.isnan(sensor)
    if not kept.any():
        return np.zeros_like(wrong)
    bent = _roughness(sensor)
    relief = 1 - np.nan_to_num(sensor) * surroundings(sensor, kept)
    smooth = wrong & (bent < SMOOTH * np.median(bent[kept]))
    regions = cv2.morphologyEx(np.uint8(smooth & (relief > LESS_RELIEF * min_relief)),
                               cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, labels = cv2.connectedComponents(regions)
    areas = np.bincount(labels.ravel()).astype(np.float32)
    clear = np.bincount(labels[relief > min_relief], minlength=len(areas))
    torn = np.bincount(labels.ravel(), weights=_torn(sensor).ravel())
    good = (clear > STANDING * areas) & (torn < TORN * areas) & (areas > 20 * (width / 256) ** 2)
    good[0] = False
    seen = good[labels]
    # The rim of a thing is not smooth; it belongs to it where its depth goes on.
    around = np.ones((2 * round(RIM * width / 256) + 1,) * 2, np.uint8)
    near = cv2.erode(np.where(seen, sensor, np.float32(1e3)), around)
    far = cv2.dilate(np.where(seen, sensor, np.float32(0)), around)
    with np.errstate(invalid='ignore'):
        beside = (sensor > near * (1 - CONTINUOUS)) & (sensor < far * (1 + CONTINUOUS))
    return seen | wrong & beside


def _torn(sensor: np.ndarray) -> np.ndarray:
    """Return the share of holes around each pixel (H, W), without the thin ones at edges."""
    width = sensor.shape[1]
    side = 2 * round(1.5 * width / 256) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    thick = cv2.morphologyEx(np.uint8(np.isnan(sensor)), cv2.MORPH_OPEN, disc)
    radius = round(TORN_REACH * width)
    return cv2.blur(thick.astype(np.float32), (2 * radius + 1,) * 2)


def _roughness(sensor: np.ndarray) -> np.ndarray:
    """
    Return the mean second difference of inverse depth around each pixel, as a share of it.

    Inverse depth is linear in the image on any plane. Infinite where little was measured.
    """
    step = max(1, round(2 * sensor.shape[1] / 256))
    bends, count = np.zeros_like(sensor), np.zeros_like(sensor)
    for depth, bend, number in ((sensor, bends, count), (sensor.T, bends.T, count.T)):
        inverse, middle = 1 / depth, slice(step, -step)
        second = np.abs(inverse[:-2 * step] - 2 * inverse[middle] + inverse[2 * step:])
        second *= depth[middle]
        known = ~np.isnan(second)
        bend[middle] += np.where(known, np.minimum(second, np.float32(0.05)), 0)
        number[middle] += known
    size = (2 * round(3.5 * sensor.shape[1] / 256) | 1,) * 2
    bends, count = cv2.blur(bends, size), cv2.blur(count, size)
    return np.where(count > 0.6, bends / np.maximum(count, np.float32(1e-6)), np.inf)


def surroundings(sensor: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """
    Return the inverse depth (H, W) [1/m] that the kept pixels around have behind things.

    A plane is fitted about each pixel, then again to what does not lie in front of it.
    """
    height, width = sensor.shape
    small = (max(width // 4, 1), max(height // 4, 1))
    share = shrunk(kept, small)
    inverse = shrunk(np.where(kept, 1 / np.where(kept, sensor, np.float32(1)), 0), small)
    inverse /= np.maximum(share, np.float32(1e-6))
    result = np.full(inverse.shape, np.inf, np.float32)
    for _ in range(3):
        behind = np.where(inverse < 1.02 * result, share, np.float32(0))
        result = _local_planes(inverse, behind, max(2, round(SURROUNDINGS * small[0])))
    return cv2.resize(result, (width, height), interpolation=cv2.INTER_LINEAR)


def _local_planes(values: np.ndarray, weights: np.ndarray, radius: int) -> np.ndarray:
    """Return what a weighted plane, fitted around each pixel, is there (H, W)."""
    rows, columns = np.indices(values.shape, dtype=np.float32) / radius
    basis = [np.ones_like(values), columns, rows]
    (a, b, c), (d, e), (f,) = (
        [spread(weights * basis[i] * basis[j], radius).astype(np.float64) for j in range(i, 3)]
        for i in range(3))
    right = [spread(weights * values * each, radius) for each in basis]
    # Without pixels around, far away; with few, level.
    a, d, f = a + 1e-6, d + 1e-3, f + 1e-3
    # Cramer's rule: a solver for many small matrices takes ten times as long.
    first, second, third = c * e - b * f, b * e - c * d, b * c - a * e
    cofactors = ((d * f - e * e, first, second), (first, a * f - c * c, third),
                 (second, third, a * d - b * b))
    plane = sum(each * sum(m * r for m, r in zip(row, right))
                for each, row in zip(basis, cofactors))
    determinant = sum(m * each for m, each in zip(cofactors[0], (a, b, c)))
    return (plane / determinant).astype(np.float32)
