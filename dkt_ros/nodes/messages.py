"""
Message to array and back: with `data.ros_images`, which reads pixels, all that knows layouts.

Reading gives views where the layout allows it. Writing assigns `array.array('B')`, the one type
that rosidl takes without looking at each byte. No node, no publisher, no mathematics.
"""
from __future__ import annotations

import array
import sys

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from dkt_ros.camera import PinholeCamera
from dkt_ros.data.ros_images import (
    compressed_to_depth,
    compressed_to_rgb,
    image_to_array,
    image_to_depth,
    image_to_rgb,
)

__all__ = [
    'array_to_image', 'camera_from_info', 'compressed_to_depth', 'compressed_to_rgb',
    'depth_to_millimetres', 'image_to_array', 'image_to_depth', 'image_to_rgb',
    'info_from_camera', 'make_header', 'map_to_image', 'mask_to_image', 'ns_to_stamp',
    'pose_to_matrix', 'stamp_to_ns', 'to_bytes_array',
]


def stamp_to_ns(stamp: Time) -> int:
    """Return a message's time stamp in nanoseconds."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def ns_to_stamp(stamp_ns: int) -> Time:
    """Return nanoseconds as a message's time stamp."""
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def make_header(stamp_ns: int, frame_id: str) -> Header:
    """Return a header with this capture time [ns] and frame."""
    return Header(stamp=ns_to_stamp(stamp_ns), frame_id=frame_id)


def camera_from_info(message: CameraInfo) -> PinholeCamera:
    """
    Read the camera of an image from its camera_info, binning and region of interest applied.

    Raises
    ------
    ValueError
        For an uncalibrated camera (K = 0) or one without a size.

    """
    camera = PinholeCamera.from_K(
        np.asarray(message.k), message.width, message.height,
        distortion=tuple(float(value) for value in message.d),
        distortion_model=message.distortion_model or 'plumb_bob',
        frame_id=message.header.frame_id)
    roi = message.roi
    if roi.width and roi.height:
        camera = camera.cropped(roi.x_offset, roi.y_offset, roi.width, roi.height)
    binning_x, binning_y = max(message.binning_x, 1), max(message.binning_y, 1)
    if (binning_x, binning_y) != (1, 1):
        camera = camera.resized(camera.width // binning_x, camera.height // binning_y)
    return camera


def info_from_camera(camera: PinholeCamera, header: Header) -> CameraInfo:
    """Write the camera_info that goes with maps at the camera's own pixels."""
    message = CameraInfo(header=header, height=camera.height, width=camera.width)
    message.distortion_model = camera.distortion_model
    message.d = list(camera.distortion) or [0.0] * 5
    message.k = camera.K.ravel()
    message.r = np.eye(3).ravel()
    message.p = np.hstack([camera.K, np.zeros((3, 1))]).ravel()
    return message


def array_to_image(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    """
    Write an image message.

    Parameters
    ----------
    pixels : (H, W) or (H, W, C) array
        Already of the type that `encoding` says; any strides.
    encoding : str
        As in sensor_msgs/image_encodings.
    header : Header
        Capture stamp and optical frame.

    """
    pixels = np.ascontiguousarray(pixels)
    message = Image(header=header, height=pixels.shape[0], width=pixels.shape[1],
                    encoding=encoding, is_bigendian=sys.byteorder == 'big')
    message.step = pixels.strides[0]
    message.data = to_bytes_array(pixels)
    return message


def to_bytes_array(block: np.ndarray) -> array.array:
    """Copy a contiguous array into `array.array('B')`, which message setters take at once."""
    data = array.array('B')
    if block.size:  # a view of nothing cannot be cast
        data.frombytes(memoryview(block).cast('B'))
    return data


def pose_to_matrix(pose: Pose) -> np.ndarray:
    """Read a pose as a matrix (4, 4) float64."""
    turn, shift = pose.orientation, pose.position
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat([turn.x, turn.y, turn.z, turn.w]).as_matrix()
    matrix[:3, 3] = shift.x, shift.y, shift.z
    return matrix


def map_to_image(values: np.ndarray, header: Header) -> Image:
    """Write a float map, (H, W) as 32FC1 or (H, W, 3) as 32FC3."""
    encoding = '32FC1' if values.ndim == 2 else '32FC3'
    return array_to_image(np.asarray(values, np.float32), encoding, header)


def mask_to_image(mask: np.ndarray, header: Header) -> Image:
    """Write a boolean map as mono8, 0 or 255."""
    return array_to_image(mask.view(np.uint8) * np.uint8(255), 'mono8', header)


def depth_to_millimetres(depth: np.ndarray) -> np.ndarray:
    """Turn depth [m] into the uint16 millimetres of 16UC1; 0 where invalid or over 65 m."""
    with np.errstate(invalid='ignore'):
        millimetres = np.rint(depth * np.float32(1000.0))
        valid = (millimetres >= 1) & (millimetres <= 65535)
    return np.where(valid, millimetres, 0).astype(np.uint16)
