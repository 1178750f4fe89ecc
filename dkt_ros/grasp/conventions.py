"""
The grasp frame of this package in the conventions of others, and back. Values only.

| convention        | approach | closing | origin                                     |
|-------------------|----------|---------|--------------------------------------------|
| here (and VGN)    | +z       | y       | TCP                                        |
| GPD               | +x       | y       | centre of the hand's base, where fingers begin |
| GraspNet, AnyGrasp| +x       | y       | `depth` behind the fingertips              |
| GraspGen, Contact-GraspNet | +z | x      | base link, a fixed distance behind the TCP |
| MoveIt            | as the link is  |  | end-effector link (`Gripper.ee_frame`)     |
"""
from __future__ import annotations

import numpy as np

from dkt_ros.grasp.grasp import Grasp, Gripper

X_APPROACH = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
"""Columns: the axes of GPD and GraspNet in our frame (x = our z, y = our y, z = -our x)."""
X_CLOSING = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
"""Columns: the axes of GraspGen in our frame (x = our y, y = -our x, z = our z)."""
GRASPGEN_PANDA_BASE_TO_TCP = 0.1053
GRASPNET_DEPTH = 0.02
GRASPNET_COLUMNS = 17


def _offset(rotation: np.ndarray, z: float) -> np.ndarray:
    """Return the pose (4, 4) of a frame that is turned and shifted along our z [m]."""
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[2, 3] = z
    return pose


def to_gpd(T_frame_grasp: np.ndarray, gripper: Gripper) -> np.ndarray:
    """Return the pose (4, 4) of GPD's hand: x approach, y closing, origin at the base."""
    return T_frame_grasp @ _offset(X_APPROACH, gripper.palm_z)


def from_gpd(T_frame_hand: np.ndarray, gripper: Gripper) -> np.ndarray:
    """Return our pose (4, 4) of a hand of GPD."""
    return T_frame_hand @ np.linalg.inv(_offset(X_APPROACH, gripper.palm_z))


def to_graspgen(T_frame_grasp: np.ndarray,
                base_to_tcp: float = GRASPGEN_PANDA_BASE_TO_TCP) -> np.ndarray:
    """Return the pose (4, 4) of GraspGen's base link; `base_to_tcp` along its z [m]."""
    return T_frame_grasp @ _offset(X_CLOSING, -base_to_tcp)


def from_graspgen(T_frame_base: np.ndarray,
                  base_to_tcp: float = GRASPGEN_PANDA_BASE_TO_TCP) -> np.ndarray:
    """Return our pose (4, 4) of a base link of GraspGen or Contact-GraspNet."""
    return T_frame_base @ np.linalg.inv(_offset(X_CLOSING, -base_to_tcp))


def to_graspnet(grasp: Grasp, gripper: Gripper, depth: float = GRASPNET_DEPTH) -> np.ndarray:
    """
    Write a row of graspnetAPI's `GraspGroup`.

    Parameters
    ----------
    grasp : Grasp
        In the camera's optical frame, which GraspNet works in.
    gripper : Gripper
        Gives the height and where the tips are.
    depth : float
        How far the tips lie before the row's centre [m]; GraspNet knows 0.01 to 0.04.

    Returns
    -------
    (17,) float64
        score, width, height, depth, rotation (9, row by row), translation (3), object id (-1).

    """
    pose = grasp.T_frame_grasp @ _offset(X_APPROACH, gripper.tip_length - depth)
    return np.concatenate([[grasp.score, grasp.width, gripper.finger_height, depth],
                           pose[:3, :3].ravel(), pose[:3, 3], [-1.0]])


def from_graspnet(row: np.ndarray, gripper: Gripper) -> Grasp:
    """Read a row (17,) of graspnetAPI; its width is an opening, so it bounds the object's."""
    row = np.asarray(row, np.float64)
    if row.shape != (GRASPNET_COLUMNS,):
        raise ValueError(f'a row of graspnetAPI has {GRASPNET_COLUMNS} numbers; this is '
                         f'{row.shape}')
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = row[4:13].reshape(3, 3), row[13:16]
    pose = pose @ np.linalg.inv(_offset(X_APPROACH, gripper.tip_length - row[3]))
    return Grasp(pose, float(row[1]), float(row[1]), float(row[0]))


def to_ee(T_frame_grasp: np.ndarray, gripper: Gripper) -> np.ndarray:
    """Return the pose (4, 4) of the end-effector link, which MoveIt plans for."""
    return T_frame_grasp @ np.linalg.inv(gripper.T_ee_tcp)


def from_ee(T_frame_ee: np.ndarray, gripper: Gripper) -> np.ndarray:
    """Return our pose (4, 4) of an end-effector link."""
    return T_frame_ee @ gripper.T_ee_tcp
