"""Put things where somebody else's simulation left them, and draw the room around them."""
from __future__ import annotations

import math
from pathlib import Path

import bpy
import numpy as np
from places import draw_place
from room import furnish, light
from scene import build_surroundings, light_world
from settle import Body
from shapes import LIBRARY
from things import Thing, add_thing


def compose_given(spec: dict, rng: np.random.Generator) -> tuple[list[dict], np.ndarray, dict]:
    """
    Fill an empty Blender file with the things of `spec['given']` on a table.

    `given` holds `things`, each with family, shape_seed, material, look_seed and T_world_object,
    `T_world_camera` of each frame, and `room`, the preset whose table, walls and light are drawn.
    What a thing looks like depends on its own look_seed alone, so that it stays the same when
    others are taken away. Returns as `compose.compose` does.
    """
    bpy.ops.wm.read_factory_settings(use_empty=True)
    given, things = spec['given'], []
    for entry in given['things']:
        shape = LIBRARY[entry['family']](np.random.default_rng(entry['shape_seed']))
        body = Body(np.asarray(shape.vertices), shape.faces,
                    np.array(entry['T_world_object'], float), shape.pieces)
        things.append(Thing(entry['family'], shape, entry['material'], body=body))
    records = [add_thing(spec, things, index, np.random.default_rng(entry['look_seed']))
               for index, entry in enumerate(given['things'])]
    poses = np.array(given['T_world_camera'], float)
    spec['azimuth_rad'] = math.atan2(poses[-1, 1, 3], poses[-1, 0, 3])
    notes = {'place': 'tabletop', 'arrangement': 'given', 'path': 'given'}
    if given['room'] == 'tabletop-v1':
        spec['hdri_folder'] = str(Path(spec['hdri_files'][0]).parent)
        build_surroundings(spec, rng)
        light_world(spec, rng)
        return records, poses, notes
    place = draw_place('tabletop', spec['spread_m'], spec['azimuth_rad'], rng)
    furnish(spec, place, poses, rng)
    return records, poses, {**notes, 'textures': spec.get('drawn_textures', []),
                            'environment': light(spec, rng)}
