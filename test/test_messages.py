import array
import dataclasses

import cv2
import numpy as np
import pytest

pytest.importorskip('sensor_msgs')

from sensor_msgs.msg import CameraInfo, CompressedImage, Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from dkt_ros.camera import PinholeCamera  # noqa: E402
from dkt_ros.nodes import messages  # noqa: E402
from dkt_ros.nodes.clouds import CloudPacker, cloud_to_arrays  # noqa: E402

pytestmark = pytest.mark.ros
CAMERA = PinholeCamera(8, 6, 10.0, 11.0, 3.2, 2.7, frame_id='optical')
HEADER = messages.make_header(1_500_000_001, 'optical')


def image(encoding, pixels, padding=0, big=False):
    rows = np.ascontiguousarray(pixels)
    data = rows.astype(rows.dtype.newbyteorder('>')) if big else rows
    data = data.reshape(len(rows), -1).view(np.uint8)
    data = np.pad(data, ((0, 0), (0, padding)), constant_values=7)
    return Image(header=HEADER, height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
                 step=data.shape[1], is_bigendian=big, data=array.array('B', data.tobytes()))


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize('encoding, channels', [
    ('rgb8', [0, 1, 2]), ('bgr8', [2, 1, 0]), ('rgba8', [0, 1, 2, 0]), ('bgra8', [2, 1, 0, 0])])
def test_color_encodings(rgb, encoding, channels, padding):
    message = image(encoding, rgb[..., channels], padding)
    np.testing.assert_array_equal(messages.image_to_rgb(message), rgb)


def test_mono(rgb):
    read = messages.image_to_rgb(image('mono8', rgb[..., 0], 3))
    np.testing.assert_array_equal(read, np.repeat(rgb[..., :1], 3, axis=2))


@pytest.mark.parametrize('encoding, order', [
    ('yuv422', 'uyvy'), ('uyvy', 'uyvy'), ('yuv422_yuy2', 'yuyv'), ('yuyv', 'yuyv')])
def test_yuv(encoding, order):
    values = {'y': 120, 'u': 128, 'v': 190}  # grey-red in BT.601
    pixels = np.array([values[letter] for letter in order], np.uint8)
    packed = np.tile(pixels.reshape(1, 2, 2), (4, 3, 1))
    red, green, blue = messages.image_to_rgb(image(encoding, packed, 2))[1, 1].astype(int)
    assert red > 200 and green < 90 and 110 < blue < 135


def test_unknown_encoding_names_it_and_what_can_be_read():
    with pytest.raises(ValueError, match=r"'bayer_rggb8'.*rgb8.*camera"):
        messages.image_to_rgb(Image(encoding='bayer_rggb8', width=2, height=2))
    with pytest.raises(ValueError, match=r"'8UC1'.*16UC1"):
        messages.image_to_depth(Image(encoding='8UC1', width=2, height=2))


def test_too_little_data_is_refused(rgb):
    message = image('rgb8', rgb)
    message.data = message.data[:-1]
    with pytest.raises(ValueError, match=r'143 bytes.*144'):
        messages.image_to_rgb(message)
    with pytest.raises(ValueError, match='0x0'):
        messages.image_to_rgb(Image(encoding='rgb8'))


@pytest.mark.parametrize('big', [False, True])
def test_depth_in_millimetres(big):
    values = np.array([[0, 1, 1234], [65535, 500, 0]], np.uint16)
    depth = messages.image_to_depth(image('16UC1', values, 4, big))
    np.testing.assert_allclose(depth, [[np.nan, 0.001, 1.234], [65.535, 0.5, np.nan]], rtol=1e-6)
    assert depth.dtype == np.float32


@pytest.mark.parametrize('big', [False, True])
def test_depth_in_metres_drops_what_is_no_depth(big):
    values = np.array([[0.5, np.nan, np.inf], [-np.inf, 0.0, -1.0]], np.float32)
    depth = messages.image_to_depth(image('32FC1', values, 4, big))
    np.testing.assert_array_equal(depth, [[0.5, np.nan, np.nan], [np.nan] * 3])


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
def test_compressed_color(suffix):
    rgb = np.zeros((16, 16, 3), np.uint8)
    rgb[..., 0] = 200
    data = cv2.imencode(suffix, rgb[..., ::-1])[1].tobytes()
    message = CompressedImage(format='rgb8; jpeg compressed bgr8', data=array.array('B', data))
    assert np.abs(messages.compressed_to_rgb(message).astype(int) - rgb).max() < 6


def test_compressed_depth_with_and_without_header():
    values = np.array([[0, 700], [1500, 3]], np.uint16)
    png = cv2.imencode('.png', values)[1].tobytes()
    for data in (png, bytes(12) + png):
        message = CompressedImage(format='16UC1; compressedDepth png',
                                  data=array.array('B', data))
        np.testing.assert_allclose(messages.compressed_to_depth(message),
                                   [[np.nan, 0.7], [1.5, 0.003]], rtol=1e-6)


