"""
Render raw passes under bpy: `python main.py JOB.json`, with an interpreter that has bpy.

The job names scenes; for each one the worker writes `NAME.frames/0000.exr` (multilayer: colour,
depth, normal, object and material index) and `NAME.json`, and prints one JSON line. It imports
nothing of dkt_ros, because it runs in an interpreter of its own.
"""
from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path

import bpy
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import infrared  # noqa: E402
import scene as tabletop  # noqa: E402


def hdri_folder() -> str:
    """Return the folder of the environments that the bpy wheel ships."""
    folder = Path(bpy.utils.resource_path('LOCAL')) / 'datafiles' / 'studiolights' / 'world'
    if not any(folder.glob('*.exr')):
        raise FileNotFoundError(f'no HDRI environments in {folder}; reinstall the bpy wheel')
    return str(folder)


def configure(spec: dict) -> None:
    """Set up Cycles, the denoiser, the passes and multilayer EXR output."""
    scene = bpy.context.scene
    scene.render.engine = 'CYCLES'
    cycles = scene.cycles
    cycles.device, cycles.samples, cycles.seed = 'CPU', spec['samples'], spec['seed'] % 2**31
    cycles.use_adaptive_sampling = False
    cycles.use_denoising, cycles.denoiser = True, 'OPENIMAGEDENOISE'
    cycles.denoising_prefilter = 'FAST'
    cycles.max_bounces, cycles.transmission_bounces, cycles.transparent_max_bounces = 10, 10, 8
    cycles.diffuse_bounces, cycles.glossy_bounces = 2, 4
    cycles.caustics_reflective = cycles.caustics_refractive = False
    cycles.sample_clamp_indirect = 4.0
    render = scene.render
    render.resolution_x, render.resolution_y = spec['width'], spec['height']
    render.resolution_percentage, render.use_persistent_data = 100, True
    render.threads_mode, render.threads = 'FIXED', spec['threads']
    render.film_transparent = False
    layer = scene.view_layers[0]
    layer.use_pass_z = layer.use_pass_normal = True
    layer.use_pass_object_index = layer.use_pass_material_index = True
    settings = render.image_settings
    settings.file_format, settings.color_depth = 'OPEN_EXR_MULTILAYER', '32'
    settings.exr_codec = 'NONE'


def add_camera(spec: dict):
    """Add the camera with the intrinsics of `spec` (square pixels, centred)."""
    data = bpy.data.cameras.new('camera')
    data.sensor_fit, data.sensor_width = 'HORIZONTAL', 36.0
    data.lens = spec['fx'] / spec['width'] * data.sensor_width
    data.clip_start, data.clip_end = 0.01, 20.0
    item = bpy.data.objects.new('camera', data)
    bpy.context.collection.objects.link(item)
    bpy.context.scene.camera = item
    return item


def export_meshes(frames: Path) -> None:
    """Write vertices [m] and triangles of each instance, in the object's frame."""
    for item in bpy.data.objects:
        if item.type != 'MESH' or not item.pass_index:
            continue
        mesh = item.data
        mesh.calc_loop_triangles()
        vertices = np.empty(3 * len(mesh.vertices), np.float32)
        triangles = np.empty(3 * len(mesh.loop_triangles), np.int32)
        mesh.vertices.foreach_get('co', vertices)
        mesh.loop_triangles.foreach_get('vertices', triangles)
        np.savez(frames / f'mesh_{item.pass_index:04d}.npz', vertices=vertices.reshape(-1, 3),
                 triangles=triangles.reshape(-1, 3))


def render_scene(spec: dict, out: Path) -> dict:
    """Render all frames of one scene; return its record."""
    rng = np.random.default_rng(spec['seed'])
    spec['azimuth_rad'] = float(rng.uniform(0, 2 * math.pi))
    spec['hdri_folder'] = hdri_folder()
    spec['fx'] = spec['fy'] = float(spec['width'] * rng.uniform(*spec['focal_widths']))
    records = tabletop.build(spec, rng)
    configure(spec)
    camera = add_camera(spec)
    frames = out / f'{spec["name"]}.frames'
    frames.mkdir(parents=True, exist_ok=True)
    export_meshes(frames)
    poses, path = [], tabletop.camera_path(spec, rng)
    for index, pose in enumerate(path):
        camera.matrix_world = pose
        bpy.context.scene.render.filepath = str(frames / f'{index:04d}.exr')
        bpy.context.scene.cycles.seed = (spec['seed'] * 131 + index) % 2**31
        bpy.ops.render.render(write_still=True)
        # Blender looks along -z with y up; the optical frame looks along +z with y down.
        optical = np.array(pose) @ np.diag([1.0, -1.0, -1.0, 1.0])
        poses.append(optical.tolist())
    if spec['infrared']:
        infrared.render_pairs(spec, path, camera, frames)
    return {'name': spec['name'], 'seed': spec['seed'], 'fx': spec['fx'], 'objects': records,
            'width': spec['width'], 'height': spec['height'], 'T_world_camera': poses,
            'blender': bpy.app.version_string}


def main() -> None:
    """Render every scene of the job that has no record yet."""
    job = json.loads(Path(sys.argv[1]).read_text())
    out = Path(job['out'])
    protocol = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Blender prints a line a frame
    for spec in job['scenes']:
        started = time.monotonic()
        record = render_scene(spec, out)
        temporary = out / f'{spec["name"]}.json.tmp'
        temporary.write_text(json.dumps(record))
        temporary.replace(out / f'{spec["name"]}.json')
        protocol.write(json.dumps({'done': spec['name'],
                                   'seconds': time.monotonic() - started}) + '\n')


if __name__ == '__main__':
    main()
