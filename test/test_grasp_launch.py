"""grasp.launch.py, what RViz, Foxglove and MoveIt are given, and live publishers behind it."""
import json

import pytest
import yaml
from test_launch import REPOSITORY, of_kind, stubs  # noqa: F401

from dkt_ros.grasp.config import GraspNodeConfig
from dkt_ros.grasp.grasp import load_gripper

LAUNCH = REPOSITORY / 'launch/grasp.launch.py'
DEFAULTS = {'camera': 'none', 'namespace': 'dkt', 'params_file': '', 'use_sim_time': 'false',
            'log_level': 'info', 'autostart': '', 'camera_pose': '/camera/camera/camera_pose'}
DISPLAYS = {'Image': 'sensor_msgs/msg/Image', 'PointCloud2': 'sensor_msgs/msg/PointCloud2',
            'PoseArray': 'geometry_msgs/msg/PoseArray',
            'MarkerArray': 'visualization_msgs/msg/MarkerArray'}
# What setParams of MoveIt's PointCloudOctomapUpdater reads; it stops where one is missing.
UPDATER_KEYS = {'point_cloud_topic': str, 'max_range': float, 'padding_offset': float,
                'padding_scale': float, 'point_subsample': int, 'max_update_rate': float,
                'filtered_cloud_topic': str}


def load():
    namespace = {'__name__': 'grasp_launch'}
    exec(compile(LAUNCH.read_text(), str(LAUNCH), 'exec'), namespace)  # noqa: S102
    return namespace


def started(launch, **given):
    context = {name: default for name, default, _ in launch['ARGUMENTS']} | DEFAULTS | given
    node, = launch['nodes'](context)
    return node.kwargs


def test_it_includes_the_perception_and_declares_the_rest(stubs):  # noqa: F811
    launch = load()
    entities = launch['generate_launch_description']().args[0]
    declared = {item.args[0]: item.kwargs for item in of_kind(entities, 'DeclareLaunchArgument')}
    assert set(declared) == {'gripper', 'target_frame', 'plan_rate'}
    assert all(options['description'] for options in declared.values())
    include, = of_kind(entities, 'IncludeLaunchDescription')
    assert include.args[0].args[0] == str(REPOSITORY / 'launch/dkt.launch.py')
    # What is shared must be declared before this file's nodes ask for it.
    kinds = [type(entity).__name__ for entity in entities]
    assert kinds.index('IncludeLaunchDescription') < kinds.index('OpaqueFunction')
    perception = {}
    path = REPOSITORY / 'launch/dkt.launch.py'
    exec(compile(path.read_text(), str(path), 'exec'), perception)  # noqa: S102
    assert set(launch['SHARED']) <= {name for name, *_ in perception['ARGUMENTS']}
    assert {'camera', 'model', 'preset', 'rviz', 'namespace', 'params_file', 'use_sim_time',
            'log_level', 'autostart', 'execution'} <= {n for n, *_ in perception['ARGUMENTS']}


def test_the_grasp_node_gets_only_the_given_parameters(stubs):  # noqa: F811
    launch = load()
    node = started(launch)
    assert node['executable'] == 'grasp_node' and node['namespace'] == 'dkt'
    assert node['parameters'] == [str(REPOSITORY / 'config/grasp.yaml'), {'use_sim_time': False}]
    assert node['remappings'] == [('camera_pose', '/camera/camera/camera_pose')]
    node = started(launch, camera='clip', gripper='generic', plan_rate='2', autostart='false',
                   params_file='/my.yaml', target_frame='world', namespace='left')
    assert node['namespace'] == 'left' and node['parameters'][1] == '/my.yaml'
    assert node['parameters'][-1] == {
        'gripper': 'generic', 'target_frame': 'world', 'rate_hz': 2.0, 'autostart': False,
        'transform.source': 'camera_pose'}
    from dkt_ros.nodes.parameters import options_of
    assert set(node['parameters'][-1]) <= set(options_of(GraspNodeConfig()))


def test_the_parameter_file_names_real_options_with_allowed_values():
    values = yaml.safe_load((REPOSITORY / 'config/grasp.yaml').read_text())
    assert set(values) == {'/**/grasp_node'}
    config = GraspNodeConfig.from_dict(values['/**/grasp_node']['ros__parameters'])
    assert load_gripper(config.gripper).max_width == 0.08


