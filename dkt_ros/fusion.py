"""
The model against the sensor, pixel by pixel: where the sensor is wrong, the fused depth, trust.

Glass makes a depth camera blind or lets it measure behind the surface; it never measures in front.
What it measures behind is torn, or the surface of the surroundings continued. Arrays in, arrays
out; no ROS, no files.
"""
from __future__ import annotations

import cv2
import numpy as np

from dkt_ros.anchor import near_holes
from dkt_ros.averaging import as_bytes, shrunk, spread
from dkt_ros.config import FusionConfig
from dkt_ros.relief import standing

# What is assumed of the model when nobody measured its residual, as a share of depth.
UNKNOWN_RESIDUAL = 0.02
# The model's edges and the sensor's differ by about this much [px of 640].
EDGE_SLACK = 2
# How far offsets at a mask's border are carried into the mask, first near, then far [px of 640].
BLENDS = (10, 30)
# How far a measured surface is carried into holes beside it [px of 640], and the difference of
# colour, as a share of full scale, that counts as much as that distance.
CARRY = 8
COLOR_SCALE = 0.15
# Two surfaces beside a hole are two if they are this share of depth apart.
STEP = 0.03
# An offset that varies by less than this share of depth, among this share of pixels that have one,
# is one offset with noise.
EVEN, FEW = 0.01, 0.4
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
# Between these residuals of the model, holes become necessary all around a pixel too.
GOOD_RESIDUAL, POOR_RESIDUAL = 0.005, 0.02
MASKED_TRUST = 0.6
# A sensor in front of the model is mostly right: so much of the disagreement counts.
IN_FRONT = 0.3
EDGE_TRUST = 0.5


def clean_sensor(sensor_depth: np.ndarray) -> np.ndarray:
    """Return depth (H, W) float32 [m] with NaN for all that is not finite and positive."""
    return np.where(np.isfinite(sensor_depth) & (sensor_depth > 0), sensor_depth,
                    np.float32(np.nan))


def shrink_sensor(sensor_depth: np.ndarray, width: int, height: int) -> np.ndarray:
    """
    Resize a sensor's depth to a smaller image without making depths that nobody measured.

    The mean of a pixel's area (a single sample would lie half a pixel off), unless it differs from
    the sample in the middle: across an edge the sample is taken.

    Parameters
    ----------
    sensor_depth : (H, W) float32
        [m]; NaN where invalid.
    width, height : int
        New size [px].

    Returns
    -------
    (height, width) float32
        [m]; NaN where less than half of the area is valid.

    """
    size, invalid = (width, height), np.isnan(sensor_depth)
    if sensor_depth.shape == (height, width):
        return sensor_depth
    share = shrunk(~invalid, size)
    mean = shrunk(np.where(invalid, np.float32(0), sensor_depth), size)
    sample = cv2.resize(sensor_depth, size, interpolation=cv2.INTER_NEAREST_EXACT)
    mean = mean / np.where(share < 0.5, np.float32(np.nan), share)
    return np.where(np.abs(sample - mean) > 0.02 * mean, sample, mean)


