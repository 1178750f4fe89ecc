"""
The depth that a grasp is planned on, by source: ray-cast, rendered or stored.

An observer gives an `Observation` of a scene as it stands. `truth`, `sensor`, `filled`, `dkt` and
`fused` mean here what they mean in `dkt eval`.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from dkt_ros.camera import PinholeCamera
from dkt_ros.config import PerceptionConfig, SensorConfig
from dkt_ros.data.scenes import Scene, open_scene
from dkt_ros.errors import UserError
from dkt_ros.grasp_sim_config import GraspSimConfig
from dkt_ros.resources import resolve_model
from dkt_ros.tools.baselines.filled import BEST, fill_holes
from dkt_ros.tools.grasp_sim.rendering import Shot, film, shot_folder
from dkt_ros.tools.grasp_sim.scenes import SimScene, draw_scene
from dkt_ros.tools.grasp_sim.views import RayCaster, camera_arc, scene_meshes, sim_camera
from dkt_ros.tools.infer import load_perception
from dkt_ros.tools.render.sensor import simulate_sensor

Poses = Sequence[np.ndarray | None]
RAYCAST = ('truth', 'sensor', 'filled')
"""Sources that need no picture."""


@dataclass(frozen=True)
class Observation:
    """
    What a grasp is planned on.

    Attributes
    ----------
    camera : PinholeCamera
    T_world_camera : (4, 4) float64
        Pose of the optical frame.
    depth : (H, W) float32
        [m]; NaN where there is none.
    confidence : (H, W) float32 or None
        Of that depth, where the source has one.

    """

    camera: PinholeCamera
    T_world_camera: np.ndarray
    depth: np.ndarray
    confidence: np.ndarray | None = None

    @property
    def points(self) -> np.ndarray:
        """The cloud (H, W, 3) in the optical frame [m]."""
        return self.camera.unproject(self.depth)

    @property
    def up(self) -> np.ndarray:
        """Away from gravity (3,), in the optical frame."""
        return self.T_world_camera[2, :3]


class Observer(Protocol):
    """Looks at scenes."""

    sources: tuple[str, ...]

    def scene(self, kind: str, label: str, seed: int) -> SimScene:
        """Return a scene."""

    def prepare(self, scenes: Sequence[SimScene]) -> None:
        """Do what is done at best for many scenes at once; nothing may be left to do."""

    def observe(self, scene: SimScene, poses: Poses, step: int, source: str) -> Observation:
        """Look at a scene after `step` attempts."""


class RayObserver:
    """Depth by ray casting, and a sensor with the statistics of a real one: no renderer."""

    sources = RAYCAST

    def __init__(self, config: GraspSimConfig) -> None:
        self._config = config

    def scene(self, kind: str, label: str, seed: int) -> SimScene:
        """Draw a scene."""
        return draw_scene(kind, label, seed, self._config)

    def prepare(self, scenes: Sequence[SimScene]) -> None:
        """Do nothing: a ray-cast picture takes no time."""

    def observe(self, scene: SimScene, poses: Poses, step: int, source: str) -> Observation:
        """Look at a scene; see `Observer`."""
        camera = sim_camera(self._config.view)
        pose = camera_arc(self._config.view, scene)[-1]
        view = RayCaster(scene_meshes(scene, poses)).view(camera, pose)
        if source == 'truth':
            return Observation(camera, pose, view.depth)
        kinds = np.array([0, *(solid.material_class for solid in scene.solids)], np.uint8)
        sensor = simulate_sensor(view.depth, kinds[view.instance], view.instance, camera.fx,
                                 SensorConfig(), scene.seed, step)
        if source == 'filled':
            sensor = fill_holes(sensor, 'inpaint')
        return Observation(camera, pose, sensor)


class RenderObserver:
    """
    Frames of the renderer through the whole perception chain.

    Parameters
    ----------
    config : GraspSimConfig
    folder : Path
        Where scene folders are kept; those that exist are not rendered again.
    workers : int
        Blender processes; 0 takes one a processor core.

    """

    sources = ('truth', 'sensor', 'filled', 'dkt', 'fused')

    def __init__(self, config: GraspSimConfig, folder: Path, workers: int = 0) -> None:
        self._config, self._folder, self._workers = config, folder, workers
        self._perception = None
        self._last: tuple[str, dict[str, Observation]] = ('', {})

    def scene(self, kind: str, label: str, seed: int) -> SimScene:
        """Draw a scene."""
        return draw_scene(kind, label, seed, self._config)

    def prepare(self, scenes: Sequence[SimScene]) -> None:
        """Render all scenes as they stand at first, which shares the start of the renderer."""
        shots = [Shot(scene, scene.poses) for scene in scenes]
        for _ in film(shots, self._folder, self._config.view, self._workers):
            pass

    def observe(self, scene: SimScene, poses: Poses, step: int, source: str) -> Observation:
        """Look at a scene; see `Observer`."""
        # After the first attempt, each source has a scene of its own making.
        folder = self._folder if step == 0 else self._folder / source
        shot = Shot(scene, tuple(poses), step)
        for _ in film([shot], folder, self._config.view, self._workers):
            path = shot_folder(folder, shot)
            if self._last[0] != str(path):
                self._last = str(path), self._observations(open_scene(path))
        return self._last[1][source]

    def _observations(self, scene: Scene) -> dict[str, Observation]:
        last = scene[-1]
        sensor, rgb = last.frame.sensor_depth, last.frame.rgb
        blind = np.full_like(sensor, np.nan)
        if self._perception is None:
            config = self._config
            options = PerceptionConfig.from_dict({
                'normals': {'source': 'none'}, 'stream': {
                    'preset': config.preset, 'width': config.working_width,
                    'height': config.working_height}})
            self._perception = load_perception(resolve_model(config.model), options, 'auto')
        self._perception.reset('a new scene')
        estimates = []
        for item in scene:
            # The infrared pair belongs to the last frame; the sensor sees nothing before it.
            depth = sensor if item.index == last.index else blind
            pose = item.T_world_camera if self._config.parallax else None
            estimates += self._perception.push(dataclasses.replace(
                item.frame, sensor_depth=depth, T_world_camera=pose))
        estimate = [*estimates, *self._perception.flush()][-1]

        def seen(depth: np.ndarray | None, confidence: np.ndarray | None = None) -> Observation:
            depth = blind if depth is None else depth
            return Observation(scene.camera, last.T_world_camera, depth, confidence)

        return {'truth': seen(last.depth), 'sensor': seen(sensor),
                'filled': seen(fill_holes(sensor, BEST, rgb)),
                'dkt': seen(estimate.depth, estimate.confidence),
                'fused': seen(estimate.depth_fused, estimate.confidence)}


def require_sources(wanted: Sequence[str], observer: Observer) -> None:
    """Raise UserError for a source that an observer does not have."""
    unknown = [source for source in wanted if source not in observer.sources]
    if unknown or not wanted:
        raise UserError(f'sources {", ".join(wanted) or "(none)"}: {", ".join(unknown) or "none"} '
                        f'cannot be had here; allowed: {", ".join(observer.sources)}')
