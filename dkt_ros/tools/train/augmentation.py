"""What changes how a training clip looks and leaves its depth true: light, tint, the cameras."""
from __future__ import annotations

import cv2
import numpy as np

from dkt_ros.material import Material
from dkt_ros.model.sensor_encoder import SensorRange


def change_light(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """
    Throw up to four soft shadows or patches of light onto two of three images (H, W, 3) uint8.

    Outlines that are not those of things, sharp to blurred, as polygons of three to six corners.
    """
    height, width = rgb.shape[:2]
    light = np.ones((height, width), np.float32)
    for _ in range(rng.integers(1, 5) if rng.random() < 0.67 else 0):
        center, reach = rng.uniform(0, 1, 2), rng.uniform(0.05, 0.35)
        corners = (center + rng.uniform(-reach, reach, (rng.integers(3, 7), 2))) * (width, height)
        patch = np.zeros_like(light)
        cv2.fillConvexPoly(patch, cv2.convexHull(np.int32(corners)), 1.0)
        patch = cv2.GaussianBlur(patch, (0, 0), width * rng.uniform(0.001, 0.03))
        light *= 1 + patch * np.float32(rng.uniform(-0.55, 0.35))
    return np.uint8(np.clip(rgb * light[..., None], 0, 255) + 0.5)


def change_tint(rgb: np.ndarray, material: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """
    Colour what is transparent in four of ten clips.

    One colour for the clip's images (T, H, W, 3) in [0, 1], where `material` (T, H, W) is clear:
    what passes a coloured glass, were its thickness the same everywhere (Beer and Lambert).
    """
    if rng.random() > 0.4:
        return rgb
    passed = np.exp(-rng.uniform(0, 1.2) * rng.uniform(0, 1, 3)).astype(np.float32)
    clear = np.float32(material == Material.TRANSPARENT)
    clear = np.stack([cv2.GaussianBlur(image, (0, 0), 0.7) for image in clear])[..., None]
    return rgb * (1 + clear * (passed - 1))


def change_colors(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vary exposure, colour, gamma, blur, noise, JPEG of images (T, H, W, 3) in [0, 1]."""
    gain = np.exp(rng.normal(0, 0.2) + rng.normal(0, 0.07, 3)).astype(np.float32)
    rgb = np.clip(rgb * gain, 0, 1) ** np.float32(np.exp(rng.normal(0, 0.12)))
    gray = rgb.mean(axis=-1, keepdims=True)
    rgb = gray + (rgb - gray) * np.float32(rng.uniform(0.5, 1.3))
    if rng.random() < 0.25:
        sigma = rng.uniform(0.3, 1.0)
        rgb = np.stack([cv2.GaussianBlur(image, (0, 0), sigma) for image in rgb])
    noise = rng.standard_normal(rgb.shape, np.float32) * np.float32(rng.uniform(0, 0.025))
    rgb = np.clip(rgb + noise, 0, 1)
    return compressed(rgb, int(rng.integers(40, 96))) if rng.random() < 0.25 else rgb


def compressed(rgb: np.ndarray, quality: int) -> np.ndarray:
    """Return images (T, H, W, 3) in [0, 1] as JPEG of that quality leaves them."""
    return np.stack([cv2.imdecode(cv2.imencode('.jpg', np.uint8(image * 255 + 0.5), (
        cv2.IMWRITE_JPEG_QUALITY, quality))[1], cv2.IMREAD_COLOR) for image in rgb]).astype(
            np.float32) / 255


def change_range(limits: SensorRange, rng: np.random.Generator) -> SensorRange:
    """Move both ends of a range: a stream keeps the one that it began with."""
    spread = limits.high - limits.low
    low, high = limits.low + spread * rng.normal(0, 0.1), limits.high + spread * rng.normal(0, 0.1)
    return SensorRange(low, max(high, low + 0.5 * spread))


def change_sensor(inverse_depth: np.ndarray, material: np.ndarray,
                  rng: np.random.Generator) -> np.ndarray:
    """
    Let a depth camera err in more ways than the simulated ones do.

    Parameters
    ----------
    inverse_depth : (T, H, W) float32
        What it gave [1/m]; 0 where nothing.
    material : (T, H, W) int64
        What is there.

    Returns
    -------
    (T, H, W) float32
        Of some clips all clear things are lost, or measured as what lies around them; there are
        holes of any place and shape, one of all that is far or near, an error of scale that varies
        over the image, a registration that is off by up to two pixels, and frames that it missed.

    """
    clear = (material == Material.TRANSPARENT) | (material == Material.TRANSLUCENT)
    draw = rng.random()
    if draw < 0.2:
        inverse_depth = np.where(clear, np.float32(0), inverse_depth)
    elif draw < 0.4:
        inverse_depth = np.stack([_seen_through(*frame) for frame in zip(inverse_depth, clear)])
    size = inverse_depth.shape[:0:-1]
    if rng.random() < 0.25:
        inverse_depth = _out_of_range(inverse_depth, rng)
    if rng.random() < 0.6:
        shares = rng.uniform(0.02, 0.4), rng.uniform(0.02, 0.4)
        holes = _patches(size, rng, *shares)
        inverse_depth = np.where(holes, np.float32(0), inverse_depth)
    if rng.random() < 0.5:
        error = 1 + rng.uniform(0.002, 0.02) * _smooth(size, rng, rng.uniform(0.02, 0.3))
        inverse_depth = inverse_depth * error
    if rng.random() < 0.3:
        shift = rng.integers(-2, 3, 2)
        inverse_depth = np.roll(inverse_depth, shift, (1, 2))
    count = len(inverse_depth)
    if count > 1 and rng.random() < 0.45:
        kept = np.arange(count) >= count - 1 if rng.random() < 0.5 else rng.random(count) < 0.5
        inverse_depth = inverse_depth * kept[:, None, None]
    return inverse_depth.astype(np.float32)


def _out_of_range(inverse_depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lose up to half of what was measured (T, H, W): what is farthest or, seldom, nearest."""
    seen = inverse_depth[inverse_depth > 0]
    if not seen.size:
        return inverse_depth
    share, is_far = rng.uniform(0.05, 0.5), rng.random() < 0.8
    limit = np.quantile(seen[::1 + seen.size // 20000], share if is_far else 1 - share / 2)
    lost = inverse_depth < limit if is_far else inverse_depth > limit
    return np.where(lost, np.float32(0), inverse_depth)


def _seen_through(inverse_depth: np.ndarray, clear: np.ndarray) -> np.ndarray:
    """Measure what is behind clear things (H, W): the surface below or beside them continued."""
    small = cv2.resize(np.where(clear, np.float32(0), inverse_depth), None, fx=0.125, fy=0.125,
                       interpolation=cv2.INTER_NEAREST)
    weights = np.float32(small > 0)
    sums, counts = (sum(share * cv2.GaussianBlur(image, (0, 0), sigma) for sigma, share in
                        ((1.5, 1.0), (4, 0.03), (12, 0.001))) for image in (small, weights))
    behind = cv2.resize(sums / np.maximum(counts, 1e-9), clear.shape[::-1],
                        interpolation=cv2.INTER_LINEAR)
    return np.where(clear & (inverse_depth > 0), behind, inverse_depth)


def _smooth(size: tuple[int, int], rng: np.random.Generator, scale: float) -> np.ndarray:
    """Return noise of unit size that varies over `scale` of the image's width, (H, W) float32."""
    width, height = size
    cells = max(2, round(1 / scale)), max(2, round(height / width / scale))
    return cv2.resize(rng.standard_normal(cells[::-1]).astype(np.float32), (width, height),
                      interpolation=cv2.INTER_CUBIC)


def _patches(size: tuple[int, int], rng: np.random.Generator, scale: float,
             share: float) -> np.ndarray:
    """Return patches of any shape, about that share of the image (H, W), True inside."""
    field = _smooth(size, rng, scale)
    return field > np.quantile(field[::4, ::4], 1 - share)
