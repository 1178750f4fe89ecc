"""
Message to array and back: the only file that knows message layouts.

Reading gives views where the layout allows it. Writing assigns `array.array('B')`, the one type
that rosidl takes without looking at each byte. No node, no publisher, no mathematics.
"""
from __future__ import annotations

import array
import sys

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from dkt_ros.camera import PinholeCamera

# encoding: (type of one value, values a pixel, OpenCV conversion to RGB or None)
COLOR_ENCODINGS = {
    'rgb8': (np.uint8, 3, None),
    'bgr8': (np.uint8, 3, cv2.COLOR_BGR2RGB),
    'rgba8': (np.uint8, 4, cv2.COLOR_RGBA2RGB),
    'bgra8': (np.uint8, 4, cv2.COLOR_BGRA2RGB),
    'mono8': (np.uint8, 1, cv2.COLOR_GRAY2RGB),
    'yuv422': (np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    'uyvy': (np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': (np.uint8, 2, cv2.COLOR_YUV2RGB_YUY2),
    'yuyv': (np.uint8, 2, cv2.COLOR_YUV2RGB_YUY2),
}
DEPTH_ENCODINGS = {'16UC1': (np.uint16, 1), 'mono16': (np.uint16, 1), '32FC1': (np.float32, 1)}
MAP_ENCODINGS = {'32FC3': (np.float32, 3), '8UC1': (np.uint8, 1)}

PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'


def stamp_to_ns(stamp: Time) -> int:
    """Return a message's time stamp in nanoseconds."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def ns_to_stamp(stamp_ns: int) -> Time:
    """Return nanoseconds as a message's time stamp."""
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def make_header(stamp_ns: int, frame_id: str) -> Header:
    """Return a header with this capture time [ns] and frame."""
    return Header(stamp=ns_to_stamp(stamp_ns), frame_id=frame_id)


def image_to_array(message: Image) -> np.ndarray:
    """
    View the pixels of an image message.

    Parameters
    ----------
    message : Image
        Any encoding this module knows; row padding and either byte order are fine.

    Returns
    -------
    (H, W) or (H, W, C) array
        In the machine's byte order; shares memory with the message where it can.

    Raises
    ------
    ValueError
        For an encoding we cannot read, or too little data for the size announced.

    """
    kinds = {**{name: kind[:2] for name, kind in COLOR_ENCODINGS.items()}, **DEPTH_ENCODINGS,
             **MAP_ENCODINGS}
    if message.encoding not in kinds:
        raise ValueError(_unknown_encoding('image', message.encoding, kinds))
    kind, channels = kinds[message.encoding]
    dtype = np.dtype(kind).newbyteorder('>' if message.is_bigendian else '<')
    height, width, pixel = message.height, message.width, dtype.itemsize * channels
    step = message.step or width * pixel
    needed = (height - 1) * step + width * pixel
    if not height or not width or step < width * pixel or len(message.data) < needed:
        raise ValueError(
            f'a {width}x{height} {message.encoding} image came with row step {message.step} and '
            f'{len(message.data)} bytes; at least {width * pixel} and {max(needed, 0)} are '
            'needed: fix the publisher')
    strides = (step, pixel, dtype.itemsize)
    pixels = np.ndarray((height, width, channels), dtype, memoryview(message.data),
                        strides=strides)
    if not dtype.isnative:
        pixels = pixels.astype(dtype.newbyteorder('='))
    return pixels[..., 0] if channels == 1 else pixels


def image_to_rgb(message: Image) -> np.ndarray:
    """
    Read a colour image.

    Returns
    -------
    (H, W, 3) uint8
        R first; contiguous.

    Raises
    ------
    ValueError
        For an encoding that is not colour we can read.

    """
    if message.encoding not in COLOR_ENCODINGS:
        raise ValueError(_unknown_encoding('colour image', message.encoding, COLOR_ENCODINGS))
    pixels = np.ascontiguousarray(image_to_array(message))
    conversion = COLOR_ENCODINGS[message.encoding][2]
    if conversion is None:
        return pixels
    if message.encoding.startswith(('yuv', 'uyvy')) and message.width % 2:
        raise ValueError(f'a {message.encoding} image is {message.width} pixels wide; two pixels '
                         'share their colour, so the width must be even')
    return cv2.cvtColor(pixels, conversion)


def image_to_depth(message: Image) -> np.ndarray:
    """
    Read a depth image, 16UC1 in millimetres or 32FC1 in metres.

    Returns
    -------
    (H, W) float32
        Depth along z [m]; NaN where the sensor gave 0, a negative value, NaN or Inf.

    """
    if message.encoding not in DEPTH_ENCODINGS:
        raise ValueError(_unknown_encoding('depth image', message.encoding, DEPTH_ENCODINGS))
    return _metres(image_to_array(message))


def _metres(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint16:
        depth = np.multiply(values, np.float32(0.001), dtype=np.float32)
    else:
        depth = np.array(values, np.float32)
    with np.errstate(invalid='ignore'):
        depth[~((depth > 0) & (depth < np.inf))] = np.nan
    return depth


def compressed_to_rgb(message: CompressedImage) -> np.ndarray:
    """Read a jpeg or png colour image, (H, W, 3) uint8, R first."""
    pixels = _imdecode(message.data, cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f'a compressed image of format {message.format!r} and '
                         f'{len(message.data)} bytes cannot be decoded; jpeg and png are read: '
                         'check the publisher')
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def compressed_to_depth(message: CompressedImage) -> np.ndarray:
    """Read a 16UC1 png depth image (with or without compressedDepth's header), (H, W) [m]."""
    data = bytes(message.data)
    start = data.find(PNG_SIGNATURE, 0, 64)
    pixels = None if start < 0 else _imdecode(data[start:], cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 2:
        raise ValueError(f'a compressed depth of format {message.format!r} is not a 16-bit png; '
                         'only 16UC1 png is read, since other forms lose millimetres: use raw '
                         'depth (depth_transport: raw)')
    return _metres(pixels)


def _imdecode(data, flags: int) -> np.ndarray | None:
    buffer = np.frombuffer(data, np.uint8)
    try:
        return cv2.imdecode(buffer, flags) if buffer.size else None
    except cv2.error:
        return None


def _unknown_encoding(what: str, encoding: str, known) -> str:
    return (f'{what} has encoding {encoding!r}; these can be read: {", ".join(known)}. Set the '
            'camera to one of them, or convert it with image_proc')


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
    data.frombytes(memoryview(block).cast('B'))
    return data


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
