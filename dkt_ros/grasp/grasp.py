r"""
`Gripper` and `Grasp`: THE grasp frame of this package, and the shape of a parallel-jaw hand.

Origin at the TCP, the midpoint between the two fingertip pads. +z is the approach: the hand moves
along +z towards the thing. +y is the closing axis: the fingers slide along +y and -y. +x completes
the right-handed frame and runs along the breadth of the fingers.

            ________________________
           |          palm          |        seen along -x (x points at you)
           |________________________|
              |  |            |  |
              |  |  fingers   |  |             TCP o----> +y  closing
              |  |            |  |                 |
              |__|     o      |__|                 |
                    TCP                            v +z  approach

               <-- opening -->

The TCP lies `tip_length` behind the ends of the fingers. A parallel jaw looks the same after half
a turn about z, so that R and R Rz(180 deg) are one grasp; `canonical` chooses one of both.
`dkt_ros.grasp.conventions` converts to and from the frames of other projects.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from dkt_ros.errors import UserError
from dkt_ros.options import Config, option, require_vector
from dkt_ros.resources import share_path

HALF_TURN = np.diag([-1.0, -1.0, 1.0])
"""Rz(180 deg): what a parallel jaw does not change under."""


@dataclass(frozen=True)
class Gripper(Config):
    """
    A parallel-jaw hand as boxes: two fingers and a palm, in the grasp frame.

    The fingers reach from `tip_length` before the TCP back to the palm, `finger_depth` long; the
    palm lies behind them. `opening` is always the distance between the pads.
    """

    name: str = option('generic', 'Name of the gripper.')
    max_width: float = option(0.085, 'Largest opening between the pads [m].', minimum=0.005,
                              maximum=0.5)
    finger_width: float = option(0.012, 'Thickness of a finger along the closing axis y [m].',
                                 minimum=0.001, maximum=0.1)
    finger_height: float = option(0.022, 'Breadth of a finger along x [m].', minimum=0.001,
                                  maximum=0.2)
    finger_depth: float = option(0.05, 'Free length of the fingers, palm to tip, along z [m].',
                                 minimum=0.005, maximum=0.3)
    tip_length: float = option(0.01, 'How far the fingers reach beyond the TCP [m].', minimum=0.0,
                               maximum=0.1)
    palm_width: float = option(0.13, 'Size of the palm along y [m].', minimum=0.01, maximum=0.5)
    palm_height: float = option(0.07, 'Size of the palm along x [m].', minimum=0.01, maximum=0.5)
    palm_depth: float = option(0.07, 'Size of the palm along z [m].', minimum=0.005, maximum=0.5)
    ee_frame: str = option('tool0', 'Link of the robot that MoveIt moves.')
    tcp_xyz: tuple[float, ...] = option((0.0, 0.0, 0.15), 'Position of the TCP in ee_frame [m].')
    tcp_rpy: tuple[float, ...] = option((0.0, 0.0, 0.0), 'Orientation of the grasp frame in '
                                        'ee_frame: roll, pitch, yaw about fixed axes [rad].')
    finger_joints: tuple[str, ...] = option((), 'Joints that open and close the hand.')
    joint_open: float = option(0.0, 'Position of these joints at max_width.')
    joint_closed: float = option(0.0, 'Position of these joints when closed.')

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ('tcp_xyz', 'tcp_rpy'):
            require_vector(f'Gripper.{name}', getattr(self, name))
        if self.tip_length >= self.finger_depth:
            raise UserError(f'Gripper.tip_length is {self.tip_length} and finger_depth '
                            f'{self.finger_depth}; the TCP must lie between palm and tips')

    @property
    def T_ee_tcp(self) -> np.ndarray:
        """Pose (4, 4) of the grasp frame in the end-effector link."""
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_euler('xyz', self.tcp_rpy).as_matrix()
        pose[:3, 3] = self.tcp_xyz
        return pose

    @property
    def palm_z(self) -> float:
        """Where the palm ends and the fingers begin, along z [m]; negative."""
        return self.tip_length - self.finger_depth

    def joint_position(self, opening: float) -> float:
        """Return the position of the finger joints for an opening [m]."""
        share = np.clip(opening / self.max_width, 0.0, 1.0)
        return float(self.joint_closed + share * (self.joint_open - self.joint_closed))

    def boxes(self, opening: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return (lower, upper) corners (3,) [m] of both fingers and the palm, in this order."""
        inner, outer = opening / 2, opening / 2 + self.finger_width
        x, z = self.finger_height / 2, (self.palm_z, self.tip_length)
        left = np.array([-x, inner, z[0]]), np.array([x, outer, z[1]])
        right = np.array([-x, -outer, z[0]]), np.array([x, -inner, z[1]])
        half = np.array([self.palm_height, self.palm_width]) / 2
        palm = np.array([*-half, z[0] - self.palm_depth]), np.array([*half, z[0]])
        return [left, right, palm]


