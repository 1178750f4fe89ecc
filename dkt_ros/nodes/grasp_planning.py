"""Between messages and planner: the newest cloud, its transforms, the plan, and what to say."""
from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dkt_ros.grasp.config import GraspNodeConfig
from dkt_ros.grasp.grasp import Grasp, load_gripper
from dkt_ros.grasp.planner import GraspPlan, GraspPlanner
from dkt_ros.nodes.failed_grasps import FailedGrasps
from dkt_ros.nodes.grasp_inputs import Cloud, GraspInputs, NoCloud
from dkt_ros.nodes.transforms import TransformError, Transforms


@dataclass(frozen=True)
class Answer:
    """
    What one request gave: grasps, or the reason why there is none.

    Attributes
    ----------
    plan : GraspPlan
        Grasps in `frame_id`, counts and reason.
    frame_id : str
        Frame of the grasps.
    stamp_ns : int
        Capture time of the cloud [ns]; 0 without one.
    age_s : float
        Its age when planning began [s].
    seconds : float
        How long all of it took [s].
    avoided : int
        How many failed grasps were kept away from.

    """

    plan: GraspPlan = field(default_factory=GraspPlan)
    frame_id: str = ''
    stamp_ns: int = 0
    age_s: float = 0.0
    seconds: float = 0.0
    avoided: int = 0

    @property
    def success(self) -> bool:
        """True if there is a grasp."""
        return bool(self.plan.grasps)

    def to_dict(self, gripper: str) -> dict[str, Any]:
        """Return plain values for JSON: best grasp, counts, times, reason."""
        plan = self.plan
        return {'success': self.success, 'reason': plan.reason, 'frame_id': self.frame_id,
                'stamp_ns': self.stamp_ns, 'age_ms': round(1e3 * self.age_s, 1),
                'gripper': gripper, 'num_grasps': len(plan.grasps),
                'best': describe(plan.grasps[0]) if plan.grasps else None,
                'avoided': self.avoided, 'counts': plan.counts,
                'stage_ms': {name: round(ms, 1) for name, ms in plan.stage_ms.items()},
                'total_ms': round(1e3 * self.seconds, 1)}


def describe(grasp: Grasp) -> dict[str, Any]:
    """Return a grasp as plain values; lengths in m, quaternion x y z w."""
    return {'position': [round(float(v), 5) for v in grasp.position],
            'quaternion_xyzw': [round(float(v), 6) for v in grasp.quaternion],
            'width': round(grasp.width, 4), 'opening': round(grasp.opening, 4),
            'score': round(grasp.score, 4), 'parts': grasp.parts, 'kind': grasp.kind}


class GraspPlanning:
    """
    Plans on what the inputs have; one plan at a time, whoever asks.

    Parameters
    ----------
    config : GraspNodeConfig
        Gripper and planner.

    """

    def __init__(self, config: GraspNodeConfig) -> None:
        # Open3D takes a second to import; the first request must not pay for it.
        import open3d  # noqa: F401
        self.gripper = load_gripper(config.gripper)
        self._lock = threading.Lock()
        self.configure(config)

    def configure(self, config: GraspNodeConfig) -> None:
        """Take new options; the next plan uses them."""
        self._config = config
        self._planner = GraspPlanner(self.gripper, config)

    def answer(self, inputs: GraspInputs, transforms: Transforms, failed: FailedGrasps,
               now_ns: int) -> Answer:
        """Plan on the newest cloud; whatever is wrong becomes the reason."""
        with self._lock:
            start = time.perf_counter()
            try:
                answer = self._answer(inputs.newest(), transforms, failed, now_ns)
            except (NoCloud, TransformError, ValueError) as error:
                answer = Answer(GraspPlan(reason=str(error)))
            except MemoryError:
                answer = Answer(GraspPlan(reason='the cloud does not fit into memory; lower '
                                                 'max_points or the resolution of the camera'))
            return replace(answer, seconds=time.perf_counter() - start)

    def _answer(self, cloud: Cloud, transforms: Transforms, failed: FailedGrasps,
                now_ns: int) -> Answer:
        config = self._config
        age_s = (now_ns - cloud.stamp_ns) * 1e-9
        if 0 < config.max_age_s < age_s:
            raise NoCloud(f'the newest cloud is {age_s:.1f} s old, max_age_s allows '
                          f'{config.max_age_s:g}: does the camera still run, do the clocks agree '
                          '(use_sim_time)?')
        T_target_cloud = transforms.lookup(config.target_frame, cloud.frame_id, cloud.stamp_ns)
        T_workspace_cloud = self._workspace(cloud, T_target_cloud, transforms)
        # The target frame stands upright (REP 103); without one, the camera is taken to.
        up = T_target_cloud[2, :3] if config.target_frame else None
        avoid = failed.poses(T_target_cloud, cloud.frame_id, now_ns)
        plan = self._planner.plan(cloud.points, cloud.confidence, up=up,
                                  T_workspace_frame=T_workspace_cloud, avoid=avoid)
        grasps = tuple(grasp.moved(T_target_cloud) for grasp in plan.grasps)
        return Answer(replace(plan, grasps=grasps), config.target_frame or cloud.frame_id,
                      cloud.stamp_ns, age_s, avoided=len(avoid))

    def _workspace(self, cloud: Cloud, T_target_cloud: np.ndarray,
                   transforms: Transforms) -> np.ndarray:
        frame = self._config.workspace.frame_id
        if frame in ('', cloud.frame_id):
            return np.eye(4)
        if frame == self._config.target_frame:
            return T_target_cloud
        if transforms.source != 'tf':
            raise TransformError(
                f'workspace.frame_id is {frame!r}; without TF it must be empty, the frame of the '
                f'cloud ({cloud.frame_id!r}) or target_frame ({self._config.target_frame!r})')
        return transforms.lookup(frame, cloud.frame_id, cloud.stamp_ns)
