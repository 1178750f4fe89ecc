"""The room around the things: furniture, walls, photographs, environment and lamps."""
from __future__ import annotations

import math
import sys
from pathlib import Path

import bpy
import numpy as np
from boxes import Box, box_surface
from materials import surface, surrounding
from mathutils import Matrix, Vector
from places import Place
from scene import add_mesh, look_at

ROOM_HEIGHT_M = 2.6
FLOOR_M = -0.75
BROKEN_M = 0.0015
"""No edge of furniture is sharp: it catches light over about this width."""
OWN_LOOK = ('paper', 'screen', 'casing')
"""What never wears a photograph of the user's."""


def furnish(spec: dict, place: Place, poses: np.ndarray, rng: np.random.Generator) -> None:
    """Add the furniture of `place`, and walls that the camera at `poses` does not pass through."""
    materials: dict[str, bpy.types.Material] = {}
    # A scene that does not fit is strange throughout: any pattern in any colour.
    spec['draw_surface'] = surface if rng.random() < spec['objects']['fitting'] else surrounding
    for box, name in [part for piece in place.pieces for part in piece.seen]:
        if name not in materials:
            materials[name] = _material(spec, name, rng)
        _add_box(name, box, materials[name], min(BROKEN_M, 0.2 * min(box.size)))
    wall = _material(spec, 'wall', rng)
    for box in walls(spec, poses, rng):
        _add_box('wall', box, wall)
    floor = np.eye(4)
    floor[2, 3] = FLOOR_M - 0.05
    _add_box('floor', Box((8.0, 8.0, 0.1), floor), _material(spec, 'floor', rng))


def walls(spec: dict, poses: np.ndarray, rng: np.random.Generator) -> list[Box]:
    """
    Draw the walls of a room that holds the whole camera path.

    A camera that stays on one side may have a backdrop close behind the things.
    """
    places = poses[:, :2, 3]
    bearing = np.arctan2(places[:, 1], places[:, 0]) - spec['azimuth_rad']
    one_sided = np.abs((bearing + math.pi) % (2 * math.pi) - math.pi).max() < 0.9
    outside = np.hypot(*places.T).max() + 0.3
    away = rng.uniform(outside, outside + 1.5, 4)
    if one_sided and rng.random() < 0.7:
        away[0] = rng.uniform(*spec['backdrop_m']) + spec['spread_m']
    yaw = spec['azimuth_rad'] + math.pi + rng.uniform(-0.3, 0.3)
    boxes = []
    for index, distance in enumerate(away):
        heading = yaw + index * math.pi / 2
        pose = np.array(Matrix.Rotation(heading, 4, 'Z') @ Matrix.Translation(
            (distance + 0.05, 0, FLOOR_M + ROOM_HEIGHT_M / 2)))
        boxes.append(Box((0.1, 8.0, ROOM_HEIGHT_M), pose))
    # Two walls at most: the light of the environment comes in where there is none.
    return boxes[:int(rng.integers(1, 3))]


def _add_box(name: str, box: Box, material, broken_m: float = 0.0) -> None:
    points, faces = box_surface(Box(box.size, np.eye(4)))
    item = add_mesh(name, points, faces, material, Matrix(box.pose), smooth=False)
    if broken_m:
        bevel = item.modifiers.new('edges', 'BEVEL')
        bevel.width, bevel.segments, bevel.limit_method = broken_m, 2, 'NONE'


def _material(spec: dict, name: str, rng: np.random.Generator):
    """Make a procedural material, or one of a photograph where the user gave a folder of them."""
    files = () if name in OWN_LOOK else spec['texture_files']
    if not files or rng.random() >= spec['texture_share']:
        return spec['draw_surface'](rng, name)
    image = _load(files[rng.integers(len(files))])
    if image is None:
        return spec['draw_surface'](rng, name)
    spec.setdefault('drawn_textures', []).append(Path(image.filepath).name)
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    tree = material.node_tree
    picture, coordinates = (tree.nodes.new(f'ShaderNode{kind}') for kind in ('TexImage',
                                                                             'TexCoord'))
    mapping = tree.nodes.new('ShaderNodeMapping')
    side = float(np.exp(rng.uniform(np.log(0.4), np.log(2.5))))
    mapping.inputs['Scale'].default_value = (1 / side,) * 3
    mapping.inputs['Location'].default_value = rng.uniform(-1, 1, 3)
    mapping.inputs['Rotation'].default_value = (0, 0, rng.uniform(0, 2 * math.pi))
    picture.image, picture.projection, picture.projection_blend = image, 'BOX', 0.1
    picture.extension = 'MIRROR'
    tree.links.new(coordinates.outputs['Object'], mapping.inputs['Vector'])
    tree.links.new(mapping.outputs['Vector'], picture.inputs['Vector'])
    shader = tree.nodes['Principled BSDF']
    shader.inputs['Roughness'].default_value = rng.uniform(0.35, 1.0)
    tree.links.new(picture.outputs['Color'], shader.inputs['Base Color'])
    return material


def _load(path: str):
    """Load an image; None, with a line on stderr, where Blender cannot read it."""
    try:
        image = bpy.data.images.load(path, check_existing=True)
    except RuntimeError as error:
        sys.stderr.write(f'skipped {path}: {error}\n')
        return None
    if not image.size[0]:
        sys.stderr.write(f'skipped {path}: no image that Blender reads\n')
        return None
    return image


def light(spec: dict, rng: np.random.Generator) -> str:
    """Light with an environment and up to two lamps; returns the environment's file name."""
    world = bpy.data.worlds.new('world')
    bpy.context.scene.world = world
    world.use_nodes = True
    tree, files = world.node_tree, spec['hdri_files']
    background = tree.nodes['Background']
    name, image = '', _load(files[rng.integers(len(files))])
    if image is not None:
        name = Path(image.filepath).name
        node, mapping, coordinates = (tree.nodes.new(f'ShaderNode{kind}') for kind in (
            'TexEnvironment', 'Mapping', 'TexCoord'))
        node.image = image
        mapping.inputs['Rotation'].default_value = (0, 0, rng.uniform(0, 2 * math.pi))
        tree.links.new(coordinates.outputs['Generated'], mapping.inputs['Vector'])
        tree.links.new(mapping.outputs['Vector'], node.inputs['Vector'])
        tree.links.new(node.outputs['Color'], background.inputs['Color'])
    background.inputs['Strength'].default_value = rng.uniform(0.3, 1.0)
    for index in range(int(rng.integers(1, 3))):
        _lamp(index, spec['azimuth_rad'], rng)
    return name


def _lamp(index: int, azimuth: float, rng: np.random.Generator) -> None:
    """Add a lamp or a window to one side, from which things throw a shadow."""
    lamp = bpy.data.lights.new(f'lamp_{index}', 'AREA')
    lamp.energy, lamp.size = np.exp(rng.uniform(np.log(8), np.log(50))), rng.uniform(0.15, 0.9)
    warmth = rng.uniform(-0.15, 0.35)
    lamp.color = (1.0 + min(warmth, 0), 1.0 - 0.4 * abs(warmth), 1.0 - max(warmth, 0))
    angle, away = azimuth + rng.uniform(-2.4, 2.4), rng.uniform(0.4, 1.3)
    place = Vector((away * math.cos(angle), away * math.sin(angle), rng.uniform(0.6, 1.6)))
    item = bpy.data.objects.new(lamp.name, lamp)
    item.matrix_world = look_at(place, Vector((0, 0, 0)))
    bpy.context.collection.objects.link(item)
