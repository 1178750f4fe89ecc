"""
One attempt: approach, close, lift, hold; and why it failed, where it did.

The motion is that of VGN, GIGA and GraspNeRF: a contact on the way in stops the hand, and it
closes where it is. Success is stricter: the thing that was meant must rise by 10 cm and still be
held a second later.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from dkt_ros.grasp.cloud import transform
from dkt_ros.grasp.grasp import Grasp, Gripper
from dkt_ros.grasp_sim_config import ProtocolConfig
from dkt_ros.tools.grasp_sim.solids import Solid
from dkt_ros.tools.grasp_sim.world import FINGER_GAIN, World

CAUSES = ('no grasp', 'collision', 'missed', 'wrong thing', 'slipped')
"""Why attempts fail, in the order in which they can."""
SURFACE_POINTS = 2000


@dataclass(frozen=True)
class Attempt:
    """
    How an attempt went.

    Attributes
    ----------
    success : bool
    cause : str
        One of `CAUSES`; empty after a success.
    target : int
        Number of the thing that was meant.
    rise_m : float
        How far its centre of mass rose [m].
    slip_m : float
        How far it moved in the hand from the closed jaw to the end [m]; NaN if it was not held.
    touched : bool
        True if something stopped the hand on its way in.

    """

    success: bool
    cause: str
    target: int
    rise_m: float = 0.0
    slip_m: float = float('nan')
    touched: bool = False


def attempt(world: World, grasp: Grasp, target: int, config: ProtocolConfig) -> Attempt:
    """
    Try a grasp, in the frame of the world, and judge it by what happens to the thing meant.

    Parameters
    ----------
    world : World
        At rest, with a hand; it is changed.
    grasp : Grasp
        In the world's frame.
    target : int
        Number of the thing meant; see `meant`.
    config : ProtocolConfig
        Ways, speeds, forces.

    """
    start = world.centre(target)[2]
    world.place_hand(grasp.pregrasp(config.approach_m), grasp.opening)
    if world.hand_collides():
        return Attempt(False, 'collision', target)
    pose, touched = _approach(world, grasp, config)
    _close(world, grasp.opening, config)
    held = world.in_jaw()
    if target not in held:
        cause = 'collision' if touched else 'wrong thing' if held else 'missed'
        return Attempt(False, cause, target, touched=touched)
    before = _in_hand(world, target)
    _carry(world, pose, config)
    rise = world.centre(target)[2] - start
    slip = float(np.linalg.norm(_in_hand(world, target) - before))
    up = rise >= config.required_m and target in world.in_jaw()
    world.step(round(config.hold_s / world.physics.timestep_s))
    rise = min(rise, world.centre(target)[2] - start)
    held = up and rise >= config.required_m and target in world.in_jaw() \
        and 'table' not in world.touching(target)
    slip = max(slip, float(np.linalg.norm(_in_hand(world, target) - before)))
    cause = '' if held else 'collision' if touched else 'slipped'
    return Attempt(held, cause, target, float(rise), slip, touched)


def _approach(world: World, grasp: Grasp,
              config: ProtocolConfig) -> tuple[np.ndarray, bool]:
    """Move in until something pushes back; return where the hand stays, and if it was stopped."""
    steps = max(1, round(config.approach_m / config.approach_m_s / world.physics.timestep_s))
    for k in range(1, steps + 1):
        pose = grasp.pregrasp(config.approach_m * (1 - k / steps))
        world.move(pose)
        world.step()
        if world.hand_force() > config.collision_n:
            return pose, True
    return pose, False


def _close(world: World, opening: float, config: ProtocolConfig) -> None:
    """Shrink the opening asked for until the fingers press with all they may, and wait."""
    step = world.physics.timestep_s
    last = -world.physics.grip_force_n / FINGER_GAIN
    for wanted in np.arange(opening, last, -config.close_m_s * step):
        world.command(wanted)
        world.step()
    world.command(last)
    world.step(round(config.squeeze_s / step))


def _carry(world: World, pose: np.ndarray, config: ProtocolConfig) -> None:
    """Lift straight up from where the hand is."""
    steps = max(1, round(config.lift_m / config.lift_m_s / world.physics.timestep_s))
    lifted = pose.copy()
    for k in range(1, steps + 1):
        lifted[2, 3] = pose[2, 3] + config.lift_m * k / steps
        world.move(lifted)
        world.step()


def _in_hand(world: World, thing: int) -> np.ndarray:
    """Return the centre of a thing (3,) in the frame of the hand [m]."""
    hand = world.data.body('hand')
    return hand.xmat.reshape(3, 3).T @ (world.centre(thing) - hand.xpos)


def meant(grasp: Grasp, solids: Sequence[Solid], poses: Sequence[np.ndarray],
          gripper: Gripper) -> int:
    """
    Return the thing that a grasp means: the one most of whose surface lies between the fingers.

    Where nothing lies between them, the one nearest to the TCP.
    """
    inverse = np.linalg.inv(grasp.T_frame_grasp)
    half = np.array([gripper.finger_height / 2, grasp.opening / 2])
    inside, nearest = [], []
    for number, (solid, pose) in enumerate(zip(solids, poses)):
        points = transform(inverse @ pose, surface_points(solid, number))
        between = (np.abs(points[:, :2]) < half).all(axis=1) \
            & (points[:, 2] > gripper.palm_z) & (points[:, 2] < gripper.tip_length)
        inside.append(int(between.sum()))
        nearest.append(float(cKDTree(points).query(np.zeros(3))[0]))
    return int(np.argmax(inside)) if max(inside) else int(np.argmin(nearest))


def surface_points(solid: Solid, seed: int = 0, count: int = SURFACE_POINTS) -> np.ndarray:
    """Draw points (count, 3) evenly over the surface of a thing, in its frame [m]."""
    rng = np.random.default_rng(seed)
    corners = solid.vertices[solid.triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0],
                                   corners[:, 2] - corners[:, 0]), axis=1)
    chosen = corners[rng.choice(len(corners), count, p=area / area.sum())]
    u, v = np.sqrt(rng.random((count, 1))), rng.random((count, 1))
    return (1 - u) * chosen[:, 0] + u * (1 - v) * chosen[:, 1] + u * v * chosen[:, 2]
