"""Draw things, let them come to rest, and put them and what is in them into the scene."""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from arrange import start_poses
from bank import read_bank
from bank_index import digest, judged
from choose import FITTING, liquid_weights, pick, spread, suited
from material_table import CLASSES, LIBRARY, LIQUIDS
from materials import build
from mathutils import Matrix
from places import Place
from scene import add_mesh
from settle import Body, at_fault, settle
from shapes import GROUPS, VESSELS, Shape, fill
from shapes import LIBRARY as FAMILIES

MAX_ROUNDS = 4
LEVEL_COS = math.cos(math.radians(1.5))
"""Cosine of the largest tilt of a vessel whose liquid still looks level."""
FILLED_TO = (0.2, 0.85)
MATERIALS = {label: [name for name, made in LIBRARY.items() if made.material_class == number]
             for label, number in CLASSES.items()}
"""Names of materials by class."""
OPAQUE = ['reflective', 'diffuse']
FILLABLE = {*VESSELS, 'free_vessel'}


@dataclass
class Bank:
    """A folder of meshes: how each is made into a shape, and what it was judged to be."""

    folder: Path
    families: dict[str, Callable[[np.random.Generator], Shape]] = field(default_factory=dict)
    judged: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def classes(self, name: str, closed: bool) -> tuple[str, ...]:
        """Return the classes of material that suit a mesh; light needs a closed one to pass."""
        kinds = self.judged.get(name)
        suit = list(CLASSES) if kinds is None else list(kinds) or ['diffuse']
        if 'transparent' in suit and kinds is not None:
            suit.append('translucent')
        if not closed:
            suit = [kind for kind in suit if kind in OPAQUE] or OPAQUE
        return tuple(suit)


def open_bank(spec: dict) -> tuple[Bank | None, list[str]]:
    """Return the bank that a spec names, with a sentence for each file left out; or None."""
    options = spec['objects']
    if not options['bank']:
        return None, []
    folder = Path(options['bank']).expanduser()
    families, problems = read_bank(folder, spec['bank_cache'], options['bank_longest_m'])
    return Bank(folder, families, judged(folder)), problems


@dataclass
class Thing:
    """What a thing is, how large, and what it is made of; `body` from where it starts."""

    family: str
    shape: Shape
    material: str
    scale: float = 1.0
    lies: bool = False
    source: dict | None = None
    body: Body | None = None

    @property
    def size(self) -> tuple[float, float]:
        """Return radius and height [m] of the upright cylinder about the thing as it starts."""
        radius, height = self.scale * self.shape.radius, self.scale * self.shape.height
        return (max(radius, height / 2), 2 * radius) if self.lies else (radius, height)

    def start(self, pose: np.ndarray) -> None:
        """Make the body at its start; one that lies has its axis along x."""
        if self.lies:
            radius, height = self.scale * self.shape.radius, self.scale * self.shape.height
            pose = pose @ np.array(Matrix.Translation((-height / 2, 0, radius))
                                   @ Matrix.Rotation(math.pi / 2, 4, 'Y'))
        self.body = Body(self.shape.vertices * self.scale, self.shape.faces, pose,
                         self.shape.pieces)


def draw_thing(spec: dict, bank: Bank | None, first: bool, rng: np.random.Generator) -> Thing:
    """Draw a thing; the first of a scene is of `first_material`, so that there is glass to see."""
    options = spec['objects']
    chosen = bool(first and spec['first_material'])
    materials = spread({spec['first_material']: 1.0} if chosen else spec['material_weights'],
                       MATERIALS)
    if bank is not None and not chosen and rng.random() < options['bank_share']:
        return _from_bank(bank, materials, rng)
    families = spread(options['families'], GROUPS)
    fits = rng.random() < options['fitting']
    family = pick(families, rng, suited(families, materials) if fits else None)
    shape = FAMILIES[family](rng)
    return Thing(family, shape, pick(materials, rng, FITTING[family] if fits else None))


def _from_bank(bank: Bank, materials: dict[str, float], rng: np.random.Generator) -> Thing:
    name = list(bank.families)[rng.integers(len(bank.families))]
    shape = bank.families[name](rng)
    classes = bank.classes(name, shape.closed)
    among = [material for label in classes for material in MATERIALS[label]]
    if not any(materials[material] for material in among):
        materials = spread(dict.fromkeys(classes, 1.0), MATERIALS)
    return Thing('bank', shape, pick(materials, rng, among), source={
        'file': name, 'sha256': digest(bank.folder / name), 'closed': shape.closed})


