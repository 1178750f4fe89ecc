r"""
`clip_camera_node`: plays a clip as realsense-ros publishes a D435.

    python -m dkt_ros.nodes.clip_camera_node --ros-args -p clip:=PATH -p rate_hz:=6.0

Without remapping the node is /camera/camera, as realsense-ros names it. It waits for its
subscribers, plays, says on `clip_frame` which frame has which stamp, and exits at the end: 0 if
the clip was played, 1 if it could not be.

`~/clip_frame` (std_msgs/String, reliable, transient local) carries JSON, one message a frame:
{"index": 3, "stamp_ns": ..., "clip_stamp_ns": ...}, and at the end {"end": true, "frames": 60}.
"""
from __future__ import annotations

import contextlib
import copy
import json
import sys
import threading
import time
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import (
    DurabilityPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_profile_system_default,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rosgraph_msgs.msg import Clock
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header, String

from dkt_ros.camera import PinholeCamera
from dkt_ros.config import ClipCameraConfig
from dkt_ros.data.clips import open_clip
from dkt_ros.nodes import messages
from dkt_ros.nodes.clip_source import Due, schedule
from dkt_ros.nodes.lifecycle import unless_interrupted
from dkt_ros.nodes.parameters import NodeParameters
from dkt_ros.resources import share_path

IMAGE_TOPICS = {
    '~/color/image_raw': Image,
    '~/color/camera_info': CameraInfo,
    '~/aligned_depth_to_color/image_raw': Image,
    '~/aligned_depth_to_color/camera_info': CameraInfo,
    '~/camera_pose': PoseStamped,
}
INDEX_QOS = QoSProfile(depth=10000, reliability=ReliabilityPolicy.RELIABLE,
                       durability=DurabilityPolicy.TRANSIENT_LOCAL)
CLOCK_PERIOD_S = 0.01
FRAMES_AHEAD = 90
"""Decoded before the first is sent: 140 MB at 640x480."""
# A subscriber that this side has matched may need a moment more to match from its side.
SETTLE_S = 1.0


@dataclass(frozen=True)
class Shot:
    """
    A frame as it is published, but for its stamp.

    Attributes
    ----------
    index : int
        Position in the clip.
    offset_ns : int
        When to publish it, from the start [ns].
    clip_stamp_ns : int
        Its stamp in the clip [ns].
    camera : PinholeCamera
    images : dict of str to Image
        By topic, relative to the node.
    T_world_camera : (4, 4) array or None

    """

    index: int
    offset_ns: int
    clip_stamp_ns: int
    camera: PinholeCamera
    images: dict[str, Image]
    T_world_camera: np.ndarray | None


def prepare(due: Due) -> Shot:
    """Write the images of a frame as messages."""
    frame = due.item.frame
    images = {'color/image_raw': messages.array_to_image(frame.rgb, 'rgb8', Header())}
    if frame.sensor_depth is not None:
        images['aligned_depth_to_color/image_raw'] = messages.array_to_image(
            messages.depth_to_millimetres(frame.sensor_depth), '16UC1', Header())
    return Shot(due.index, due.offset_ns, frame.stamp_ns, frame.camera, images,
                due.item.T_world_camera)


class ClipCameraNode(Node):
    """
    A recorded clip in the place of a RealSense.

    Published (the QoS of realsense-ros: system default, which is reliable)
        ~/color/image_raw rgb8, ~/color/camera_info, ~/aligned_depth_to_color/image_raw 16UC1 mm,
        ~/aligned_depth_to_color/camera_info, ~/camera_pose where the clip has poses,
        ~/clip_frame, /clock on demand.
    ROS parameters
        The fields of `dkt_ros.config.ClipCameraConfig`.

    Parameters
    ----------
    finished : callable, optional
        Called once when the clip has ended or cannot be played.

    """

    def __init__(self, finished=lambda: None, namespace: str = 'camera', **kwargs) -> None:
        super().__init__('camera', namespace=namespace, **kwargs)
        self._finished = finished
        self._stop = threading.Event()
        self.failed = False
        self.frames_sent = 0
        self._options = NodeParameters(self, ClipCameraConfig())
        options = QoSOverridingOptions.with_default_policies()
        self._topics: dict[str, Publisher] = {
            topic: self.create_publisher(kind, topic, copy.copy(qos_profile_system_default),
                                         qos_overriding_options=options)
            for topic, kind in IMAGE_TOPICS.items()}
        self._index = self.create_publisher(String, '~/clip_frame', INDEX_QOS)
        self._clock_publisher: Publisher | None = None
        self._thread = threading.Thread(target=self._run, name='clip_camera', daemon=True)
        self._thread.start()

    def destroy_node(self) -> None:
        """Stop playing before the publishers go."""
        self._stop.set()
        self._thread.join(5.0)
        super().destroy_node()

    def _run(self) -> None:
        try:
            with unless_interrupted(self.context):
                self._play(self._options.config())
        except (ValueError, OSError) as error:
            self.failed = True
            self.get_logger().error(f'cannot play the clip: {error}')
        finally:
            self._finished()

    def _play(self, config: ClipCameraConfig) -> None:
        path = config.clip or share_path('clips', 'demo')
        clip = open_clip(path)
        for note in clip.notes:
            self.get_logger().warning(note)
        if config.publish_clock:
            self._clock_publisher = self.create_publisher(Clock, '/clock', 1)
        frames = map(prepare, schedule(clip.items, config.rate_hz, config.loop,
                                       config.max_frames))
        # Decoded while nobody listens yet: a camera leaves the processor to those who do.
        frames = chain(list(islice(frames, FRAMES_AHEAD)), frames)
        shot = next(frames, None)
        if not self._wait_for_subscribers(config.wait_for_subscribers):
            return
        self.get_logger().info(f'playing {path}')
        base_ns = (max(shot.clip_stamp_ns, 10**9) if config.publish_clock
                   else time.time_ns())
        start = time.monotonic_ns()
        while shot is not None and self._wait_until(start + shot.offset_ns, start, base_ns):
            self._publish(shot, base_ns + shot.offset_ns, config)
            shot = next(frames, None)
        self._end()

    def _wait_for_subscribers(self, number: int) -> bool:
        """Return True once there are so many, False when the node is stopped before."""
        waited = ['~/color/image_raw', '~/color/camera_info']
        said = time.monotonic()
        while number and not all(self._topics[topic].get_subscription_count() >= number
                                 for topic in waited):
            if self._stop.wait(0.05):
                return False
            if time.monotonic() - said > 5.0:
                said = time.monotonic()
                self.get_logger().info(
                    f'waiting for {number} subscriber(s) of {self._topics[waited[0]].topic_name}; '
                    'set wait_for_subscribers to 0 to play without')
        return not (number and self._stop.wait(SETTLE_S))

    def _wait_until(self, when: int, start: int, base_ns: int) -> bool:
        """Sleep until a monotonic time [ns]; return False if the node is stopped before."""
        while not self._stop.is_set():
            now = time.monotonic_ns()
            if self._clock_publisher is not None:
                passed = min(now, when) - start
                self._clock_publisher.publish(Clock(clock=messages.ns_to_stamp(base_ns + passed)))
            left_s = (when - now) * 1e-9
            if left_s <= 0:
                return True
            self._stop.wait(min(left_s, CLOCK_PERIOD_S) if self._clock_publisher else left_s)
        return False

    def _publish(self, shot: Shot, stamp_ns: int, config: ClipCameraConfig) -> None:
        header = messages.make_header(stamp_ns, config.frame_id)
        info = messages.info_from_camera(shot.camera, header)
        self._send('color/camera_info', info)
        for topic, image in shot.images.items():
            image.header = header
            if topic.startswith('aligned'):
                self._send('aligned_depth_to_color/camera_info', info)
            self._send(topic, image)
        if shot.T_world_camera is not None:
            self._send('camera_pose', pose_message(
                shot.T_world_camera, messages.make_header(stamp_ns, config.world_frame_id)))
        self._tell(index=shot.index, stamp_ns=stamp_ns, clip_stamp_ns=shot.clip_stamp_ns)
        self.frames_sent += 1

    def _send(self, topic: str, message) -> None:
        self._topics[f'~/{topic}'].publish(message)

    def _tell(self, **values) -> None:
        self._index.publish(String(data=json.dumps(values)))

    def _end(self) -> None:
        """Say that the clip is over, and let what was sent arrive."""
        if not rclpy.ok(context=self.context):
            return
        self._tell(end=True, frames=self.frames_sent)
        self._index.wait_for_all_acked(Duration(seconds=2.0))
        self.get_logger().info(f'{self.frames_sent} frames played')


def pose_message(T_world_camera: np.ndarray, header) -> PoseStamped:
    """Write the pose (4, 4) [m] of the optical frame in the frame of the header."""
    message = PoseStamped(header=header)
    position, turn = message.pose.position, message.pose.orientation
    position.x, position.y, position.z = (float(value) for value in T_world_camera[:3, 3])
    turn.x, turn.y, turn.z, turn.w = map(
        float, Rotation.from_matrix(T_world_camera[:3, :3]).as_quat())
    return message


def main(args: list[str] | None = None) -> int:
    """Play the clip; return the exit code."""
    rclpy.init(args=args)
    executor = SingleThreadedExecutor()
    over = threading.Event()

    def finished() -> None:
        over.set()
        executor.wake()

    node = ClipCameraNode(finished)
    executor.add_node(node)
    try:
        with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
            while rclpy.ok() and not over.is_set():
                executor.spin_once(timeout_sec=0.5)
    finally:
        executor.remove_node(node)
        node.destroy_node()
        rclpy.try_shutdown()
    return 1 if node.failed else 0


if __name__ == '__main__':
    sys.exit(main())
