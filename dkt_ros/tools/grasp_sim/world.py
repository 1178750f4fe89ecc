"""
The simulated world: a table, things as convex pieces, and a floating parallel-jaw hand. MuJoCo.

The hand has the boxes of its `Gripper`, in the grasp frame: what the planner checks for collision
is what collides here. It follows a mocap body through a weld, its fingers slide on coupled joints,
and one actuator closes both with a limited force.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dkt_ros.errors import UserError
from dkt_ros.grasp.grasp import Gripper
from dkt_ros.grasp_sim_config import PhysicsConfig
from dkt_ros.tools.grasp_sim.solids import Solid

FINGER_GAIN, FINGER_DAMPING, FINGER_MASS_KG = 3000.0, 60.0, 0.1
"""Position gain [N/m], damping [N s/m] and mass of the fingers."""
THIN_M = 2e-4
"""A piece thinner than this has no hull."""
TORSION_M, ROLLING_M = 5e-4, 3e-4
"""Friction of things against turning and rolling, as lengths [m]: 1 % of a radius, as on wood."""
AWAY_M = 3.0
"""What is taken out of a scene stands this far from its middle, and farther."""
PAD_CONTACT = 'solref="0.004 1" solimp="0.95 0.99 0.001"'


@dataclass(frozen=True)
class Wall:
    """A fixed box, upright: its middle and its half sides (3,) [m]."""

    centre: tuple[float, float, float]
    half: tuple[float, float, float]


def import_mujoco():
    """Return the module; UserError where it is not installed."""
    try:
        import mujoco
    except ImportError as error:
        raise UserError('the grasp benchmark needs MuJoCo, which is not installed; install it '
                        "with pip install 'dkt_ros[sim]'") from error
    return mujoco


class World:
    """
    Things on a table, with or without a hand above them.

    Parameters
    ----------
    solids : sequence of Solid
        The things.
    poses : sequence of (4, 4) float
        T_world_thing; the table's top is z = 0.
    physics : PhysicsConfig
        Solver, friction, forces.
    gripper : Gripper, optional
        The hand; none if not given.
    walls : sequence of Wall
        What keeps things together while they fall.

    """

    def __init__(self, solids: Sequence[Solid], poses: Sequence[np.ndarray],
                 physics: PhysicsConfig, gripper: Gripper | None = None,
                 walls: Sequence[Wall] = ()) -> None:
        self._mujoco = import_mujoco()
        self.solids, self.physics, self.gripper = tuple(solids), physics, gripper
        self.model = self._mujoco.MjModel.from_xml_string(
            _mjcf(self.solids, poses, physics, gripper, walls))
        self.data = self._mujoco.MjData(self.model)
        self.watch: Callable[[World], None] | None = None
        self._bodies = [self.model.body(f'thing_{i}').id for i in range(len(self.solids))]
        self._owner = self._owners()
        self._mujoco.mj_forward(self.model, self.data)

    def reset(self, poses: Sequence[np.ndarray | None]) -> None:
        """Put all things somewhere at rest, the hand aside; None takes a thing away."""
        self._mujoco.mj_resetData(self.model, self.data)
        for thing, pose in enumerate(poses):
            start = self.model.body(self._bodies[thing]).jntadr[0]
            at = self.model.jnt_qposadr[start]
            if pose is None:
                self.data.qpos[at:at + 3] = AWAY_M + thing, AWAY_M, 0.0
                continue
            self.data.qpos[at:at + 3] = pose[:3, 3]
            self.data.qpos[at + 3:at + 7] = _wxyz(pose)
        self._mujoco.mj_forward(self.model, self.data)

    def _owners(self) -> np.ndarray:
        """Return who each geom belongs to: a thing's number, -1 table, -2 palm, -3 -4 fingers."""
        names = {f'thing_{i}': i for i in range(len(self.solids))}
        names |= {'hand': -2, 'left': -3, 'right': -4}
        bodies = [self.model.body(int(body)).name for body in self.model.geom_bodyid]
        return np.array([names.get(name, -1) for name in bodies])

    def pose(self, thing: int) -> np.ndarray:
        """Return T_world_thing (4, 4)."""
        body, pose = self._bodies[thing], np.eye(4)
        pose[:3, :3] = self.data.xmat[body].reshape(3, 3)
        pose[:3, 3] = self.data.xpos[body]
        return pose

    @property
    def poses(self) -> list[np.ndarray]:
        """Return T_world_thing (4, 4) of all things."""
        return [self.pose(thing) for thing in range(len(self.solids))]

    def centre(self, thing: int) -> np.ndarray:
        """Return the centre of mass (3,) of a thing [m]."""
        return self.data.xipos[self._bodies[thing]].copy()

    def speed(self) -> float:
        """Return the largest speed among the things: metres, or 10 cm per radian, a second."""
        fastest = 0.0
        for thing in range(len(self.solids)):
            if np.hypot(*self.centre(thing)[:2]) > AWAY_M / 2:
                continue
            joint = self.model.body(self._bodies[thing]).dofadr[0]
            velocity = self.data.qvel[joint:joint + 6]
            fastest = max(fastest, np.linalg.norm(velocity[:3]),
                          0.1 * np.linalg.norm(velocity[3:]))
        return float(fastest)

    def place_hand(self, T_world_grasp: np.ndarray, opening: float) -> None:
        """Put the hand somewhere at rest, without a way there, the jaw open by `opening` [m]."""
        self._aim(T_world_grasp)
        start = self.model.jnt_qposadr[self.model.joint('hand').id]
        self.data.qpos[start:start + 3] = T_world_grasp[:3, 3]
        self.data.qpos[start + 3:start + 7] = _wxyz(T_world_grasp)
        self.data.joint('left').qpos = self.data.joint('right').qpos = opening / 2
        self.command(opening)
        self._mujoco.mj_forward(self.model, self.data)

    def command(self, opening: float) -> None:
        """Ask for an opening [m]; below what is reached, the fingers press."""
        self.data.ctrl[0] = opening

    @property
    def opening(self) -> float:
        """Distance between the pads [m]."""
        return float(self.data.joint('left').qpos[0] + self.data.joint('right').qpos[0])

    def move(self, T_world_grasp: np.ndarray) -> None:
        """Let the hand be drawn to a pose from the next step on."""
        self._aim(T_world_grasp)

    def step(self, count: int = 1) -> None:
        """Advance by so many steps."""
        for _ in range(count):
            self._mujoco.mj_step(self.model, self.data)
            if self.watch is not None:
                self.watch(self)

    def settle(self, max_s: float, still: float = 0.004, for_s: float = 0.1) -> bool:
        """Step until all things are still for a while; return False if they never are."""
        quiet, chunk = 0.0, 0.02
        for _ in range(round(max_s / chunk)):
            self.step(round(chunk / self.physics.timestep_s))
            quiet = quiet + chunk if self.speed() < still else 0.0
            if quiet >= for_s:
                return True
        return False

    def touching(self, thing: int) -> set[str]:
        """Return which of `left`, `right`, `palm`, `table`, `thing` a thing is in contact with."""
        names = {-1: 'table', -2: 'palm', -3: 'left', -4: 'right'}
        return {names.get(other, 'thing') for owner, other, _ in self._contacts()
                if owner == thing}

    def in_jaw(self) -> set[int]:
        """Return the things that both fingers are in contact with."""
        sides = {-3: set(), -4: set()}
        for owner, other, _ in self._contacts():
            if other in sides and owner >= 0:
                sides[other].add(owner)
        return sides[-3] & sides[-4]

    def hand_force(self) -> float:
        """Return the sum of the normal forces on the hand [N]."""
        force, total = np.zeros(6), 0.0
        for owner, _, index in self._contacts():
            if owner <= -2:
                self._mujoco.mj_contactForce(self.model, self.data, index, force)
                total += abs(force[0])
        return total

    def hand_collides(self) -> bool:
        """Return True if the hand penetrates anything where it is."""
        return any(owner <= -2 and self.data.contact.dist[index] < 0
                   for owner, _, index in self._contacts())

    def _contacts(self):
        """Yield (owner, other, number) of each contact, once from each side."""
        pairs = self._owner[self.data.contact.geom[:self.data.ncon]]
        for index, (one, two) in enumerate(pairs.tolist()):
            yield one, two, index
            yield two, one, index

    def _aim(self, pose: np.ndarray) -> None:
        self.data.mocap_pos[0], self.data.mocap_quat[0] = pose[:3, 3], _wxyz(pose)


