"""Compose a scene of preset `transphy3d`: a place, things at rest in it, a room, light."""
from __future__ import annotations

import numpy as np
from arrange import ARRANGEMENTS
from paths import PATHS, draw_path
from places import PLACES, draw_place
from room import furnish, light
from things import Bank, add_thing, things_at_rest

MAX_DRAWS = 5


class NoRest(Exception):
    """Raised when no draw of a scene came to rest with enough things."""


def compose(spec: dict, bank: Bank | None,
            rng: np.random.Generator) -> tuple[list[dict], np.ndarray, dict]:
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
        things = things_at_rest(spec, chosen['arrangement'], place, bank, rng)
        if len(things) >= spec['min_objects']:
            break
    else:
        raise NoRest(f'{MAX_DRAWS} draws of scene {spec["name"]} ended with fewer than '
                     f'{spec["min_objects"]} things at rest')
    records = [add_thing(spec, things, index, rng) for index in range(len(things))]
    feet = np.array([thing.body.pose[:3, 3] for thing in things])
    target = [*feet[:, :2].mean(0), place.floor_m + 0.05]
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
