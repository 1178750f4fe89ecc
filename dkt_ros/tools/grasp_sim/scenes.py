"""
Scenes to grasp from: a single thing, a packed group, a pile; at rest on a table.

What a scene is depends on its kind, its class of material, its seed and the options alone.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dkt_ros.errors import RunError
from dkt_ros.grasp.grasp import load_gripper
from dkt_ros.grasp_sim_config import GraspSimConfig
from dkt_ros.tools.grasp_sim.solids import Solid, draw_solid
from dkt_ros.tools.grasp_sim.world import Wall, World
from dkt_ros.tools.render.worker.arrange import start_poses

PACKED_HALF_M, SINGLE_HALF_M, PILE_HALF_M = 0.11, 0.03, 0.04
BIN_HALF_M, BIN_HEIGHT_M = 0.14, 0.8
"""The open box that a pile falls into, and that is taken away afterwards."""
REACH_M = 0.18
"""Half of the square in which things are looked for: what lies beyond has left the scene."""
MAX_DRAWS = 20
SETTLE_S = {'single': 2.0, 'packed': 2.0, 'pile': 5.0}


@dataclass(frozen=True)
class SimScene:
    """
    Things at rest.

    Attributes
    ----------
    kind, label : str
        Kind of scene and class of material.
    seed : int
    solids : tuple of Solid
    poses : tuple of (4, 4) float
        T_world_thing; the table's top is z = 0.

    """

    kind: str
    label: str
    seed: int
    solids: tuple[Solid, ...]
    poses: tuple[np.ndarray, ...]

    @property
    def name(self) -> str:
        """Name of the scene in files."""
        return f'{self.kind}_{self.label}_{self.seed:08d}'


def draw_scene(kind: str, label: str, seed: int, config: GraspSimConfig) -> SimScene:
    """Draw things and let them come to rest; what does not rest well is drawn again."""
    width = load_gripper(config.gripper).max_width
    for draw in range(MAX_DRAWS):
        rng = np.random.default_rng((seed, draw, *kind.encode(), *label.encode()))
        count = 1 if kind == 'single' else config.num_clutter
        solids = [draw_solid(label, rng, config.physics, width, config.things)
                  for _ in range(count)]
        starts = _starts(kind, solids, config.lying, rng)
        if any(start is None for start in starts):
            continue
        poses = _rest(kind, solids, starts, config)
        if poses is not None:
            return SimScene(kind, label, seed, tuple(solids), tuple(poses))
    raise RunError(f'scene {kind} {label} {seed} did not come to rest in {MAX_DRAWS} draws')


def _starts(kind: str, solids: list[Solid], lying: float, rng: np.random.Generator) -> list:
    if kind == 'pile':
        sizes = [(solid.radius, solid.height) for solid in solids]
        return start_poses('fall', sizes, (PILE_HALF_M, PILE_HALF_M), 0.0, rng)
    laid = [_laid(solid) if not solid.can_stand or (solid.can_lie and rng.random() < lying)
            else np.eye(4) for solid in solids]
    sizes = [(max(solid.radius, solid.height / 2), 0.0) if turn[2, 2] < 0.5
             else (solid.radius, solid.height) for solid, turn in zip(solids, laid)]
    half = SINGLE_HALF_M if kind == 'single' else PACKED_HALF_M
    # Standing apart by a finger's room at least, as in VGN; nearest to the middle if alone.
    arrangement = 'packed' if kind == 'single' else 'upright'
    poses = start_poses(arrangement, sizes, (half, half), 0.0, rng)
    return [None if pose is None else pose @ turn for pose, turn in zip(poses, laid)]


def _laid(solid: Solid) -> np.ndarray:
    """Return the pose (4, 4) of a thing on its side, its middle at the origin."""
    pose = np.eye(4)
    pose[:3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    pose[:3, 3] = -solid.height / 2, 0.0, solid.radius
    return pose


def _rest(kind: str, solids: list[Solid], starts: list[np.ndarray],
          config: GraspSimConfig) -> list[np.ndarray] | None:
    """Return where things end up; None if they go on moving or leave."""
    poses = starts
    for walls in (_bin(), ()) if kind == 'pile' else ((),):
        world = World(solids, poses, config.physics, walls=walls)
        rested, poses = world.settle(SETTLE_S[kind]), world.poses
    fell = kind != 'pile' and any(
        np.arccos(np.clip(start[2, :3] @ pose[2, :3], -1, 1)) > 0.2
        for start, pose in zip(starts, poses))
    inside = all(within_reach(world.centre(thing)) for thing in range(len(solids)))
    return poses if rested and inside and not fell else None


def within_reach(centre: np.ndarray) -> bool:
    """Return True if the middle of a thing (3,) is where things are looked for."""
    return bool(np.abs(centre[:2]).max() < REACH_M)


def _bin() -> list[Wall]:
    far, half = BIN_HALF_M + 0.02, BIN_HEIGHT_M / 2
    return [Wall((x * far, y * far, half),
                 (0.02 if x else far, 0.02 if y else far, half))
            for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1))]
