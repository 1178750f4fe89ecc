"""Build one tabletop scene in Blender: things, table, walls, light and the camera's path."""
from __future__ import annotations

import math
from pathlib import Path

import bpy
import numpy as np
from materials import OBJECT_MATERIALS, surrounding
from mathutils import Matrix, Vector
from shapes import FAMILIES

CLEARANCE_M = 0.008


def build(spec: dict, rng: np.random.Generator) -> list[dict]:
    """Fill an empty Blender file with the scene of `spec`; return a record of each object."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    records = place_objects(spec, rng)
    build_surroundings(spec, rng)
    light_world(spec, rng)
    return records


def draw_objects(spec: dict, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Draw (family, material) pairs; the first is transparent and of a tall family."""
    count = int(rng.integers(spec['min_objects'], spec['max_objects'] + 1))
    tall = ['tumbler', 'jar', 'bottle', 'wine_glass']
    pairs = [(tall[rng.integers(len(tall))], 'glass' if rng.random() < 0.7 else 'clear_plastic')]
    families, names = list(FAMILIES), list(spec['material_weights'])
    weights = np.array([spec['material_weights'][name] for name in names], float)
    for _ in range(count - 1):
        pairs.append((families[rng.integers(len(families))],
                      names[rng.choice(len(names), p=weights / weights.sum())]))
    return pairs


def place_objects(spec: dict, rng: np.random.Generator) -> list[dict]:
    """Stand or lay things on the table, apart from one another, and record them."""
    records, taken = [], []
    for index, (family, material_name) in enumerate(draw_objects(spec, rng)):
        shape = FAMILIES[family](rng)
        lying = shape.can_lie and index > 0 and rng.random() < spec['lying']
        reach = max(shape.radius, shape.height / 2 if lying else 0.0)
        spot = free_spot(spec, rng, taken, reach)
        if spot is None:
            continue
        taken.append((*spot, reach))
        material, material_class = OBJECT_MATERIALS[material_name](rng)
        pose = Matrix.Translation((*spot, 0.0)) @ Matrix.Rotation(rng.uniform(0, 6.283), 4, 'Z')
        if lying:
            pose = pose @ Matrix.Translation((-shape.height / 2, 0, shape.radius)) \
                @ Matrix.Rotation(math.pi / 2, 4, 'Y')
        instance = len(records) + 1
        item = add_mesh(f'{family}_{instance}', shape.vertices, shape.faces, material, pose,
                        smooth=family != 'box')
        item.pass_index = instance
        material.pass_index = material_class
        records.append({
            'instance': instance, 'family': family, 'material': material_name,
            'material_class': material_class, 'height_m': shape.height, 'radius_m': shape.radius,
            'lying': bool(lying), 'T_world_object': [list(row) for row in pose]})
    return records


def free_spot(spec: dict, rng: np.random.Generator, taken: list, reach: float):
    """Find a place (x, y) [m] on the table, or None after 40 tries."""
    for _ in range(40):
        radius = spec['spread_m'] * math.sqrt(rng.random())
        angle = rng.uniform(0, 2 * math.pi)
        x, y = radius * math.cos(angle), radius * math.sin(angle)
        if all(math.hypot(x - ox, y - oy) > reach + r + CLEARANCE_M for ox, oy, r in taken):
            return x, y
    return None


def add_mesh(name, vertices, faces, material, pose, smooth: bool):
    """Link a mesh object with one material to the scene."""
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata([tuple(v) for v in vertices], [], faces)
    mesh.polygons.foreach_set('use_smooth', [smooth] * len(mesh.polygons))
    mesh.materials.append(material)
    item = bpy.data.objects.new(name, mesh)
    item.matrix_world = pose
    bpy.context.collection.objects.link(item)
    return item


def _plane(name: str, size: float, pose: Matrix, material) -> None:
    half = size / 2
    add_mesh(name, [(-half, -half, 0), (half, -half, 0), (half, half, 0), (-half, half, 0)],
             [(0, 1, 2, 3)], material, pose, smooth=False)


