import ast
import os
import sys
import types
from pathlib import Path

import pytest
import yaml

from dkt_ros.config import EXECUTIONS, PRESETS, ClipCameraConfig, DepthNodeConfig

REPOSITORY = Path(__file__).resolve().parent.parent
LAUNCH = REPOSITORY / 'launch/dkt.launch.py'
CONFIGS = {'/**/depth_node': DepthNodeConfig, '/**/camera': ClipCameraConfig}


def test_it_compiles_and_describes_a_launch():
    names = {item.name for item in ast.parse(LAUNCH.read_text()).body
             if isinstance(item, ast.FunctionDef)}
    assert 'generate_launch_description' in names
    compile(LAUNCH.read_text(), str(LAUNCH), 'exec')


def test_the_parameter_file_names_real_options_with_allowed_values():
    values = yaml.safe_load((REPOSITORY / 'config/dkt.yaml').read_text())
    assert set(values) == set(CONFIGS)
    for node, config in CONFIGS.items():
        config.from_dict(values[node]['ros__parameters'], node)


def test_rviz_shows_published_topics_with_their_qos():
    pytest.importorskip('rclpy')
    from dkt_ros.nodes import grasp_node
    from dkt_ros.nodes.clip_camera_node import IMAGE_TOPICS
    from dkt_ros.nodes.outputs import TOPICS
    topics = {f'/dkt/{topic}' for topic in (*TOPICS, *grasp_node.TOPICS)} | {
        topic.replace('~', '/camera/camera') for topic in IMAGE_TOPICS}
    config = yaml.safe_load((REPOSITORY / 'config/dkt.rviz').read_text())
    shown = [display['Topic'] for display in config['Visualization Manager']['Displays']
             if 'Topic' in display]
    assert len(shown) >= 4
    for topic in shown:
        assert topic['Value'] in topics
        assert (topic['Reliability Policy'], topic['Durability Policy']) == (
            'Reliable', 'Volatile')


class Recorded:
    """Stands for a class of launch or launch_ros; keeps what it was built with."""

    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs

    def perform(self, context):
        return context[self.args[0]]


@pytest.fixture
def stubs(monkeypatch):
    """Put recorders in the place of the launch packages, with the names these really have."""
    kinds = {
        'launch': ['LaunchDescription'],
        'launch.actions': ['DeclareLaunchArgument', 'IncludeLaunchDescription', 'OpaqueFunction',
                           'SetEnvironmentVariable'],
        'launch.conditions': ['IfCondition'],
        'launch.launch_description_sources': ['PythonLaunchDescriptionSource'],
        'launch.substitutions': ['LaunchConfiguration'],
        'launch_ros': [], 'launch_ros.actions': ['Node'],
        'ament_index_python': [], 'ament_index_python.packages': []}
    for module, names in kinds.items():
        stub = types.ModuleType(module)
        for name in names:
            setattr(stub, name, type(name, (Recorded,), {}))
        monkeypatch.setitem(sys.modules, module, stub)
    sys.modules['ament_index_python.packages'].get_package_share_directory = \
        lambda package: str(REPOSITORY) if package == 'dkt_ros' else f'/opt/{package}'
    for name in ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE'):
        monkeypatch.delenv(name, raising=False)


def load():
    namespace = {'__name__': 'dkt_launch'}
    exec(compile(LAUNCH.read_text(), str(LAUNCH), 'exec'), namespace)  # noqa: S102
    return namespace


def of_kind(entities, name):
    return [entity for entity in entities if type(entity).__name__ == name]


def started(launch, **given):
    context = {name: given.get(name, default) for name, default, *_ in launch['ARGUMENTS']}
    return launch['nodes'](context)


def test_arguments_have_descriptions_and_the_choices_of_the_configuration(stubs):
    launch = load()
    entities = launch['generate_launch_description']().args[0]
    declared = {item.args[0]: item.kwargs for item in of_kind(entities, 'DeclareLaunchArgument')}
    assert {'camera', 'model', 'preset', 'namespace', 'params_file', 'use_sim_time', 'log_level',
            'autostart', 'execution', 'device'} <= set(declared)
    assert all(options['description'] for options in declared.values())
    assert declared['preset']['choices'] == ['', *PRESETS]
    assert declared['execution']['choices'] == ['', *EXECUTIONS]
    assert declared['camera']['choices'] == ['realsense', 'clip', 'none']
    for options in declared.values():
        assert options['default_value'] in options.get('choices', [options['default_value']])


def test_the_depth_node_gets_remaps_and_only_the_given_parameters(stubs):
    launch = load()
    node, = started(launch, preset='image', autostart='false')
    assert node.kwargs['executable'] == 'depth_node' and node.kwargs['namespace'] == 'dkt'
    assert node.kwargs['parameters'] == [
        str(REPOSITORY / 'config/dkt.yaml'), {'use_sim_time': False},
        {'stream.preset': 'image', 'autostart': False}]
    assert dict(node.kwargs['remappings'])['color/camera_info'] == \
        '/camera/camera/color/camera_info'
    assert dict(node.kwargs['remappings'])['camera_pose'] == '/camera/camera/camera_pose'
    node, = started(launch)
    assert len(node.kwargs['parameters']) == 2
    node, = started(launch, world_frame='panda_link0')
    assert node.kwargs['parameters'][2] == {'world_frame': 'panda_link0'}


def test_cameras(stubs):
    launch = load()
    depth, clip = started(launch, camera='clip', clip='/my.mp4', use_sim_time='true')
    assert depth.kwargs['parameters'][2] == {'transform.source': 'camera_pose'}
    assert clip.kwargs['executable'] == 'clip_camera_node'
    assert clip.kwargs['parameters'][1] == {'publish_clock': True, 'loop': True,
                                            'clip': '/my.mp4'}
    _, realsense = started(launch, camera='realsense')
    arguments = dict(realsense.kwargs['launch_arguments'])
    assert arguments['align_depth.enable'] == 'true'
    assert realsense.args[0].args[0] == '/opt/realsense2_camera/launch/rs_launch.py'


def test_fast_dds_gets_room_unless_the_user_has_a_profile(stubs, monkeypatch):
    launch = load()
    for distro, name in (('jazzy', 'FASTRTPS_DEFAULT_PROFILES_FILE'),
                         ('kilted', 'FASTDDS_DEFAULT_PROFILES_FILE')):
        monkeypatch.setenv('ROS_DISTRO', distro)
        profile, = launch['middleware']()
        assert profile.args == (name, str(REPOSITORY / 'config/fastdds.xml'))
    monkeypatch.setenv('FASTRTPS_DEFAULT_PROFILES_FILE', '/mine.xml')
    assert launch['middleware']() == []


def test_under_the_real_launch():
    pytest.importorskip('launch_ros', reason='launch_ros comes with ROS 2, not as a wheel')
    from launch import LaunchDescription, LaunchService
    from launch.launch_description_sources import get_launch_description_from_python_launch_file
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    description = get_launch_description_from_python_launch_file(str(LAUNCH))
    assert isinstance(description, LaunchDescription)
    assert LaunchService(argv=['camera:=none']) is not None
