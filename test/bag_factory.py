"""Small bags for tests, written by rosbags as realsense-ros would name things."""
from __future__ import annotations

import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)
NAMESPACE = '/camera/camera'


def _header(stamp_ns, frame_id='camera_color_optical_frame'):
    types = STORE.types
    stamp = types['builtin_interfaces/msg/Time'](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return types['std_msgs/msg/Header'](stamp=stamp, frame_id=frame_id)


def image_message(pixels, encoding, stamp_ns):
    data = np.ascontiguousarray(pixels)
    return STORE.types['sensor_msgs/msg/Image'](
        header=_header(stamp_ns), height=pixels.shape[0], width=pixels.shape[1],
        encoding=encoding, is_bigendian=0, step=data.nbytes // pixels.shape[0],
        data=data.view(np.uint8).reshape(-1))


def info_message(camera, stamp_ns):
    types = STORE.types
    roi = types['sensor_msgs/msg/RegionOfInterest'](
        x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return types['sensor_msgs/msg/CameraInfo'](
        header=_header(stamp_ns), height=camera.height, width=camera.width,
        distortion_model='plumb_bob', d=np.zeros(5), k=camera.K.reshape(-1), r=np.eye(3).ravel(),
        p=np.hstack([camera.K, np.zeros((3, 1))]).ravel(), binning_x=0, binning_y=0, roi=roi)


def write_bag(path, items, mcap=True, encoding='rgb8', depth_late_ns=0, with_info=True,
              with_depth=True, compressed=False):
    """Write the frames of SceneFrames; depth may come late, the bag is in order of arrival."""
    color, info, depth = (f'{NAMESPACE}/{name}' for name in (
        'color/image_raw', 'color/camera_info', 'aligned_depth_to_color/image_raw'))
    events = []
    for item in items:
        frame, stamp = item.frame, item.frame.stamp_ns + 10**9
        rgb = frame.rgb if encoding == 'rgb8' else frame.rgb[..., ::-1]
        events.append((stamp, color, image_message(rgb, encoding, stamp)))
        if with_info:
            events.append((stamp + 1, info, info_message(frame.camera, stamp)))
        if with_depth:
            millimetres = np.nan_to_num(frame.sensor_depth * 1000).round().astype(np.uint16)
            events.append((stamp + 2 + depth_late_ns, depth,
                           image_message(millimetres, '16UC1', stamp)))
    plugin = StoragePlugin.MCAP if mcap else StoragePlugin.SQLITE3
    writer = Writer(path, version=9, storage_plugin=plugin)
    if compressed:
        mode = CompressionMode.STORAGE if mcap else CompressionMode.MESSAGE
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for stamp, topic, message in sorted(events, key=lambda event: event[0]):
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], stamp, STORE.serialize_cdr(message, kind))
    return path