def test_moveits_updater_finds_every_key_it_requires():
    values = yaml.safe_load((REPOSITORY / 'config/moveit/sensors_3d.yaml').read_text())
    sensor, = values['sensors']
    options = values[sensor]
    assert options.pop('sensor_plugin') == 'occupancy_map_monitor/PointCloudOctomapUpdater'
    assert {name: type(value) for name, value in options.items()} == UPDATER_KEYS
    assert options['point_cloud_topic'] == '/dkt/points' and options['max_range'] > 0
    assert options['filtered_cloud_topic'] != options['point_cloud_topic']


@pytest.mark.ros
def test_every_display_has_a_live_publisher_of_its_type_and_qos():
    pytest.importorskip('rclpy')
    pytest.importorskip('open3d', reason='open3d is not installed (extra: grasp)')
    from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
    from ros_graph import Graph, StubBackend, wait_until

    from dkt_ros.nodes.clip_camera_node import ClipCameraNode
    from dkt_ros.nodes.depth_node import DepthNode
    from dkt_ros.nodes.grasp_node import GraspNode
    graph = Graph('--ros-args', '-p', 'autostart:=false')
    try:
        for node in (DepthNode(StubBackend(), context=graph.context),
                     GraspNode(context=graph.context)):
            graph.add(node).trigger_configure()
        graph.add(ClipCameraNode(context=graph.context))
        config = yaml.safe_load((REPOSITORY / 'config/dkt.rviz').read_text())
        displays = [display for display in config['Visualization Manager']['Displays']
                    if 'Topic' in display]
        assert {'Image', 'PointCloud2', 'PoseArray', 'MarkerArray'} == {
            display['Class'].split('/')[1] for display in displays}
        for display in displays:
            topic = display['Topic']
            publishers = wait_until(lambda name=topic['Value']:
                                    graph.peer.get_publishers_info_by_topic(name),
                                    what=topic['Value'])
            wanted = QoSProfile(depth=topic['Depth'], reliability=ReliabilityPolicy[
                topic['Reliability Policy'].upper().replace(' ', '_')])
            for publisher in publishers:
                assert publisher.topic_type == DISPLAYS[display['Class'].split('/')[1]]
                # A camera's "system default" is a warning: it depends on the middleware.
                assert qos_check_compatible(publisher.qos_profile, wanted)[0] \
                    != QoSCompatibility.ERROR
        published = {name for name, _ in graph.peer.get_topic_names_and_types()}
        layout = json.loads((REPOSITORY / 'config/dkt.foxglove.json').read_text())
        panels = layout['configById']
        topics = {panel['imageMode']['imageTopic'] for name, panel in panels.items()
                  if name.startswith('Image')} | set(panels['3D!cloud']['topics'])
        assert topics <= published and len(topics) >= 7
        placed = json.dumps(layout['layout'])
        assert all(f'"{name}"' in placed for name in panels)
    finally:
        graph.close()


@pytest.mark.ros
def test_the_cloud_is_what_moveits_updater_asks_for():
    pytest.importorskip('rclpy')
    import time

    import numpy as np
    from depth_bench import Bench
    from ros_graph import wait_until
    from sensor_msgs.msg import PointField

    from dkt_ros.nodes import messages
    bench = Bench().start()
    try:
        got = bench.listen('points')
        sent_ns = time.time_ns()
        depth = np.full((48, 64), 0.8, np.float32)
        depth[3, 4] = np.nan
        bench.camera.send(sent_ns, depth=depth)
        cloud = wait_until(lambda: got)[0]
    finally:
        bench.graph.close()
    assert [(field.name, field.offset, field.datatype, field.count)
            for field in cloud.fields[:3]] == [
        (name, 4 * i, PointField.FLOAT32, 1) for i, name in enumerate('xyz')]
    assert cloud.header.frame_id.endswith('optical') and not cloud.is_dense
    stamp_ns = messages.stamp_to_ns(cloud.header.stamp)
    assert stamp_ns == sent_ns and time.time_ns() - stamp_ns < 10e9
    block = np.frombuffer(memoryview(cloud.data), np.float32).reshape(48, 64, -1)[..., :3]
    assert not np.isinf(block).any()
    # NaN is all three or none; z is along the optical axis.
    assert (np.isnan(block).all(axis=-1) == np.isnan(block).any(axis=-1)).all()
    assert np.nanmin(block[..., 2]) > 0
