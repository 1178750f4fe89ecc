"""The grasp node between real topics: grasps, and an answer with a reason to everything else."""
import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('open3d', reason='open3d is not installed (extra: grasp)')

import yaml  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from geometry_msgs.msg import PoseArray, PoseStamped  # noqa: E402
from grasp_bench import FAILURE, STAMP_NS, Bench  # noqa: E402
from grasp_scenes import CAMERA, box, cylinder, placed, prove, view  # noqa: E402
from rclpy.qos import ReliabilityPolicy  # noqa: E402
from ros_graph import makers_of, wait_until  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402
from visualization_msgs.msg import MarkerArray  # noqa: E402

from dkt_ros.camera import PinholeCamera  # noqa: E402
from dkt_ros.grasp.grasp import Grasp, load_gripper  # noqa: E402
from dkt_ros.nodes import grasp_messages, messages  # noqa: E402
from dkt_ros.nodes.clip_camera_node import pose_message  # noqa: E402
from dkt_ros.nodes.clouds import read_points, write_rows  # noqa: E402
from dkt_ros.resources import share_path  # noqa: E402

pytestmark = pytest.mark.ros
PANDA = load_gripper('panda_hand')


@pytest.fixture(scope='module')
def scene():
    return view([placed(cylinder(0.03, 0.1))], 45)


@pytest.fixture
def bench():
    yield from makers_of(Bench)


def test_a_cloud_becomes_grasps_on_every_topic(bench, scene):
    bench = bench().start()
    received = {name: bench.graph.listen(kind, f'/dkt/{name}') for name, kind in (
        ('grasps', PoseArray), ('grasp_candidates', PointCloud2), ('grasp_markers', MarkerArray))}
    best_effort = bench.graph.listen(PoseArray, '/dkt/grasps', ReliabilityPolicy.BEST_EFFORT)
    bench.graph.wait_for_match(*bench.node._topics.values())
    stamp = bench.send(scene.points)
    answer = bench.ask()
    assert answer['success'] and answer['frame_id'] == 'optical' and answer['stamp_ns'] == stamp
    assert answer['gripper'] == 'panda_hand' and answer['counts']['objects'] == 1
    for got in (*received.values(), best_effort):
        wait_until(lambda got=got: got)
    poses = received['grasps'][0]
    assert poses.header.frame_id == 'optical'
    assert messages.stamp_to_ns(poses.header.stamp) == stamp
    assert len(poses.poses) == answer['num_grasps'] > 3
    first = poses.poses[0]
    np.testing.assert_allclose([first.position.x, first.position.y, first.position.z],
                               answer['best']['position'], atol=1e-4)
    rows, _ = read_points(received['grasp_candidates'][0])
    assert [field.name for field in received['grasp_candidates'][0].fields] == list(
        grasp_messages.CANDIDATE_FIELDS)
    np.testing.assert_allclose(rows[0], answer['best']['position'], atol=1e-4)
    markers = received['grasp_markers'][0].markers
    assert markers[0].action == markers[0].DELETEALL
    assert all(len(marker.points) == 108 for marker in markers[1:])
    turn = first.orientation
    T = np.eye(4)
    T[:3, 3] = answer['best']['position']
    T[:3, :3] = Rotation.from_quat(
        [turn.x, turn.y, turn.z, turn.w]).as_matrix()
    assert prove(Grasp(T, answer['best']['width'], answer['best']['opening'], 1.0), PANDA,
                 scene).good


