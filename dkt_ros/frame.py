"""What a camera gave (`Frame`) and what the system gives back (`DepthEstimate`)."""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dkt_ros.camera import PinholeCamera


@dataclass(frozen=True)
class Frame:
    """
    One image of an RGB-D camera.

    Attributes
    ----------
    rgb : (H, W, 3) uint8
        Colour, R first.
    stamp_ns : int
        Capture time [ns].
    camera : PinholeCamera
        Intrinsics of `rgb`.
    sensor_depth : (H, W) float32 or None
        The camera's own depth along z, aligned to `rgb` [m]; NaN where invalid.
    T_world_camera : (4, 4) float64 or None
        Pose of the optical frame in one that does not move, where it is known.

    """

    rgb: np.ndarray
    stamp_ns: int
    camera: PinholeCamera
    sensor_depth: np.ndarray | None = None
    T_world_camera: np.ndarray | None = None

    def __post_init__(self) -> None:
        size = (self.camera.height, self.camera.width)
        if self.rgb.dtype != np.uint8 or self.rgb.shape != (*size, 3):
            raise ValueError(f'rgb is {self.rgb.shape} {self.rgb.dtype}; the camera asks for '
                             f'{(*size, 3)} uint8')
        if self.sensor_depth is not None and self.sensor_depth.shape != size:
            raise ValueError(
                f'sensor depth is {self.sensor_depth.shape} but the image is {size} (height, '
                'width): give the depth that is aligned to colour '
                '(realsense-ros: align_depth.enable:=true)')
        if self.sensor_depth is not None and self.sensor_depth.dtype != np.float32:
            raise ValueError(f'sensor depth is {self.sensor_depth.dtype}; float32 metres with NaN '
                             'for invalid pixels are expected: convert it first')


@dataclass(frozen=True)
class DepthEstimate:
    """
    What is known about one frame; a stage fills in what it knows, the rest is None.

    Attributes
    ----------
    frame : Frame
        The input, with its capture stamp and camera.
    disparity : (H, W) float32
        Affine-invariant inverse depth, larger is nearer, dimensionless, never quantised.
    normals : (H, W, 3) float32 or None
        Unit normals in the optical frame, towards the camera (nz < 0).
    depth : (H, W) float32 or None
        The model's depth along z [m]; NaN where invalid.
    depth_fused : (H, W) float32 or None
        The sensor's depth where it agrees with the model, else the model's [m].
    mask : (H, W) bool or None
        True where the sensor is wrong or blind.
    confidence : (H, W) float32 or None
        In [0, 1].
    window_id : int
        Which window of the stream the estimate came from.
    anchor : AnchorState or None
        The fit that made metres of disparity.

    """

    frame: Frame
    disparity: np.ndarray
    window_id: int = 0
    normals: np.ndarray | None = None
    depth: np.ndarray | None = None
    depth_fused: np.ndarray | None = None
    mask: np.ndarray | None = None
    confidence: np.ndarray | None = None
    anchor: object | None = None

    @property
    def stamp_ns(self) -> int:
        """Capture time of the frame [ns]."""
        return self.frame.stamp_ns

    @property
    def camera(self) -> PinholeCamera:
        """Camera of the frame; all maps of a finished estimate have its size."""
        return self.frame.camera

    def filled(self, **fields) -> DepthEstimate:
        """Return a copy with more fields known."""
        return replace(self, **fields)
