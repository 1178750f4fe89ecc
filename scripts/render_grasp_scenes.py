#!/usr/bin/env python3
"""
Render training scenes like those of `dkt grasp-sim`: its things and piles, two free views of each.

    scripts/render_grasp_scenes.py FIRST_SEED NUM_SCENES OUT [--pairs] [--material NAME]

The depth camera is a statistical one or, with `--pairs`, the benchmark's own infrared pair.
`--material` makes every scene of that material; else they are drawn by MATERIALS.
Seeds from 1000000 on are refused: they are for evaluation. Scenes that are there already are kept.
"""
from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from dkt_ros.config import RenderConfig
from dkt_ros.data.scenes import EVALUATION_SEED, is_scene
from dkt_ros.errors import UserError
from dkt_ros.grasp_sim_config import GraspSimConfig
from dkt_ros.tools.grasp_sim.rendering import Shot, render_options
from dkt_ros.tools.grasp_sim.scenes import SimScene, draw_scene
from dkt_ros.tools.grasp_sim.views import look_at, sim_camera
from dkt_ros.tools.render.assemble import accept_scene, infrared_spec, scene_name
from dkt_ros.tools.render.media import media_files
from dkt_ros.tools.render.run import clear_remains, rendered_records, scene_spec, work_prefix
from dkt_ros.tools.render.setup import find_interpreter

CONFIG = GraspSimConfig()
SHARES = {'single': 0.65, 'packed': 0.2, 'pile': 0.15}
MATERIALS = {'transparent': 0.8, 'reflective': 0.12, 'diffuse': 0.08}
NUM_VIEWS, BATCH = 2, 16
DISTANCE_M, ELEVATION_RAD, ZOOM = (0.42, 0.75), (0.4, 1.0), (0.92, 1.12)


def draw(seed: int, material: str = '') -> SimScene:
    """Draw a scene; its kind comes with the seed, and so does a material that is not named."""
    rng = np.random.default_rng((seed, 78))
    kind, drawn = (str(rng.choice(list(shares), p=list(shares.values())))
                   for shares in (SHARES, MATERIALS))
    return draw_scene(kind, material or drawn, seed, CONFIG)


def views(scene: SimScene) -> np.ndarray:
    """Return T_world_camera (V, 4, 4) of cameras that look at the things from anywhere above."""
    rng = np.random.default_rng((scene.seed, 77))
    top = max((solid.vertices @ pose[:3, :3].T)[:, 2].max() + pose[2, 3]
              for solid, pose in zip(scene.solids, scene.poses))
    poses = []
    for _ in range(NUM_VIEWS):
        aim = np.array([*rng.uniform(-0.05, 0.05, 2),
                        max(0.04, top / 2) + rng.uniform(-0.02, 0.02)])
        distance, azimuth = rng.uniform(*DISTANCE_M), rng.uniform(0, 2 * math.pi)
        elevation = rng.uniform(*ELEVATION_RAD)
        level = distance * math.cos(elevation)
        away = np.array([level * math.cos(azimuth), level * math.sin(azimuth),
                         distance * math.sin(elevation)])
        poses.append(look_at(aim + away, aim))
    return np.stack(poses)


def options(seed: int, pairs: bool) -> RenderConfig:
    """Return what is rendered: the benchmark's pictures, another zoom, a sensor in each."""
    camera, plain = sim_camera(CONFIG.view), RenderConfig.from_dict({'preset': 'transphy3d'})
    focal = camera.fx * np.random.default_rng((seed, 79)).uniform(*ZOOM)
    benchmark = render_options(CONFIG.view)
    sensor = replace(benchmark.sensor, every=1) if pairs else replace(
        plain.sensor, kind='statistical')
    return replace(benchmark, path='circle', num_frames=NUM_VIEWS,
                   K=(focal, focal, camera.cx, camera.cy), sensor=sensor)


def render(seeds: list[int], out: Path, pairs: bool, material: str) -> None:
    """Render scenes with one start of the renderer; each appears whole or not at all."""
    with tempfile.TemporaryDirectory(prefix=work_prefix(os.getpid()), dir=out) as name:
        work, specs, settings = Path(name), [], {}
        for seed in seeds:
            scene, chosen = draw(seed, material), options(seed, pairs)
            given = {**Shot(scene, scene.poses).spec(CONFIG.view),
                     'T_world_camera': views(scene).tolist()}
            settings[scene.name] = chosen
            specs.append({**scene_spec(seed, 0, chosen), **media_files(chosen),
                          'infrared': infrared_spec(chosen, work), 'name': scene.name,
                          'given': given, 'threads': 1})
        for record in rendered_records(specs, work, find_interpreter(''), 1):
            folder = work / record['name']
            if not accept_scene(record, work, folder, settings[record['name']]):
                continue
            made = folder / scene_name(record['scene_seed'])
            # The views have nothing to do with each other: this is no video.
            told = json.loads((made / 'scene.json').read_text())
            told['settings']['render']['path'] = 'views'
            (made / 'scene.json').write_text(json.dumps(told))
            os.rename(made, out / made.name)


def main() -> None:
    """Render what is missing, batch by batch."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('first', type=int, metavar='FIRST_SEED')
    parser.add_argument('count', type=int, metavar='NUM_SCENES')
    parser.add_argument('out', type=Path, metavar='OUT')
    parser.add_argument('--pairs', action='store_true', help='an infrared pair as depth camera')
    parser.add_argument('--material', choices=list(MATERIALS), default='',
                        help='of every scene; default: drawn with the seed')
    given = parser.parse_args()
    first, count, out = given.first, given.count, given.out
    if first + count > EVALUATION_SEED:
        raise UserError(f'seeds {first} to {first + count - 1}: those from {EVALUATION_SEED} on '
                        'are for evaluation; begin lower')
    out.mkdir(parents=True, exist_ok=True)
    clear_remains(out)
    missing = [seed for seed in range(first, first + count)
               if not is_scene(out / scene_name(seed))]
    for start in range(0, len(missing), BATCH):
        render(missing[start:start + BATCH], out, given.pairs, given.material)
        done = min(start + BATCH, len(missing))
        sys.stdout.write(f'{done} of {len(missing)} tried; scenes in {out}\n')


if __name__ == '__main__':
    main()
