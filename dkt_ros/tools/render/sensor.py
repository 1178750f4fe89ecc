"""
What an active-stereo camera would report, drawn statistically from the true depth.

Matching fails in patches on glass (the dots pass through and are bent), and where it succeeds it
finds something behind the surface. Both vary smoothly over an object, so that holes filled from
their neighbours inherit the error, as on real frames. numpy and OpenCV only.
"""
from __future__ import annotations

import cv2
import numpy as np

from dkt_ros.config import SensorConfig
from dkt_ros.material import Material


def smooth_field(shape: tuple[int, int], sigma_px: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a Gaussian random field (H, W) of zero mean and unit variance."""
    field = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), sigma_px)
    return (field - field.mean()) / max(float(field.std()), 1e-6)


def shadow_of_baseline(depth: np.ndarray, focal_px: float, baseline_m: float) -> np.ndarray:
    """
    Return True where the second camera's view is blocked.

    The second camera stands to the right: its pixels are shifted left by the stereo disparity
    focal * baseline / z. A pixel is hidden if a nearer surface to its right is shifted past it.
    """
    height, width = depth.shape
    disparity = focal_px * baseline_m / np.nan_to_num(depth, nan=1e3)
    shifted = np.arange(width, dtype=np.float32)[None, :] - disparity
    passed = np.minimum.accumulate(shifted[:, ::-1], axis=1)[:, ::-1]
    return shifted > passed + 1.0


def simulate_sensor(depth: np.ndarray, material: np.ndarray, instance: np.ndarray,
                    focal_px: float, config: SensorConfig, seed: int, frame: int) -> np.ndarray:
    """
    Draw the sensor's depth.

    Parameters
    ----------
    depth : (H, W) float32
        True depth of the first surface [m]; NaN where there is none.
    material : (H, W) uint8
        Values of `Material`.
    instance : (H, W) uint16
        Object ids; each object keeps its share of holes and its bias over the clip.
    focal_px : float
        Focal length [px].
    seed, frame : int
        Same values, same draw. Patches change from frame to frame, objects do not.

    Returns
    -------
    (H, W) float32
        Depth [m]; NaN where the sensor reports nothing.

    """
    rng = np.random.default_rng((seed, frame, 7))
    scale = depth.shape[1] / 256.0
    noise = 0.7 * smooth_field(depth.shape, 1.2 * scale, rng) \
        + 0.7 * smooth_field(depth.shape, 5.0 * scale, rng)
    sensor = depth + config.noise_m_at_1m * depth ** 2 * noise
    holes = shadow_of_baseline(depth, focal_px, config.baseline_m)
    holes |= smooth_field(depth.shape, 1.5 * scale, rng) > 3.0
    for identity in np.unique(instance[instance > 0]):
        of_object = instance == identity
        kind = Material(int(np.median(material[of_object])))
        if kind in (Material.TRANSPARENT, Material.TRANSLUCENT, Material.REFLECTIVE):
            bias, missing = _object_error(depth.shape, kind, identity, config, seed, scale, rng)
            sensor = np.where(of_object, sensor + bias, sensor)
            holes |= of_object & missing
    edges = _steps(depth)
    holes |= edges & (smooth_field(depth.shape, 1.0 * scale, rng) > -0.3)
    sensor[holes | ~(sensor > config.min_range_m)] = np.nan
    return sensor.astype(np.float32)


def _object_error(shape, kind, identity, config, seed, scale, rng):
    """Return the bias (H, W) [m] and the holes (H, W) of one object in this frame."""
    steady = np.random.default_rng((seed, int(identity), 11))
    if kind is Material.REFLECTIVE:
        share = steady.uniform(*config.metal_holes)
        bias = config.metal_bias_m * smooth_field(shape, 4.0 * scale, rng)
    else:
        share = steady.uniform(*config.glass_holes)
        median = steady.uniform(*config.glass_bias_m)
        if kind is Material.TRANSLUCENT:
            share, median = 0.5 * share, 0.3 * median
        bias = median * np.exp(0.6 * smooth_field(shape, 4.0 * scale, rng))
    field = smooth_field(shape, 5.0 * scale, rng)
    return bias, field < np.quantile(field, share)


def _steps(depth: np.ndarray) -> np.ndarray:
    """
    Return True beside a step in depth of more than 2 %, one pixel to either side.

    Inverse depth is linear in the image on any plane, so that slopes have no second difference.
    """
    inverse = 1.0 / np.nan_to_num(depth, nan=1e3).astype(np.float32)
    step = np.zeros(depth.shape, np.uint8)
    for image, marks in ((inverse, step), (inverse.T, step.T)):
        bend = np.abs(image[:-2] - 2 * image[1:-1] + image[2:])
        marks[1:-1] |= bend > 0.02 * image[1:-1]
    return step > 0
