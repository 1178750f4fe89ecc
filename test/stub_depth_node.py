"""The depth node with a stub in the place of the model, as a process of its own."""
import contextlib
import sys

import rclpy
from rclpy.executors import ExternalShutdownException
from ros_graph import StubBackend

from dkt_ros.nodes.depth_node import DepthNode


def main() -> None:
    rclpy.init(args=sys.argv)
    node = DepthNode(StubBackend(window=4))
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == '__main__':
    main()
