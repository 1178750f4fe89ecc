"""Compose a scene of preset `transphy3d`: a place, things at rest in it, a room, light."""
from __future__ import annotations

import math

import numpy as np
from arrange import ARRANGEMENTS, start_poses
from materials import OBJECT_MATERIALS
from mathutils import Matrix
from paths import PATHS, draw_path
from places import PLACES, Place, draw_place
from room import furnish, light
from scene import add_mesh
from settle import Body, at_fault, settle
from shapes import FAMILIES

MAX_DRAWS = 5
MAX_ROUNDS = 4


class NoRest(Exception):
    """Raised when no draw of a scene came to rest with enough things."""


def draw_shape(rng: np.random.Generator) -> tuple[str, object]:
    """Draw a family and a shape of it."""
    families = list(FAMILIES)
    family = families[rng.integers(len(families))]
    return family, FAMILIES[family](rng)


def draw_material(name: str, rng: np.random.Generator) -> tuple:
    """Make the material of this name; returns it and its class."""
    return OBJECT_MATERIALS[name](rng)


def compose(spec: dict, rng: np.random.Generator) -> tuple[list[dict], np.ndarray, dict]:
    """
    Fill an empty Blender file with a scene.

    Returns
    -------
    list of dict
        A record of each object.
    (num_frames, 4, 4) float
        T_world_camera of the optical frame.
    dict
        What was drawn: place, arrangement, path.

    """
    chosen = {'place': _choose(spec['place'], PLACES, rng),
              'arrangement': _choose(spec['arrangement'], ARRANGEMENTS, rng),
              'path': _choose(spec['path'], PATHS, rng)}
    for draw in range(MAX_DRAWS):
        chosen['draws'] = draw + 1
        place = draw_place(chosen['place'], spec['spread_m'], spec['azimuth_rad'], rng)
        things = _things_at_rest(spec, chosen['arrangement'], place, rng)
        if len(things) >= spec['min_objects']:
            break
    else:
        raise NoRest(f'{MAX_DRAWS} draws of scene {spec["name"]} ended with fewer than '
                     f'{spec["min_objects"]} things at rest')
    records = [_add(thing, instance, rng) for instance, thing in enumerate(things, 1)]
    tops = np.array([thing['body'].pose[:3, 3] for thing in things])
    target = [*tops[:, :2].mean(0), place.floor_m + 0.05]
    poses = draw_path({**spec, 'path': chosen['path'], 'target': target,
                       'elevation_rad': _overlap(spec['elevation_rad'], place.elevation_rad)}, rng)
    furnish(spec, place, poses, rng)
    chosen['textures'], chosen['environment'] = spec.get('drawn_textures', []), light(spec, rng)
    return records, poses, chosen


def _choose(wanted: str, allowed: tuple[str, ...], rng: np.random.Generator) -> str:
    drawn = allowed[rng.integers(len(allowed))]
    return drawn if wanted == 'mix' else wanted


def _overlap(wanted: tuple[float, float], allowed: tuple[float, float]) -> tuple[float, float]:
    low, high = max(wanted[0], allowed[0]), min(wanted[1], allowed[1])
    return (low, high) if low < high else tuple(allowed)


def _things_at_rest(spec: dict, arrangement: str, place: Place,
                    rng: np.random.Generator) -> list[dict]:
    """Draw things, let them settle, and take away what fell off, floats or interpenetrates."""
    things = []
    count = int(rng.integers(spec['min_objects'], spec['max_objects'] + 1))
    for index in range(round(count * place.crowd)):
        family, shape = draw_shape(rng)
        scale = rng.uniform(*spec['scale'])
        things.append({'family': family, 'scale': scale, 'shape': shape, 'smooth': family != 'box',
                       'material': _material_name(spec, index, rng)})
    sizes = [(t['shape'].radius * t['scale'], t['shape'].height * t['scale']) for t in things]
    starts = start_poses(arrangement, sizes, place.half, place.floor_m, rng)
    placed = []
    for thing, start in zip(things, starts):
        if start is not None:
            vertices = np.asarray(thing['shape'].vertices) * thing['scale']
            placed.append({**thing, 'start': start,
                           'body': Body(vertices, thing['shape'].faces, start)})
    for _ in range(MAX_ROUNDS):
        if len(placed) < spec['min_objects']:
            return []
        bodies = [thing['body'] for thing in placed]
        rested = settle(bodies, place.boxes, spec['settle_s'])
        faults = at_fault(bodies, place.boxes, place.reach_m)
        if rested and not faults:
            return placed
        # What is left starts again from where it lies, so that nothing hangs in the air.
        placed = [thing for index, thing in enumerate(placed) if index not in faults]
    return []


def _material_name(spec: dict, index: int, rng: np.random.Generator) -> str:
    """Draw a material; the first thing is clear, so that every scene has something to see."""
    names = list(spec['material_weights'])
    weights = np.array([spec['material_weights'][name] for name in names], float)
    name = names[rng.choice(len(names), p=weights / weights.sum())]
    return spec['first_material'] if index == 0 and spec['first_material'] else name


def _add(thing: dict, instance: int, rng: np.random.Generator) -> dict:
    body, shape, scale = thing['body'], thing['shape'], thing['scale']
    material, material_class = draw_material(thing['material'], rng)
    item = add_mesh(f'{thing["family"]}_{instance}', body.vertices, body.faces, material,
                    Matrix(body.pose), smooth=thing['smooth'])
    item.pass_index, material.pass_index = instance, material_class
    # A thing lies when its axis is nearer to the table than to the vertical.
    lying = abs(body.pose[2, 2]) < math.cos(math.pi / 4)
    return {'instance': instance, 'family': thing['family'], 'material': thing['material'],
            'material_class': material_class, 'height_m': shape.height * scale,
            'radius_m': shape.radius * scale, 'lying': bool(lying),
            'T_world_object': body.pose.tolist()}
