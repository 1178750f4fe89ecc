"""`dkt up`: the nodes of the launch file in one process, for machines without `ros2 launch`."""
from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

from dkt_ros.errors import UserError
from dkt_ros.middleware import profile_environment
from dkt_ros.nodes.clip_camera_node import ClipCameraNode
from dkt_ros.nodes.depth_node import DepthNode
from dkt_ros.nodes.grasp_node import GraspNode
from dkt_ros.nodes.lifecycle import unless_interrupted
from dkt_ros.resources import share_path

CAMERAS = ('none', 'clip')
CAMERA_NODE = '/camera/camera'
INPUTS = ('color/image_raw', 'color/camera_info', 'aligned_depth_to_color/image_raw')


def ros_arguments(params: Path) -> list[str]:
    """Return the ROS arguments of the process: parameter files, and the camera's topics."""
    remaps = [part for topic in INPUTS
              for part in ('-r', f'depth_node:{topic}:={CAMERA_NODE}/{topic}')]
    for node in ('depth_node', 'grasp_node'):
        remaps += ['-r', f'{node}:camera_pose:={CAMERA_NODE}/camera_pose']
    # The later file wins: a user's own file may hold parameters of any node.
    return ['--ros-args', '--params-file', str(share_path('config', 'grasp.yaml')),
            '--params-file', str(params), *remaps]


def up(params: Path | None = None, camera: str = 'none', clip: str = '') -> int:
    """
    Run depth node and grasp node, and a clip as the camera if wanted, until interrupted.

    Parameters
    ----------
    params : Path, optional
        Parameter file; config/dkt.yaml if not given. config/grasp.yaml holds beneath it.
    camera : str
        'none': a camera runs elsewhere, as /camera/camera; 'clip': a clip is played, in a loop.
    clip : str
        For 'clip': what to play; the bundled clip if empty.

    Returns
    -------
    int
        Exit code: 0 after an interrupt, 1 if the clip cannot be played.

    """
    if camera not in CAMERAS:
        raise UserError(f'camera is {camera!r}; allowed: {", ".join(CAMERAS)}')
    if clip and camera != 'clip':
        raise UserError(f'clip {clip!r} is given, but camera is {camera!r}; use --camera clip')
    params = share_path('config', 'dkt.yaml') if params is None else Path(params)
    if not params.is_file():
        raise UserError(f'parameter file {params} does not exist; give the path of a YAML file')
    os.environ.update(profile_environment(os.environ))
    try:
        rclpy.init(args=ros_arguments(params))
    except RuntimeError as error:
        raise UserError(f'{params} is no ROS parameter file: {error}') from error
    try:
        with unless_interrupted():
            if camera == 'none':
                return run(None)
            return run({'loop': True, 'clip': clip} if clip else {'loop': True})
        return 0
    finally:
        rclpy.try_shutdown()


def run(clip: dict[str, object] | None) -> int:
    """Spin the nodes, and a clip camera with these parameters; return the exit code."""
    executor = SingleThreadedExecutor()
    camera = None if clip is None else ClipCameraNode(executor.wake, parameter_overrides=[
        Parameter(name, value=value) for name, value in clip.items()])
    # A clip has no robot that publishes TF; it publishes its pose as a topic.
    source = [Parameter('transform.source', value='camera_pose')] if camera else []
    nodes = [DepthNode(parameter_overrides=source), *([camera] if camera else [])]
    for node in nodes:
        executor.add_node(node)
    try:
        with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException), \
                own_thread(GraspNode(parameter_overrides=source)):
            while rclpy.ok() and not (camera and camera.failed):
                executor.spin_once(timeout_sec=1.0)
    finally:
        for node in nodes:
            executor.remove_node(node)
            node.destroy_node()
    return 1 if camera and camera.failed else 0


@contextlib.contextmanager
def own_thread(node: Node) -> Iterator[None]:
    """Spin a node in a thread of its own: loading a model must not keep its service waiting."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def spin() -> None:
        with contextlib.suppress(ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin, name=node.get_name(), daemon=True)
    thread.start()
    try:
        yield
    finally:
        executor.shutdown()
        thread.join(3.0)
        node.destroy_node()
