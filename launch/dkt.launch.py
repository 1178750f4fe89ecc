"""
Perception: a camera or a clip -> metric depth of glass.

    ros2 launch dkt_ros dkt.launch.py camera:=realsense
    ros2 launch dkt_ros dkt.launch.py camera:=clip rviz:=true
    ros2 launch dkt_ros dkt.launch.py camera:=none color:=/my/rgb info:=/my/info depth:=/my/depth

An argument left empty leaves the value of the parameter file.
"""
import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

PACKAGE = 'dkt_ros'
CAMERA_NODE = '/camera/camera'
# Kilted reads the first and warns of the second; Jazzy knows the second only.
PROFILE_VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
OLD_DISTROS = ('humble', 'iron', 'jazzy')

# name, default, description, choices
ARGUMENTS = (
    ('camera', 'none', 'Where images come from: a RealSense started here, a clip, or a camera '
     'that runs elsewhere.', ['realsense', 'clip', 'none']),
    ('clip', '', 'For camera:=clip: what to play; the bundled clip if empty.', None),
    ('model', '', 'Model: the name of a bundled one or the path of a folder.', None),
    ('preset', '', 'Window shape: latency against steadiness.',
     ['', 'image', 'low_latency', 'balanced', 'long']),
    ('execution', '', 'How the model runs.',
     ['', 'auto', 'eager', 'compile', 'onnxruntime', 'tensorrt']),
    ('device', '', 'Where the model runs: auto, cpu, cuda or cuda:N.', None),
    ('autostart', '', 'Configure and activate at start, without a lifecycle manager.',
     ['', 'true', 'false']),
    ('namespace', 'dkt', 'Namespace of the published topics.', None),
    ('params_file', '', 'Parameter file; config/dkt.yaml of the package if empty.', None),
    ('use_sim_time', 'false', 'Take the time from /clock.', ['true', 'false']),
    ('log_level', 'info', 'Log level of the nodes started here.',
     ['debug', 'info', 'warn', 'error', 'fatal']),
    ('rviz', 'false', 'Open RViz with the displays of this package.', ['true', 'false']),
    ('color', f'{CAMERA_NODE}/color/image_raw', 'Colour image topic.', None),
    ('info', f'{CAMERA_NODE}/color/camera_info', 'camera_info topic of the colour image.', None),
    ('depth', f'{CAMERA_NODE}/aligned_depth_to_color/image_raw',
     'Depth image topic, aligned to colour.', None),
    ('camera_pose', f'{CAMERA_NODE}/camera_pose', 'Topic of the pose of the camera, where there '
     'is no TF.', None),
    ('world_frame', '', 'For a camera on a wrist: a frame that does not move, for example '
     'panda_link0; its motion then tells how far off things stand.', None),
)
# launch argument: ROS parameter
PARAMETERS = {'model': 'model', 'preset': 'stream.preset', 'execution': 'execution',
              'device': 'device', 'autostart': 'autostart', 'world_frame': 'world_frame'}


def generate_launch_description():
    """Describe the launch."""
    return LaunchDescription([
        *[declare(*argument) for argument in ARGUMENTS],
        *middleware(),
        OpaqueFunction(function=nodes),
        rviz(),
    ])


def declare(name, default, description, choices):
    """Declare one launch argument."""
    options = {} if choices is None else {'choices': choices}
    return DeclareLaunchArgument(name, default_value=default, description=description, **options)


def share(*parts):
    """Return the path of an installed file of the package."""
    return os.path.join(get_package_share_directory(PACKAGE), *parts)


def middleware():
    """Give Fast DDS room for images, unless the user has a profile of his own."""
    if any(os.environ.get(name) for name in PROFILE_VARIABLES):
        return []
    name = PROFILE_VARIABLES[os.environ.get('ROS_DISTRO') in OLD_DISTROS]
    return [SetEnvironmentVariable(name, share('config', 'fastdds.xml'))]


def nodes(context):
    """Start the depth node and, if asked for, a camera."""
    given = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    params = given['params_file'] or share('config', 'dkt.yaml')
    sim_time = {'use_sim_time': given['use_sim_time'] == 'true'}
    changes = {PARAMETERS[name]: given[name] for name in PARAMETERS if given[name]}
    if 'autostart' in changes:
        changes['autostart'] = given['autostart'] == 'true'
    if given['camera'] == 'clip':
        # A clip has no robot that publishes TF; it publishes its pose as a topic.
        changes['transform.source'] = 'camera_pose'
    log_level = ['--ros-args', '--log-level', given['log_level']]
    started = [Node(
        package=PACKAGE, executable='depth_node', name='depth_node',
        namespace=given['namespace'], output='screen', emulate_tty=True, arguments=log_level,
        parameters=[params, sim_time, changes] if changes else [params, sim_time],
        remappings=[('color/image_raw', given['color']),
                    ('color/camera_info', given['info']),
                    ('aligned_depth_to_color/image_raw', given['depth']),
                    ('camera_pose', given['camera_pose'])])]
    if given['camera'] == 'clip':
        # With simulated time the clip is the clock.
        clip = {'publish_clock': sim_time['use_sim_time'], 'loop': True}
        if given['clip']:
            clip['clip'] = given['clip']
        started.append(Node(
            package=PACKAGE, executable='clip_camera_node', name='camera', namespace='camera',
            output='screen', emulate_tty=True, arguments=log_level, parameters=[params, clip]))
    if given['camera'] == 'realsense':
        started.append(realsense())
    return started


def realsense():
    """Start realsense-ros with the topics that the depth node needs."""
    # Looked up here: realsense-ros need not be installed for another camera.
    path = os.path.join(get_package_share_directory('realsense2_camera'), 'launch', 'rs_launch.py')
    return IncludeLaunchDescription(
        PythonLaunchDescriptionSource(path),
        launch_arguments={
            'camera_namespace': 'camera', 'camera_name': 'camera', 'enable_color': 'true',
            'enable_depth': 'true', 'align_depth.enable': 'true', 'enable_sync': 'true',
        }.items())


def rviz():
    """Open RViz if asked for."""
    return Node(package='rviz2', executable='rviz2', name='rviz2', output='screen',
                arguments=['-d', share('config', 'dkt.rviz')],
                parameters=[{'use_sim_time': LaunchConfiguration('use_sim_time')}],
                condition=IfCondition(LaunchConfiguration('rviz')))
