"""
Pixels of sensor_msgs/Image and CompressedImage, by duck typing: no ROS is imported.

Bags (rosbags' messages) and nodes (rosidl's) read their images here.
"""
from __future__ import annotations

import cv2
import numpy as np

from dkt_ros.data.exr import clean_depth

# encoding: (type of one value, values a pixel, OpenCV conversion to RGB or None)
COLOR_ENCODINGS = {
    'rgb8': (np.uint8, 3, None),
    'bgr8': (np.uint8, 3, cv2.COLOR_BGR2RGB),
    '8UC3': (np.uint8, 3, cv2.COLOR_BGR2RGB),
    'rgba8': (np.uint8, 4, cv2.COLOR_RGBA2RGB),
    'bgra8': (np.uint8, 4, cv2.COLOR_BGRA2RGB),
    'mono8': (np.uint8, 1, cv2.COLOR_GRAY2RGB),
    '8UC1': (np.uint8, 1, cv2.COLOR_GRAY2RGB),
    'yuv422': (np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    'uyvy': (np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': (np.uint8, 2, cv2.COLOR_YUV2RGB_YUY2),
    'yuyv': (np.uint8, 2, cv2.COLOR_YUV2RGB_YUY2),
}
DEPTH_ENCODINGS = {'16UC1': (np.uint16, 1), 'mono16': (np.uint16, 1), '32FC1': (np.float32, 1)}
MAP_ENCODINGS = {'32FC3': (np.float32, 3)}

PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'


def image_to_array(message: object) -> np.ndarray:
    """
    View the pixels of an image message.

    Parameters
    ----------
    message : object
        A sensor_msgs/Image of any ROS library, of any encoding listed above; row padding and
        either byte order are fine.

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


def image_to_rgb(message: object) -> np.ndarray:
    """
    Read a colour image.

    Parameters
    ----------
    message : object
        A sensor_msgs/Image of one of `COLOR_ENCODINGS`.

    Returns
    -------
    (H, W, 3) uint8
        R first; contiguous and writable, so a copy if the message's data is read-only.

    Raises
    ------
    ValueError
        For an encoding that is not colour we can read.

    """
    if message.encoding not in COLOR_ENCODINGS:
        raise ValueError(_unknown_encoding('colour image', message.encoding, COLOR_ENCODINGS))
    pixels = np.require(image_to_array(message), requirements=('C', 'W'))
    conversion = COLOR_ENCODINGS[message.encoding][2]
    if conversion is None:
        return pixels
    if message.encoding.startswith(('yuv', 'uyvy', 'yuyv')) and message.width % 2:
        raise ValueError(f'a {message.encoding} image is {message.width} pixels wide; two pixels '
                         'share their colour, so the width must be even')
    return cv2.cvtColor(pixels, conversion)


def image_to_depth(message: object) -> np.ndarray:
    """
    Read a depth image, 16UC1 in millimetres or 32FC1 in metres.

    Parameters
    ----------
    message : object
        A sensor_msgs/Image of one of `DEPTH_ENCODINGS`.

    Returns
    -------
    (H, W) float32
        Depth along z [m]; NaN where the sensor gave 0, a negative value, NaN or Inf.

    Raises
    ------
    ValueError
        For an encoding that is not depth we can read, or too little data.

    """
    if message.encoding not in DEPTH_ENCODINGS:
        raise ValueError(_unknown_encoding('depth image', message.encoding, DEPTH_ENCODINGS))
    return _metres(image_to_array(message))


def _metres(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint16:
        values = np.divide(values, np.float32(1000), dtype=np.float32)
    return clean_depth(values)


def compressed_to_rgb(message: object) -> np.ndarray:
    """
    Read a compressed colour image.

    Parameters
    ----------
    message : object
        A sensor_msgs/CompressedImage that holds jpeg or png.

    Returns
    -------
    (H, W, 3) uint8
        R first.

    Raises
    ------
    ValueError
        For data that cannot be decoded.

    """
    pixels = _imdecode(message.data, cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f'a compressed image of format {message.format!r} and '
                         f'{len(message.data)} bytes cannot be decoded; jpeg and png are read: '
                         'check the publisher')
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def compressed_to_depth(message: object) -> np.ndarray:
    """
    Read a compressed depth image.

    Parameters
    ----------
    message : object
        A sensor_msgs/CompressedImage that holds a 16 bit png [mm], with or without
        compressedDepth's header before it.

    Returns
    -------
    (H, W) float32
        Depth along z [m]; NaN where the sensor gave 0.

    Raises
    ------
    ValueError
        For anything but a 16 bit png.

    """
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
