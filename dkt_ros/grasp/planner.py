"""
`GraspPlanner`: a cloud in, grasps out, and for every stage how many were left.

The stages are those of `GraspPlanner.plan`, which reads as the method.
"""
from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import cKDTree

from dkt_ros.grasp import candidates, collision, scoring
from dkt_ros.grasp.candidates import KINDS, Hypotheses, Target
from dkt_ros.grasp.cloud import (
    OBSTACLE,
    NoGrasp,
    Things,
    crop,
    find_dents,
    find_support,
    find_things,
    image_border,
    support_noise,
    table_pose,
    transform,
    voxels,
)
from dkt_ros.grasp.collision import Contacts, Obstacles
from dkt_ros.grasp.completion import complete
from dkt_ros.grasp.config import GraspConfig
from dkt_ros.grasp.grasp import Grasp, Gripper, turn_between
from dkt_ros.grasp.visibility import FREE, Visibility

STAGES = ('input', 'finite', 'workspace', 'above_plane', 'voxels', 'objects', 'hypotheses',
          'reachable', 'in_width', 'collision_free', 'antipodal', 'good_score', 'grasps')
AROUND_M, BEYOND_M = 0.12, 0.05
"""What lies so near around the workspace is looked at too: things may stand out, walls block; and
how far out a grasp may lie."""
VIEW_POINTS = 60000
AVOID_STEPS = 2.0
"""How far around a grasp that failed others come last, in distances of suppression."""
CROWD_M = 0.03
"""Other things nearer than this to the box around one may stand in what it hides."""
OWN_POINTS, OTHER_VOXEL_M = 1200, 0.008
"""How finely collisions are checked: points of the thing itself, spacing of all others."""
CURES = {
    'input': 'the cloud is empty',
    'finite': 'every point is NaN or infinite: is the anchor of depth_node locked?',
    'workspace': 'no point lies in the workspace: check workspace.lower, upper and frame_id',
    'above_plane': 'nothing stands above the support plane: lower cluster.min_height_m, or look '
                   'at something',
    'voxels': 'no point is left after thinning',
    'objects': 'no cluster is a thing: too small (cluster.min_points), too large '
               '(cluster.max_size_m) or cut by the workspace or the edge of the image',
    'hypotheses': 'no hand pose could be made: raise candidates.max_hypotheses or max_tilt_deg',
    'reachable': 'the hand finds no way in: palm, fingers or approach meet something, or the '
                 'support, everywhere',
    'in_width': 'everything within reach is wider than the jaw opens',
    'collision_free': 'the hand collides once it is centred on the thing',
    'antipodal': 'no two surfaces face each other within the friction cone',
    'good_score': 'all grasps are worse than min_score, or beyond the workspace',
    'grasps': 'all grasps are like those that failed: move what is left, or forget the failures',
}