def test_whatever_comes_is_answered_with_a_reason(bench, scene):
    bench = bench().start()
    bench.graph.wait_for_match(bench.cloud)
    assert '/dkt/points has 1 publisher(s) and no message came' in bench.ask()['reason']
    rng = np.random.default_rng(0)
    no_xyz = write_rows(np.zeros((4, 2)), ('x', 'y'), messages.make_header(STAMP_NS, 'optical'))
    cut = write_rows(np.zeros((4, 3)), ('x', 'y', 'z'), messages.make_header(STAMP_NS, 'o'))
    cut.width = 400
    for cloud, words in (
            (np.empty((0, 3)), 'the cloud is empty'),
            (np.full((6, 8, 3), np.nan), 'every point is NaN'),
            (np.full((100, 3), np.inf), 'every point is NaN'),
            (rng.uniform(-0.4, 0.4, (2000, 3)) + [0, 0, 0.7], 'no support plane'),
            (scene.points + [0, 0, 40], 'no point lies in the workspace'),
            (rng.uniform(-0.4, 0.4, (1_000_000, 3)) + [0, 0, 0.7], 'no support plane'),
            ([[0.0, 0.0, 0.6]], 'no support plane'),
            (np.linspace([-0.3, 0.0, 0.6], [0.3, 0.0, 0.8], 4000), 'nothing stands above'),
            (view([placed(box(0.02, 0.02, 0.02), 5.0)], 45).points, 'nothing stands above'),
            (no_xyz, 'x, y and z are needed'), (cut, 'its publisher is wrong')):
        bench.send(cloud)
        assert words in bench.ask()['reason']
    assert bench.set(workspace__lower=[0.5, 0.0, 0.0])[0].reason.count('the workspace is empty')
    bench.set(target_frame='base_link')
    bench.send(scene.points, 'some_frame')
    reason = bench.ask()['reason']
    assert 'some_frame' in reason and 'base_link' in reason
    bench.set(target_frame='', workspace__frame_id='map')
    assert "workspace.frame_id is 'map'" in bench.ask()['reason'] or 'no TF' in reason
    bench.set(workspace__frame_id='', max_age_s=5.0)
    assert 's old, max_age_s allows 5' in bench.ask()['reason']
    bench.set(max_age_s=0.0)
    assert bench.ask()['success']
    # A million points of a scene, some of them far beyond all reason.
    large = view([placed(cylinder(0.03, 0.1))], 45, camera=PinholeCamera(
        1280, 800, 1100.0, 1100.0, 639.5, 399.5)).points
    large[:, ::50] *= 1e30
    bench.send(large)
    answer = bench.ask()
    assert answer['success'] and answer['counts']['input'] == 1_024_000


def test_calls_that_pile_up_are_all_answered(bench, scene):
    bench = bench().start()
    bench.send(scene.points)
    wait_until(bench.client.service_is_ready, what='the service')
    futures = [bench.client.call_async(Trigger.Request()) for _ in range(4)]
    wait_until(lambda: all(future.done() for future in futures), what='all answers')
    assert all(future.result().success for future in futures)


def test_a_service_of_an_inactive_node_answers(bench, scene):
    bench = bench()
    assert 'not configured' in bench.ask()['reason']
    bench.start().send(scene.points)
    bench.node.trigger_deactivate()
    assert 'the node is inactive: activate it' in bench.ask()['reason']
    bench.node.trigger_activate()
    bench.send(scene.points)
    assert bench.ask()['success']


@pytest.mark.parametrize('key, value, words', [
    ('max_width', -0.08, 'max_width is -0.08'), ('name', None, 'mine.yaml')])
def test_a_wrong_gripper_fails_configure_and_says_so_in_the_service(bench, tmp_path, key, value,
                                                                   words):
    path = tmp_path / 'mine.yaml'
    values = yaml.safe_load(share_path('config', 'grippers', 'panda_hand.yaml').read_text())
    path.write_text('name: [' if value is None else yaml.safe_dump({**values, key: value}))
    bench = bench(f'gripper:={path}')
    diagnostics = bench.graph.listen(DiagnosticArray, '/diagnostics')
    assert bench.node.trigger_configure() == FAILURE
    reason = bench.ask()['reason']
    assert 'configure failed' in reason and words in reason
    wait_until(lambda: any(words in status.message for array in diagnostics
                           for status in array.status), what='diagnostics')


def test_grasps_come_in_the_target_frame(bench, scene):
    bench = bench('target_frame:=world', 'workspace.frame_id:=world',
                  'workspace.lower:=[-0.3, -0.3, -0.02]', 'workspace.upper:=[0.3, 0.3, 0.3]',
                  'transform.source:=camera_pose').start()
    stamp = bench.send(scene.points)
    assert 'no message on /dkt/camera_pose' in bench.ask()['reason']
    poses = bench.graph.peer.create_publisher(PoseStamped, '/dkt/camera_pose', 1)
    bench.graph.wait_for_match(poses)
    for frame, offset, words in (('map', 0, "given in 'map'"), ('world', 10**9, '1.000 s from')):
        poses.publish(pose_message(scene.T_world_camera,
                                   messages.make_header(stamp + offset, frame)))
        kept = bench.node._transforms._poses
        wait_until(lambda kept=kept: kept)
        assert words in bench.ask()['reason']
        kept.clear()
    poses.publish(pose_message(scene.T_world_camera, messages.make_header(stamp, 'world')))
    wait_until(lambda: bench.node._transforms._poses)
    answer = bench.ask()
    assert answer['frame_id'] == 'world' and answer['success']
    # The cylinder stands on the origin of the world.
    x, y, z = answer['best']['position']
    assert np.hypot(x, y) < 0.035 and 0.01 < z < 0.105


