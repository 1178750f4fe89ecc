"""The depth node asks where the camera was: from `camera_pose`, and only where it may."""
import sys

import numpy as np
import pytest

pytest.importorskip('rclpy')

from depth_bench import FAILURE, START_NS, SUCCESS, Bench  # noqa: E402
from geometry_msgs.msg import PoseStamped  # noqa: E402
from ros_graph import makers_of, wait_until  # noqa: E402

from dkt_ros.nodes import messages  # noqa: E402
from dkt_ros.nodes.clip_camera_node import pose_message  # noqa: E402

pytestmark = pytest.mark.ros
POSES = ('world_frame:=world', 'transform.source:=camera_pose')


@pytest.fixture
def bench():
    yield from makers_of(Bench)


def test_frames_get_the_pose_of_their_stamp(bench):
    bench = bench(*POSES).start()
    bench.listen('depth')
    topic = bench.graph.peer.create_publisher(PoseStamped, '/dkt/camera_pose', 1)
    bench.graph.wait_for_match(topic)
    T = np.eye(4)
    T[:3, 3] = 0.1, 0.2, 0.3
    topic.publish(pose_message(T, messages.make_header(START_NS, 'world')))
    wait_until(lambda: bench.node._transforms._poses, what='the pose')
    bench.send(2)
    poses = wait_until(lambda: len(bench.backend.poses) == 2 and bench.backend.poses)
    np.testing.assert_allclose(poses[0], T, atol=1e-9)
    # 100 ms later the nearest pose is too old: the frame goes on without one, and that is told.
    assert poses[1] is None and bench.node.stats.counts['without_pose'] == 1
    bench.status(': stream', lambda status: any(
        value.key == 'without_pose' and value.value == '1' for value in status.values))


def test_without_a_world_frame_nobody_asks(bench):
    bench = bench().start()
    got = bench.listen('depth')
    bench.send()
    wait_until(lambda: got)
    assert bench.backend.poses == [] and bench.node._transforms is None


def test_transforms_end_with_activity(bench):
    bench = bench(*POSES).start()
    assert bench.node._transforms is not None
    bench.node.trigger_deactivate()
    assert bench.node._transforms is None
    bench.node.trigger_activate()
    assert bench.node._transforms is not None


def test_tf_that_is_not_installed_fails_activation(bench, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tf2_ros', None)
    bench = bench('world_frame:=world', 'transform.source:=tf')
    assert bench.node.trigger_configure() == SUCCESS
    assert bench.node.trigger_activate() == FAILURE
