"""
Active stereo as a depth camera does it: a pattern of dots, block matching, alignment to colour.

The worker renders the pair; here it becomes what the sensor would report. Zero-mean normalised
cross-correlation finds the match, a parabola its fraction of a pixel; both directions must
agree. numpy and OpenCV only; no files.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from dkt_ros.camera import PinholeCamera
from dkt_ros.config import StereoConfig

DEVICES = {
    # horizontal field of view [deg], baseline [m], left imager right of the colour camera [m]
    'D415': (65.0, 0.055, 0.015),
    'D435': (87.0, 0.050, 0.015),
    'D455': (87.0, 0.095, -0.059),
}
REFERENCE_WIDTH = 640.0
STEPS_A_PIXEL = 2
"""A parabola through whole pixels is drawn towards them; half pixels halve that error."""
DOTS_WIDE, DOTS_HIGH = 160, 92
PATTERN_MARGIN = 1.15
PIXELS_A_DOT = 12


@dataclass(frozen=True)
class StereoRig:
    """
    A rectified infrared pair beside a colour camera; all axes parallel.

    Attributes
    ----------
    camera : PinholeCamera
        Intrinsics of both infrared cameras.
    baseline_m : float
        The right camera lies this far along +x of the left one [m].
    offset_m : float
        The left camera lies this far along +x of the colour camera [m].

    """

    camera: PinholeCamera
    baseline_m: float
    offset_m: float


def stereo_rig(config: StereoConfig) -> StereoRig:
    """Return the infrared pair of the device that `config` names."""
    angle, baseline, offset = DEVICES[config.model]
    focal = 0.5 * config.width / math.tan(math.radians(angle) / 2)
    camera = PinholeCamera(config.width, config.height, focal, focal, (config.width - 1) / 2,
                           (config.height - 1) / 2, frame_id='camera_infra1_optical_frame')
    return StereoRig(camera, baseline, offset)


def dot_pattern(seed: int) -> np.ndarray:
    """
    Draw the projector's pseudo-random dots.

    One dot in a jittered cell, two cells in five left dark: any window of a few cells is unlike
    its neighbours on the same line.

    Returns
    -------
    (H, W) float32
        Relative brightness, 0 to 1.

    """
    rng = np.random.default_rng((seed, 23))
    height, width = DOTS_HIGH * PIXELS_A_DOT, DOTS_WIDE * PIXELS_A_DOT
    image = np.zeros((height, width), np.float32)
    cells = np.stack(np.meshgrid(np.arange(DOTS_WIDE), np.arange(DOTS_HIGH)), axis=-1)
    places = ((cells + rng.uniform(0.1, 0.9, cells.shape)) * PIXELS_A_DOT).astype(int)
    lit = places[rng.random(places.shape[:2]) < 0.6]
    image[lit[:, 1], lit[:, 0]] = rng.uniform(0.3, 1.0, len(lit))
    image = cv2.GaussianBlur(image, (0, 0), 0.22 * PIXELS_A_DOT)
    return np.clip(image / np.percentile(image, 99.0), 0.0, 1.0)


def expose(pair: tuple[np.ndarray, np.ndarray], read_noise: float,
           rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """
    Turn linear infrared images into what the receivers give.

    Parameters
    ----------
    pair : two (H, W) float32
        Linear radiance; both cameras share one exposure.
    read_noise : float
        Standard deviation of the receiver's noise [8-bit levels].

    Returns
    -------
    two (H, W) uint8

    """
    seen = pair[0][pair[0] > 0]
    gain = 50.0 / max(float(np.median(seen)), 1e-9) if seen.size else 1.0
    levels = []
    for image in pair:
        shot = np.sqrt(np.clip(image * gain, 0, 255)) * 0.1
        noise = rng.standard_normal(image.shape) * np.hypot(shot, read_noise)
        levels.append(np.clip(np.rint(image * gain + noise), 0, 255).astype(np.uint8))
    return levels[0], levels[1]


def match(left: np.ndarray, right: np.ndarray, config: StereoConfig,
          max_disparity: int) -> np.ndarray:
    """
    Find the disparity of a rectified pair.

    Parameters
    ----------
    left, right : (H, W) uint8
        The images; a point at x in the left one lies at x - disparity in the right one.
    config : StereoConfig
        Window, checks and filters.
    max_disparity : int
        Largest disparity that is looked for [px].

    Returns
    -------
    (H, W) float32
        Disparity [px] at the left image's pixels; NaN where nothing is matched surely.

    """
    if left.shape != right.shape or left.ndim != 2:
        raise ValueError(f'the pair has the shapes {left.shape} and {right.shape}; two equal '
                         '(H, W) images are expected')
    scale = left.shape[1] / REFERENCE_WIDTH
    block = odd(config.block_px * scale)
    fine = [cv2.resize(image, None, fx=STEPS_A_PIXEL, fy=1, interpolation=cv2.INTER_CUBIC)
            for image in (left, right)]
    scores, texture = correlation_volume(*fine, (odd(block * STEPS_A_PIXEL), block),
                                         max_disparity * STEPS_A_PIXEL)
    disparity, score = best_match(scores)
    mirrored, _ = best_match(_seen_from_the_right(scores))
    rival = _rival(scores, disparity)
    columns = np.broadcast_to(np.arange(disparity.shape[1]), disparity.shape)
    partner = np.clip(np.rint(columns - disparity), 0, disparity.shape[1] - 1).astype(int)
    back = np.take_along_axis(mirrored, partner, axis=1)
    good = (np.abs(back - disparity) <= config.left_right_px * scale * STEPS_A_PIXEL) \
        & (score >= config.min_score) & (texture >= config.min_texture) \
        & (disparity > 1.0) & (score - rival >= config.min_margin)
    # A pixel of the image is the mean of its steps, so that it keeps its centre.
    good = good.reshape(*left.shape, STEPS_A_PIXEL).all(axis=-1)
    disparity = disparity.reshape(*left.shape, STEPS_A_PIXEL).mean(axis=-1) / STEPS_A_PIXEL
    disparity = np.where(good, disparity, 0.0).astype(np.float32)
    side = min(odd(config.median_px * scale), 5)
    disparity = np.where(good, cv2.medianBlur(disparity, side), 0.0)
    return _drop_specks(disparity, (config.min_region_px * scale) ** 2)


def odd(value: float) -> int:
    """Return the odd number nearest to `value`, at least 3."""
    return max(3, 2 * round((value - 1) / 2) + 1)


def correlation_volume(left: np.ndarray, right: np.ndarray, window: tuple[int, int],
                       max_disparity: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Correlate windows (width, height) of the left image with shifted ones of the right image.

    Returns
    -------
    (D + 1, H, W) float32
        Zero-mean normalised cross-correlation by disparity 0 to D; -1 where a window leaves the
        image.
    (H, W) float32
        Standard deviation in the window of the left image [levels].

    """
    images = [image.astype(np.float32) - np.float32(np.mean(image)) for image in (left, right)]
    means = [cv2.boxFilter(image, -1, window) for image in images]
    variances = [np.maximum(cv2.boxFilter(image * image, -1, window) - mean * mean, 0.0)
                 for image, mean in zip(images, means)]
    width = left.shape[1]
    scores = np.full((max_disparity + 1, *left.shape), -1.0, np.float32)
    for shift in range(min(max_disparity + 1, width - window[0])):
        own, other = slice(shift, width), slice(0, width - shift)
        product = cv2.boxFilter(images[0][:, own] * images[1][:, other], -1, window)
        covariance = product - means[0][:, own] * means[1][:, other]
        spread = np.sqrt(variances[0][:, own] * variances[1][:, other])
        scores[shift][:, own] = covariance / np.maximum(spread, 1e-3)
    return np.clip(scores, -1.0, 1.0), np.sqrt(variances[0])