def test_a_static_transform(bench, scene):
    turn = Rotation.from_matrix(
        scene.T_world_camera[:3, :3]).as_euler('xyz')
    shift = scene.T_world_camera[:3, 3]
    bench = bench('target_frame:=base', 'transform.source:=static',
                  f'transform.xyz:={[float(v) for v in shift]}',
                  f'transform.rpy:={[float(v) for v in turn]}').start()
    bench.send(scene.points)
    x, y, _ = bench.ask()['best']['position']
    assert np.hypot(x, y) < 0.035


def test_depth_and_camera_info_instead_of_points(bench, scene):
    bench = bench('input:=depth').start()
    peer = bench.graph.peer
    depth, info = (peer.create_publisher(kind, f'/dkt/{name}', 1) for name, kind in (
        ('depth', Image), ('camera_info', CameraInfo)))
    bench.graph.wait_for_match(depth, info)
    header = messages.make_header(STAMP_NS, 'optical')
    info.publish(messages.info_from_camera(CAMERA, header))
    depth.publish(messages.map_to_image(scene.points[..., 2], header))
    wait_until(lambda: all(bench.node.inputs._messages[name] for name in (
        'depth', 'camera_info')))
    assert bench.ask()['success']


def test_the_confidence_of_the_same_stamp_counts(bench, scene):
    bench = bench().start()
    publisher = bench.graph.peer.create_publisher(Image, '/dkt/confidence', 1)
    bench.graph.wait_for_match(publisher)
    stamp = bench.send(scene.points)
    values = np.full(scene.points.shape[:2], 0.25, np.float32)
    publisher.publish(messages.map_to_image(values, messages.make_header(stamp, 'optical')))
    wait_until(lambda: bench.node.inputs._messages['confidence'])
    assert 0.2 < bench.ask()['best']['parts']['confidence'] <= 0.25 + 1e-3
    bench.send(scene.points)
    assert bench.ask()['best']['parts']['confidence'] == 1


def test_it_plans_at_a_rate_while_somebody_listens(bench, scene):
    bench = bench('rate_hz:=10.0').start()
    bench.send(scene.points)
    assert bench.node.report._counts['plans'] == 0
    grasps = bench.graph.listen(PoseArray, '/dkt/grasps')
    wait_until(lambda: len(grasps) == 1, what='a plan')
    bench.send(scene.points)
    wait_until(lambda: len(grasps) >= 2, what='a plan of the next cloud')
    assert bench.node.report._counts['plans'] == 2
    diagnostics = bench.graph.listen(DiagnosticArray, '/diagnostics')
    status = wait_until(lambda: next((
        status for array in diagnostics for status in array.status
        if status.name == 'dkt/grasp_node: plan' and 'grasps, best' in status.message), None))
    values = {item.key: item.value for item in status.values}
    assert int(values['count hypotheses']) > int(values['count grasps']) > 0


def test_two_cameras_in_two_namespaces(bench, scene):
    left = bench(namespace='left')
    right = bench(namespace='right', graph=left.graph)
    left.start().send(scene.points, 'left_optical')
    right.start().send(view([placed(box(0.05, 0.05, 0.08))], 40).points, 'right_optical')
    answers = left.ask(), right.ask()
    assert [answer['frame_id'] for answer in answers] == ['left_optical', 'right_optical']
    assert answers[0]['best']['position'] != answers[1]['best']['position']


def test_a_planner_that_raises_is_an_answer(bench, scene, monkeypatch):
    bench = bench().start()
    bench.send(scene.points)
    monkeypatch.setattr(bench.node.planning._planner, 'plan', lambda *a, **k: 1 / 0)
    assert 'planning failed: ZeroDivisionError' in bench.ask()['reason']


