"""
Depth that was rendered once and comes with the package, for `dkt grasp-sim --quick`.

The file (npz, under 1 MB) holds a few single scenes: what things are, where they stand, the part
of the picture around them, and depth by source in steps of half a millimetre. `truth` is ray-cast.
"""
from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dkt_ros.errors import UserError
from dkt_ros.grasp_sim_config import SOURCES, GraspSimConfig
from dkt_ros.resources import share_path
from dkt_ros.tools.grasp_sim.scenes import SimScene
from dkt_ros.tools.grasp_sim.solids import make_solid
from dkt_ros.tools.grasp_sim.sources import Observation, Observer, Poses, RayObserver
from dkt_ros.tools.grasp_sim.views import RayCaster, camera_arc, scene_meshes, sim_camera

STORED = tuple(source for source in SOURCES if source != 'truth')
STEP_M = 0.0005
QUICK = 'clips', 'grasp_quick.npz'
"""Where the package keeps the file."""
MARGIN_PX = 40
"""How much table around the things is kept: the planner finds the support there."""


def quick_observer(config: GraspSimConfig) -> Observer:
    """Return what looks at the scenes of `--quick`: stored depth, or ray casting without it."""
    try:
        path = share_path(*QUICK)
    except UserError:
        return RayObserver(config)
    return StoredObserver(config, path)


class StoredObserver:
    """
    Looks at the scenes of a file; knows single scenes as they stand at first, and no others.

    Parameters
    ----------
    config : GraspSimConfig
        Its camera must be the one that the file was made with.
    path : Path, optional
        The file; the one of the package if not given. `store` makes it.

    """

    sources = SOURCES

    def __init__(self, config: GraspSimConfig, path: Path | None = None) -> None:
        self._config = config
        with np.load(path or share_path(*QUICK)) as stored:
            self._about = json.loads(str(stored['about']))
            self._maps = {key: stored[key] for key in stored.files if key != 'about'}
        if self._about['view'] != dataclasses.asdict(config.view) | _plain_ranges(config):
            raise UserError('the stored depth was made with another camera; leave `view` as it '
                            'is, or render the scenes: give --depth rendered instead of --quick')

    def scene(self, kind: str, label: str, seed: int) -> SimScene:
        """Return a scene of the file."""
        for record in self._about['scenes']:
            if (record['kind'], record['label'], record['seed']) == (kind, label, seed):
                solids = tuple(make_solid(*thing, self._config.physics)
                               for thing in record['things'])
                return SimScene(kind, label, seed, solids,
                                tuple(np.array(pose) for pose in record['poses']))
        known = ', '.join(f'{record["kind"]} {record["label"]} {record["seed"]}'
                          for record in self._about['scenes'])
        raise UserError(f'no depth is stored of {kind} {label} {seed}; stored: {known}')

    def prepare(self, scenes: Sequence[SimScene]) -> None:
        """Do nothing: everything is there."""

    def observe(self, scene: SimScene, poses: Poses, step: int, source: str) -> Observation:
        """Look at a scene; see `Observer`."""
        if step:
            raise UserError('stored depth shows scenes before the first attempt only')
        camera, pose = sim_camera(self._config.view), camera_arc(self._config.view, scene)[-1]
        part = camera.cropped(*next(
            record['window'] for record in self._about['scenes']
            if (record['kind'], record['label'], record['seed'])
            == (scene.kind, scene.label, scene.seed)))
        if source == 'truth':
            view = RayCaster(scene_meshes(scene, poses)).view(part, pose)
            return Observation(part, pose, view.depth)
        depth = unpacked(self._maps[f'{scene.name}_{source}'])
        confidence = self._maps.get(f'{scene.name}_{source}_confidence')
        if confidence is not None:
            confidence = confidence.astype(np.float32) / 255
        return Observation(part, pose, depth, confidence)


def store(path: Path, scenes: Sequence[SimScene], observer: Observer,
          config: GraspSimConfig) -> None:
    """Write the file: depth of single scenes as an observer sees them at first."""
    camera = sim_camera(config.view)
    about: dict = {'view': dataclasses.asdict(config.view) | _plain_ranges(config), 'scenes': []}
    maps: dict[str, np.ndarray] = {}
    for scene in scenes:
        pose = camera_arc(config.view, scene)[-1]
        seen = RayCaster(scene_meshes(scene)).view(camera, pose).instance > 0
        left, top, width, height = window = _window(seen)
        part = np.s_[top:top + height, left:left + width]
        for source in STORED:
            observation = observer.observe(scene, scene.poses, 0, source)
            maps[f'{scene.name}_{source}'] = packed(observation.depth[part])
            if observation.confidence is not None:
                maps[f'{scene.name}_{source}_confidence'] = np.rint(
                    255 * np.clip(np.nan_to_num(observation.confidence[part]), 0, 1)
                ).astype(np.uint8) // 16 * 17  # 16 levels
        about['scenes'].append({
            'kind': scene.kind, 'label': scene.label, 'seed': scene.seed, 'window': window,
            'things': [(s.family, s.material, s.shape_seed) for s in scene.solids],
            'poses': [pose.tolist() for pose in scene.poses]})
    temporary = path.with_name(f'.{os.getpid()}.{path.name}')
    np.savez_compressed(temporary, about=json.dumps(about), **maps)
    temporary.replace(path)


def _plain_ranges(config: GraspSimConfig) -> dict:
    """Return the ranges of the camera as JSON gives them back."""
    return {key: list(value) for key, value in dataclasses.asdict(config.view).items()
            if isinstance(value, tuple)}


def _window(seen: np.ndarray) -> list[int]:
    """Return left, top, width, height [px] of the things and a margin."""
    rows, columns = np.nonzero(seen)
    top, left = (max(0, int(index.min()) - MARGIN_PX) for index in (rows, columns))
    bottom = min(seen.shape[0], int(rows.max()) + 1 + MARGIN_PX)
    right = min(seen.shape[1], int(columns.max()) + 1 + MARGIN_PX)
    return [left, top, right - left, bottom - top]


def packed(depth: np.ndarray) -> np.ndarray:
    """Return depth (H, W) [m] as differences along rows, which compress; NaN becomes 0 first."""
    steps = np.rint(np.nan_to_num(depth) / STEP_M).astype(np.uint16)
    return np.diff(steps, axis=1, prepend=np.uint16(0))


def unpacked(differences: np.ndarray) -> np.ndarray:
    """Return what was packed, to half a step."""
    steps = np.cumsum(differences, axis=1, dtype=np.uint16)
    return np.where(steps > 0, steps * np.float32(STEP_M), np.float32(np.nan))
