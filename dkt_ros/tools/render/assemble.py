"""Make a scene folder of what the worker drew: exposure, optical frame, sensor, meshes."""
from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dkt_ros.camera import PinholeCamera
from dkt_ros.config import RenderConfig
from dkt_ros.data.images import write_image
from dkt_ros.data.scenes import CAMERA_KEYS, SceneFrame, write_scene
from dkt_ros.frame import Frame
from dkt_ros.material import Material
from dkt_ros.tools.render.passes import (
    auto_exposure,
    camera_normals,
    read_infrared,
    read_passes,
    roll_off,
    shoot,
    to_srgb,
)
from dkt_ros.tools.render.sensor import simulate_sensor
from dkt_ros.tools.render.stereo import PATTERN_MARGIN, dot_pattern, sense, stereo_rig


def scene_name(seed: int) -> str:
    """Return the folder name of the scene with this seed."""
    return f'scene_{seed:08d}'


def stereo_frames(config: RenderConfig) -> list[int]:
    """Return the frames whose sensor is a rendered infrared pair."""
    if config.sensor.kind != 'stereo':
        return []
    if config.sensor.every < 0:
        return [config.num_frames - 1]
    return list(range(0, config.num_frames, config.sensor.every or config.num_frames))


def infrared_spec(config: RenderConfig, work: Path) -> dict | None:
    """Return what the worker needs to render infrared pairs; writes the pattern into `work`."""
    frames = stereo_frames(config)
    if not frames:
        return None
    stereo = config.sensor.stereo
    rig = stereo_rig(stereo)
    pattern = work / 'pattern.png'
    if not pattern.is_file():
        write_image(pattern, np.rint(255 * dot_pattern(stereo.pattern_seed)).astype(np.uint8))
    return {'frames': frames, 'width': stereo.width, 'height': stereo.height, 'fx': rig.camera.fx,
            'baseline_m': rig.baseline_m, 'offset_m': rig.offset_m, 'samples': stereo.samples,
            'projector_w': stereo.projector_w, 'ambient': stereo.ambient,
            'haze': stereo.haze, 'pattern': str(pattern),
            'half_width': PATTERN_MARGIN * 0.5 * stereo.width / rig.camera.fx}


def accept_scene(record: dict, work: Path, out: Path, config: RenderConfig) -> bool:
    """Write the scene folder of a drawn scene if it shows enough glass; drop the raw passes."""
    folder = work / f'{record["name"]}.frames'
    try:
        frames = list(scene_frames(record, folder, config))
        glass = np.mean([np.mean(f.material == Material.TRANSPARENT) for f in frames])
        if glass < config.min_glass:
            return False
        seed = record['scene_seed']
        write_scene(out / scene_name(seed), name=scene_name(seed), seed=seed,
                    preset=config.preset, fps=config.fps, camera=frames[0].frame.camera,
                    frames=frames, objects=[object_record(item) for item in record['objects']],
                    settings={'render': drawing_options(config), 'blender': record['blender'],
                              'attempt_seed': record['seed'], **record.get('scene', {})},
                    infrared=_infrared_record(config), meshes=_meshes(folder, record, config))
        return True
    finally:
        shutil.rmtree(folder)


def drawing_options(config: RenderConfig) -> dict:
    """Return the options that a scene depends on; a machine's own are left out."""
    idle = ('objects', 'highlights') if config.preset == 'tabletop-v1' else ()
    return {key: value for key, value in config.to_dict().items()
            if key not in ('interpreter', 'workers', 'cost_per_hour', *idle)}


def _infrared_record(config: RenderConfig) -> dict | None:
    if not stereo_frames(config):
        return None
    rig = stereo_rig(config.sensor.stereo)
    return {**{key: getattr(rig.camera, key) for key in CAMERA_KEYS},
            'baseline_m': rig.baseline_m, 'offset_m': rig.offset_m,
            'model': config.sensor.stereo.model}


def _meshes(folder: Path, record: dict, config: RenderConfig) -> dict:
    if not config.meshes:
        return {}
    meshes = {}
    for item in record['objects']:
        with np.load(folder / f'mesh_{item["instance"]:04d}.npz') as mesh:
            meshes[item['instance']] = mesh['vertices'], mesh['triangles']
    return meshes


def object_record(item: dict) -> dict:
    """Return an object of the worker in the scene folder's terms."""
    record = {'instance': item['instance'], 'family': item['family'], 'material': item['material'],
              'material_class': Material(item['material_class']).label, 'lying': item['lying'],
              'size_m': [2 * item['radius_m'], 2 * item['radius_m'], item['height_m']],
              'T_world_object': item['T_world_object']}
    if item.get('source'):
        record['source'] = item['source']
    if item.get('liquid'):
        label = Material(item['liquid']['material_class']).label
        record['liquid'] = {**item['liquid'], 'material_class': label}
    return record


def record_camera(record: dict) -> PinholeCamera:
    """
    Return the colour camera of a drawn scene.

    Without a principal point of its own, it is the image centre; pixel centres lie on integers.
    """
    width, height, fx = record['width'], record['height'], record['fx']
    return PinholeCamera(width, height, fx, record.get('fy', fx),
                         record.get('cx', (width - 1) / 2), record.get('cy', (height - 1) / 2))


def sense_pair(record: dict, folder: Path, index: int,
               config: RenderConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return raw disparity and aligned depth of a frame's infrared pair, as `sense` does."""
    pair = tuple(read_infrared(folder / f'{index:04d}_{side}.exr') for side in ('left', 'right'))
    return sense(pair, record_camera(record), config.sensor.stereo,
                 np.random.default_rng((record['seed'], index, 13)))


def scene_frames(record: dict, folder: Path, config: RenderConfig) -> Iterator[SceneFrame]:
    """Yield the frames of a drawn scene: exposed, in the optical frame, with a sensor's depth."""
    camera = record_camera(record)
    rng = np.random.default_rng((record['seed'], 3))
    highlights = 1.0 if config.preset == 'tabletop-v1' else config.highlights
    gain = None
    pairs = set(stereo_frames(config))
    for index, pose in enumerate(record['T_world_camera']):
        passes = read_passes(folder / f'{index:04d}.exr')
        linear = passes['linear']
        if config.motion_blur > 0:
            linear = read_passes(folder / f'{index:04d}_blurred.exr')['linear']
        if gain is None:
            gain = auto_exposure(linear, rng.uniform(*config.exposure))
        pose = np.asarray(pose)
        disparity = None
        if index in pairs:
            disparity, sensor = sense_pair(record, folder, index, config)
        else:
            sensor = simulate_sensor(passes['depth'], passes['material'], passes['instance'],
                                     camera.fx, config.sensor, record['seed'], index)
        image = roll_off(shoot(gain * linear, config.image_noise,
                               np.random.default_rng((record['seed'], index, 17))), highlights)
        yield SceneFrame(
            index, Frame(to_srgb(image), round(index * 1e9 / config.fps), camera, sensor),
            passes['depth'], camera_normals(passes['normals_world'], pose, camera),
            passes['instance'], passes['material'], pose, disparity)
