"""What `grasp_node` listens to: the newest cloud, kept as it came until a plan wants it."""
from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from dkt_ros.grasp.config import GraspNodeConfig
from dkt_ros.nodes import messages
from dkt_ros.nodes.clouds import read_points
from dkt_ros.nodes.diagnostics import InputWatch
from dkt_ros.nodes.inputs import silence

INPUT_QOS = dict(history=HistoryPolicy.KEEP_LAST, depth=2,
                 reliability=ReliabilityPolicy.BEST_EFFORT)
KEPT = 8
"""Messages of each topic that wait for their partner of the same stamp."""


class NoCloud(Exception):
    """There is nothing to plan on; the message says why and what helps."""


@dataclass(frozen=True)
class Cloud:
    """
    A cloud that came.

    Attributes
    ----------
    points : (H, W, 3) or (N, 3) float32
        [m]; NaN where there is none.
    confidence : (H, W) or (N,) float32 or None
        In [0, 1].
    stamp_ns : int
        Capture time [ns].
    frame_id : str
        Frame of the points; where it is an optical frame, they were seen from its origin.

    """

    points: np.ndarray
    confidence: np.ndarray | None
    stamp_ns: int
    frame_id: str


class GraspInputs:
    """
    Subscriptions of one node.

    Parameters
    ----------
    node : LifecycleNode
        Owns the subscriptions.
    config : GraspNodeConfig
        Which inputs.

    """

    def __init__(self, node: LifecycleNode, config: GraspNodeConfig) -> None:
        self._node = node
        self._input = config.input
        self._silent_after_s = config.silent_after_s
        kinds = {'points': PointCloud2} if config.input == 'points' else {
            'depth': Image, 'camera_info': CameraInfo}
        self._needed = tuple(kinds)
        if config.use_confidence:
            kinds['confidence'] = Image
        self._kinds = kinds
        self._messages: dict[str, deque[bytes]] = {name: deque(maxlen=KEPT) for name in kinds}
        self._messages[self._needed[0]] = deque(maxlen=2)
        self._watches: dict[str, tuple[InputWatch, QoSProfile]] = {}
        self._subscriptions = []
        try:
            for topic, kind in kinds.items():
                self._subscribe(topic, kind)
        except BaseException:
            self.destroy()
            raise

    def destroy(self) -> None:
        """End the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    @property
    def received(self) -> int:
        """How many clouds or depth images came."""
        return self._watches[self._needed[0]][0].received

    def counts(self) -> dict[str, str]:
        """Return messages received by topic."""
        return {f'received {watch.topic}': str(watch.received)
                for watch, _ in self._watches.values()}

    def problems(self) -> list[str]:
        """Return a sentence for each needed input that stays silent."""
        now = time.monotonic()
        return [self._silence(topic) for topic in self._needed
                if self._watches[topic][0].silent_for(now) >= self._silent_after_s]

    def newest(self) -> Cloud:
        """
        Return the newest cloud.

        Raises
        ------
        NoCloud
            If none came; ValueError if what came cannot be read.

        """
        for topic in self._needed:
            if not self._messages[topic]:
                raise NoCloud(self._silence(topic))
        cloud = self._from_points() if self._input == 'points' else self._from_depth()
        if cloud.confidence is None:
            cloud = replace(cloud, confidence=self._confidence(cloud))
        return cloud

    def _subscribe(self, topic: str, kind: type) -> None:
        qos = QoSProfile(**INPUT_QOS)
        watch = InputWatch(self._node.resolve_topic_name(topic),
                           f'sensor_msgs/msg/{kind.__name__}')
        kept = self._messages[topic]

        def on_message(data: bytes) -> None:
            watch.note()
            kept.append(data)

        self._subscriptions.append(self._node.create_subscription(
            kind, topic, on_message, qos, raw=True,
            qos_overriding_options=QoSOverridingOptions.with_default_policies()))
        self._watches[topic] = (watch, qos)

    def _newest_first(self, topic: str) -> Iterator[Any]:
        for data in reversed(tuple(self._messages.get(topic, ()))):
            yield deserialize_message(data, self._kinds[topic])

    def _from_points(self) -> Cloud:
        message = deserialize_message(self._messages['points'][-1], PointCloud2)
        points, confidence = read_points(message)
        return Cloud(points, confidence, messages.stamp_to_ns(message.header.stamp),
                     message.header.frame_id)

    def _from_depth(self) -> Cloud:
        image = deserialize_message(self._messages['depth'][-1], Image)
        stamp = messages.stamp_to_ns(image.header.stamp)
        info = min(self._newest_first('camera_info'),
                   key=lambda item: abs(messages.stamp_to_ns(item.header.stamp) - stamp))
        camera = messages.camera_from_info(info)
        depth = messages.image_to_depth(image)
        if depth.shape != (camera.height, camera.width):
            raise ValueError(f'depth is {depth.shape[1]}x{depth.shape[0]}, its camera_info '
                             f'{camera.width}x{camera.height}; remap camera_info to that of the '
                             'depth image')
        return Cloud(camera.unproject(depth), None, stamp, image.header.frame_id)

    def _confidence(self, cloud: Cloud) -> np.ndarray | None:
        """Return the confidence of the same stamp and size, if there is one."""
        for message in self._newest_first('confidence'):
            if messages.stamp_to_ns(message.header.stamp) == cloud.stamp_ns:
                values = messages.image_to_array(message)
                return values if values.shape == cloud.points.shape[:-1] else None
        return None

    def _silence(self, topic: str) -> str:
        watch, qos = self._watches[topic]
        cure = f'start depth_node, or remap `{topic}` of grasp_node to the topic of your camera'
        return silence(self._node, watch, qos, 'lately', cure,
                       'depth_node publishes no points while its anchor is not locked')
