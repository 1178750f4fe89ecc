"""
From camera to grasps: dkt.launch.py and the grasp node.

    ros2 launch dkt_ros grasp.launch.py camera:=clip rviz:=true plan_rate:=1.0
    ros2 launch dkt_ros grasp.launch.py camera:=realsense gripper:=robotiq_2f_85
    ros2 service call /dkt/plan std_srvs/srv/Trigger

All arguments of dkt.launch.py (camera, model, preset, execution, namespace, params_file, rviz,
...) are arguments of this file, too. An argument left empty leaves the value of the YAML file.
"""
import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

PACKAGE = 'dkt_ros'

# name, default, description; those of dkt.launch.py come on top
ARGUMENTS = (
    ('gripper', '', 'Gripper: a name in config/grippers or the path of a YAML file.'),
    ('target_frame', '', 'Frame of the grasps, its z against gravity, for example panda_link0.'),
    ('plan_rate', '', 'Plan so often [Hz]; 0.0 only when the service `plan` asks.'),
)
# Declared by dkt.launch.py, which is included first.
SHARED = ('camera', 'namespace', 'params_file', 'use_sim_time', 'log_level', 'autostart',
          'camera_pose')
# launch argument: ROS parameter
PARAMETERS = {'gripper': 'gripper', 'target_frame': 'target_frame'}


def generate_launch_description():
    """Describe the launch."""
    return LaunchDescription([
        *[DeclareLaunchArgument(name, default_value=default, description=description)
          for name, default, description in ARGUMENTS],
        IncludeLaunchDescription(PythonLaunchDescriptionSource(share('launch', 'dkt.launch.py'))),
        OpaqueFunction(function=nodes),
    ])


def share(*parts):
    """Return the path of an installed file of the package."""
    return os.path.join(get_package_share_directory(PACKAGE), *parts)


def nodes(context):
    """Start the grasp node; the camera and the depth node come with dkt.launch.py."""
    names = [name for name, *_ in ARGUMENTS] + list(SHARED)
    given = {name: LaunchConfiguration(name).perform(context) for name in names}
    params = [share('config', 'grasp.yaml')]
    if given['params_file']:
        params.append(given['params_file'])
    params.append({'use_sim_time': given['use_sim_time'] == 'true'})
    changes = {PARAMETERS[name]: given[name] for name in PARAMETERS if given[name]}
    if given['plan_rate']:
        changes['rate_hz'] = float(given['plan_rate'])
    if given['autostart']:
        changes['autostart'] = given['autostart'] == 'true'
    if given['camera'] == 'clip':
        # A clip has no robot that publishes TF; it publishes its pose as a topic.
        changes['transform.source'] = 'camera_pose'
    if changes:
        params.append(changes)
    return [Node(
        package=PACKAGE, executable='grasp_node', name='grasp_node',
        namespace=given['namespace'], output='screen', emulate_tty=True, parameters=params,
        arguments=['--ros-args', '--log-level', given['log_level']],
        remappings=[('camera_pose', given['camera_pose'])])]