def load_gripper(name_or_path: str | Path) -> Gripper:
    """
    Read a gripper: the name of one in config/grippers, or the path of a YAML file.

    Raises
    ------
    UserError
        If there is none, or a value in it is not allowed.

    """
    given = str(name_or_path)
    path = Path(given).expanduser()
    if path.suffix in ('.yaml', '.yml'):
        return Gripper.from_yaml(path)
    known = {item.stem: item for item in sorted(share_path('config', 'grippers').glob('*.yaml'))}
    if given not in known:
        raise UserError(f'gripper {given!r} is unknown; known: {", ".join(known)}; or give the '
                        'path of a YAML file')
    return Gripper.from_yaml(known[given])


@dataclass(frozen=True)
class Grasp:
    """
    One grasp of a parallel jaw.

    Attributes
    ----------
    T_frame_grasp : (4, 4) float64
        Pose of the grasp frame (see the module) in the frame of the cloud, or wherever it was
        moved to with `moved`.
    width : float
        Distance between the surfaces that the pads will touch [m].
    opening : float
        Opening of the jaw while it approaches [m].
    score : float
        In [0, 1]: the weighted geometric mean of the parts.
    parts : dict of str to float
        Why: each part of the score in [0, 1].
    kind : str
        How it was found: `pair`, `rim`, `surface` or `footprint`.
    target : int
        Number of the cluster it takes.

    """

    T_frame_grasp: np.ndarray
    width: float
    opening: float
    score: float
    parts: dict[str, float] = field(default_factory=dict)
    kind: str = 'pair'
    target: int = 0

    def __post_init__(self) -> None:
        if self.T_frame_grasp.shape != (4, 4):
            raise ValueError(f'T_frame_grasp is {self.T_frame_grasp.shape}; (4, 4) is expected')

    @property
    def position(self) -> np.ndarray:
        """The TCP (3,) [m]."""
        return self.T_frame_grasp[:3, 3]

    @property
    def approach(self) -> np.ndarray:
        """Unit vector (3,) along which the hand moves in."""
        return self.T_frame_grasp[:3, 2]

    @property
    def closing(self) -> np.ndarray:
        """Unit vector (3,) along which the fingers slide."""
        return self.T_frame_grasp[:3, 1]

    @property
    def quaternion(self) -> np.ndarray:
        """Orientation (4,) as x, y, z, w."""
        return Rotation.from_matrix(self.T_frame_grasp[:3, :3]).as_quat()

    def moved(self, T_new_frame: np.ndarray) -> Grasp:
        """Return the grasp in another frame, given the pose (4, 4) of the old one in it."""
        pose = T_new_frame @ self.T_frame_grasp
        pose[:3, :3] = canonical(pose[:3, :3])
        return Grasp(pose, self.width, self.opening, self.score,
                     self.parts, self.kind, self.target)

    def pregrasp(self, distance: float) -> np.ndarray:
        """Return the pose (4, 4) from which the approach starts, `distance` [m] behind."""
        pose = self.T_frame_grasp.copy()
        pose[:3, 3] -= distance * pose[:3, 2]
        return pose


def canonical(rotation: np.ndarray) -> np.ndarray:
    """
    Choose one of the two orientations of a parallel jaw that are the same grasp.

    Parameters
    ----------
    rotation : (..., 3, 3) float
        Orientation of the grasp frame.

    Returns
    -------
    (..., 3, 3) float
        The one whose closing axis has its largest component positive.

    """
    closing = rotation[..., :, 1]
    largest = np.abs(closing).argmax(axis=-1)
    sign = np.sign(np.take_along_axis(closing, largest[..., None], axis=-1))[..., None]
    return np.where(sign < 0, rotation @ HALF_TURN, rotation)


def turn_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the angle [rad] between orientations (..., 3, 3), the smaller of both jaw turns."""
    trace = np.einsum('...ij,...ij->...', a, b)
    turned = np.einsum('...ij,...ij->...', a @ HALF_TURN, b)
    return np.arccos(np.clip((np.maximum(trace, turned) - 1) / 2, -1.0, 1.0))
