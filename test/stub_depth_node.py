"""The depth node with a stub in the place of the model, as a process of its own."""
from ros_graph import StubBackend

from dkt_ros.nodes.depth_node import DepthNode
from dkt_ros.nodes.lifecycle import run

if __name__ == '__main__':
    run(lambda: DepthNode(StubBackend(window=4)))
