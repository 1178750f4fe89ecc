"""Attempts as a film: played again from their records, which gives the same, and ray-cast."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from dkt_ros.camera import PinholeCamera
from dkt_ros.data.images import write_image
from dkt_ros.errors import UserError
from dkt_ros.grasp.cloud import transform
from dkt_ros.grasp.drawing import hand_mesh
from dkt_ros.grasp.grasp import Grasp, load_gripper
from dkt_ros.grasp_sim_config import GraspSimConfig
from dkt_ros.tools.grasp_sim.protocol import attempt
from dkt_ros.tools.grasp_sim.run import read_rounds
from dkt_ros.tools.grasp_sim.scenes import SimScene
from dkt_ros.tools.grasp_sim.sources import Observer
from dkt_ros.tools.grasp_sim.views import RayCaster, look_at, scene_meshes
from dkt_ros.tools.grasp_sim.world import World

FPS = 12.0
FROM_M, TOWARDS_M = (0.62, -0.62, 0.5), (0.0, 0.0, 0.2)
SIZE = 400, 300
MOMENTS, MAX_ROWS = 4, 4
"""What of the film is kept as a picture beside it."""
CAMERA = PinholeCamera(*SIZE, 420.0, 420.0, (SIZE[0] - 1) / 2, (SIZE[1] - 1) / 2)
SUN = np.array([0.35, -0.5, 0.8]) / np.linalg.norm([0.35, -0.5, 0.8])
TABLE, HAND, BACKGROUND = (214, 206, 196), (90, 94, 102), (244, 246, 248)
THINGS = {'transparent': (120, 178, 205), 'reflective': (178, 164, 128),
          'diffuse': (196, 120, 96)}


def write_video(out: Path, observer: Observer, config: GraspSimConfig, count: int) -> Path:
    """
    Film the first attempts of `count` rounds that lie in `out`, failures first.

    Returns
    -------
    Path
        attempts.mp4 in `out`; attempts.png lies beside it.

    """
    rounds = [item for item in read_rounds(out)
              if item['attempts'] and 'T_world_grasp' in item['attempts'][0]]
    if not rounds:
        raise UserError(f'{out} holds no attempt to film; play some rounds first')
    rounds.sort(key=lambda item: item['attempts'][0]['success'])
    path = out / 'attempts.mp4'
    partial = path.with_name('.attempts.partial.mp4')
    writer = cv2.VideoWriter(str(partial), cv2.VideoWriter_fourcc(*'mp4v'), FPS, SIZE)
    if not writer.isOpened():
        raise OSError(f'{path} cannot be written as mp4; check the folder and the disk')
    rows = []
    for item in track(rounds[:count], 'filming'):
        scene = observer.scene(item['kind'], item['label'], item['seed'])
        frames = list(film_attempt(item, scene, config))
        for frame in frames:
            writer.write(np.ascontiguousarray(frame[..., ::-1]))
        moments = np.linspace(0, len(frames) - 1, MOMENTS).round().astype(int)
        rows.append(np.concatenate([frames[moment] for moment in moments], axis=1))
    writer.release()
    partial.replace(path)
    write_image(path.with_suffix('.png'), np.concatenate(rows[:MAX_ROWS]))
    return path


def film_attempt(item: dict, scene: SimScene, config: GraspSimConfig,
                 fps: float = FPS) -> Iterator[np.ndarray]:
    """Play the first attempt of a round again; yield pictures (H, W, 3) uint8."""
    record, gripper = item['attempts'][0], load_gripper(config.gripper)
    grasp = Grasp(np.array(record['T_world_grasp']), record['width_m'], record['opening_m'],
                  record['score'])
    world = World(scene.solids, scene.poses, config.physics, gripper)
    moments: list[tuple] = []
    every = max(1, round(1 / fps / config.physics.timestep_s))

    def watch(world: World) -> None:
        if round(world.data.time / config.physics.timestep_s) % every == 0:
            hand = np.eye(4)
            hand[:3, :3] = world.data.body('hand').xmat.reshape(3, 3)
            hand[:3, 3] = world.data.body('hand').xpos
            moments.append((world.poses, hand, world.opening))

    world.reset(scene.poses)
    world.watch = watch
    attempt(world, grasp, record['target'], config.protocol)
    title = (f'{item["kind"]} {item["label"]}, depth: {item["source"]}, '
             f'{"lifted" if record["success"] else record["cause"]}')
    for poses, hand, opening in moments:
        vertices, triangles = hand_mesh(gripper, opening)
        yield picture(scene, poses, (transform(hand, vertices), triangles), title)


def picture(scene: SimScene, poses: list[np.ndarray], hand: tuple[np.ndarray, np.ndarray],
            title: str = '') -> np.ndarray:
    """Return a scene and a hand from the side, (H, W, 3) uint8, R first."""
    meshes = [*scene_meshes(scene, poses), hand]
    view = RayCaster(meshes).view(CAMERA, look_at(np.array(FROM_M), TOWARDS_M))
    colors = np.array([TABLE, *[THINGS[scene.label]] * len(poses), HAND], float)
    light = 0.45 + 0.55 * np.clip(np.abs(view.normals @ SUN), 0, 1)[..., None]
    image = np.where(np.isfinite(view.depth)[..., None], colors[view.instance] * light,
                     np.array(BACKGROUND, float))
    image = np.ascontiguousarray(np.clip(image, 0, 255).astype(np.uint8))
    cv2.putText(image, title, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (30, 30, 30), 1,
                cv2.LINE_AA)
    return image
