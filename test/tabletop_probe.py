"""Run under bpy by test_tabletop.py: what a spec of tabletop-v1 draws, boiled down to numbers."""
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import bpy  # noqa: E402
import main as worker  # noqa: E402
import numpy as np  # noqa: E402


def boiled(numbers):
    """Return count, sum and a sum that knows the order."""
    numbers = np.asarray(numbers, float).ravel()
    return [len(numbers), float(numbers.sum()),
            float(numbers @ np.sin(1.0 + np.arange(len(numbers))))]


def mesh_of(item):
    points = np.empty(3 * len(item.data.vertices), np.float32)
    item.data.vertices.foreach_get('co', points)
    corners = [vertex for face in item.data.polygons for vertex in face.vertices]
    return {'name': item.name, 'pose': boiled(np.array(item.matrix_world)),
            'points': boiled(points), 'corners': boiled(corners), 'index': item.pass_index,
            'material': item.data.materials[0].name}


def tree_of(tree):
    numbers, nodes = [], []
    for node in tree.nodes:
        nodes.append(node.bl_idname)
        for socket in node.inputs:
            value = getattr(socket, 'default_value', 0.0)
            if not isinstance(value, str):
                numbers += np.atleast_1d(np.array(value, float)).tolist()
        if node.type == 'VALTORGB':
            numbers += [v for e in node.color_ramp.elements for v in (e.position, *e.color)]
        if node.type == 'TEX_ENVIRONMENT':
            nodes.append(Path(node.image.filepath).name)
    return {'nodes': nodes, 'links': len(tree.links), 'numbers': boiled(numbers)}


def drawn(spec):
    rng = np.random.default_rng(spec['seed'])
    spec['azimuth_rad'] = float(rng.uniform(0, 2 * np.pi))
    worker.draw_camera(spec, rng)
    records, path, notes = worker.build(spec, rng)
    worker.configure(spec)
    cycles = bpy.context.scene.cycles
    kinds = {kind: [item for item in bpy.data.objects if item.type == kind]
             for kind in ('MESH', 'LIGHT')}
    return {
        'objects': [[r['family'], r['material'], r['lying']] for r in records], 'notes': notes,
        'poses': boiled([r['T_world_object'] for r in records]),
        'path': boiled([np.array(pose) for pose in path]), 'fx': spec['fx'],
        'meshes': [mesh_of(item) for item in kinds['MESH']],
        'lamps': [boiled([*np.array(item.matrix_world).ravel(), item.data.energy,
                          item.data.size, *item.data.color]) for item in kinds['LIGHT']],
        'materials': {m.name: [m.pass_index, tree_of(m.node_tree)] for m in bpy.data.materials
                      if m.users and m.use_nodes},
        'world': tree_of(bpy.context.scene.world.node_tree),
        'cycles': [cycles.samples, cycles.max_bounces, cycles.transmission_bounces,
                   cycles.transparent_max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces,
                   cycles.sample_clamp_indirect, cycles.denoising_prefilter,
                   cycles.caustics_refractive, cycles.use_adaptive_sampling]}


answer = os.fdopen(os.dup(1), 'w')
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
json.dump([drawn(spec) for spec in json.loads(Path(sys.argv[2]).read_text())], answer)
