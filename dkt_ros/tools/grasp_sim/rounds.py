"""A round: look, plan, try, again and again until a scene is cleared or the round is lost."""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from dkt_ros.grasp.config import GraspConfig, WorkspaceConfig
from dkt_ros.grasp.grasp import Grasp, Gripper, load_gripper
from dkt_ros.grasp.planner import GraspPlanner
from dkt_ros.grasp_sim_config import GraspSimConfig
from dkt_ros.tools.grasp_sim.protocol import Attempt, attempt, meant
from dkt_ros.tools.grasp_sim.scenes import REACH_M, SimScene, within_reach
from dkt_ros.tools.grasp_sim.sources import Observation, Observer
from dkt_ros.tools.grasp_sim.world import World

SETTLE_S = 3.0
WORKSPACE = WorkspaceConfig(lower=(-REACH_M, -REACH_M, -0.05), upper=(REACH_M, REACH_M, 0.4))
"""Where things are looked for, in the frame of the world: as a cell would be told."""


def play_round(scene: SimScene, source: str, observer: Observer, config: GraspSimConfig,
               watch: Callable[[World], None] | None = None) -> dict:
    """
    Play a round on one source of depth; return its record, of plain values.

    It ends when nothing is left, when the planner finds no grasp, or after
    `config.protocol.max_failures` failures in a row; with a single thing, after one attempt.

    Parameters
    ----------
    watch : callable, optional
        Called with the world after each step of an attempt.

    """
    gripper = load_gripper(config.gripper)
    planner = GraspPlanner(gripper, GraspConfig(workspace=WORKSPACE))
    world = World(scene.solids, scene.poses, config.physics, gripper)
    poses: list[np.ndarray | None] = list(scene.poses)
    tries, failed = [], []
    most = 1 if scene.kind == 'single' else config.protocol.max_failures
    while len(failed) < most and any(pose is not None for pose in poses):
        seen = observer.observe(scene, poses, len(tries), source)
        grasp, record = _plan(planner, seen, failed)
        tries.append(record)
        if grasp is None:
            break
        world.watch = watch
        result = _try(world, grasp, scene, poses, gripper, config)
        world.watch = None
        record |= _told(result, scene)
        failed = [] if result.success else [*failed, grasp]
        if result.success:
            poses[result.target] = None
        if any(pose is not None for pose in poses):
            poses = _left_over(world, poses)
    done = sum(record['success'] for record in tries)
    return {'kind': scene.kind, 'label': scene.label, 'seed': scene.seed, 'source': source,
            'things': [{'family': solid.family, 'material': solid.material,
                        'mass_kg': solid.mass.mass} for solid in scene.solids],
            'attempts': tries, 'cleared': done, 'num_things': len(scene.solids)}


def _plan(planner: GraspPlanner, seen: Observation,
          failed: Sequence[Grasp]) -> tuple[Grasp | None, dict]:
    """Return the best grasp in the frame of the world, and the beginning of a record."""
    T_camera_world = np.linalg.inv(seen.T_world_camera)
    start = time.perf_counter()
    plan = planner.plan(seen.points, seen.confidence, up=seen.up,
                        T_workspace_frame=seen.T_world_camera,
                        avoid=[T_camera_world @ grasp.T_frame_grasp for grasp in failed])
    passed_ms = 1e3 * (time.perf_counter() - start)
    record = {'success': False, 'cause': 'no grasp', 'plan_ms': passed_ms,
              'num_grasps': len(plan.grasps)}
    if not plan.grasps:
        return None, {**record, 'reason': plan.reason, 'counts': plan.counts}
    grasp = plan.grasps[0].moved(seen.T_world_camera)
    return grasp, {**record, 'score': grasp.score, 'width_m': grasp.width,
                   'opening_m': grasp.opening, 'grasp_kind': grasp.kind,
                   'T_world_grasp': grasp.T_frame_grasp.tolist()}


def _try(world: World, grasp: Grasp, scene: SimScene, poses: list, gripper: Gripper,
         config: GraspSimConfig) -> Attempt:
    there = [number for number, pose in enumerate(poses) if pose is not None]
    target = there[meant(grasp, [scene.solids[number] for number in there],
                         [poses[number] for number in there], gripper)]
    world.reset(poses)
    return attempt(world, grasp, target, config.protocol)


def _told(result: Attempt, scene: SimScene) -> dict:
    return {'success': result.success, 'cause': result.cause, 'target': result.target,
            'family': scene.solids[result.target].family, 'rise_m': result.rise_m,
            'slip_m': result.slip_m, 'touched': result.touched}


def _left_over(world: World, poses: list[np.ndarray | None]) -> list[np.ndarray | None]:
    """Let go, wait for rest, and return where things are; what rolled away is out of the scene."""
    world.reset([None if pose is None else world.pose(number)
                 for number, pose in enumerate(poses)])
    world.settle(SETTLE_S)
    return [None if pose is None or not within_reach(world.centre(number))
            else world.pose(number) for number, pose in enumerate(poses)]
