"""Two cameras, each with its own perception and grasps, in two namespaces of one graph."""
import json

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('open3d', reason='open3d is not installed (extra: grasp)')

from grasp_scenes import CAMERA, box, cylinder, placed, prove, view  # noqa: E402
from ros_graph import FakeCamera, Graph, StubBackend, wait_until  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from dkt_ros.grasp.grasp import Grasp, load_gripper  # noqa: E402
from dkt_ros.nodes.depth_node import DepthNode  # noqa: E402
from dkt_ros.nodes.grasp_node import GraspNode  # noqa: E402

pytestmark = pytest.mark.ros
STAMP_NS = 1_700_000_000 * 10**9
PANDA = load_gripper('panda_hand')


class Chain:
    """A camera, a depth node and a grasp node in a namespace."""

    def __init__(self, graph, namespace, things):
        self.name, self.scene = namespace, view(things, 45)
        given = ['--ros-args', '-p', 'autostart:=false', '-p', 'max_age_s:=0.0']
        self.depth, self.grasp = (graph.add(kind) for kind in (
            DepthNode(StubBackend(), namespace=namespace, context=graph.context, cli_args=given),
            GraspNode(namespace=namespace, context=graph.context, cli_args=given)))
        for node in (self.depth, self.grasp):
            node.trigger_configure()
            node.trigger_activate()
        self.camera = FakeCamera(graph, f'/{namespace}')
        self.client = graph.peer.create_client(Trigger, f'/{namespace}/plan')

    def send(self, stamp_ns):
        rgb = np.full((CAMERA.height, CAMERA.width, 3), 90, np.uint8)
        self.camera.send(stamp_ns, rgb, self.scene.points[..., 2], CAMERA, f'{self.name}_optical')

    def ask(self):
        wait_until(self.client.service_is_ready, what='the service')
        future = self.client.call_async(Trigger.Request())
        wait_until(future.done, what='an answer')
        return json.loads(future.result().message)


def test_two_chains_do_not_hear_each_other():
    graph = Graph()
    try:
        chains = [Chain(graph, 'left', [placed(cylinder(0.03, 0.1))]),
                  Chain(graph, 'right', [placed(box(0.05, 0.05, 0.08), x=0.04)])]
        for chain in chains:
            chain.camera.wait()
            wait_until(lambda chain=chain: 'points' in chain.depth._outputs.wanted(),
                       what='a subscriber of the points')
        for number, chain in enumerate(chains):
            chain.send(STAMP_NS + number)
        for chain in chains:
            wait_until(lambda chain=chain: chain.grasp.inputs.received, what='a cloud')
        for number, chain in enumerate(chains):
            answer = chain.ask()
            assert answer['frame_id'] == f'{chain.name}_optical'
            assert answer['stamp_ns'] == STAMP_NS + number and chain.grasp.inputs.received == 1
            best = answer['best']
            others = next(other for other in chains if other is not chain)
            good = [prove(_grasp(best), PANDA, each.scene).good for each in (chain, others)]
            assert good == [True, False]
    finally:
        graph.close()


def _grasp(best):
    from scipy.spatial.transform import Rotation
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(best['quaternion_xyzw']).as_matrix()
    pose[:3, 3] = best['position']
    return Grasp(pose, best['width'], best['opening'], best['score'])
