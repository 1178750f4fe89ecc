"""Pixels of sensor_msgs/Image and CompressedImage, by duck typing: no ROS is imported."""
from __future__ import annotations

import cv2
import numpy as np

from dkt_ros.data.exr import clean_depth
from dkt_ros.errors import UserError

COLOR_ENCODINGS = {
    # name: (channels, conversion to RGB)
    'rgb8': (3, None), 'bgr8': (3, cv2.COLOR_BGR2RGB), '8UC3': (3, cv2.COLOR_BGR2RGB),
    'rgba8': (4, cv2.COLOR_RGBA2RGB), 'bgra8': (4, cv2.COLOR_BGRA2RGB),
    'mono8': (1, cv2.COLOR_GRAY2RGB), '8UC1': (1, cv2.COLOR_GRAY2RGB),
    'yuv422_yuy2': (2, cv2.COLOR_YUV2RGB_YUY2), 'yuyv': (2, cv2.COLOR_YUV2RGB_YUY2),
    'yuv422': (2, cv2.COLOR_YUV2RGB_UYVY), 'uyvy': (2, cv2.COLOR_YUV2RGB_UYVY),
}
DEPTH_ENCODINGS = {'16UC1': (np.uint16, 1000.0), 'mono16': (np.uint16, 1000.0),
                   '32FC1': (np.float32, 1.0)}
COMPRESSED_DEPTH_HEADER = 12
"""Bytes of compressed_depth_image_transport before the PNG."""


def decode_color(message: object, topic: str) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB of an Image or CompressedImage message."""
    if not hasattr(message, 'encoding'):
        image = cv2.imdecode(np.asarray(message.data, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise UserError(f'{topic}: {message.format!r} data cannot be decoded; JPEG and PNG '
                            'are read here')
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if message.encoding not in COLOR_ENCODINGS:
        raise UserError(f'{topic} has the encoding {message.encoding!r}; allowed: '
                        f'{", ".join(COLOR_ENCODINGS)}')
    channels, conversion = COLOR_ENCODINGS[message.encoding]
    pixels = _pixels(message, np.uint8, channels, topic)
    return np.ascontiguousarray(pixels if conversion is None
                                else cv2.cvtColor(pixels, conversion))


def decode_depth(message: object, topic: str) -> np.ndarray:
    """Return depth (H, W) float32 [m], NaN invalid, of an Image or compressedDepth message."""
    if not hasattr(message, 'encoding'):
        data = np.asarray(message.data, np.uint8)
        image = cv2.imdecode(data[COMPRESSED_DEPTH_HEADER:], cv2.IMREAD_UNCHANGED) \
            if 'compressedDepth' in message.format else cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        if image is None or image.dtype != np.uint16:
            raise UserError(f'{topic}: {message.format!r} data holds no 16 bit depth; record '
                            '16UC1, or compressedDepth with PNG')
        return clean_depth(image.astype(np.float32) / np.float32(1000))
    if message.encoding not in DEPTH_ENCODINGS:
        raise UserError(f'{topic} has the encoding {message.encoding!r}; allowed for depth: '
                        f'{", ".join(DEPTH_ENCODINGS)}')
    dtype, divisor = DEPTH_ENCODINGS[message.encoding]
    return clean_depth(_pixels(message, dtype, 1, topic).astype(np.float32) / np.float32(divisor))


def _pixels(message: object, dtype: type, channels: int, topic: str) -> np.ndarray:
    kind = np.dtype(dtype).newbyteorder('>' if message.is_bigendian else '<')
    height, width = int(message.height), int(message.width)
    row = width * channels * kind.itemsize
    step = int(message.step) or row
    data = np.asarray(message.data, np.uint8)
    if height < 1 or width < 1 or step < row or data.size < height * step:
        raise UserError(f'{topic}: {width}x{height} {message.encoding} with step {step} needs '
                        f'{height * max(step, row)} bytes, the message has {data.size}')
    rows = np.ascontiguousarray(data[:height * step].reshape(height, step)[:, :row])
    pixels = rows.view(kind).reshape(height, width, channels).astype(dtype)
    return pixels[..., 0] if channels == 1 else pixels
