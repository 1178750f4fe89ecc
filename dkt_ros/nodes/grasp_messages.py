"""Grasps to messages: poses, rows, markers, and MoveIt's where its messages are installed."""
from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from functools import cache
from types import ModuleType

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, PoseArray, PoseStamped, Vector3Stamped
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from dkt_ros.grasp.conventions import to_ee
from dkt_ros.grasp.drawing import hand_mesh, score_color
from dkt_ros.grasp.grasp import Grasp, Gripper
from dkt_ros.nodes.clouds import write_rows

CANDIDATE_FIELDS = ('x', 'y', 'z', 'qx', 'qy', 'qz', 'qw', 'width', 'score')
LIFT_M = 0.1


def to_pose(T: np.ndarray) -> Pose:
    """Write a pose (4, 4)."""
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = map(float, T[:3, 3])
    turn = pose.orientation
    turn.x, turn.y, turn.z, turn.w = map(float, Rotation.from_matrix(T[:3, :3]).as_quat())
    return pose


def to_pose_array(grasps: Sequence[Grasp], header: Header) -> PoseArray:
    """Write the poses of the grasp frame, best first."""
    return PoseArray(header=header, poses=[to_pose(grasp.T_frame_grasp) for grasp in grasps])


def to_candidates(grasps: Sequence[Grasp], header: Header) -> PointCloud2:
    """Write a row of CANDIDATE_FIELDS a grasp."""
    rows = np.array([[*grasp.position, *grasp.quaternion, grasp.width, grasp.score]
                     for grasp in grasps])
    return write_rows(rows, CANDIDATE_FIELDS, header)


def to_markers(grasps: Sequence[Grasp], gripper: Gripper, header: Header) -> MarkerArray:
    """Draw the hand at each grasp, coloured by its score; what was drawn before goes."""
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for number, grasp in enumerate(grasps):
        vertices, triangles = hand_mesh(gripper, grasp.opening)
        red, green, blue = score_color(grasp.score)
        marker = Marker(header=header, ns='grasps', id=number, type=Marker.TRIANGLE_LIST,
                        action=Marker.ADD, pose=to_pose(grasp.T_frame_grasp),
                        color=ColorRGBA(r=red, g=green, b=blue, a=1.0 if number == 0 else 0.55))
        marker.scale.x = marker.scale.y = marker.scale.z = 1.0
        marker.points = [Point(x=float(x), y=float(y), z=float(z))
                         for x, y, z in vertices[triangles.ravel()]]
        markers.append(marker)
    return MarkerArray(markers=markers)


@cache
def optional_messages(package: str) -> ModuleType | None:
    """Return the messages of a package, None where it is not installed."""
    if importlib.util.find_spec(package) is None:
        return None
    return importlib.import_module(f'{package}.msg')


def to_moveit(grasp: Grasp, gripper: Gripper, header: Header, number: int,
              approach_m: float) -> object:
    """
    Write a `moveit_msgs/Grasp`; its pose is that of the end-effector link, as MoveIt wants it.

    Parameters
    ----------
    grasp : Grasp
        In the frame of the header.
    gripper : Gripper
        Gives the link, the joints and their positions.
    header : Header
        Frame and stamp.
    number : int
        Rank, for the id.
    approach_m : float
        Length of the free approach [m].

    """
    moveit = optional_messages('moveit_msgs')
    message = moveit.Grasp(id=f'dkt_{number:03d}_{grasp.kind}')
    message.grasp_pose = PoseStamped(header=header, pose=to_pose(
        to_ee(grasp.T_frame_grasp, gripper)))
    message.grasp_quality = float(grasp.score)
    message.pre_grasp_posture = _posture(gripper, grasp.opening)
    # Closed to less than the thing is wide, so that the controller presses.
    message.grasp_posture = _posture(gripper, 0.8 * grasp.width)
    message.pre_grasp_approach = _translation(moveit, header, grasp.approach, approach_m)
    message.post_grasp_retreat = _translation(moveit, header, -grasp.approach, LIFT_M)
    return message


def _posture(gripper: Gripper, opening: float) -> object:
    trajectory = importlib.import_module('trajectory_msgs.msg')
    position = gripper.joint_position(opening)
    point = trajectory.JointTrajectoryPoint(
        positions=[position] * len(gripper.finger_joints), time_from_start=Duration(sec=1))
    return trajectory.JointTrajectory(joint_names=list(gripper.finger_joints), points=[point])


def _translation(moveit: ModuleType, header: Header, direction: np.ndarray,
                 distance: float) -> object:
    message = moveit.GripperTranslation(desired_distance=float(distance),
                                        min_distance=float(distance) / 2)
    message.direction = Vector3Stamped(header=header)
    vector = message.direction.vector
    vector.x, vector.y, vector.z = map(float, direction)
    return message
