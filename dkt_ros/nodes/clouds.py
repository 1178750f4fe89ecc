"""Arrays to PointCloud2 and back; buffers and rays are kept between frames."""
from __future__ import annotations

import sys

import cv2
import numpy as np
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from dkt_ros.camera import PinholeCamera
from dkt_ros.nodes.messages import to_bytes_array

XYZ_RGB = ('x', 'y', 'z', 'rgb')
XYZ_RGB_NORMALS = (*XYZ_RGB, 'normal_x', 'normal_y', 'normal_z', 'curvature')


class CloudPacker:
    """
    Packs clouds of one camera after the other; not thread safe.

    The message of a call shares its buffer with that of the next: publish it before.

    Parameters
    ----------
    stride : int
        Every n-th pixel of each row and column becomes a point.
    normals : bool
        True adds normal_x, normal_y, normal_z and curvature (0, not computed).

    """

    def __init__(self, stride: int = 1, normals: bool = False) -> None:
        self.stride = stride
        self.normals = normals
        self._camera: PinholeCamera | None = None

    def pack(self, depth: np.ndarray, rgb: np.ndarray, camera: PinholeCamera, header: Header,
             normals: np.ndarray | None = None) -> PointCloud2:
        """
        Write the organised cloud of a depth map.

        Parameters
        ----------
        depth : (H, W) float32
            Depth along z [m]; NaN where there is no point.
        rgb : (H, W, 3) uint8
            Colour of the same pixels.
        camera : PinholeCamera
            Camera of both.
        header : Header
            Capture stamp and optical frame.
        normals : (H, W, 3) float32, optional
            Unit normals in the optical frame; NaN is written where they are not known.

        """
        if camera != self._camera:
            self._prepare(camera)
        step = self.stride
        depth, rgb = depth[::step, ::step], np.ascontiguousarray(rgb[::step, ::step])
        x = np.multiply(self._ray_x, depth, out=self._x)
        y = np.multiply(self._ray_y, depth, out=self._y)
        cv2.mixChannels([rgb], [self._bgr0], [0, 2, 1, 1, 2, 0])
        planes = [x, y, np.ascontiguousarray(depth), self._bgr0.view(np.float32)[..., 0]]
        if not self.normals:
            cv2.merge(planes, dst=self._block)
            return self._message(header)
        normals = self._no_normals if normals is None else normals[::step, ::step]
        # One pass that stays in the cache: strided writes of numpy are ten times slower.
        cv2.mixChannels([*planes, np.ascontiguousarray(normals)], [self._block],
                        [channel for i in range(7) for channel in (i, i)])
        return self._message(header)

    def _prepare(self, camera: PinholeCamera) -> None:
        rays = camera.rays()[::self.stride, ::self.stride]
        size = rays.shape[:2]
        self._ray_x = np.ascontiguousarray(rays[..., 0])
        self._ray_y = np.ascontiguousarray(rays[..., 1])
        self._x, self._y = np.empty(size, np.float32), np.empty(size, np.float32)
        self._fields = XYZ_RGB_NORMALS if self.normals else XYZ_RGB
        shape = (*size, len(self._fields))
        self._data = to_bytes_array(np.zeros(shape, np.float32))
        self._block = np.frombuffer(self._data, np.float32).reshape(shape)
        self._bgr0 = np.zeros((*size, 4), np.uint8)
        self._no_normals = np.full((*size, 3), np.nan, np.float32) if self.normals else None
        self._camera = camera

    def _message(self, header: Header) -> PointCloud2:
        height, width, count = self._block.shape
        message = PointCloud2(header=header, height=height, width=width,
                              is_bigendian=sys.byteorder == 'big', is_dense=False)
        message.fields = [PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32,
                                     count=1) for i, name in enumerate(self._fields)]
        message.point_step = 4 * count
        message.row_step = 4 * count * width
        message.data = self._data
        return message