def build_surroundings(spec: dict, rng: np.random.Generator) -> None:
    """Add the table and, behind the things, a backdrop of one to three walls."""
    _plane('table', 4.0, Matrix.Identity(4), surrounding(rng, 'table'))
    azimuth = spec['azimuth_rad']
    material = surrounding(rng, 'wall')
    walls = [(0.0, rng.uniform(*spec['backdrop_m']))]
    for side in (-1.0, 1.0):
        if rng.random() < spec['side_wall']:
            walls.append((side * rng.uniform(1.2, 1.7), rng.uniform(0.5, 1.2)))
    tilt = rng.uniform(-0.15, 0.15)
    for turn, distance in walls:
        heading = azimuth + math.pi + turn + rng.uniform(-0.25, 0.25)
        pose = Matrix.Rotation(heading, 4, 'Z') @ Matrix.Translation((distance, 0, 0)) \
            @ Matrix.Rotation(-math.pi / 2 + tilt, 4, 'Y')
        _plane('wall', 4.0, pose, material)


def light_world(spec: dict, rng: np.random.Generator) -> None:
    """Light with one of the HDRI environments inside the bpy wheel and up to two area lamps."""
    world = bpy.data.worlds.new('world')
    bpy.context.scene.world = world
    world.use_nodes = True
    tree = world.node_tree
    background = tree.nodes['Background']
    files = sorted(Path(spec['hdri_folder']).glob('*.exr'))
    image = tree.nodes.new('ShaderNodeTexEnvironment')
    image.image = bpy.data.images.load(str(files[rng.integers(len(files))]), check_existing=True)
    mapping = tree.nodes.new('ShaderNodeMapping')
    mapping.inputs['Rotation'].default_value = (0, 0, rng.uniform(0, 6.283))
    coordinates = tree.nodes.new('ShaderNodeTexCoord')
    tree.links.new(coordinates.outputs['Generated'], mapping.inputs['Vector'])
    tree.links.new(mapping.outputs['Vector'], image.inputs['Vector'])
    tree.links.new(image.outputs['Color'], background.inputs['Color'])
    background.inputs['Strength'].default_value = rng.uniform(0.5, 1.3)
    for index in range(int(rng.integers(0, 3))):
        lamp = bpy.data.lights.new(f'lamp_{index}', 'AREA')
        lamp.energy, lamp.size = rng.uniform(5, 30), rng.uniform(0.1, 0.8)
        lamp.color = rng.uniform(0.8, 1.0, 3)
        item = bpy.data.objects.new(lamp.name, lamp)
        angle = spec['azimuth_rad'] + rng.uniform(-1.3, 1.3)
        place = Vector((math.cos(angle), math.sin(angle), 0)) * rng.uniform(0.3, 1.2)
        place.z = rng.uniform(0.7, 1.6)
        item.matrix_world = look_at(place, Vector((0, 0, 0)))
        bpy.context.collection.objects.link(item)


def look_at(place: Vector, target: Vector) -> Matrix:
    """Return the pose of a Blender camera or lamp (looks along -z, y up) at `place`."""
    turn = (place - target).to_track_quat('Z', 'Y').to_matrix().to_4x4()
    return Matrix.Translation(place) @ turn


def camera_path(spec: dict, rng: np.random.Generator) -> list[Matrix]:
    """
    Draw the camera's poses.

    `orbit` circles the things with sinusoidal changes of radius and height; `views` takes
    unrelated views from the open side, for sets that serve as single images.
    """
    radius, elevation = rng.uniform(*spec['distance_m']), rng.uniform(*spec['elevation_rad'])
    step = rng.uniform(*spec['step_rad']) * (1 if rng.random() < 0.5 else -1)
    phase = rng.uniform(0, 6.283, 3)
    target = Vector((*rng.uniform(-0.03, 0.03, 2), rng.uniform(0.02, 0.08)))
    count = spec['num_frames']
    poses = []
    for index in range(count):
        azimuth = spec['azimuth_rad'] + step * (index - (count - 1) / 2)
        turn = 2 * math.pi * index / max(spec['period_frames'], 1)
        r = radius * (1 + 0.04 * math.sin(turn + phase[0]))
        e = elevation + 0.05 * math.sin(0.7 * turn + phase[1])
        if spec['path'] == 'views':
            azimuth = spec['azimuth_rad'] + rng.uniform(-0.6, 0.6)
            r, e = rng.uniform(*spec['distance_m']), rng.uniform(*spec['elevation_rad'])
            target = Vector((*rng.uniform(-0.04, 0.04, 2), rng.uniform(0.02, 0.08)))
        place = target + r * Vector((math.cos(azimuth) * math.cos(e),
                                     math.sin(azimuth) * math.cos(e), math.sin(e)))
        poses.append(look_at(place, target))
    return poses
