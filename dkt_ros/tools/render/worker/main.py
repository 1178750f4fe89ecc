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
from mathutils import Matrix

sys.path.insert(0, str(Path(__file__).resolve().parent))
import compose  # noqa: E402
import given  # noqa: E402
import infrared  # noqa: E402
import scene as tabletop  # noqa: E402
import things  # noqa: E402
from thrift import be_thrifty, use_threads  # noqa: E402

OPTICAL_TO_BLENDER = np.diag([1.0, -1.0, -1.0, 1.0])
DEVICES = ('OPTIX', 'CUDA', 'HIP', 'METAL', 'ONEAPI')


def hdri_folder() -> str:
    """Return the folder of the environments that the bpy wheel ships."""
    folder = Path(bpy.utils.resource_path('LOCAL')) / 'datafiles' / 'studiolights' / 'world'
    if not any(folder.glob('*.exr')):
        raise FileNotFoundError(f'no HDRI environments in {folder}; reinstall the bpy wheel')
    return str(folder)


def choose_device(wanted: str) -> str:
    """Switch Cycles to the first kind of device that is there; returns it, or CPU."""
    if wanted == 'cpu':
        return 'CPU'
    preferences = bpy.context.preferences.addons['cycles'].preferences
    for kind in DEVICES if wanted == 'auto' else (wanted.upper(),):
        try:
            preferences.compute_device_type = kind
        except TypeError:
            continue  # this Blender is built without it
        preferences.get_devices()
        found = [device for device in preferences.devices if device.type == kind]
        if found:
            for device in preferences.devices:
                device.use = device.type == kind
            return kind
    if wanted != 'auto':
        raise SystemExit(f'no {wanted} device is here; allowed: auto, cpu, '
                         f'{", ".join(DEVICES).lower()}')
    preferences.compute_device_type = 'NONE'
    return 'CPU'


def configure(spec: dict) -> str:
    """Set up Cycles, the denoiser, the passes and multilayer EXR output; returns the device."""
    device = choose_device(spec['device'])
    scene = bpy.context.scene
    scene.render.engine = 'CYCLES'
    cycles = scene.cycles
    cycles.device = 'CPU' if device == 'CPU' else 'GPU'
    cycles.samples, cycles.seed = spec['samples'], spec['seed'] % 2**31
    cycles.use_adaptive_sampling = False
    cycles.use_denoising = True
    cycles.denoiser = 'OPTIX' if device == 'OPTIX' else 'OPENIMAGEDENOISE'
    cycles.denoising_prefilter = 'FAST'
    cycles.transparent_max_bounces = 8
    if spec['thrifty']:
        # A glass with a liquid in it has twice the surfaces of an empty one.
        be_thrifty(10 if spec['preset'] == 'tabletop-v1' else 16)
    render = scene.render
    render.resolution_x, render.resolution_y = spec['width'], spec['height']
    render.resolution_percentage = 100
    use_threads(spec['threads'])
    render.film_transparent = False
    layer = scene.view_layers[0]
    layer.use_pass_z = layer.use_pass_normal = True
    layer.use_pass_object_index = layer.use_pass_material_index = True
    settings = render.image_settings
    settings.file_format, settings.color_depth = 'OPEN_EXR_MULTILAYER', '32'
    settings.exr_codec = 'NONE'
    return device


def add_camera(spec: dict):
    """Add the camera with the intrinsics of `spec`: fx, fy and, if not the middle, cx, cy."""
    width, height = spec['width'], spec['height']
    data = bpy.data.cameras.new('camera')
    data.sensor_fit, data.sensor_width = 'HORIZONTAL', 36.0
    data.lens = spec['fx'] / width * data.sensor_width
    data.shift_x = ((width - 1) / 2 - spec['cx']) / width
    # A vertical shift counts in widths, of pixels as high as they are wide.
    data.shift_y = (spec['cy'] - (height - 1) / 2) * (spec['fx'] / spec['fy']) / width
    data.clip_start, data.clip_end = 0.01, 20.0
    render = bpy.context.scene.render
    render.pixel_aspect_x, render.pixel_aspect_y = 1.0, 1.0
    if spec['fx'] > spec['fy']:
        render.pixel_aspect_y = spec['fx'] / spec['fy']
    elif spec['fx'] < spec['fy']:
        render.pixel_aspect_x = spec['fy'] / spec['fx']
    item = bpy.data.objects.new('camera', data)
    bpy.context.collection.objects.link(item)
    bpy.context.scene.camera = item
    return item


def export_meshes(frames: Path) -> None:
    """Write vertices [m] and triangles of each instance, in the object's frame."""
    for item in bpy.data.objects:
        if item.type != 'MESH' or not item.pass_index or 'liquid' in item:
            continue
        mesh = item.data
        mesh.calc_loop_triangles()
        vertices = np.empty(3 * len(mesh.vertices), np.float32)
        triangles = np.empty(3 * len(mesh.loop_triangles), np.int32)
        mesh.vertices.foreach_get('co', vertices)
        mesh.loop_triangles.foreach_get('vertices', triangles)
        np.savez(frames / f'mesh_{item.pass_index:04d}.npz', vertices=vertices.reshape(-1, 3),
                 triangles=triangles.reshape(-1, 3))


def draw_camera(spec: dict, rng: np.random.Generator) -> None:
    """Fill in the intrinsics that the job leaves to chance."""
    width, height = spec['width'], spec['height']
    drawn = float(width * rng.uniform(*spec['focal_widths']))
    given = spec['intrinsics'] or (drawn, drawn, (width - 1) / 2, (height - 1) / 2)
    spec.update(zip(('fx', 'fy', 'cx', 'cy'), given))