@pytest.mark.parametrize('read', [messages.compressed_to_rgb, messages.compressed_to_depth])
@pytest.mark.parametrize('data', [b'', b'no picture', b'\x89PNG\r\n\x1a\nbroken'])
def test_broken_compressed_data(read, data):
    with pytest.raises(ValueError, match="'jpeg'"):
        read(CompressedImage(format='jpeg', data=array.array('B', data)))


def test_camera_round_trip():
    info = messages.info_from_camera(
        dataclasses.replace(CAMERA, distortion=(0.1, 0.0, 0.0, 0.0, 0.0)), HEADER)
    camera = messages.camera_from_info(info)
    assert camera == dataclasses.replace(CAMERA, distortion=(0.1, 0.0, 0.0, 0.0, 0.0))
    assert info.p[0] == 10.0 and info.p[2] == 3.2 and info.r[0] == 1.0


def test_uncalibrated_camera_is_refused():
    with pytest.raises(ValueError, match=r'fx is 0.*calibrate'):
        messages.camera_from_info(CameraInfo(width=8, height=6))
    with pytest.raises(ValueError, match='0x0'):
        messages.camera_from_info(CameraInfo(k=CAMERA.K.ravel()))


def test_region_of_interest_and_binning():
    info = messages.info_from_camera(CAMERA, HEADER)
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 2, 1, 4, 4
    info.binning_x = info.binning_y = 2
    camera = messages.camera_from_info(info)
    assert (camera.width, camera.height, camera.fx) == (2, 2, 5.0)
    assert camera.cx == pytest.approx((3.2 - 2 + 0.5) / 2 - 0.5)


@pytest.mark.parametrize('values, encoding', [
    (np.random.default_rng(1).random((6, 8), np.float32), '32FC1'),
    (np.random.default_rng(1).random((6, 8, 3), np.float32), '32FC3')])
def test_maps_round_trip_with_any_stride(values, encoding):
    for view in (values, values[::-1, ::2]):
        message = messages.map_to_image(view, HEADER)
        assert message.encoding == encoding
        assert isinstance(message.data, array.array)
        np.testing.assert_array_equal(messages.image_to_array(message), view)
        assert messages.stamp_to_ns(message.header.stamp) == 1_500_000_001


def test_mask():
    mask = np.eye(4, dtype=bool)
    message = messages.mask_to_image(mask, Header())
    np.testing.assert_array_equal(messages.image_to_array(message), mask * 255)


def test_millimetres():
    depth = np.array([0.5004, np.nan, 0.0, 70.0, -1.0], np.float32)
    np.testing.assert_array_equal(messages.depth_to_millimetres(depth), [500, 0, 0, 0, 0])


@pytest.mark.parametrize('stride', [1, 2])
def test_cloud_of_a_plane(rgb, stride):
    normal, distance = np.array([0.1, -0.2, -1.0]), 0.9
    rays = CAMERA.rays().astype(np.float64)
    depth = (-distance / (rays @ normal)).astype(np.float32)
    depth[0, 0] = np.nan
    normals = np.broadcast_to(normal / np.linalg.norm(normal), (6, 8, 3)).astype(np.float32)
    message = CloudPacker(stride, normals=True).pack(depth, rgb, CAMERA, HEADER, normals)
    assert (message.height, message.width) == (6 // stride, 8 // stride)
    assert message.row_step == message.width * message.point_step == message.width * 32
    assert not message.is_dense
    arrays = cloud_to_arrays(message)
    points = arrays['points'].astype(np.float64)
    assert np.isnan(points[0, 0]).all()
    off_plane = points.reshape(-1, 3)[1:] @ normal + distance
    assert np.abs(off_plane).max() < 1e-6
    np.testing.assert_array_equal(arrays['rgb'], rgb[::stride, ::stride])
    np.testing.assert_array_equal(arrays['normals'], normals[::stride, ::stride])


def test_cloud_fields_as_consumers_want_them(rgb):
    packer = CloudPacker()
    depth = np.full((6, 8), 0.5, np.float32)
    message = packer.pack(depth, rgb, CAMERA, HEADER)
    assert [(f.name, f.offset) for f in message.fields] == [
        ('x', 0), ('y', 4), ('z', 8), ('rgb', 12)]
    again = packer.pack(depth * 2, rgb, dataclasses.replace(CAMERA, fx=20.0), HEADER)
    first, second = cloud_to_arrays(message)['points'], cloud_to_arrays(again)['points']
    assert first[0, 7, 0] == pytest.approx(0.5 * (7 - 3.2) / 10)
    assert second[0, 7, 0] == pytest.approx(1.0 * (7 - 3.2) / 20)
    assert not np.isnan(np.frombuffer(message.data, np.float32)).any()