def test_anybodys_cloud_is_read():
    rng = np.random.default_rng(2)
    kind = np.dtype({'names': ['intensity', 'z', 'y', 'x', 'confidence'],
                     'formats': ['>u2', '>f8', '>f8', '>f8', '>f4'],
                     'offsets': [0, 4, 12, 20, 30], 'itemsize': 40})
    rows = np.zeros((3, 5), kind)
    points = rng.normal(size=(3, 5, 3))
    for i, name in enumerate('xyz'):
        rows[name] = points[..., i]
    rows['confidence'] = 0.5
    padded = np.zeros((3, 5 * 40 + 16), np.uint8)
    padded[:, :200] = rows.view(np.uint8).reshape(3, 200)
    message = PointCloud2(height=3, width=5, point_step=40, row_step=216, is_bigendian=True)
    types = {'>u2': PointField.UINT16, '>f8': PointField.FLOAT64, '>f4': PointField.FLOAT32}
    message.fields = [PointField(name=name, offset=kind.fields[name][1], count=1,
                                 datatype=types[kind.fields[name][0].str])
                      for name in kind.names]
    message.data = padded.tobytes()
    read, confidence = read_points(message)
    np.testing.assert_allclose(read, points, rtol=1e-6)
    assert confidence.shape == (3, 5) and (confidence == 0.5).all()
    message.fields[1].offset = 38
    with pytest.raises(ValueError, match='lies beyond'):
        read_points(message)


def test_moveit_gets_its_own_message_for_its_own_link(monkeypatch):
    def record(*names, **defaults):
        return type('Message', (SimpleNamespace,), {
            '__init__': lambda self, **kw: self.__dict__.update({
                **{name: None for name in names}, **defaults, **kw})})

    moveit = types.ModuleType('moveit_msgs.msg')
    moveit.Grasp, moveit.GripperTranslation = record('id'), record('direction')
    trajectory = types.ModuleType('trajectory_msgs.msg')
    trajectory.JointTrajectory = trajectory.JointTrajectoryPoint = record()
    monkeypatch.setitem(sys.modules, 'trajectory_msgs.msg', trajectory)
    monkeypatch.setitem(sys.modules, 'trajectory_msgs', types.ModuleType('trajectory_msgs'))
    monkeypatch.setattr(grasp_messages, 'optional_messages', lambda package: moveit)
    T = np.array([[-1.0, 0, 0, 0.4], [0, 1, 0, 0.1], [0, 0, -1, 0.2], [0, 0, 0, 1]])
    header = messages.make_header(STAMP_NS, 'panda_link0')
    message = grasp_messages.to_moveit(Grasp(T, 0.05, 0.07, 0.8, kind='rim'), PANDA, header, 2,
                                       0.08)
    hand = message.grasp_pose.pose.position
    np.testing.assert_allclose([hand.x, hand.y, hand.z], [0.4, 0.1, 0.2 + 0.1034])
    assert message.id == 'dkt_002_rim' and message.grasp_quality == 0.8
    assert message.pre_grasp_posture.points[0].positions == [0.035, 0.035]
    assert message.grasp_posture.points[0].positions[0] < 0.025
    assert message.grasp_posture.joint_names == list(PANDA.finger_joints)
    assert message.pre_grasp_approach.direction.vector.z == -1
    assert message.pre_grasp_approach.desired_distance == 0.08
    assert message.post_grasp_retreat.direction.vector.z == 1


def test_the_action_gives_all_grasps_or_aborts(monkeypatch):
    from dkt_ros.grasp.planner import GraspPlan
    from dkt_ros.nodes.grasp_planning import Answer
    from dkt_ros.nodes.moveit import MoveItInterfaces
    monkeypatch.setattr(grasp_messages, 'optional_messages', lambda package: None)
    warned, answers = [], [Answer(GraspPlan(reason='the cloud is empty')), Answer(GraspPlan(
        grasps=(Grasp(np.eye(4), 0.05, 0.07, 0.8), Grasp(np.eye(4), 0.02, 0.04, 0.6))), 'base')]
    node = SimpleNamespace(get_logger=lambda: SimpleNamespace(warning=warned.append))
    interfaces = MoveItInterfaces(node, lambda: answers.pop(0), 0.08)
    interfaces.publish(answers[1], PANDA)
    monkeypatch.setattr(grasp_messages, 'to_moveit', lambda grasp, *rest: (grasp.width, rest[2]))
    interfaces._action = SimpleNamespace(Result=SimpleNamespace, Feedback=SimpleNamespace)
    calls = []
    goal = SimpleNamespace(abort=lambda: calls.append('abort'),
                           succeed=lambda: calls.append('succeed'),
                           publish_feedback=lambda feedback: calls.append(feedback.grasps))
    interfaces.execute(goal)
    assert calls == ['abort'] and 'the cloud is empty' in warned[0]
    assert interfaces.execute(goal).grasps == [(0.05, 0), (0.02, 1)]
    assert calls[1:] == [[(0.05, 0), (0.02, 1)], 'succeed']
