import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from dkt_ros.middleware import PROFILE_VARIABLES, profile_environment

PROFILE = Path(__file__).resolve().parent.parent / 'config/fastdds.xml'
MIB = 2 ** 20

# A best-effort 640x480 rgb8 image at 10 Hz, until it is killed.
PUBLISHER = """
import array, rclpy, time
from sensor_msgs.msg import Image
from rclpy.qos import QoSProfile, ReliabilityPolicy
rclpy.init()
node = rclpy.create_node('camera')
publisher = node.create_publisher(
    Image, 'image', QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
image = Image(height=480, width=640, encoding='rgb8', step=1920)
image.data = array.array('B', bytes(480 * 1920))
while True:
    publisher.publish(image)
    time.sleep(0.1)
"""
SUBSCRIBER = """
import rclpy, time
from sensor_msgs.msg import Image
from rclpy.qos import QoSProfile, ReliabilityPolicy
rclpy.init()
node = rclpy.create_node('listener')
got = []
node.create_subscription(Image, 'image', got.append,
                         QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT))
end = time.monotonic() + 40
while len(got) < 5 and time.monotonic() < end:
    rclpy.spin_once(node, timeout_sec=0.1)
assert len(got) >= 5, len(got)
assert len(got[0].data) == 480 * 1920
"""


def test_the_profile_has_room_for_images():
    space = '{http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles}'
    root = ElementTree.parse(PROFILE).getroot()
    transports = {item.find(f'{space}type').text: item
                  for item in root.iter(f'{space}transport_descriptor')}
    assert set(transports) == {'SHM', 'UDPv4'}
    assert int(transports['SHM'].find(f'{space}segment_size').text) == 64 * MIB
    assert int(transports['SHM'].find(f'{space}maxMessageSize').text) == 32 * MIB
    participant = next(root.iter(f'{space}participant'))
    assert participant.get('is_default_profile') == 'true'


def test_the_profile_is_set_unless_the_user_has_one():
    new, old = PROFILE_VARIABLES
    assert profile_environment({}) == {new: str(PROFILE)}
    assert profile_environment({'ROS_DISTRO': 'kilted', new: ''}) == {new: str(PROFILE)}
    assert profile_environment({'ROS_DISTRO': 'jazzy'}) == {old: str(PROFILE)}
    for name in PROFILE_VARIABLES:
        assert profile_environment({name: '/mine.xml'}) == {}


@pytest.mark.ros
def test_a_best_effort_image_arrives_in_another_process():
    pytest.importorskip('rclpy')
    from ros_graph import free_domain, process_environment
    environment = process_environment(free_domain(), **{PROFILE_VARIABLES[0]: str(PROFILE)})
    publisher = subprocess.Popen([sys.executable, '-c', PUBLISHER], env=environment)
    try:
        subprocess.run([sys.executable, '-c', SUBSCRIBER], env=environment, check=True,
                       timeout=60)
    finally:
        publisher.kill()
        publisher.wait(10)


@pytest.mark.ros
def test_dkt_up_says_what_is_wrong(tmp_path):
    pytest.importorskip('rclpy')
    from dkt_ros.errors import UserError
    from dkt_ros.nodes.compose import up
    with pytest.raises(UserError, match="camera is 'webcam'; allowed: none, clip"):
        up(camera='webcam')
    with pytest.raises(UserError, match='does not exist'):
        up(params=tmp_path / 'none.yaml')
    with pytest.raises(UserError, match='use --camera clip'):
        up(clip='x.mp4')


@pytest.mark.ros
def test_dkt_up_runs_both_nodes_in_one_process(tmp_path):
    pytest.importorskip('rclpy')
    import signal

    from ros_graph import Graph, process_environment, wait_until
    from scene_factory import make_scene
    scene = make_scene(tmp_path / 'scene')
    graph = Graph()
    code = ('from dkt_ros.nodes.compose import up\n'
            f'raise SystemExit(up(camera="clip", clip={str(scene)!r}))')
    process = subprocess.Popen([sys.executable, '-c', code],
                               env=process_environment(graph.domain))
    try:
        wait_until(lambda: {('depth_node', '/dkt'), ('camera', '/camera')} <= set(
            graph.peer.get_node_names_and_namespaces()), what='both nodes')
        wait_until(lambda: graph.peer.count_publishers('/camera/camera/color/image_raw'))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
        graph.close()