def sensor_mask(sensor_depth: np.ndarray, inverse_depth: np.ndarray, residual: float,
                config: FusionConfig) -> np.ndarray:
    """
    Find the pixels where the sensor is wrong or blind.

    A valid pixel is wrong if it measures clearly behind the model (`strong_sigmas` residuals), or
    somewhat behind it (`weak_sigmas`) near such pixels or near crowded holes: on glass, holes and
    pixels that measure behind the surface come together. Along depth edges a pixel may agree with
    either side, since the model's edges are not exact to the pixel. A sensor that measures in
    front of the model is believed: glass never makes it do so, a thing that the model missed does.
    There must be some holes in each region that it calls wrong, or about it (`min_holes`), and
    with a poor model around each pixel: stereo never finds glass without them, a model that errs
    does, as where it takes a dark blotch of the table for a thing. A smooth surface that stands
    clear of its surroundings (`min_relief`), with few holes about it, is a thing that the sensor
    saw, whatever the model says.

    Parameters
    ----------
    sensor_depth : (H, W) float32
        [m]; NaN where invalid.
    inverse_depth : (H, W) float32
        The model's [1/m].
    residual : float
        Robust standard deviation between the two on trusted pixels, as a share of depth; NaN if
        unknown.
    config : FusionConfig
        Thresholds.

    Returns
    -------
    (H, W) bool

    """
    weak, strong = thresholds(residual, config)
    width = sensor_depth.shape[1]
    slack = _square(EDGE_SLACK * width / 640)
    holes = np.isnan(sensor_depth)
    sensor = np.where(holes, np.float32(0), sensor_depth)
    # Farther than everything that the model says nearby.
    behind = sensor * cv2.erode(inverse_depth, slack)
    certain = _opened(behind > 1 + strong)
    seeds = as_bytes(certain) | as_bytes(near_holes(sensor_depth))
    doubtful = cv2.dilate(seeds, _square(config.reach * width)) > 0
    beside = cv2.dilate(seeds, _square(2 * EDGE_SLACK * width / 640)) > 0
    wrong = certain | (doubtful & (behind > 1 + weak))
    wrong |= beside & (sensor * inverse_depth > 1 + weak)
    # Alone, a wrong pixel is noise; among holes and wrong ones, a half suspect one is wrong.
    crowd = cv2.medianBlur(as_bytes(holes | wrong), 5 if width >= 480 else 3) > 0
    wrong = crowd & (wrong | (sensor * inverse_depth > 1 + 0.5 * weak)) & (inverse_depth > 0)
    if config.min_holes > 0:
        wrong &= _witnessed(holes, wrong, residual, config)
    if config.min_relief < 1 and wrong.any():
        wrong &= ~standing(sensor_depth, wrong, config.min_relief)
    return holes | wrong


def _witnessed(holes: np.ndarray, wrong: np.ndarray, residual: float, config: FusionConfig
               ) -> np.ndarray:
    """Return where there are holes enough among the pixels called wrong, (H, W) bool."""
    width = holes.shape[1]
    _, regions = cv2.connectedComponents(as_bytes(wrong), ltype=cv2.CV_16U)
    around = cv2.dilate(regions, _square(config.reach * width))
    lost = np.bincount(around[holes], minlength=regions.max() + 1)
    total = lost + np.bincount(around[wrong], minlength=len(lost))
    enough = (lost >= config.min_holes * total)[regions]
    known = residual if np.isfinite(residual) else UNKNOWN_RESIDUAL
    poor = np.clip((known - GOOD_RESIDUAL) / (POOR_RESIDUAL - GOOD_RESIDUAL), 0, 1)
    needed = config.min_holes * poor
    if needed > 0:
        size = (_side(1.5 * config.reach * width),) * 2
        some = cv2.blur(holes.astype(np.float32), size)
        enough &= some >= needed * cv2.blur((holes | wrong).astype(np.float32), size)
    return enough


def fuse(sensor_depth: np.ndarray, depth: np.ndarray, mask: np.ndarray, residual: float,
         config: FusionConfig, rgb: np.ndarray | None = None) -> np.ndarray:
    """
    Take the sensor outside the mask and the model inside it, without a seam on one surface.

    Noise of the sensor is averaged out where the model has the shape of what it measures
    (`smoothing`). Just inside the mask the model is shifted towards the sensor's offset at the
    border, where both see the same surface (their depths agree); on another surface, as glass
    before a table, the model is taken as it is. Where the sensor beside a hole measures in front
    of the model, the hole belongs to what the sensor saw or to what lies behind it, whichever has
    its colour.

    Parameters
    ----------
    sensor_depth, depth : (H, W) float32
        The sensor's and the model's [m]; NaN where invalid.
    mask : (H, W) bool
        From `sensor_mask`.
    residual : float
        As for `sensor_mask`.
    config : FusionConfig
        Thresholds.
    rgb : (H, W, 3) uint8, optional
        The colour image; without it nothing is carried into holes.

    Returns
    -------
    (H, W) float32
        [m]; NaN where the chosen one is invalid and the other too.

    """
    weak = thresholds(residual, config)[0]
    with np.errstate(invalid='ignore', divide='ignore'):
        offset = np.where(mask, np.float32(np.nan), sensor_depth / depth - 1)
    factor = _border_factor(offset, depth, weak)
    if config.smoothing > 0:
        sensor_depth = _smoothed(sensor_depth, depth, offset, config.smoothing)
    fused = np.where(mask, depth * factor, sensor_depth)
    if rgb is not None:
        carried = _carried(sensor_depth, depth, mask, rgb, weak)
        known = ~np.isnan(carried) & np.isnan(sensor_depth)
        fused[known] = carried[known]
    lost = np.isnan(fused)
    fused[lost & ~mask] = depth[lost & ~mask]
    return fused


