import json
import subprocess

import numpy as np
import pytest

pytest.importorskip('rclpy')

from geometry_msgs.msg import PoseStamped  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402
from ros_graph import Graph, free_domain, node_command, process_environment, wait_until  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from scene_factory import make_scene, scene_frame  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from dkt_ros.nodes import messages  # noqa: E402
from dkt_ros.nodes.clip_camera_node import ClipCameraNode  # noqa: E402
from dkt_ros.nodes.clip_source import schedule  # noqa: E402

pytestmark = pytest.mark.ros
MODULE = 'dkt_ros.nodes.clip_camera_node'
REALSENSE = {
    'color/image_raw': Image, 'color/camera_info': CameraInfo,
    'aligned_depth_to_color/image_raw': Image, 'aligned_depth_to_color/camera_info': CameraInfo,
    'camera_pose': PoseStamped}


@pytest.fixture
def play(tmp_path):
    graphs = []

    def start(*parameters, frames=3, clip=None):
        scene = make_scene(tmp_path / 'scene', num_frames=frames) if clip is None else clip
        given = [part for value in (f'clip:={scene}', *parameters)
                 for part in ('-p', value)]
        graph = Graph('--ros-args', *given)
        graphs.append(graph)
        received = {topic: graph.listen(kind, f'/camera/camera/{topic}')
                    for topic, kind in REALSENSE.items()}
        received['clock'] = graph.listen(Clock, '/clock')
        index = []
        graph.peer.create_subscription(
            String, '/camera/camera/clip_frame', lambda m: index.append(json.loads(m.data)),
            QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL))
        return graph, graph.add(ClipCameraNode(context=graph.context)), received, index

    yield start
    for graph in graphs:
        graph.close()


def test_it_looks_like_a_realsense(play):
    graph, node, received, index = play('rate_hz:=20.0')
    wait_until(lambda: index and index[-1].get('end'), what='the end of the clip')
    assert index[-1] == {'end': True, 'frames': 3}
    assert [item['index'] for item in index[:-1]] == [0, 1, 2]
    stamps = [item['stamp_ns'] for item in index[:-1]]
    assert [after - stamps[0] for after in stamps] == [0, 50_000_000, 100_000_000]
    for topic in REALSENSE:
        wait_until(lambda topic=topic: len(received[topic]) == 3, what=topic)
        assert [messages.stamp_to_ns(m.header.stamp) for m in received[topic]] == stamps
        frame_id = 'world' if topic == 'camera_pose' else 'camera_color_optical_frame'
        assert {m.header.frame_id for m in received[topic]} == {frame_id}
    truth = scene_frame(1, seed=1_000_000).frame
    color, depth = received['color/image_raw'][1], received['aligned_depth_to_color/image_raw'][1]
    assert (color.encoding, depth.encoding) == ('rgb8', '16UC1')
    np.testing.assert_array_equal(messages.image_to_rgb(color), truth.rgb)
    np.testing.assert_allclose(messages.image_to_depth(depth), truth.sensor_depth, atol=6e-4)
    camera = messages.camera_from_info(received['color/camera_info'][1])
    assert (camera.fx, camera.cx) == (truth.camera.fx, truth.camera.cx)
    pose = received['camera_pose'][1].pose
    assert pose.position.x == pytest.approx(0.010) and pose.orientation.w == pytest.approx(1.0)
    assert node.get_fully_qualified_name() == '/camera/camera'
    assert received['clock'] == []


def test_the_clock_follows_the_clip(play):
    graph, node, received, index = play('rate_hz:=20.0', 'publish_clock:=true')
    wait_until(lambda: index and index[-1].get('end'))
    stamps = [item['stamp_ns'] for item in index[:-1]]
    assert stamps == [10**9, 10**9 + 50_000_000, 10**9 + 100_000_000]
    wait_until(lambda: len(received['clock']) > 5)
    times = [messages.stamp_to_ns(message.clock) for message in received['clock']]
    assert times == sorted(times) and times[-1] <= stamps[-1]


def test_it_waits_for_its_subscribers(play):
    graph, node, received, index = play('wait_for_subscribers:=2', 'rate_hz:=50.0')
    wait_until(lambda: node.count_subscribers('/camera/camera/color/image_raw') == 1)
    assert index == []
    graph.listen(Image, '/camera/camera/color/image_raw')
    graph.listen(CameraInfo, '/camera/camera/color/camera_info')
    wait_until(lambda: index and index[-1].get('end'))


def test_a_loop_goes_on_in_time():
    items = [scene_frame(n) for n in range(3)]
    for rate, step in ((0.0, round(1e9 / 6)), (10.0, 100_000_000)):
        dues = schedule(lambda: iter(items), rate, loop=True)
        offsets = [next(dues).offset_ns for _ in range(9)]
        assert offsets == pytest.approx([step * n for n in range(9)], abs=5)
    assert len(list(schedule(lambda: iter(items), 0.0, loop=True, max_frames=7))) == 7
    with pytest.raises(ValueError, match='no frames'):
        next(schedule(lambda: iter([]), 0.0, loop=False))


@pytest.mark.parametrize('parameter, sentence', [
    ('clip:=/nowhere', '/nowhere does not exist'), ('clp:=x', "did you mean 'clip'"),
    ('rate_hz:=-1.0', 'rate_hz is -1.0; allowed: 0.0 to 240.0')])
def test_as_a_process_it_says_what_is_wrong_and_exits_with_1(parameter, sentence):
    done = subprocess.run(
        node_command(MODULE, '--ros-args', '-p', parameter), capture_output=True, text=True,
        env=process_environment(free_domain()), timeout=60)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert 'Traceback' not in done.stderr


def test_as_a_process_it_exits_at_the_end_of_the_clip(tmp_path):
    scene = make_scene(tmp_path / 'scene', num_frames=2)
    done = subprocess.run(
        node_command(MODULE, '--ros-args', '-p', f'clip:={scene}', '-p',
                     'wait_for_subscribers:=0'),
        capture_output=True, text=True, env=process_environment(free_domain()), timeout=60)
    assert done.returncode == 0, done.stderr
    assert '2 frames played' in done.stderr
