"""Scenes as a camera on the wrist would film them, by the renderer of `dkt render`."""
from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dkt_ros.config import RenderConfig
from dkt_ros.data.scenes import is_scene
from dkt_ros.errors import RunError
from dkt_ros.grasp_sim_config import ViewConfig
from dkt_ros.tools.grasp_sim.scenes import SimScene
from dkt_ros.tools.grasp_sim.views import camera_arc, sim_camera
from dkt_ros.tools.render.assemble import accept_scene, infrared_spec, scene_name
from dkt_ros.tools.render.media import media_files
from dkt_ros.tools.render.run import clear_remains, rendered_records, scene_spec, work_prefix
from dkt_ros.tools.render.setup import find_interpreter


@dataclass(frozen=True)
class Shot:
    """
    What is to be filmed: a scene as it stands after some grasps.

    Attributes
    ----------
    scene : SimScene
    poses : tuple of (4, 4) float or None
        T_world_thing now; None for what is gone.
    step : int
        How many grasps were tried before.

    """

    scene: SimScene
    poses: tuple[np.ndarray | None, ...]
    step: int = 0

    @property
    def name(self) -> str:
        """Name of the folder."""
        return f'{self.scene.name}_{self.step}'

    def spec(self, config: ViewConfig) -> dict:
        """Return what the worker draws: things that are there, and the camera's way."""
        things = [{'family': solid.family, 'shape_seed': solid.shape_seed,
                   'material': solid.material, 'look_seed': [self.scene.seed, number],
                   'T_world_object': pose.tolist()}
                  for number, (solid, pose) in enumerate(zip(self.scene.solids, self.poses))
                  if pose is not None]
        return {'room': config.room, 'things': things,
                'T_world_camera': camera_arc(config, self.scene).tolist()}


def render_options(config: ViewConfig) -> RenderConfig:
    """Return the renderer's options: an infrared pair for the last frame, nothing left out."""
    camera, plain = sim_camera(config), RenderConfig()
    return RenderConfig.from_dict({
        'preset': 'transphy3d', 'width': camera.width, 'height': camera.height,
        'K': (camera.fx, camera.fy, camera.cx, camera.cy), 'num_frames': config.num_frames,
        'fps': 6.0, 'samples': config.samples, 'min_glass': 0.0, 'meshes': False,
        'exposure': plain.exposure, 'highlights': plain.highlights, 'objects': {'filled': 0.0},
        'sensor': {
            'kind': 'stereo', 'every': -1, 'stereo': {'samples': config.pair_samples}}})


def film(shots: Sequence[Shot], out: Path, config: ViewConfig, workers: int = 0,
         ) -> Iterator[Shot]:
    """
    Render what is not rendered yet; yield each shot when its scene folder is whole.

    The folder of a shot is `shot_folder(out, shot)`.
    """
    pending = []
    for shot in shots:
        if is_scene(shot_folder(out, shot)):
            yield shot
        else:
            pending.append(shot)
    if not pending:
        return
    options = render_options(config)
    interpreter = find_interpreter(options.interpreter)
    out.mkdir(parents=True, exist_ok=True)
    clear_remains(out)
    with tempfile.TemporaryDirectory(prefix=work_prefix(os.getpid()), dir=out) as work:
        yield from _film(pending, Path(work), out, interpreter, options, config, workers)


def _film(shots: Iterable[Shot], work: Path, out: Path, interpreter: Path,
          options: RenderConfig, config: ViewConfig, workers: int) -> Iterator[Shot]:
    shared = {'infrared': infrared_spec(options, work), **media_files(options)}
    by_name = {shot.name: shot for shot in shots}
    specs = [{**scene_spec(shot.scene.seed, 0, options), **shared, 'name': name,
              'given': shot.spec(config)} for name, shot in by_name.items()]
    for record in rendered_records(specs, work, interpreter, workers):
        shot = by_name[record['name']]
        written = work / record['name']
        if not accept_scene(record, work, written, options):
            raise RunError(f'the renderer left nothing of {shot.name}; give the same command '
                           'again')
        target = shot_folder(out, shot)
        shutil.rmtree(target, ignore_errors=True)
        os.rename(written / scene_name(record['scene_seed']), target)
        yield shot


def shot_folder(out: Path, shot: Shot) -> Path:
    """Return where the scene folder of a shot lies."""
    return out / shot.name
