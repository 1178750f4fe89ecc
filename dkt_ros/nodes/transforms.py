"""Poses of one frame in another: from TF, from the topic `camera_pose`, or as given."""
from __future__ import annotations

import contextlib
import importlib.util
from collections import deque
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from scipy.spatial.transform import Rotation

from dkt_ros.nodes.messages import pose_to_matrix, stamp_to_ns
from dkt_ros.pose_config import TransformConfig

POSES_KEPT = 200
POSE_QOS = dict(history=HistoryPolicy.KEEP_LAST, depth=10,
                reliability=ReliabilityPolicy.BEST_EFFORT)


class TransformError(Exception):
    """A transform is not known; the message says why and what helps."""


class Transforms:
    """
    Answers where a frame is in another one.

    Parameters
    ----------
    node : LifecycleNode
        Owns the subscription or the TF listener.
    config : TransformConfig
        Where transforms come from.
    parameter : str
        What the node calls the frame that is asked for; for messages.

    """

    def __init__(self, node: LifecycleNode, config: TransformConfig,
                 parameter: str = 'target_frame') -> None:
        self._node, self._parameter = node, parameter
        self._poses: deque[PoseStamped] = deque(maxlen=POSES_KEPT)
        self._subscription = self._listener = self._buffer = None
        self.source = config.source
        if self.source == 'auto':
            self.source = 'tf' if importlib.util.find_spec('tf2_ros') else 'camera_pose'
        self.configure(config)
        if self.source == 'tf':
            self._listen()
        if self.source == 'camera_pose':
            self._subscription = node.create_subscription(
                PoseStamped, 'camera_pose', self._on_pose, QoSProfile(**POSE_QOS))

    def configure(self, config: TransformConfig) -> None:
        """Take new options where that needs no new subscription."""
        self._config = config

    def destroy(self) -> None:
        """End the subscriptions."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        if self._listener is not None:
            self._listener.unregister()
        self._subscription = self._listener = None

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """
        Return T_target_source (4, 4) at a time [ns].

        Raises
        ------
        TransformError
            If it is not known.

        """
        if not target or target == source:
            return np.eye(4)
        if self.source == 'static':
            return pose_of(Rotation.from_euler('xyz', self._config.rpy), self._config.xyz)
        if self.source == 'tf':
            return self._from_tf(target, source, stamp_ns)
        return self._from_pose(target, source, stamp_ns)

    def _on_pose(self, message: PoseStamped) -> None:
        self._poses.append(message)

    def _listen(self) -> None:
        if importlib.util.find_spec('tf2_ros') is None:
            raise ValueError('transform.source is tf, but tf2_ros is not installed; install it '
                             'with ROS, or set transform.source to camera_pose or static')
        import tf2_ros
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, self._node)

    def _from_tf(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        import tf2_ros
        try:
            return self._at(target, source, Time(nanoseconds=stamp_ns))[0]
        except tf2_ros.TransformException as error:
            problem = error
        # A fresh cloud may be ahead of TF by some milliseconds; to wait would stop its arrival.
        with contextlib.suppress(tf2_ros.TransformException):
            pose, newest_ns = self._at(target, source, Time())
            if abs(newest_ns - stamp_ns) * 1e-9 <= self._config.slop_s:
                return pose
        raise TransformError(
            f'no TF from {source} to {target} at its stamp: {problem}; publish it (a '
            'robot description, a static_transform_publisher), or set transform.source')

    def _at(self, target: str, source: str, when: Time) -> tuple[np.ndarray, int]:
        stamped = self._buffer.lookup_transform(target, source, when)
        turn, shift = stamped.transform.rotation, stamped.transform.translation
        return pose_of(Rotation.from_quat([turn.x, turn.y, turn.z, turn.w]),
                       (shift.x, shift.y, shift.z)), stamp_to_ns(stamped.header.stamp)

    def _from_pose(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        topic = self._node.resolve_topic_name('camera_pose')
        poses = list(self._poses)
        if not poses:
            raise TransformError(
                f'the pose of {source} in {target} is not known: no message on {topic}; remap it '
                'to your camera_pose, set transform.source to static with xyz and rpy, or leave '
                f'{self._parameter} empty (tf2_ros is not used here)')
        nearest = min(poses, key=lambda pose: abs(stamp_to_ns(pose.header.stamp) - stamp_ns))
        if nearest.header.frame_id != target:
            raise TransformError(f'{topic} is given in {nearest.header.frame_id!r}, '
                                 f'{self._parameter} is {target!r}; make them the same')
        off_s = abs(stamp_to_ns(nearest.header.stamp) - stamp_ns) * 1e-9
        if off_s > self._config.slop_s:
            raise TransformError(f'the nearest pose on {topic} is {off_s:.3f} s from that '
                                 f'stamp; transform.slop_s allows {self._config.slop_s:g} s')
        return pose_to_matrix(nearest.pose)


def pose_of(rotation: Rotation, translation: Any) -> np.ndarray:
    """Return the pose (4, 4) of a rotation and a translation (3,) [m]."""
    pose = np.eye(4)
    pose[:3, :3] = rotation.as_matrix()
    pose[:3, 3] = translation
    return pose
