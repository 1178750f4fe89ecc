"""The topics of `depth_node`: who listens, and what each of them gets of an estimate."""
from __future__ import annotations

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from dkt_ros import colorize
from dkt_ros.config import DepthNodeConfig
from dkt_ros.frame import DepthEstimate
from dkt_ros.nodes import messages
from dkt_ros.nodes.clouds import CloudPacker

# Reliable, so that every subscriber matches; the last message only, so that nothing lags.
OUTPUT_QOS = dict(history=HistoryPolicy.KEEP_LAST, depth=1,
                  reliability=ReliabilityPolicy.RELIABLE)
TOPICS = {
    'depth': Image,
    'camera_info': CameraInfo,
    'depth_fused': Image,
    'disparity': Image,
    'normals': Image,
    'normals/color': Image,
    'depth/color': Image,
    'mask': Image,
    'confidence': Image,
    'points': PointCloud2,
}


class Outputs:
    """
    Publishers of everything that is known about a frame.

    Parameters
    ----------
    node : LifecycleNode
        Its lifecycle opens and closes the publishers.
    config : DepthNodeConfig
        Options of the cloud and the colours.

    """

    def __init__(self, node: LifecycleNode, config: DepthNodeConfig) -> None:
        self._node = node
        self._publishers = {
            topic: node.create_lifecycle_publisher(
                kind, topic, QoSProfile(**OUTPUT_QOS),  # an override writes into the profile
                qos_overriding_options=QoSOverridingOptions.with_default_policies())
            for topic, kind in TOPICS.items()}
        self.configure(config)

    def configure(self, config: DepthNodeConfig) -> None:
        """Take new options; the next estimate uses them."""
        self._config = config
        self._packer = CloudPacker(config.points.stride, config.points.normals)

    def wanted(self) -> frozenset[str]:
        """Return the topics that somebody subscribes to."""
        return frozenset(topic for topic, publisher in self._publishers.items()
                         if publisher.get_subscription_count() > 0)

    def fields(self) -> frozenset[str]:
        """Return which maps of an estimate would be used now."""
        wanted = {topic.partition('/')[0] for topic in self.wanted()} - {'camera_info'}
        if 'points' in wanted:
            wanted.remove('points')
            wanted.add('depth_fused' if self._config.points.source == 'fused' else 'depth')
            if self._config.points.normals:
                wanted.add('normals')
        return frozenset(wanted)

    def publish(self, estimate: DepthEstimate) -> None:
        """Publish what is known about a frame, with its capture stamp, to those who listen."""
        header = messages.make_header(estimate.stamp_ns, estimate.camera.frame_id)
        for topic in TOPICS:
            publisher = self._publishers[topic]
            if publisher.get_subscription_count() == 0:
                continue
            message = self._message(topic, estimate, header)
            if message is not None:
                publisher.publish(message)

    def destroy(self) -> None:
        """Take the topics off the graph."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers = {}

    def _message(self, topic: str, estimate: DepthEstimate, header: Header):
        """Return the message of a topic, or None if the estimate does not know it."""
        if topic == 'camera_info':
            return messages.info_from_camera(estimate.camera, header)
        if topic == 'points':
            return self._cloud(estimate, header)
        field, _, color = topic.partition('/')
        values = getattr(estimate, field)
        size = (estimate.camera.height, estimate.camera.width)
        # A map that nobody wanted when it was computed may have another size.
        if values is None or values.shape[:2] != size:
            return None
        if topic == 'mask':
            return messages.mask_to_image(values, header)
        if color and field == 'depth':
            span = self._config.depth_color
            values = colorize.depth_to_rgb(values, span.near_m, span.far_m)
        elif color:
            values = colorize.normals_to_rgb(values)
        if color:
            return messages.array_to_image(values, 'rgb8', header)
        return messages.map_to_image(values, header)

    def _cloud(self, estimate: DepthEstimate, header: Header) -> PointCloud2 | None:
        fused = self._config.points.source == 'fused'
        depth = estimate.depth_fused if fused else estimate.depth
        if depth is None:
            return None
        return self._packer.pack(depth, estimate.frame.rgb, estimate.camera, header,
                                 estimate.normals)