def cloud_to_arrays(message: PointCloud2) -> dict[str, np.ndarray]:
    """
    Read the float fields of an organised cloud that this module wrote.

    Returns
    -------
    dict of str to array
        `points` (H, W, 3) float32 [m]; `rgb` (H, W, 3) uint8; `normals` (H, W, 3) float32 where
        the cloud has them.

    """
    names = tuple(field.name for field in message.fields)
    if names not in (XYZ_RGB, XYZ_RGB_NORMALS):
        raise ValueError(f'a cloud has the fields {", ".join(names)}; only clouds of depth_node '
                         f'are read: {", ".join(XYZ_RGB)}, with or without normals')
    shape = (message.height, message.width, len(names))
    block = np.frombuffer(memoryview(message.data), np.float32).reshape(shape)
    packed = block.view(np.uint32)[..., 3]
    rgb = np.stack([(packed >> shift & 255).astype(np.uint8) for shift in (16, 8, 0)], axis=-1)
    arrays = {'points': block[..., :3], 'rgb': rgb}
    if len(names) > 4:
        arrays['normals'] = block[..., 4:7]
    return arrays


NUMPY_TYPES = {PointField.INT8: 'i1', PointField.UINT8: 'u1', PointField.INT16: 'i2',
               PointField.UINT16: 'u2', PointField.INT32: 'i4', PointField.UINT32: 'u4',
               PointField.FLOAT32: 'f4', PointField.FLOAT64: 'f8'}


def read_points(message: PointCloud2) -> tuple[np.ndarray, np.ndarray | None]:
    """
    Read the points of anybody's cloud: any order of fields, any padding, either byte order.

    Returns
    -------
    (H, W, 3) or (N, 3) float32, array or None
        Points [m], organised if the cloud is; and the field `confidence` where there is one.

    Raises
    ------
    ValueError
        For a cloud without x, y and z, or one whose sizes do not agree with its data.

    """
    fields = {field.name: field for field in message.fields}
    if not {'x', 'y', 'z'} <= fields.keys():
        raise ValueError(f'a cloud has the fields {", ".join(fields) or "none"}; x, y and z are '
                         'needed')
    height, width, step = message.height, message.width, message.point_step
    data = np.frombuffer(memoryview(message.data), np.uint8)
    if height * width == 0:
        return np.empty((0, 3), np.float32), None
    row = message.row_step or width * step
    if row < width * step or len(data) < row * (height - 1) + width * step:
        raise ValueError(f'a cloud of {width} x {height} points of {step} bytes has '
                         f'{len(data)} bytes in rows of {row}; its publisher is wrong')

    def column(name: str) -> np.ndarray:
        field = fields[name]
        if field.datatype not in NUMPY_TYPES:
            raise ValueError(f'field {name} of a cloud has the unknown type {field.datatype}')
        kind = np.dtype(('>' if message.is_bigendian else '<') + NUMPY_TYPES[field.datatype])
        if field.offset + kind.itemsize > step:
            raise ValueError(f'field {name} of a cloud lies beyond its {step} bytes a point')
        return np.ndarray((height, width), kind, data, field.offset, (row, step))

    points = np.stack([column(name) for name in 'xyz'], axis=-1).astype(np.float32, copy=False)
    confidence = column('confidence').astype(np.float32) if 'confidence' in fields else None
    if height == 1:
        return points[0], None if confidence is None else confidence[0]
    return points, confidence


def write_rows(rows: np.ndarray, names: tuple[str, ...], header: Header) -> PointCloud2:
    """Write rows (N, C) as an unordered cloud of C float32 fields."""
    rows = np.ascontiguousarray(rows, np.float32).reshape(-1, len(names))
    message = PointCloud2(header=header, height=1, width=len(rows), is_dense=True,
                          is_bigendian=sys.byteorder == 'big', point_step=4 * len(names),
                          row_step=4 * len(names) * len(rows))
    message.fields = [PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
                      for i, name in enumerate(names)]
    message.data = to_bytes_array(rows)
    return message
