"""Grasps that failed are told to the grasp node, which does not propose them again."""
import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('open3d', reason='open3d is not installed (extra: grasp)')

from geometry_msgs.msg import Point, Pose, PoseArray, PoseStamped, Quaternion  # noqa: E402
from grasp_bench import STAMP_NS, Bench  # noqa: E402
from grasp_scenes import cylinder, placed, view  # noqa: E402
from ros_graph import makers_of, wait_until  # noqa: E402

from dkt_ros.nodes import messages  # noqa: E402
from dkt_ros.nodes.clip_camera_node import pose_message  # noqa: E402

pytestmark = pytest.mark.ros


@pytest.fixture(scope='module')
def scene():
    return view([placed(cylinder(0.03, 0.1))], 45)


@pytest.fixture
def bench():
    yield from makers_of(Bench)


def test_grasps_that_failed_are_not_proposed_again(bench, scene):
    bench = bench('nms_distance_m:=0.01').start()
    failed = bench.graph.peer.create_publisher(PoseArray, '/dkt/failed_grasps', 1)
    grasps = bench.graph.listen(PoseArray, '/dkt/grasps')
    bench.graph.wait_for_match(failed, bench.node._topics['grasps'])
    stamp = bench.send(scene.points)
    before = bench.ask()
    poses = wait_until(lambda: grasps)[0]
    known = bench.node._failed._known

    def tell(message, count):
        failed.publish(message)
        wait_until(lambda: len(known) == count, what=f'{count} poses that failed')
        return bench.ask()

    first = PoseArray(header=poses.header, poses=poses.poses[:1])
    after = tell(first, 1)
    assert before['avoided'] == 0 and after['avoided'] == 1
    away = np.subtract(before['best']['position'], after['best']['position'])
    assert np.linalg.norm(away) > 0.02
    # All that were found, again and again, until nothing is left, with the reason.
    for plans in range(2, 20):
        if not after['success']:
            break
        wait_until(lambda plans=plans: len(grasps) == plans, what='the grasps of this plan')
        after = tell(grasps[-1], len(known) + len(grasps[-1].poses))
    assert 'like those that failed' in after['reason'] and after['avoided'] == len(known)
    assert tell(PoseArray(), 0)['best'] == before['best']
    # In the frame of somebody else, without a frame, without an orientation: not taken.
    strange = PoseArray(header=messages.make_header(stamp, 'elsewhere'), poses=poses.poses)
    assert tell(strange, len(strange.poses))['avoided'] == 0
    tell(PoseArray(), 0)
    for wrong in (PoseArray(poses=poses.poses),
                  PoseArray(header=poses.header, poses=[Pose(orientation=Quaternion(w=0.0))]),
                  PoseArray(header=poses.header, poses=[Pose(position=Point(x=np.nan))])):
        failed.publish(wrong)
    assert tell(first, 1)['avoided'] == 1
    bench.set(failed_for_s=0.0)
    assert bench.ask()['avoided'] == 0
    bench.set(failed_for_s=60.0)
    bench.node.trigger_deactivate()
    bench.node.trigger_activate()
    bench.send(scene.points)
    assert bench.ask()['avoided'] == 0


def test_failed_grasps_stay_where_they_are_when_the_camera_moves(bench, scene):
    bench = bench('target_frame:=world', 'transform.source:=camera_pose').start()
    peer, header = bench.graph.peer, messages.make_header
    poses = peer.create_publisher(PoseStamped, '/dkt/camera_pose', 1)
    failed = peer.create_publisher(PoseArray, '/dkt/failed_grasps', 1)
    bench.graph.wait_for_match(poses, failed)
    at = np.array([0.0, 0.01, 0.07])
    failed.publish(PoseArray(header=header(STAMP_NS, 'world'), poses=[
        Pose(position=Point(x=at[0], y=at[1], z=at[2]))]))
    wait_until(lambda: bench.node._failed._known)
    for seen in (scene, view([placed(cylinder(0.03, 0.1))], 40, 60)):
        T = np.linalg.inv(seen.T_world_camera)
        known = bench.node._failed.poses(seen.T_world_camera, 'optical',
                                         bench.node.get_clock().now().nanoseconds)
        np.testing.assert_allclose(known[0][:3, 3], T[:3, :3] @ at + T[:3, 3], atol=1e-9)
    stamp = bench.send(scene.points)
    poses.publish(pose_message(scene.T_world_camera, header(stamp, 'world')))
    wait_until(lambda: bench.node._transforms._poses)
    assert bench.ask()['avoided'] == 1
    # Given in the frame of the camera, they are taken to the world by its pose of that time.
    camera = PoseArray(header=header(stamp, 'optical'), poses=[Pose()])
    failed.publish(camera)
    known = wait_until(lambda: list(bench.node._failed._known)[1:])
    np.testing.assert_allclose(known[0].pose, scene.T_world_camera, atol=1e-9)
    assert known[0].frame_id == 'world'