@dataclass(frozen=True)
class GraspPlan:
    """
    What planning gave.

    Attributes
    ----------
    grasps : tuple of Grasp
        Best first, in the frame of the cloud.
    counts : dict of str to int
        How many were left after each stage of STAGES, as far as planning came.
    reason : str
        Why there is no grasp; empty if there is one.
    stage_ms : dict of str to float
        Where the time went [ms].
    plane : ((3,) float64, float) or None
        Support: unit normal n, upwards, and d [m] with n . p = d, in the frame of the cloud.

    """

    grasps: tuple[Grasp, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    reason: str = ''
    stage_ms: dict[str, float] = field(default_factory=dict)
    plane: tuple[np.ndarray, float] | None = None


@dataclass
class _Run:
    """The bookkeeping of one call."""

    rng: np.random.Generator
    counts: dict[str, int] = field(default_factory=dict)
    stage_ms: dict[str, float] = field(default_factory=dict)
    plane: tuple[np.ndarray, float] | None = None
    border: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    T_workspace_table: np.ndarray = field(default_factory=lambda: np.eye(4))

    def left(self, stage: str, number: int) -> None:
        """Note how many are left; raise NoGrasp if none."""
        self.counts[stage] = int(number)
        if not number:
            raise NoGrasp(CURES[stage])

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of a block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            passed = 1e3 * (time.perf_counter() - start)
            self.stage_ms[stage] = self.stage_ms.get(stage, 0.0) + passed


class GraspPlanner:
    """
    Plans grasps of unknown things on a support from one view.

    Parameters
    ----------
    gripper : Gripper
        The hand.
    config : GraspConfig
        Everything else.

    """

    def __init__(self, gripper: Gripper, config: GraspConfig | None = None) -> None:
        self.gripper = gripper
        self.config = config or GraspConfig()

    def plan(self, points: np.ndarray, confidence: np.ndarray | None = None, *,
             viewpoint: np.ndarray | None = (0.0, 0.0, 0.0), up: np.ndarray | None = None,
             T_workspace_frame: np.ndarray | None = None,
             avoid: Sequence[np.ndarray] = ()) -> GraspPlan:
        """
        Plan; a cloud that gives no grasp gives a reason, never an exception.

        Parameters
        ----------
        points : (..., 3) float
            Organised or not [m]; NaN where there is none.
        confidence : (...) float, optional
            Of the depth of each point, in [0, 1].
        viewpoint : (3,) float or None
            Where the points were seen from, in their frame; None for a cloud of many views, of
            which nothing is taken to be hidden.
        up : (3,) float, optional
            Away from gravity, in the frame of the points; if not given, that of an upright camera
            that looks down, in its optical frame.
        T_workspace_frame : (4, 4) float, optional
            Pose of the frame of the points in that of the workspace; the same if not given.
        avoid : sequence of (4, 4) float
            Poses, in the frame of the points, of grasps that failed on what is still as it was:
            none that is alike (`nms_distance_m`, `nms_angle_deg`) is returned, and those within
            twice the distance come last.

        """
        points = np.asarray(points)
        if points.shape[-1:] != (3,):
            raise ValueError(f'points are {points.shape}; (..., 3) is expected')
        if confidence is not None and np.shape(confidence) != points.shape[:-1]:
            raise ValueError(f'confidence is {np.shape(confidence)} for points {points.shape}')
        run = _Run(np.random.default_rng(self.config.seed))
        pose = np.eye(4) if T_workspace_frame is None else np.asarray(T_workspace_frame)
        try:
            run.border = image_border(points)
            grasps, reason = self._plan(run, points.reshape(-1, 3), confidence, viewpoint, up,
                                        pose, np.reshape(avoid, (-1, 4, 4))), ''
        except NoGrasp as error:
            grasps, reason = (), str(error)
        return GraspPlan(grasps, run.counts, reason, run.stage_ms, run.plane)

    def _plan(self, run: _Run, points: np.ndarray, confidence: np.ndarray | None,
              viewpoint: np.ndarray | None, up: np.ndarray | None,
              T_workspace_frame: np.ndarray, avoid: np.ndarray) -> tuple[Grasp, ...]:
        with run.timed('crop'):
            points, confidence = self._crop(run, points, confidence, T_workspace_frame)
        with run.timed('plane'):
            T_table_frame = self._table(run, points, up, T_workspace_frame)
            points = transform(T_table_frame.astype(np.float32), points)
        run.T_workspace_table = T_workspace_frame @ np.linalg.inv(T_table_frame)
        camera = None if viewpoint is None else transform(T_table_frame, np.asarray(viewpoint))
        with run.timed('visibility'):
            visibility = None if camera is None else Visibility(
                points[::max(1, len(points) // VIEW_POINTS)], camera)
        with run.timed('clusters'):
            run.border = transform(T_table_frame, run.border)
            things = self._things(run, points, confidence, visibility)
        with run.timed('completion'):
            targets = [self._target(things, label, visibility, run.rng)
                       for label in range(things.num_objects)]
        with run.timed('candidates'):
            number = self.config.candidates.max_hypotheses // len(targets)
            tried = [candidates.make_hypotheses(target, self.gripper, self.config, number,
                                                run.rng) for target in targets]
            run.left('hypotheses', sum(map(len, tried)))
        with run.timed('collision'):
            closed = [collision.close_hand(
                hypotheses, self._obstacles(things, targets, label, run.rng), self.gripper,
                self.config.collision) for label, hypotheses in enumerate(tried)]
        with run.timed('scoring'):
            found = self._score(run, targets, tried, closed, visibility)
        with run.timed('suppression'):
            grasps = self._best(found, T_table_frame @ avoid)
            run.left('grasps', len(grasps))
        T_frame_table = np.linalg.inv(T_table_frame)
        return tuple(grasp.moved(T_frame_table) for grasp in grasps)

    def _crop(self, run: _Run, points: np.ndarray, confidence: np.ndarray | None,
              T_workspace_frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the points in and closely around the workspace."""
        run.left('input', len(points))
        confidence = np.ones(len(points), np.float32) if confidence is None \
            else np.nan_to_num(np.asarray(confidence, np.float32).reshape(-1))
        step = max(1, -(-len(points) // self.config.max_points))
        points, confidence = points[::step].astype(np.float32), confidence[::step]
        finite = np.isfinite(points).all(axis=1)
        run.left('finite', finite.sum())
        points, confidence = points[finite], confidence[finite]
        run.left('workspace', crop(points, self.config.workspace, T_workspace_frame).sum())
        around = crop(points, self.config.workspace, T_workspace_frame, AROUND_M)
        return points[around], confidence[around]

    def _table(self, run: _Run, points: np.ndarray, up: np.ndarray | None,
               T_workspace_frame: np.ndarray) -> np.ndarray:
        """Return T_table_frame (4, 4); without a plane, its z is up all the same."""
        config = self.config.plane
        if config.source == 'none':
            up = np.array([0.0, -1.0, -1.0]) / np.sqrt(2) if up is None else np.asarray(up)
            return table_pose(up / np.linalg.norm(up), 0.0)
        if config.source == 'fixed':
            *normal, offset = config.coefficients
            run.plane = (T_workspace_frame[:3, :3].T @ normal,
                         offset - float(np.dot(normal, T_workspace_frame[:3, 3])))
        else:
            run.plane = find_support(points, config, up, self.config.seed)
        return table_pose(*run.plane)

    def _things(self, run: _Run, points: np.ndarray, confidence: np.ndarray,
                visibility: Visibility | None) -> Things:
        config, dents = self.config, []
        if config.plane.source != 'none':
            lowest = max(config.cluster.min_height_m, support_noise(points))
            dents = find_dents(points, lowest, config)
            above = points[:, 2] > lowest
            points, confidence = points[above], confidence[above]
        run.left('above_plane', len(points))
        points, confidence = voxels(points, confidence, config.voxel_m)
        run.left('voxels', len(points))

        border = cKDTree(run.border) if len(run.border) else None

        def is_whole(body: np.ndarray) -> bool:
            if border is not None and border.query(
                    body, distance_upper_bound=config.cluster.gap_m)[0].min() < np.inf:
                return False
            pose, middle = run.T_workspace_table, body.mean(axis=0, keepdims=True)
            edge = ~crop(body, config.workspace, pose, AROUND_M - config.voxel_m)
            return not edge.any() and crop(middle, config.workspace, pose).all()

        def is_gap(space: np.ndarray) -> np.ndarray:
            return np.zeros(len(space), bool) if visibility is None \
                else visibility.classify(space, 2 * config.voxel_m) == FREE

        camera = points.mean(axis=0) + [0.0, 0.0, 10.0] if visibility is None \
            else visibility.viewpoint
        things = find_things(points, confidence, camera, is_whole, is_gap, config, dents)
        run.left('objects', things.num_objects)
        return things

    def _target(self, things: Things, label: int, visibility: Visibility | None,
                rng: np.random.Generator) -> Target:
        mine = things.labels == label
        points, normals = things.points[mine], things.normals[mine]
        confidence = things.confidence[mine]
        if visibility is None or not self.config.candidates.complete:
            middle = (points[:, :2].min(axis=0) + points[:, :2].max(axis=0)) / 2
            return Target(points, normals, np.ones(len(points), bool), confidence, middle)
        back = complete(points, normals, visibility, self.config.voxel_m, rng)
        return Target(np.concatenate([points, back.points]),
                      np.concatenate([normals, back.normals]),
                      np.arange(len(points) + len(back.points)) < len(points),
                      np.concatenate([confidence, np.full(len(back.points), confidence.mean())]),
                      back.centre, back.axis)

    def _obstacles(self, things: Things, targets: list[Target], label: int,
                   rng: np.random.Generator) -> Obstacles:
        """Return one thing and what the hand could meet around it."""
        target, gripper = targets[label], self.gripper
        reach = np.hypot(gripper.palm_width, gripper.palm_height) / 2 + gripper.max_width / 2 \
            + self.config.collision.approach_m
        low, high = target.points.min(axis=0) - reach, target.points.max(axis=0) + reach
        around = [things.points[things.labels == OBSTACLE]]
        around += [other.points for number, other in enumerate(targets) if number != label]
        around = np.concatenate(around)
        around = around[((around > low) & (around < high)).all(axis=1)]
        if len(around):
            around, _ = voxels(around, None, max(OTHER_VOXEL_M, self.config.voxel_m))
        some = rng.permutation(len(target.points))[:OWN_POINTS]
        own = len(some)
        points = np.concatenate([target.points[some], around]).astype(np.float32)
        normals, observed, confidence = (np.zeros(shape, np.float32) for shape in (
            points.shape, len(points), len(points)))
        normals[:own], observed[:own] = target.normals[some], target.observed[some]
        confidence[:own] = target.confidence[some]
        return Obstacles(points, normals, np.arange(len(points)) < own, observed, confidence,
                         self.config.plane.source != 'none')

    def _score(self, run: _Run, targets: list[Target], tried: list[Hypotheses],
               closed: list[Contacts], visibility: Visibility | None) -> list[Grasp]:
        state = np.concatenate([contacts.state for contacts in closed])
        run.left('reachable', (state != collision.BLOCKED).sum())
        run.left('in_width', np.isin(state, (collision.COLLIDES, collision.GOOD)).sum())
        run.left('collision_free', (state == collision.GOOD).sum())
        scored, antipodal = [], 0
        for label, (target, hypotheses, contacts) in enumerate(zip(targets, tried, closed)):
            good = np.flatnonzero((contacts.state == collision.GOOD) & scoring.is_antipodal(
                contacts, hypotheses.kind, self.gripper.tip_length, self.config.friction))
            antipodal += len(good)
            if len(good):
                scored += self._grasps(target, hypotheses.take(good), _rows(contacts, good),
                                       visibility, label, is_crowded(targets, label))
        run.left('antipodal', antipodal)
        inside = crop(np.reshape([grasp.position for grasp in scored], (-1, 3)),
                      self.config.workspace, run.T_workspace_table, BEYOND_M)
        scored = [grasp for grasp, near in zip(scored, inside)
                  if near and grasp.score >= self.config.min_score]
        run.left('good_score', len(scored))
        return scored

    def _grasps(self, target: Target, hypotheses: Hypotheses, contacts: Contacts,
                visibility: Visibility | None, label: int, crowded: bool) -> list[Grasp]:
        parts = scoring.score_parts(hypotheses, contacts, target, self.gripper, visibility,
                                    self.config, crowded)
        scores = scoring.combine(parts, self.config.weights)
        made = []
        for row in range(len(hypotheses)):
            pose = np.eye(4)
            pose[:3, :3] = hypotheses.rotation[row]
            shift = np.array([0.0, contacts.shift[row], contacts.sink[row]])
            pose[:3, 3] = hypotheses.centre[row] + hypotheses.rotation[row] @ shift
            made.append(Grasp(pose, float(contacts.width[row]), float(contacts.opening[row]),
                              float(np.clip(scores[row], 0.0, 1.0)),
                              {name: round(float(value[row]), 4)
                               for name, value in parts.items()},
                              KINDS[hypotheses.kind[row]], label))
        return made

    def _best(self, grasps: list[Grasp], avoid: np.ndarray) -> list[Grasp]:
        """Keep the best of grasps that are alike, with the symmetry of the jaw; best first."""
        scores = np.array([grasp.score for grasp in grasps])
        order = np.argsort(-scores, kind='stable')
        grasps = [grasps[i] for i in order]
        poses = np.array([grasp.T_frame_grasp for grasp in grasps])
        tree, angle = cKDTree(poses[:, :3, 3]), np.radians(self.config.nms_angle_deg)

        def alike(pose: np.ndarray) -> np.ndarray:
            near = np.array(tree.query_ball_point(pose[:3, 3], self.config.nms_distance_m), int)
            return near[turn_between(poses[near, :3, :3], pose[:3, :3]) < angle]

        dropped, kept, late = np.zeros(len(grasps), bool), [], np.zeros(len(grasps), bool)
        around = AVOID_STEPS * self.config.nms_distance_m
        for pose in avoid:
            dropped[alike(pose)] = True
            late[tree.query_ball_point(pose[:3, 3], around)] = True
        for i in np.argsort(late, kind='stable'):
            if dropped[i]:
                continue
            kept.append(grasps[i])
            if len(kept) == self.config.max_grasps:
                break
            dropped[alike(poses[i])] = True
        return kept


def is_crowded(targets: Sequence[Target], label: int) -> bool:
    """Return True if other things stand close around one."""
    low = targets[label].points.min(axis=0) - CROWD_M
    high = targets[label].points.max(axis=0) + CROWD_M
    return any(((other.points > low) & (other.points < high)).all(axis=1).any()
               for number, other in enumerate(targets) if number != label)


def _rows(contacts: Contacts, index: np.ndarray) -> Contacts:
    return Contacts(**{name: value[index] for name, value in vars(contacts).items()})
