"""Turn the renderer's raw passes into scene frames: exposure, camera frame, invalid values."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import OpenEXR

from dkt_ros.camera import PinholeCamera

FAR_M = 15.0


def read_passes(path: str | Path) -> dict[str, np.ndarray]:
    """
    Read one multilayer EXR of the worker.

    Returns
    -------
    dict
        linear (H, W, 3) float32; depth (H, W) float32 [m], NaN where nothing was hit;
        normals_world (H, W, 3) float32; instance (H, W) uint16; material (H, W) uint8.

    """
    with OpenEXR.File(str(path), separate_channels=True) as exr:
        channels = {name.split('.', 1)[1]: channel.pixels
                    for name, channel in exr.channels().items()}
    depth = channels['Depth.Z'].astype(np.float32)
    missing = ~(depth < FAR_M)
    depth[missing] = np.nan
    instance, material = channels['IndexOB.X'], channels['IndexMA.X']
    return {
        'linear': np.stack([channels[f'Combined.{c}'] for c in 'RGB'], axis=-1),
        'depth': depth,
        'normals_world': np.stack([channels[f'Normal.{c}'] for c in 'XYZ'], axis=-1),
        'instance': np.where(missing, 0, np.rint(instance)).astype(np.uint16),
        'material': np.where(missing, 0, np.rint(material)).astype(np.uint8)}


def auto_exposure(linear: np.ndarray, target: float) -> float:
    """
    Return the gain that brings the log-mean luminance of linear RGB (H, W, 3) to `target`.

    A camera holds its exposure over a clip: call this once, on the first frame.
    """
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    return float(target / max(np.exp(np.mean(np.log(luminance + 1e-3))), 1e-4))


def roll_off(linear: np.ndarray, level: float) -> np.ndarray:
    """
    Compress what is brighter than `level` towards 1, as the response of a camera does.

    The slope is 1 at `level` and falls from there (Reinhard's curve, above it alone); a level of 1
    changes nothing.
    """
    if level >= 1.0:
        return linear
    room = 1.0 - level
    above = np.maximum(linear - level, 0.0) / room
    return np.minimum(linear, level) + room * above / (1.0 + above)


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """Encode linear RGB (H, W, 3) as 8-bit sRGB (IEC 61966-2-1), clipped."""
    linear = np.clip(linear, 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(encoded * 255).astype(np.uint8)


def camera_normals(normals_world: np.ndarray, T_world_camera: np.ndarray,
                   camera: PinholeCamera) -> np.ndarray:
    """Rotate world normals (H, W, 3) to the optical frame and turn them towards the camera."""
    normals = normals_world @ np.asarray(T_world_camera, np.float32)[:3, :3]
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals = np.divide(normals, length, out=np.zeros_like(normals), where=length > 1e-6)
    away = np.sum(normals * camera.rays(), axis=-1) > 0
    normals[away] *= -1
    return normals.astype(np.float32)


def shoot(linear: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """
    Add the noise of an image sensor to exposed linear RGB (H, W, 3).

    Photons give a standard deviation of `noise` * sqrt(level), the read-out a tenth of `noise`.
    """
    if noise == 0.0:
        return linear
    spread = noise * np.sqrt(np.clip(linear, 0.0, 1.0) + 0.01)
    return linear + (spread * rng.standard_normal(linear.shape)).astype(np.float32)


def read_infrared(path: str | Path) -> np.ndarray:
    """Read one infrared image of the worker: mean of the channels, (H, W) float32, linear."""
    with OpenEXR.File(str(path), separate_channels=True) as exr:
        channels = {name.rsplit('.', 1)[1]: channel.pixels
                    for name, channel in exr.channels().items()}
    return np.mean([channels[c] for c in 'RGB'], axis=0, dtype=np.float32)
