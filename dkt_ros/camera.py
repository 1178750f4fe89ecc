"""
Pinhole camera model: intrinsics that follow the image through resizing and cropping.

A distorted camera keeps its pixels; its rays are undistorted one by one. No ROS.
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache

import cv2
import numpy as np

NUM_COEFFICIENTS = {'plumb_bob': (4, 5), 'rational_polynomial': (8,), 'equidistant': (4,)}

@dataclass(frozen=True)
class PinholeCamera:
    """
    Intrinsics of an image, in pixels of that image.

    Pixel centres lie on integer coordinates (OpenCV, REP 104): the ray of pixel (u, v) is
    ((u - cx) / fx, (v - cy) / fy, 1) in the optical frame (x right, y down, z forward).

    Parameters
    ----------
    width, height : int
        Image size [px].
    fx, fy, cx, cy : float
        Focal lengths and principal point [px].
    distortion : tuple of float
        Coefficients D of `distortion_model`; all zero or empty for a rectified image.
    distortion_model : str
        Name as in sensor_msgs/CameraInfo: `plumb_bob`, `rational_polynomial` or `equidistant`;
        any name will do while the coefficients are zero.
    frame_id : str
        The optical frame.

    Raises
    ------
    ValueError
        If a focal length or the size is not positive and finite, or the lens is distorted in a
        way that is not known here.

    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = field(default=())
    distortion_model: str = 'plumb_bob'
    frame_id: str = 'camera_color_optical_frame'

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f'image size is {self.width}x{self.height}; both must be positive')
        for name in ('fx', 'fy'):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ValueError(
                    f'{name} is {value}; a calibrated camera has a positive focal length in '
                    'pixels: calibrate the camera or fix its camera_info')
        if self.is_distorted:
            self._check_distortion()

    def _check_distortion(self) -> None:
        allowed = NUM_COEFFICIENTS.get(self.distortion_model)
        if allowed is None:
            raise ValueError(
                f'distortion model is {self.distortion_model!r}; allowed: '
                f'{", ".join(NUM_COEFFICIENTS)}: rectify the image or recalibrate the camera')
        if len(self.distortion) not in allowed or not np.isfinite(self.distortion).all():
            raise ValueError(
                f'distortion is {self.distortion} but {self.distortion_model} takes '
                f'{" or ".join(map(str, allowed))} finite coefficients: fix the camera_info')

    @property
    def K(self) -> np.ndarray:
        """Intrinsic matrix, (3, 3) float64 [px]."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @classmethod
    def from_K(cls, K: np.ndarray, width: int, height: int, **kwargs) -> PinholeCamera:
        """Build from an intrinsic matrix (3, 3) [px] and the image size [px]."""
        K = np.asarray(K, dtype=np.float64).reshape(3, 3)
        return cls(int(width), int(height), float(K[0, 0]), float(K[1, 1]),
                   float(K[0, 2]), float(K[1, 2]), **kwargs)

    @property
    def is_distorted(self) -> bool:
        """True if any distortion coefficient is not zero."""
        return any(value != 0.0 for value in self.distortion)

    def resized(self, width: int, height: int) -> PinholeCamera:
        """
        Return the camera of the same view at another image size [px].

        The outer image borders stay where they are, so pixel centres shift by half a pixel.
        """
        sx, sy = width / self.width, height / self.height
        return replace(self, width=int(width), height=int(height), fx=self.fx * sx,
                       fy=self.fy * sy, cx=(self.cx + 0.5) * sx - 0.5,
                       cy=(self.cy + 0.5) * sy - 0.5)

    def cropped(self, x: int, y: int, width: int, height: int) -> PinholeCamera:
        """Return the camera of the sub-image whose top left pixel is (x, y)."""
        return replace(self, width=int(width), height=int(height), cx=self.cx - x, cy=self.cy - y)

    def rays(self) -> np.ndarray:
        """
        Return the ray of each pixel, scaled to z = 1 and undistorted.

        Returns
        -------
        (H, W, 3) float32
            Read-only and shared between calls; NaN where the lens model cannot be inverted.

        """
        return _rays(self)

    def unit_rays(self) -> np.ndarray:
        """Return the rays scaled to length 1, (H, W, 3) float32, read-only and shared."""
        return _unit_rays(self)

    def unproject(self, depth: np.ndarray) -> np.ndarray:
        """
        Turn depth along z into points.

        Parameters
        ----------
        depth : (H, W) float32
            Depth along the optical axis [m]; NaN where invalid.

        Returns
        -------
        (H, W, 3) float32
            Points in the optical frame [m]; NaN where depth is NaN.

        """
        if depth.shape != (self.height, self.width):
            raise ValueError(f'depth is {depth.shape}, the camera has '
                             f'({self.height}, {self.width}) pixels (height, width)')
        return self.rays() * depth[..., None].astype(np.float32)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project points (..., 3) [m] of the optical frame to pixels (..., 2); NaN for z <= 0."""
        points = np.asarray(points, dtype=np.float64)
        z = np.where(points[..., 2] > 0, points[..., 2], np.nan)
        xy = points[..., :2] / z[..., None]
        if self.is_distorted:
            xy = _distort(xy, self.distortion_model, self.distortion)
        return xy * (self.fx, self.fy) + (self.cx, self.cy)


@lru_cache(maxsize=8)
def _rays(camera: PinholeCamera) -> np.ndarray:
    u = (np.arange(camera.width, dtype=np.float64) - camera.cx) / camera.fx
    v = (np.arange(camera.height, dtype=np.float64) - camera.cy) / camera.fy
    xy = np.stack(np.meshgrid(u, v), axis=-1)
    if camera.is_distorted:
        xy = _undistort(xy, camera)
    rays = np.ones((camera.height, camera.width, 3), np.float32)
    rays[..., :2] = xy
    rays.flags.writeable = False
    return rays


@lru_cache(maxsize=8)
def _unit_rays(camera: PinholeCamera) -> np.ndarray:
    rays = _rays(camera)
    rays = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    rays.flags.writeable = False
    return rays


def _undistort(xy: np.ndarray, camera: PinholeCamera) -> np.ndarray:
    flat, unit = xy.reshape(-1, 1, 2), np.eye(3)
    coefficients = np.asarray(camera.distortion, np.float64)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-10)
    undistort = (cv2.fisheye.undistortPoints if camera.distortion_model == 'equidistant'
                 else cv2.undistortPoints)
    ideal = undistort(flat, unit, coefficients, criteria=criteria).reshape(xy.shape)
    # Beyond the range of the calibration the inversion can end on a wrong ray: such pixels have
    # none.
    error = np.abs(_distort(ideal, camera.distortion_model, camera.distortion) - xy)
    bad = ~(error * (camera.fx, camera.fy) < 0.25).all(axis=-1)
    ideal[bad] = np.nan
    return ideal


def _distort(xy: np.ndarray, model: str, coefficients: tuple[float, ...]) -> np.ndarray:
    x, y = xy[..., 0], xy[..., 1]
    r2 = x * x + y * y
    if model == 'equidistant':
        k1, k2, k3, k4 = coefficients
        r = np.sqrt(r2)
        angle = np.arctan(r)
        a2 = angle * angle
        bent = angle * (1 + a2 * (k1 + a2 * (k2 + a2 * (k3 + a2 * k4))))
        return xy * np.where(r > 1e-9, bent / np.maximum(r, 1e-9), 1.0)[..., None]
    k1, k2, p1, p2, k3, k4, k5, k6 = (*coefficients, *(0.0,) * (8 - len(coefficients)))
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    return np.stack([x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                     y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y], axis=-1)
