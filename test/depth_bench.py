"""A graph with a depth node around a stub, a camera and listeners."""
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import TransitionCallbackReturn
from ros_graph import FakeCamera, Graph, StubBackend, wait_until

from dkt_ros.nodes import messages
from dkt_ros.nodes.depth_node import DepthNode
from dkt_ros.nodes.outputs import TOPICS

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
MS = 1_000_000
START_NS = 1_700_000_000 * 1000 * MS


class Bench:
    """A graph with a depth node around a stub, a camera and listeners."""

    def __init__(self, *parameters, backend=None, window=1):
        arguments = [part for value in ('autostart:=false', *parameters) for part in ('-p', value)]
        self.graph = Graph('--ros-args', *arguments)
        self.backend = backend or StubBackend(window)
        self.node = DepthNode(self.backend, context=self.graph.context)
        self.camera = FakeCamera(self.graph)
        self.diagnostics = self.graph.listen(DiagnosticArray, '/diagnostics')
        self.sent = 0
        self.graph.add(self.node)

    def start(self):
        assert self.node.trigger_configure() == SUCCESS
        assert self.node.trigger_activate() == SUCCESS
        self.camera.wait()
        return self

    def listen(self, topic, **kwargs):
        received = self.graph.listen(TOPICS[topic], f'/dkt/{topic}', **kwargs)
        wait_until(lambda: topic in self.node._outputs.wanted(), what=f'a match on {topic}')
        return received

    def send(self, number=1, **kwargs):
        """Send frames 100 ms apart, each when the one before was taken."""
        stamps = []
        for _ in range(number):
            stamps.append(START_NS + 100 * MS * self.sent)
            taken = self.node._inputs.pairer.counts['pairs']
            self.camera.send(stamps[-1], **kwargs)
            self.sent += 1
            wait_until(lambda taken=taken: self.node._inputs.pairer.counts['pairs'] > taken,
                       what='a pair')
        return stamps

    def status(self, name, accept=lambda status: True):
        """Return the newest accepted status of this name."""
        def find():
            for array in reversed(self.diagnostics):
                for status in array.status:
                    if status.name.endswith(name) and accept(status):
                        return status
            return None
        return wait_until(find, what=f'diagnostics of {name}')


def stamps_of(received):
    return [messages.stamp_to_ns(message.header.stamp) for message in received]