def _smoothed(sensor: np.ndarray, depth: np.ndarray, offset: np.ndarray, radius: float
              ) -> np.ndarray:
    """Average the sensor's offset from the model (H, W) over a square, where it varies little."""
    size = (_side(radius * sensor.shape[1] / 640),) * 2
    known = np.isfinite(offset)
    offset = np.where(known, offset, np.float32(0))
    count = cv2.blur(known.astype(np.float32), size)
    share = np.maximum(count, np.float32(1e-6))
    mean = cv2.blur(offset, size) / share
    spread_2 = cv2.blur(offset * offset, size) / share - mean * mean
    even = np.clip(2 - spread_2 / np.float32(EVEN ** 2), 0, 1)
    even *= known & (count > FEW)
    smooth = even * (depth * (1 + mean) - sensor)
    return sensor + np.where(even > 0, smooth, np.float32(0))


def confidence(sensor_depth: np.ndarray | None, inverse_depth: np.ndarray, mask: np.ndarray,
               edges: np.ndarray, cosine: np.ndarray, residual: float, config: FusionConfig
               ) -> np.ndarray:
    """
    Say how far the fused depth of each pixel is to be believed.

    The product of four factors: exp(-residual / 0.1) for the whole frame; on pixels of the sensor
    1 / (1 + (d / weak)^2) with d the share by which model and sensor disagree (0.3 of it where the
    sensor is in front, which it never is for glass) and weak the threshold of `sensor_mask`,
    elsewhere a constant below 1, as only the model speaks; a constant at depth edges;
    1.2 c / (c + 0.2) with c the cosine of incidence. So it falls as residual, disagreement and
    obliqueness grow.

    Parameters
    ----------
    sensor_depth : (H, W) float32 or None
        [m]; NaN where invalid.
    inverse_depth : (H, W) float32
        The model's [1/m]; not positive where it has no depth: confidence 0.
    mask, edges : (H, W) bool
        Where the sensor is not used; where depth is discontinuous.
    cosine : (H, W) float32
        Of incidence; NaN counts as grazing.
    residual, config
        As for `sensor_mask`.

    Returns
    -------
    (H, W) float32
        In [0, 1].

    """
    known = residual if np.isfinite(residual) else UNKNOWN_RESIDUAL
    cosine = np.where(cosine > 0, cosine, np.float32(0))
    result = (np.float32(1.2 * np.exp(-known / 0.1)) * cosine) / (cosine + np.float32(0.2))
    support = np.float32(MASKED_TRUST)
    if sensor_depth is not None:
        weak = thresholds(residual, config)[0]
        difference = sensor_depth * inverse_depth
        difference -= 1
        difference *= np.where(difference < 0, np.float32(IN_FRONT / weak), np.float32(1 / weak))
        difference *= difference
        difference += 1
        support = np.where(mask, np.float32(MASKED_TRUST), np.reciprocal(difference))
    result *= support
    result *= np.where(edges, np.float32(EDGE_TRUST), np.float32(1))
    result *= inverse_depth > 0
    return np.clip(result, 0, 1, out=result)


def thresholds(residual: float, config: FusionConfig) -> tuple[float, float]:
    """Return the shares of depth behind the model that make a sensor suspect, and wrong."""
    known = residual if np.isfinite(residual) else UNKNOWN_RESIDUAL
    weak = max(config.min_disagreement, config.weak_sigmas * known)
    return weak, max(2 * config.min_disagreement, config.strong_sigmas * known, weak)


