"""What `grasp_node` is told of grasps that failed: the topic `failed_grasps`, kept a while."""
from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import PoseArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from dkt_ros.grasp.config import GraspNodeConfig
from dkt_ros.nodes.lifecycle import REPEAT_S
from dkt_ros.nodes.messages import pose_to_matrix, stamp_to_ns
from dkt_ros.nodes.transforms import TransformError, Transforms

TOPIC, KEPT = 'failed_grasps', 100
FAILED_QOS = dict(history=HistoryPolicy.KEEP_LAST, depth=10,
                  reliability=ReliabilityPolicy.RELIABLE)


@dataclass(frozen=True)
class _Failed:
    """A pose (4, 4) in a frame, and when the node was told of it [ns]."""

    pose: np.ndarray
    frame_id: str
    told_ns: int


class FailedGrasps:
    """
    Remembers poses of grasps that failed.

    A message adds its poses, an empty one forgets all. Each is forgotten `failed_for_s` after it
    came, and when the node is deactivated.

    Parameters
    ----------
    node : LifecycleNode
        Owns the subscription.
    config : GraspNodeConfig
        Life time, and the frame of the grasps.
    transforms : Transforms
        Takes poses given in other frames into that one.

    """

    def __init__(self, node: LifecycleNode, config: GraspNodeConfig,
                 transforms: Transforms) -> None:
        self._node, self._transforms = node, transforms
        self._known: deque[_Failed] = deque(maxlen=KEPT)
        self.configure(config)
        self._subscription = node.create_subscription(
            PoseArray, TOPIC, self._on_message, QoSProfile(**FAILED_QOS),
            qos_overriding_options=QoSOverridingOptions.with_default_policies())

    def configure(self, config: GraspNodeConfig) -> None:
        """Take a new life time and a new frame; poses in the frame of before count no more."""
        self._config = config

    def destroy(self) -> None:
        """End the subscription and forget all."""
        self._node.destroy_subscription(self._subscription)
        self._known.clear()

    def poses(self, T_target_cloud: np.ndarray, cloud_frame: str, now_ns: int) -> np.ndarray:
        """
        Return the poses to avoid, (N, 4, 4), in the frame of a cloud.

        Parameters
        ----------
        T_target_cloud : (4, 4) float
            Pose of the cloud in `target_frame`; identity where that is empty.
        cloud_frame : str
            Frame of the cloud.
        now_ns : int
            Time of the node [ns]; where it went back (a bag anew), what came later is forgotten.

        """
        frame = self._config.target_frame or cloud_frame
        known = [failed.pose for failed in tuple(self._known) if failed.frame_id == frame
                 and 0 <= (now_ns - failed.told_ns) * 1e-9 < self._config.failed_for_s]
        return np.linalg.inv(T_target_cloud) @ np.reshape(known, (-1, 4, 4))

    def _on_message(self, message: PoseArray) -> None:
        if not message.poses:
            self._known.clear()
            return
        now_ns = self._node.get_clock().now().nanoseconds
        try:
            poses = [pose_to_matrix(pose) for pose in message.poses]
            if not np.isfinite(poses).all():
                raise ValueError('a pose has a number that is not finite')
            target, frame = self._config.target_frame, message.header.frame_id
            if not frame:
                raise ValueError('its header has no frame_id')
            T = self._transforms.lookup(target, frame, stamp_to_ns(message.header.stamp))
        except (TransformError, ValueError) as error:
            self._node.get_logger().warning(f'{TOPIC} is not taken into account: {error}',
                                            throttle_duration_sec=REPEAT_S)
            return
        self._known.extend(_Failed(T @ pose, target or frame, now_ns) for pose in poses)