def things_at_rest(spec: dict, arrangement: str, place: Place, bank: Bank | None,
                   rng: np.random.Generator) -> list[Thing]:
    """Draw things, let them settle, and take away what fell off, floats or interpenetrates."""
    things = []
    count = int(rng.integers(spec['min_objects'], spec['max_objects'] + 1))
    for index in range(round(count * place.crowd)):
        thing = draw_thing(spec, bank, index == 0, rng)
        thing.scale = rng.uniform(*spec['scale']) if thing.source is None else 1.0
        thing.lies = arrangement != 'fall' and (not thing.shape.can_stand or (
            thing.shape.can_lie and index > 0 and rng.random() < spec['lying']))
        things.append(thing)
    starts = start_poses(arrangement, [t.size for t in things], place.half, place.floor_m, rng)
    placed = []
    for thing, start in zip(things, starts):
        if start is not None:
            thing.start(start)
            placed.append(thing)
    for _ in range(MAX_ROUNDS):
        if len(placed) < spec['min_objects']:
            return []
        bodies = [thing.body for thing in placed]
        rested = settle(bodies, place.boxes, spec['settle_s'])
        faults = at_fault(bodies, place.boxes, place.keeps)
        if rested and not faults:
            return placed
        # What is left starts again from where it lies, so that nothing hangs in the air.
        placed = [thing for index, thing in enumerate(placed) if index not in faults]
    return []


def add_thing(spec: dict, things: list[Thing], index: int, rng: np.random.Generator) -> dict:
    """Add a thing, and what is poured into it, to the scene; return its record."""
    thing, instance = things[index], index + 1
    body, shape = thing.body, thing.shape
    material, material_class = build(thing.material, rng)
    item = add_mesh(f'{thing.family}_{instance}', body.vertices, body.faces, material,
                    Matrix(body.pose), smooth=True)
    item.data.set_sharp_from_angle(angle=shape.smooth_rad)
    item.pass_index = instance
    # A thing lies when its axis is nearer to the table than to the vertical.
    lying = abs(body.pose[2, 2]) < math.cos(math.pi / 4)
    record = {'instance': instance, 'family': thing.family, 'material': thing.material,
              'material_class': material_class, 'height_m': shape.height * thing.scale,
              'radius_m': shape.radius * thing.scale, 'lying': bool(lying),
              'T_world_object': body.pose.tolist(), 'source': thing.source}
    if holds(things, index) and rng.random() < spec['objects']['filled']:
        record['liquid'] = _pour(thing, instance, rng)
    return record


def holds(things: list[Thing], index: int) -> bool:
    """Return True for a vessel that stands upright with nothing in it."""
    thing = things[index]
    if thing.family not in FILLABLE or thing.shape.cavity is None or not thing.shape.can_stand \
            or thing.body.pose[2, 2] < LEVEL_COS:
        return False
    rings = thing.shape.cavity.rings * thing.scale
    widest = np.hypot(rings[..., 0], rings[..., 1]).max()
    inverse = np.linalg.inv(thing.body.pose)
    for other in things[:index] + things[index + 1:]:
        T_thing_other = inverse @ other.body.pose
        points = other.body.vertices @ T_thing_other[:3, :3].T + T_thing_other[:3, 3]
        within = (np.hypot(points[:, 0], points[:, 1]) < widest) \
            & (points[:, 2] > rings[..., 2].min()) & (points[:, 2] < rings[..., 2].max())
        if within.any():
            return False
    return True


def _pour(thing: Thing, instance: int, rng: np.random.Generator) -> dict | None:
    """Fill a vessel; the liquid belongs to it, and has its own material."""
    name, level = pick(liquid_weights(thing.family, LIQUIDS), rng), float(rng.uniform(*FILLED_TO))
    liquid = fill(thing.shape, level, rng)
    material, material_class = build(name, rng)
    item = add_mesh(f'liquid_{instance}', liquid.vertices * thing.scale, liquid.faces, material,
                    Matrix(thing.body.pose), smooth=True)
    item.data.set_sharp_from_angle(angle=liquid.smooth_rad)
    item.pass_index, item['liquid'] = instance, True
    return {'material': name, 'material_class': material_class, 'level': level}