def _border_factor(offset: np.ndarray, depth: np.ndarray, weak: float) -> np.ndarray:
    """Spread the sensor's offsets, NaN in the mask, into it on the same surface; as a factor."""
    height, width = depth.shape
    small = (max(width // 4, 1), max(height // 4, 1)) if width >= 480 else (width, height)
    # Behind the model it may be glass that was not noticed.
    good = (offset > -1.5 * weak) & (offset < 0.7 * weak)
    weight = shrunk(good, small)
    offsets, depths = (shrunk(np.where(good, values, 0), small) for values in (offset, depth))
    here = cv2.resize(depth, small, interpolation=cv2.INTER_NEAREST)
    factor, left = np.zeros_like(here), np.ones_like(here)
    for blend in BLENDS:
        radius = max(1, round(blend * small[0] / 640))
        total = np.maximum(spread(weight, radius), 1e-6)
        with np.errstate(invalid='ignore'):
            apart = np.abs(spread(depths, radius) / total / here - 1)
        same = np.nan_to_num(np.clip(1 - apart / np.float32(0.03), 0, 1))
        share = left * same * total / (total + np.float32(0.02))
        factor += share * spread(offsets, radius) / total
        left -= share
    return cv2.resize(1 + factor, (width, height), interpolation=cv2.INTER_LINEAR)


def _carried(sensor: np.ndarray, depth: np.ndarray, mask: np.ndarray, rgb: np.ndarray,
             weak: float) -> np.ndarray:
    """
    Carry believed depths of the sensor into its holes; return them (H, W), NaN elsewhere.

    Into a hole beside a surface in front of the model goes that surface, if the colour is its own.
    A hole between two surfaces, none of them behind the model, is the shadow of one on the other
    for one of the stereo cameras: it belongs to the one whose colour it has. So does, whatever the
    model says, a pixel of any hole that touches one of two surfaces.
    """
    height, width = depth.shape
    if width >= 480:
        half = tuple(image[::2, ::2] for image in (sensor, depth, mask, rgb))
        return cv2.resize(_carried(*half, weak), (width, height), interpolation=cv2.INTER_NEAREST)
    radius = max(1, round(CARRY * width / 640))
    window, kept = _square(radius), ~mask
    near = cv2.erode(np.where(kept, sensor, np.float32(1e3)), window)
    far = cv2.dilate(np.where(kept, sensor, np.float32(0)), window)
    result = np.full(depth.shape, np.nan, np.float32)
    missed = near < depth * (1 - 2 * weak)
    touches = cv2.dilate(as_bytes(kept), CROSS) > 0
    between = (far > near * (1 + STEP)) & (touches | (near < depth * (1 + weak)))
    rows, columns = np.nonzero(np.isnan(sensor) & (missed | between))
    if not rows.size:
        return result
    here = rows * width + columns
    in_front = sensor < np.sqrt(near * far) + np.float32(0.1 * weak)
    costs, sources = [], []
    colors, depths = rgb.reshape(-1, 3), sensor.reshape(-1)
    own = colors[here].astype(np.float32)
    for side in (in_front, ~in_front):
        away, source = _nearest(kept & side, here)
        hue = np.abs(colors[source] - own).mean(axis=1) / 255
        costs.append(np.where(away > radius, np.inf, away / radius + hue / COLOR_SCALE))
        sources.append(source)
    nearer = np.isfinite(costs[0]) & (costs[0] <= costs[1])
    farther = np.isfinite(costs[1]) & ~nearer & between[rows, columns]
    for chosen, source in ((nearer, sources[0]), (farther, sources[1])):
        result[rows[chosen], columns[chosen]] = depths[source[chosen]]
    return result


def _nearest(pixels: np.ndarray, here: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distance [px] and flat index of the nearest of `pixels`, at flat indices `here`."""
    if not pixels.any():
        return np.full(here.shape, np.inf), np.zeros(here.shape, int)
    away, labels = cv2.distanceTransformWithLabels(as_bytes(~pixels), cv2.DIST_L2, 5,
                                                   labelType=cv2.DIST_LABEL_PIXEL)
    index = np.zeros(labels.max() + 1, int)
    found = np.flatnonzero(pixels)
    index[labels.reshape(-1)[found]] = found
    return away.reshape(-1)[here], index[labels.reshape(-1)[here]]


def _side(radius: float) -> int:
    return 2 * max(1, round(radius)) + 1


def _square(radius: float) -> np.ndarray:
    return np.ones((_side(radius),) * 2, np.uint8)


def _opened(mask: np.ndarray) -> np.ndarray:
    return cv2.morphologyEx(as_bytes(mask), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
