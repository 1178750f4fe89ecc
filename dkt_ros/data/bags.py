"""MCAP files and rosbag2 folders as clips, read without ROS."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from dkt_ros.camera import PinholeCamera
from dkt_ros.data.clip import Clip, camera_for
from dkt_ros.data.ros_images import (
    compressed_to_depth,
    compressed_to_rgb,
    image_to_depth,
    image_to_rgb,
)
from dkt_ros.data.scenes import SceneFrame
from dkt_ros.errors import UserError
from dkt_ros.frame import Frame

IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
INFO_TYPE = 'sensor_msgs/msg/CameraInfo'
COLOR_ENDINGS = ('color/image_raw', 'rgb/image_raw', 'color/image_raw/compressed',
                 'image_raw', 'image_rect', 'image_color', 'image_raw/compressed')
DEPTH_ENDINGS = ('aligned_depth_to_color/image_raw', 'depth_registered/image_raw',
                 'aligned_depth_to_color/image_raw/compressedDepth')
SLOP_NS = 25_000_000
"""Colour and depth this close in time belong together."""
MAX_WAIT_NS = 500_000_000
"""How far the bag is read ahead for the depth of a colour image."""


@dataclass(frozen=True)
class BagTopics:
    """The three topics of a camera; `info` and `depth` may be missing."""

    color: str
    info: str | None
    depth: str | None


def open_bag(path: Path, color_topic: str | None = None, info_topic: str | None = None,
             depth_topic: str | None = None, camera: PinholeCamera | None = None,
             fov_deg: float | None = None) -> Clip:
    """
    Open an MCAP file or a rosbag2 folder.

    The topics are those named, else the colour image, the camera_info beside it and the depth
    aligned to it, found by type and by realsense-ros's names.
    """
    with _reader(path) as reader:
        topics = find_topics(reader, path, color_topic, info_topic, depth_topic)
        stamps, first = _scan_color(reader, path, topics)
        info = _first_info(reader, topics)
    camera = camera or info
    camera, notes = camera_for(first.shape[1], first.shape[0], camera, fov_deg)
    if topics.depth is None:
        notes += ('the bag has no depth aligned to colour: there is no sensor to anchor metres',)
    fps = (len(stamps) - 1) * 1e9 / (stamps[-1] - stamps[0]) if len(stamps) > 1 and \
        stamps[-1] > stamps[0] else 30.0

    def read() -> Iterator[SceneFrame]:
        with _reader(path) as reader:
            for index, (stamp_ns, rgb, depth) in enumerate(_paired(reader, path, topics)):
                yield SceneFrame(index, _frame(rgb, stamp_ns, camera, depth, path))

    return Clip(path, 'bag', fps, camera, read, len(stamps), notes)


def _frame(rgb: np.ndarray, stamp_ns: int, camera: PinholeCamera, depth: np.ndarray | None,
           path: Path) -> Frame:
    try:
        return Frame(rgb, stamp_ns, camera, depth)
    except ValueError as error:
        raise UserError(f'{path}: {error}') from error


@contextmanager
def _reader(path: Path) -> Iterator[AnyReader]:
    try:
        with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
            yield reader
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - the parsers let struct, zstd, yaml... errors out
        if isinstance(error, (MemoryError, RecursionError)):
            raise
        raise UserError(_broken(path, error)) from error


def _broken(path: Path, error: Exception) -> str:
    text = str(error).strip().splitlines()
    return (f'{path} cannot be read as a bag ({text[0] if text else type(error).__name__}): it is '
            'truncated or corrupt; copy or record it again (`ros2 bag reindex` may save it)')


def find_topics(reader: AnyReader, path: Path, color: str | None, info: str | None,
                depth: str | None) -> BagTopics:
    """Return the topics of the camera, by the names given or by type and usual names."""
    types = {c.topic: c.msgtype for c in reader.connections if c.msgcount}
    images = sorted(topic for topic, kind in types.items() if kind in IMAGE_TYPES)
    for what, name in (('color', color), ('info', info), ('depth', depth)):
        if name is not None and name not in types:
            raise UserError(f'{path} has no messages on {what} topic {name!r}; it has '
                            f'{", ".join(sorted(types)) or "none"}')
    color = color or _by_ending(images, COLOR_ENDINGS, path)
    if color is None:
        raise UserError(f'{path} has no colour image topic; its topics are '
                        f'{", ".join(sorted(types)) or "none"}: name one with --color-topic')
    siblings = [color.rsplit('/', cut)[0] + '/camera_info' for cut in (1, 2)]
    info = info or next((t for t in siblings if types.get(t) == INFO_TYPE), None)
    depth = depth or _by_ending([t for t in images if t != color], DEPTH_ENDINGS, path)
    return BagTopics(color, info, depth)


def _by_ending(topics: list[str], endings: tuple[str, ...], path: Path) -> str | None:
    for ending in endings:
        named = [t for t in topics if ('/' + t).endswith('/' + ending)
                 and (endings is DEPTH_ENDINGS or 'depth' not in t)]
        if len(named) > 1:
            raise UserError(f'{path} has several topics that fit: {", ".join(named)}; name one '
                            'with --color-topic or --depth-topic')
        if named:
            return named[0]
    return None


def _scan_color(reader: AnyReader, path: Path, topics: BagTopics) -> tuple[list[int], np.ndarray]:
    stamps, first = [], None
    for topic, stamp, message in _messages(reader, {topics.color}):
        stamps.append(stamp)
        if first is None:
            first = _rgb(message, topic)
    if first is None:
        raise UserError(f'{path} has no message on {topics.color}; record it again')
    return stamps, first


def _first_info(reader: AnyReader, topics: BagTopics) -> PinholeCamera | None:
    if topics.info is None:
        return None
    for topic, _, message in _messages(reader, {topics.info}):
        try:
            return PinholeCamera.from_K(
                message.k, message.width, message.height,
                distortion=tuple(float(d) for d in message.d) if np.any(message.d) else (),
                distortion_model=message.distortion_model or 'plumb_bob',
                frame_id=message.header.frame_id or 'camera_color_optical_frame')
        except ValueError as error:
            raise UserError(f'{topic}: {error}') from error
    return None


def _messages(reader: AnyReader, topics: set[str]) -> Iterator[tuple[str, int, object]]:
    connections = [c for c in reader.connections if c.topic in topics]
    for connection, bag_ns, data in reader.messages(connections=connections):
        message = reader.deserialize(data, connection.msgtype)
        stamp = message.header.stamp
        yield connection.topic, (stamp.sec * 10**9 + stamp.nanosec) or bag_ns, message


def _paired(reader: AnyReader, path: Path, topics: BagTopics) \
        -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
    """Yield (stamp [ns], rgb, depth or None) for each colour image, in order."""
    waiting: list[tuple[int, object]] = []
    depths: list[tuple[int, object]] = []
    newest = 0
    for topic, stamp, message in _messages(reader, {topics.color, topics.depth} - {None}):
        (waiting if topic == topics.color else depths).append((stamp, message))
        newest = max(newest, stamp)
        while waiting and _is_settled(waiting[0][0], depths, newest, topics):
            yield _take(waiting, depths, topics)
    while waiting:
        yield _take(waiting, depths, topics)


def _is_settled(stamp: int, depths: list, newest: int, topics: BagTopics) -> bool:
    if topics.depth is None or newest - stamp > MAX_WAIT_NS:
        return True
    return any(other == stamp or other > stamp + SLOP_NS for other, _ in depths)


def _take(waiting: list, depths: list, topics: BagTopics) \
        -> tuple[int, np.ndarray, np.ndarray | None]:
    stamp, message = waiting.pop(0)
    rgb = _rgb(message, topics.color)
    best = min(depths, key=lambda pair: abs(pair[0] - stamp), default=None)
    depth = None
    if best is not None and abs(best[0] - stamp) <= SLOP_NS:
        depth = _depth(best[1], topics.depth)
    depths[:] = [pair for pair in depths if pair[0] > stamp - SLOP_NS]
    return stamp, rgb, depth


def _rgb(message: object, topic: str) -> np.ndarray:
    with _named(topic):
        return image_to_rgb(message) if hasattr(message, 'encoding') \
            else compressed_to_rgb(message)


def _depth(message: object, topic: str) -> np.ndarray:
    with _named(topic):
        return image_to_depth(message) if hasattr(message, 'encoding') \
            else compressed_to_depth(message)


@contextmanager
def _named(topic: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UserError(f'{topic}: {error}') from error


def check_bag(path: Path) -> dict[str, int]:
    """
    Read a bag from end to end; the first message of each topic is deserialised.

    Returns
    -------
    dict of str to int
        Number of messages by topic.

    Raises
    ------
    UserError
        If the bag cannot be read or has no message.

    """
    counts: dict[str, int] = {}
    with _reader(path) as reader:
        for connection, _, data in reader.messages():
            if connection.topic not in counts:
                reader.deserialize(data, connection.msgtype)
            counts[connection.topic] = counts.get(connection.topic, 0) + 1
    if not counts:
        raise UserError(f'{path} holds no message; record it again')
    return counts
