"""What changes how a training image looks and leaves its depth true: light, tint, the camera."""
from __future__ import annotations

import cv2
import numpy as np

from dkt_ros.material import Material


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
