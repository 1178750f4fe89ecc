"""Run under bpy by test_render_blender.py: what is drawn, from a bank too, and what is filled."""
import json
import os
import sys
from pathlib import Path

worker, spec_file, folder = map(Path, sys.argv[1:])
sys.path.insert(0, str(worker))
import bpy  # noqa: E402
import numpy as np  # noqa: E402
import shapes  # noqa: E402
import things  # noqa: E402
from places import draw_place, upright  # noqa: E402

answer = os.fdopen(os.dup(1), 'w')
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def make_bank():
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.mesh.primitive_cube_add(size=0.1)
    bpy.ops.wm.obj_export(filepath=str(folder / 'block.obj'))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.mesh.primitive_plane_add(size=0.1)
    bpy.ops.object.mode_set(mode='EDIT')
    bpy.ops.mesh.subdivide(number_cuts=3)
    bpy.ops.object.mode_set(mode='OBJECT')
    bpy.ops.wm.obj_export(filepath=str(folder / 'sheet.obj'))
    (folder / 'broken.ply').write_bytes(b'no mesh')
    (folder / 'assets.json').write_text(json.dumps({'assets': [
        {'file': 'block.obj', 'transparent': True, 'reflective': False}]}))


def standing(family, pose, seed=0):
    thing = things.Thing(family, shapes.LIBRARY[family](np.random.default_rng(seed)), 'crystal')
    thing.start(pose)
    return thing


spec = json.loads(spec_file.read_text())
make_bank()
bank, problems = things.open_bank(spec)
rng = np.random.default_rng(1)
drawn = [things.draw_thing(spec, bank, index == 0, rng) for index in range(60)]
tilted = upright(0, 0, 0)
tilted[:3, :3] = [[1, 0, 0], [0, 0.995, -0.0998], [0, 0.0998, 0.995]]
bowl, ball = standing('bowl', upright(0, 0, 0)), standing('sphere', upright(0, 0, 0.02))
rest = things.things_at_rest(spec, 'fall', draw_place('bin', 0.17, 0.5, rng), bank,
                             np.random.default_rng(5))
spec['objects']['filled'] = 1.0
bpy.ops.wm.read_factory_settings(use_empty=True)
glass = standing('tumbler', upright(0.1, 0, 0))
record = things.add_thing(spec, [glass], 0, rng)
meshes = {item.name: [item.pass_index, [list(c) for c in item.bound_box],
                      bool(item.get('liquid'))] for item in bpy.data.objects}
json.dump({
    'problems': problems, 'record': record, 'meshes': meshes, 'rest': len(rest),
    'drawn': [[t.family, t.material, t.source] for t in drawn],
    'holds': {'alone': things.holds([bowl], 0), 'ball': things.holds([bowl, ball], 0),
              'tilted': things.holds([standing('bowl', tilted)], 0),
              'tube': things.holds([standing('test_tube', upright(0, 0, 0))], 0),
              'plate': things.holds([standing('plate', upright(0, 0, 0))], 0)}}, answer)
