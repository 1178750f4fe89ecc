"""
Draw one small picture a thing under bpy: `python sheet.py JOB.json`.

The job names tiles: a family or a mesh of a bank, and a material. Each becomes a PNG of its own,
written whole or not at all; one that exists is not drawn again. Prints one JSON line a tile.
"""
from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path

import bpy
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from bank import read_bank  # noqa: E402
from materials import LIQUIDS, build  # noqa: E402
from mathutils import Matrix, Vector  # noqa: E402
from shapes import LIBRARY, Shape, fill  # noqa: E402
from thrift import use_threads  # noqa: E402

HDRI = 'interior.exr'
VIEW_RAD = math.radians(28)
DISTANCE_IN_SIZES = 2.5


def configure(job: dict) -> None:
    """Set up a small denoised Cycles picture."""
    scene = bpy.context.scene
    scene.render.engine = 'CYCLES'
    cycles = scene.cycles
    cycles.device, cycles.samples, cycles.use_denoising = 'CPU', job['samples'], True
    cycles.max_bounces = cycles.transmission_bounces = 14
    cycles.caustics_reflective = cycles.caustics_refractive = False
    cycles.sample_clamp_indirect = 4.0
    render = scene.render
    render.resolution_x = render.resolution_y = job['size_px']
    render.resolution_percentage, render.use_persistent_data = 100, True
    use_threads(job['threads'])
    scene.view_settings.view_transform = 'Standard'
    scene.view_settings.exposure = -0.5


def surroundings() -> None:
    """Add a table with a pattern, an HDRI of a room, and a camera."""
    scene = bpy.context.scene
    scene.world = bpy.data.worlds.new('world')
    scene.world.use_nodes = True
    tree = scene.world.node_tree
    image = tree.nodes.new('ShaderNodeTexEnvironment')
    folder = Path(bpy.utils.resource_path('LOCAL')) / 'datafiles' / 'studiolights' / 'world'
    image.image = bpy.data.images.load(str(folder / HDRI))
    tree.links.new(image.outputs['Color'], tree.nodes['Background'].inputs['Color'])
    table, material = bpy.data.meshes.new('table'), bpy.data.materials.new('table')
    table.from_pydata([(-9, -9, 0), (9, -9, 0), (9, 9, 0), (-9, 9, 0)], [], [(0, 1, 2, 3)])
    material.use_nodes = True
    tree = material.node_tree
    checker, place = tree.nodes.new('ShaderNodeTexChecker'), tree.nodes.new('ShaderNodeTexCoord')
    checker.inputs['Color1'].default_value = (0.30, 0.28, 0.26, 1)
    checker.inputs['Color2'].default_value = (0.17, 0.18, 0.20, 1)
    checker.inputs['Scale'].default_value = 18.0
    tree.links.new(place.outputs['Object'], checker.inputs['Vector'])
    tree.links.new(checker.outputs['Color'],
                   tree.nodes['Principled BSDF'].inputs['Base Color'])
    table.materials.append(material)
    scene.collection.objects.link(bpy.data.objects.new('table', table))
    camera = bpy.data.cameras.new('camera')
    camera.lens, camera.clip_start = 70.0, 0.005
    scene.camera = bpy.data.objects.new('camera', camera)
    scene.collection.objects.link(scene.camera)


def add(shape: Shape, material, pose: Matrix, name: str):
    """Link a shape to the scene, its sharp edges marked."""
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(shape.vertices.tolist(), [], shape.faces)
    mesh.polygons.foreach_set('use_smooth', [True] * len(mesh.polygons))
    mesh.set_sharp_from_angle(angle=shape.smooth_rad)
    mesh.materials.append(material)
    item = bpy.data.objects.new(name, mesh)
    item.matrix_world = pose
    bpy.context.scene.collection.objects.link(item)
    return item


def aim(items: list) -> None:
    """Put the camera where the things fill the picture."""
    corners = np.array([item.matrix_world @ Vector(c) for item in items for c in item.bound_box])
    middle = Vector((corners.min(axis=0) + corners.max(axis=0)) / 2)
    sides = np.ptp(corners, axis=0)
    size = max(float(np.linalg.norm(sides)) / math.sqrt(1.6), 1.1 * float(sides.max()))
    away = Vector((0.35 * math.cos(VIEW_RAD), -0.94 * math.cos(VIEW_RAD), math.sin(VIEW_RAD)))
    place = middle + away * (DISTANCE_IN_SIZES * size)
    turn = away.to_track_quat('Z', 'Y').to_matrix().to_4x4()
    bpy.context.scene.camera.matrix_world = Matrix.Translation(place) @ turn


def draw(tile: dict, families: dict, path: Path) -> None:
    """Draw one tile to a PNG file."""
    rng = np.random.default_rng(tile['seed'])
    shape = families[tile['family']](rng)
    rng = np.random.default_rng((tile['seed'], tile.get('material_seed', 0)))
    pose = Matrix.Identity(4)
    if not shape.can_stand:
        pose = Matrix.Translation((-shape.height / 2, 0, shape.radius)) \
            @ Matrix.Rotation(math.pi / 2, 4, 'Y')
    items = [add(shape, build(tile['material'], rng)[0], pose, 'thing')]
    if tile.get('liquid'):
        name = list(LIQUIDS)[rng.integers(len(LIQUIDS))] if tile['liquid'] == 'any' \
            else tile['liquid']
        liquid = fill(shape, float(rng.uniform(0.4, 0.75)), rng)
        items.append(add(liquid, build(name, rng)[0], pose, 'liquid'))
    aim(items[:1])
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}.png')
    bpy.context.scene.render.filepath = str(temporary)
    bpy.ops.render.render(write_still=True)
    os.replace(temporary, path)
    for item in items:
        mesh = item.data
        bpy.data.objects.remove(item)
        bpy.data.meshes.remove(mesh)


def run(job: dict, tell) -> None:
    """Draw the tiles of a job."""
    families = dict(LIBRARY)
    if job.get('bank'):
        families, problems = read_bank(job['bank'], job['cache'], job['longest_m'])
        for problem in problems:
            tell({'problem': problem})
    bpy.ops.wm.read_factory_settings(use_empty=True)
    configure(job)
    surroundings()
    for tile in job['tiles']:
        path = Path(tile['path'])
        if tile['family'] in families:
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                draw(tile, families, path)
            tell({'done': tile['path']})


def main() -> None:
    """Run the job; a mistake in it becomes one line with its sentence."""
    job = json.loads(Path(sys.argv[1]).read_text())
    protocol = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Blender prints a line a frame

    def tell(line: dict) -> None:
        protocol.write(json.dumps(line) + '\n')

    try:
        run(job, tell)
    except ValueError as error:
        tell({'error': str(error)})


if __name__ == '__main__':
    main()
