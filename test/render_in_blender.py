"""Run under bpy by test_render_assets: builds every material and a bank; prints JSON."""
import json
import os
import sys
from pathlib import Path

import bpy
import numpy as np

worker, folder = map(Path, sys.argv[1:])
sys.path.insert(0, str(worker))
import bank  # noqa: E402
import materials  # noqa: E402
from materials import surfaces  # noqa: E402
from thrift import use_threads  # noqa: E402

# Blender prints what it imports and exports; the answer alone belongs on standard output.
answer = os.fdopen(os.dup(1), 'w')
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def built(name):
    material, kind = materials.build(name, np.random.default_rng(0))
    output = next(n for n in material.node_tree.nodes if n.type == 'OUTPUT_MATERIAL')
    return {'class': kind, 'pass_index': material.pass_index,
            'surface': output.inputs['Surface'].is_linked,
            'volume': output.inputs['Volume'].is_linked,
            'nodes': sorted(node.type for node in material.node_tree.nodes)}


def untouched_ramps():
    """Return the kinds of surface with a colour that Blender gave and nobody chose."""
    kinds = sorted({kind for kinds in surfaces.MADE_OF.values() for kind in kinds})
    found = []
    for kind in kinds:
        material = bpy.data.materials.new(kind)
        material.use_nodes = True
        tree = material.node_tree
        getattr(surfaces._Maker(tree, np.random.default_rng(0), upright=False), kind)()
        ramps = [node.color_ramp for node in tree.nodes if node.type == 'VALTORGB']
        if any(tuple(stop.color) == (1, 1, 1, 1) for ramp in ramps for stop in ramp.elements):
            found.append(kind)
    return found


def make_bank():
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.mesh.primitive_cube_add(size=0.1, location=(1.0, 2.0, 3.0))
    bpy.ops.mesh.primitive_cylinder_add(radius=0.02, depth=0.2, location=(1.0, 2.0, 3.15))
    bpy.ops.export_scene.gltf(filepath=str(folder / 'a.glb'))
    bpy.ops.export_scene.gltf(filepath=str(folder / 'b.gltf'), export_format='GLTF_SEPARATE')
    bpy.ops.wm.obj_export(filepath=str(folder / 'c.obj'))
    bpy.ops.wm.ply_export(filepath=str(folder / 'd.ply'))
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / 'e.blend'))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.mesh.primitive_plane_add(size=40.0)
    bpy.ops.mesh.primitive_cube_add(size=30.0, location=(0, 0, 20))
    (folder / 'deep').mkdir()
    bpy.ops.wm.obj_export(filepath=str(folder / 'deep' / 'huge.obj'))
    (folder / 'broken.glb').write_bytes(b'not a mesh')
    (folder / 'empty.obj').write_text('# nothing\n')
    (folder / 'sizes.json').write_text('{"d.ply": 0.12}')


def measured(shape):
    return {'low': shape.vertices.min(axis=0).tolist(), 'closed': shape.closed,
            'high': shape.vertices.max(axis=0).tolist(), 'faces': len(shape.faces),
            'height': shape.height}


def threads(count):
    use_threads(count)
    return [bpy.context.scene.render.threads_mode, bpy.context.scene.render.threads]


make_bank()
families, problems = bank.read_bank(folder, folder / 'cache', (0.05, 0.4))
stamps = {path.name: path.stat().st_mtime_ns for path in (folder / 'cache').glob('*.npz')}
bank.read_bank(folder, folder / 'cache', (0.05, 0.4))
again = {path.name: path.stat().st_mtime_ns for path in (folder / 'cache').glob('*.npz')}
json.dump({
    'materials': {name: built(name) for name in {**materials.LIBRARY, **materials.LIQUIDS}},
    'bank': {name: measured(make(np.random.default_rng(0))) for name, make in families.items()},
    'untouched_ramps': untouched_ramps(), 'threads': [threads(0)[0], threads(3)],
    'problems': problems, 'cached': len(stamps),
    'read_again': stamps != again}, answer)