def _wxyz(pose: np.ndarray) -> np.ndarray:
    # SciPy's conversion takes longer than a step of the solver.
    quaternion = np.empty(4)
    import_mujoco().mju_mat2Quat(quaternion, np.ascontiguousarray(pose[:3, :3]).ravel())
    return quaternion


def _text(values: np.ndarray | Sequence[float]) -> str:
    return ' '.join(f'{value:.9g}' for value in np.ravel(values))


def _mjcf(solids: Sequence[Solid], poses: Sequence[np.ndarray], physics: PhysicsConfig,
          gripper: Gripper | None, walls: Sequence[Wall]) -> str:
    hulls = [[piece for piece in solid.pieces if _has_volume(piece)] for solid in solids]
    meshes = ''.join(
        f'<mesh name="piece_{i}_{k}" inertia="convex" vertex="{_text(piece)}"/>'
        for i, pieces in enumerate(hulls) for k, piece in enumerate(pieces))
    things = ''.join(_thing(i, solid, pose, len(hulls[i]))
                     for i, (solid, pose) in enumerate(zip(solids, poses)))
    boxes = ''.join(f'<geom type="box" pos="{_text(wall.centre)}" size="{_text(wall.half)}" '
                    'class="fixed"/>' for wall in walls)
    sliding = f'{physics.friction} {TORSION_M} {ROLLING_M}'
    body, rest = ('', '') if gripper is None else _hand(gripper, physics)
    return f"""<mujoco>
<compiler angle="radian" inertiafromgeom="auto" balanceinertia="true"/>
<option timestep="{physics.timestep_s}" cone="elliptic" integrator="implicitfast"
 impratio="{physics.impratio}" noslip_iterations="{physics.noslip_iterations}"/>
<size memory="256M"/>
<default>
<default class="fixed"><geom contype="1" conaffinity="3" condim="6"
 friction="{sliding}"/></default>
<default class="thing"><geom type="mesh" contype="1" conaffinity="3" condim="6"
 friction="{sliding}" mass="0"/></default>
</default>
<asset>{meshes}</asset>
<worldbody><geom type="plane" size="2 2 0.1" class="fixed"/>{boxes}{things}{body}</worldbody>
{rest}
</mujoco>"""


