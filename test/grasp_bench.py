"""A graph with a grasp node, a publisher of its cloud and a client of its service."""
import json

import numpy as np
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from ros_graph import Graph, wait_until
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Trigger

from dkt_ros.nodes import messages
from dkt_ros.nodes.clouds import write_rows
from dkt_ros.nodes.grasp_node import GraspNode

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
STAMP_NS = 1_700_000_000 * 10**9


class Bench:
    """A graph with a grasp node, a publisher of its cloud and a client of its service."""

    def __init__(self, *parameters, namespace='dkt', graph=None):
        given = [part for value in ('autostart:=false', 'max_age_s:=0.0', *parameters)
                 for part in ('-p', value)]
        self.graph = graph or Graph()
        self.node = self.graph.add(GraspNode(namespace=namespace, context=self.graph.context,
                                             cli_args=['--ros-args', *given]))
        peer = self.graph.peer
        self.cloud = peer.create_publisher(PointCloud2, f'/{namespace}/points', 1)
        self.client = peer.create_client(Trigger, f'/{namespace}/plan')
        self.sent = 0

    def start(self):
        assert self.node.trigger_configure() == SUCCESS
        assert self.node.trigger_activate() == SUCCESS
        return self

    def send(self, points, frame='optical', **changes):
        """Publish a cloud and wait until the node has it; returns its stamp."""
        self.graph.wait_for_match(self.cloud)
        stamp = STAMP_NS + self.sent * 10**8
        message = points
        if not isinstance(points, PointCloud2):
            flat = np.asarray(points, np.float32).reshape(-1, 3)
            message = write_rows(flat, ('x', 'y', 'z'), messages.make_header(stamp, frame))
            if np.ndim(points) == 3:
                message.height, message.width = points.shape[:2]
                message.row_step = 12 * message.width
        for name, value in changes.items():
            setattr(message, name, value)
        before = self.node.inputs.received
        self.cloud.publish(message)
        wait_until(lambda: self.node.inputs.received > before, what='the cloud')
        self.sent += 1
        return stamp

    def ask(self):
        """Call the service as a client would."""
        wait_until(self.client.service_is_ready, what='the service')
        future = self.client.call_async(Trigger.Request())
        wait_until(future.done, what='an answer')
        answer = json.loads(future.result().message)
        assert future.result().success == answer['success']
        assert answer['success'] or answer['reason']
        return answer

    def set(self, **values):
        return self.node.set_parameters([Parameter(name.replace('__', '.'), value=value)
                                         for name, value in values.items()])