def best_match(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the disparity [px] of the best score with a parabola's fraction, and that score."""
    best = scores[1:-1].argmax(axis=0) + 1
    before, peak, after = (np.take_along_axis(scores, (best + k)[None], axis=0)[0]
                           for k in (-1, 0, 1))
    bend = before - 2 * peak + after
    fraction = np.where(bend < -1e-6, 0.5 * (before - after) / np.minimum(bend, -1e-6), 0.0)
    return (best + np.clip(fraction, -0.5, 0.5)).astype(np.float32), peak


def _seen_from_the_right(scores: np.ndarray) -> np.ndarray:
    mirrored = np.full_like(scores, -1.0)
    width = scores.shape[2]
    for shift in range(min(len(scores), width)):
        mirrored[shift, :, :width - shift] = scores[shift, :, shift:]
    return mirrored


def _rival(scores: np.ndarray, disparity: np.ndarray) -> np.ndarray:
    """Return the highest score of any other place than around the match."""
    rival = np.full(disparity.shape, -1.0, np.float32)
    for shift, layer in enumerate(scores):
        far = np.abs(shift - disparity) >= 2.0 * STEPS_A_PIXEL
        rival = np.where(far & (layer > rival), layer, rival)
    return rival


def _drop_specks(disparity: np.ndarray, size: float) -> np.ndarray:
    """Return the disparity with NaN for 0 and for patches of fewer than `size` pixels."""
    levels = np.clip(np.rint(disparity * 16), 0, 32767).astype(np.int16)
    cv2.filterSpeckles(levels, 0, int(size), 16)
    return np.where(levels > 0, disparity, np.float32(np.nan)).astype(np.float32)


def align_to_color(disparity: np.ndarray, rig: StereoRig, color: PinholeCamera,
                   far_m: float) -> np.ndarray:
    """
    Draw the depth of the left infrared camera at the pixels of the colour camera.

    Disparity is linear on planes: it is refined between neighbours of one surface until its
    samples are denser than the colour pixels. The nearest surface wins, its samples are averaged.

    Parameters
    ----------
    disparity : (H, W) float32
        Disparity of the left infrared camera [px]; NaN where unknown.
    color : PinholeCamera
        Intrinsics of the colour image, without distortion.
    far_m : float
        Farther depth is left out [m].

    Returns
    -------
    (color.height, color.width) float32
        Depth [m]; NaN where unknown.

    """
    finer = max(2, math.ceil(2.0 * max(color.fx, color.fy) / rig.camera.fx))
    dense, ir = _refined(disparity, finer), rig.camera.resized(disparity.shape[1] * finer,
                                                               disparity.shape[0] * finer)
    rows, columns = np.nonzero(dense > 0)
    z = rig.camera.fx * rig.baseline_m / dense[rows, columns].astype(np.float64)
    x = (columns - ir.cx) / ir.fx * z + rig.offset_m
    u = np.floor(color.fx * x / z + color.cx + 0.5).astype(int)
    v = np.floor(color.fy * (rows - ir.cy) / ir.fy + color.cy + 0.5).astype(int)
    inside = (u >= 0) & (v >= 0) & (u < color.width) & (v < color.height) & (z <= far_m)
    pixel, z = (v * color.width + u)[inside], z[inside]
    size = color.height * color.width
    nearest = np.full(size, np.inf)
    np.minimum.at(nearest, pixel, z)
    front = z <= 1.03 * nearest[pixel]
    count = np.bincount(pixel[front], minlength=size)
    total = np.bincount(pixel[front], z[front], minlength=size)
    depth = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return depth.reshape(color.height, color.width).astype(np.float32)


def _refined(disparity: np.ndarray, factor: int) -> np.ndarray:
    """Sample disparity `factor` times as densely; 0 where unknown."""
    height, width = disparity.shape
    size = (width * factor, height * factor)
    known = np.isfinite(disparity)
    filled = np.where(known, disparity, 0.0).astype(np.float32)
    window = np.ones((3, 3), np.uint8)
    smooth = known & (cv2.dilate(filled, window) - cv2.erode(filled, window) < 1.5)
    safe = cv2.resize(smooth.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.999
    between = cv2.resize(filled, size, interpolation=cv2.INTER_LINEAR)
    return np.where(safe, between, cv2.resize(filled, size, interpolation=cv2.INTER_NEAREST))


def sense(pair: tuple[np.ndarray, np.ndarray], color: PinholeCamera, config: StereoConfig,
          rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """
    Turn a rendered pair into the sensor's two results.

    Returns
    -------
    (h, w) float32
        Raw disparity of the left infrared camera [px]; NaN where unmatched.
    (H, W) float32
        Depth [m] at the pixels of the colour camera; NaN where unknown.

    """
    rig = stereo_rig(config)
    left, right = expose(pair, config.read_noise, rng)
    largest = math.ceil(rig.camera.fx * rig.baseline_m / config.near_m) + 1
    disparity = match(left, right, config, largest)
    return disparity, align_to_color(disparity, rig, color, config.far_m)