def _has_volume(piece: np.ndarray) -> bool:
    """Return False for flat pieces, whose hull the solver cannot build."""
    if len(piece) < 4:
        return False
    spread = np.linalg.svd(piece - piece.mean(axis=0), compute_uv=False)[-1]
    return bool(spread / np.sqrt(len(piece)) > THIN_M / 2)


def _thing(index: int, solid: Solid, pose: np.ndarray, num_pieces: int) -> str:
    mass, j = solid.mass, solid.mass.inertia
    inertia = _text([j[0, 0], j[1, 1], j[2, 2], j[0, 1], j[0, 2], j[1, 2]])
    geoms = ''.join(f'<geom class="thing" mesh="piece_{index}_{k}"/>' for k in range(num_pieces))
    return (f'<body name="thing_{index}" pos="{_text(pose[:3, 3])}" quat="{_text(_wxyz(pose))}">'
            f'<freejoint/><inertial pos="{_text(mass.centre)}" mass="{mass.mass:.9g}" '
            f'fullinertia="{inertia}"/>{geoms}</body>')


def _hand(gripper: Gripper, physics: PhysicsConfig) -> tuple[str, str]:
    """Return the bodies of a hand far above the table, and what couples and moves it."""
    mu = physics.pad_friction
    if mu > 0:
        pad = f'condim="4" friction="{mu} {2 / 3 * mu * physics.pad_patch_m} {ROLLING_M}"'
    else:
        pad = 'condim="1"'
    left, right, palm = (((low + high) / 2, (high - low) / 2)
                         for low, high in gripper.boxes(0.0))
    fingers = ''.join(
        f'<body name="{name}" gravcomp="1"><joint name="{name}" type="slide" axis="0 {sign} 0" '
        f'limited="true" range="0 {gripper.max_width / 2:.9g}" damping="1"/>'
        f'<geom type="box" pos="{_text(centre)}" size="{_text(half)}" mass="{FINGER_MASS_KG}" '
        f'contype="2" conaffinity="1" priority="1" {pad} {PAD_CONTACT}/></body>'
        for name, sign, (centre, half) in (('left', 1, left), ('right', -1, right)))
    hand_mass = max(physics.hand_mass_kg - 2 * FINGER_MASS_KG, 0.01)
    body = (f'<body name="target" mocap="true" pos="0 0 1"/>'
            f'<body name="hand" pos="0 0 1" gravcomp="1"><freejoint name="hand"/>'
            f'<geom type="box" pos="{_text(palm[0])}" size="{_text(palm[1])}" '
            f'mass="{hand_mass}" contype="2" conaffinity="1" condim="3"/>{fingers}</body>')
    gain, force = FINGER_GAIN, physics.grip_force_n
    rest = (f'<equality><weld body1="target" body2="hand" solref="0.004 1" '
            f'solimp="0.99 0.999 0.001"/><joint joint1="left" joint2="right" solref="0.004 1"/>'
            f'</equality><tendon><fixed name="jaw"><joint joint="left" coef="1"/>'
            f'<joint joint="right" coef="1"/></fixed></tendon>'
            f'<actuator><position name="jaw" tendon="jaw" kp="{gain}" kv="{FINGER_DAMPING}" '
            f'forcerange="{-force} {force}" ctrllimited="false"/></actuator>')
    return body, rest