def build(spec: dict, rng: np.random.Generator,
          bank: things.Bank | None = None) -> tuple[list[dict], list[Matrix], dict]:
    """Build the scene; return its objects, the camera's poses as Blender has them, and notes."""
    if spec['preset'] == 'tabletop-v1':
        spec['hdri_folder'] = hdri_folder()
        records = tabletop.build(spec, rng)
        return records, tabletop.camera_path(spec, rng), {}
    spec['hdri_files'] = spec['hdri_files'] or sorted(
        str(path) for path in Path(hdri_folder()).glob('*.exr'))
    records, poses, notes = given.compose_given(spec, rng) if spec.get('given') \
        else compose.compose(spec, bank, rng)
    return records, [Matrix(pose @ OPTICAL_TO_BLENDER) for pose in poses], notes


def animate(camera, path: list[Matrix], shutter: float) -> None:
    """Move the camera from pose to pose in a straight line, for motion blur."""
    camera.rotation_mode = 'QUATERNION'
    last = None
    for index, pose in enumerate(path):
        place, turn, _ = pose.decompose()
        if last is not None and turn.dot(last) < 0:
            turn.negate()
        last = turn
        camera.location, camera.rotation_quaternion = place, turn
        for channel in ('location', 'rotation_quaternion'):
            camera.keyframe_insert(channel, frame=index)
    for curve in camera.animation_data.action.fcurves:
        for key in curve.keyframe_points:
            key.interpolation = 'LINEAR'
    bpy.context.scene.render.motion_blur_shutter = shutter


def render_frame(spec: dict, camera, index: int, path: list[Matrix], frames: Path) -> None:
    """Render one frame; with motion blur the passes come from a second, sharp picture."""
    scene = bpy.context.scene
    scene.cycles.seed = (spec['seed'] * 131 + index) % 2**31
    if spec['motion_blur'] > 0:
        scene.frame_set(index)
        scene.render.use_motion_blur = True
        scene.render.filepath = str(frames / f'{index:04d}_blurred.exr')
        bpy.ops.render.render(write_still=True)
        scene.render.use_motion_blur, scene.cycles.samples = False, 1
    else:
        camera.matrix_world = path[index]
    scene.render.filepath = str(frames / f'{index:04d}.exr')
    bpy.ops.render.render(write_still=True)
    scene.cycles.samples = spec['samples']


def _clocks() -> tuple[float, float]:
    """
    Return the time and the processor time of all threads [s].

    Without what the kernel took: there an idle thread of Blender's yields in a loop while another
    one draws, which holds nobody up.
    """
    return time.monotonic(), os.times().user


def render_scene(spec: dict, bank: things.Bank | None, out: Path, parent: int) -> dict:
    """Render all frames of one scene; return its record."""
    clock = [_clocks()]
    rng = np.random.default_rng(spec['seed'])
    spec['azimuth_rad'] = float(rng.uniform(0, 2 * math.pi))
    draw_camera(spec, rng)
    records, path, notes = build(spec, rng, bank)
    device = configure(spec)
    camera = add_camera(spec)
    frames = out / f'{spec["name"]}.frames'
    frames.mkdir(parents=True, exist_ok=True)
    export_meshes(frames)
    if spec['motion_blur'] > 0:
        animate(camera, path, spec['motion_blur'])
    clock.append(_clocks())
    for index in range(len(path)):
        if os.getppid() != parent:  # where the kernel does not tell, or told too early
            raise SystemExit('the process that started this one is gone')
        render_frame(spec, camera, index, path, frames)
    clock.append(_clocks())
    if spec['infrared']:
        infrared.render_pairs(spec, path, camera, frames)
    clock.append(_clocks())
    parts = ('build', 'frames', 'infrared')
    seconds, processor = (dict(zip(parts, took)) for took in np.diff(clock, axis=0).T.tolist())
    # Blender looks along -z with y up; the optical frame looks along +z with y down.
    poses = [(np.array(pose) @ OPTICAL_TO_BLENDER).tolist() for pose in path]
    return {'name': spec['name'], 'seed': spec['seed'], 'objects': records, 'scene': notes,
            **{key: spec[key] for key in ('width', 'height', 'fx', 'fy', 'cx', 'cy')},
            'T_world_camera': poses, 'blender': bpy.app.version_string, 'device': device,
            'seconds': seconds, 'processor_seconds': processor}


def run(job: dict, tell) -> None:
    """Read the bank of the job, if it has one, and render every scene."""
    out, bank = Path(job['out']), None
    if job['scenes'][0]['preset'] != 'tabletop-v1':
        try:
            bank, problems = things.open_bank(job['scenes'][0])
        except ValueError as error:
            tell({'error': str(error)})
            return
        for problem in problems:
            tell({'problem': problem})
    for spec in [] if job['bank_only'] else job['scenes']:
        try:
            record = render_scene(spec, bank, out, job['parent'])
        except compose.NoRest as error:
            record = {'name': spec['name'], 'seed': spec['seed'], 'failed': str(error)}
        temporary = out / f'{spec["name"]}.json.tmp'
        temporary.write_text(json.dumps(record))
        temporary.replace(out / f'{spec["name"]}.json')
        tell({'done': spec['name']})


def main() -> None:
    """Run the job of the command line; standard output carries one JSON line an event."""
    protocol = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Blender prints a line a frame
    job = json.loads(Path(sys.argv[1]).read_text())
    run(job, lambda line: protocol.write(json.dumps(line) + '\n'))


if __name__ == '__main__':
    main()
