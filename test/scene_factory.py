"""A small analytic scene for tests: a textured table, a glass box, a metal and a plain one."""
from __future__ import annotations

import numpy as np

from dkt_ros.camera import PinholeCamera
from dkt_ros.data.scenes import SceneFrame, write_scene
from dkt_ros.frame import Frame
from dkt_ros.material import Material

CAMERA = PinholeCamera(64, 48, 60.0, 60.0, 31.5, 23.5)
TABLE_M, TOP_M = 0.70, 0.60
BOXES = ((1, Material.TRANSPARENT, 10, 26), (2, Material.REFLECTIVE, 32, 42),
         (3, Material.DIFFUSE, 48, 58))


def scene_objects() -> list[dict]:
    """Return the object records of `scene_frame`."""
    return [{'instance': i, 'family': 'box', 'material': m.label, 'material_class': m.label,
             'T_world_object': np.eye(4), 'size_m': [0.1, 0.2, TABLE_M - TOP_M]}
            for i, m, *_ in BOXES]


def scene_meshes(camera: PinholeCamera = CAMERA) -> dict:
    """Return the top of each box as a thin plate, in the world's frame."""
    meshes = {}
    unit, half = TOP_M / CAMERA.fx, camera.height / 4 * TOP_M / camera.fx
    faces = [(0, 1, 2), (0, 2, 3), (4, 6, 5), (4, 7, 6), (0, 4, 5), (0, 5, 1), (1, 5, 6),
             (1, 6, 2), (2, 6, 7), (2, 7, 3), (3, 7, 4), (3, 4, 0)]
    for number, _, left, right in BOXES:
        low, high = (left - CAMERA.cx) * unit, (right - CAMERA.cx) * unit
        meshes[number] = np.array([(x, y, z) for z in (TOP_M, TOP_M + 1e-3) for x, y in (
            (low, -half), (high, -half), (high, half), (low, half))]), np.array(faces)
    return meshes


def scene_frame(index: int, camera: PinholeCamera = CAMERA, seed: int = 0) -> SceneFrame:
    """
    Return a view straight down on three flat-topped boxes; the camera moves 10 mm a frame.

    The sensor is blind on the left half of the glass and sees the table through the right half.
    """
    rng = np.random.default_rng(seed)
    height, width = camera.height, camera.width
    shape = (height, width)
    depth = np.full(shape, TABLE_M, np.float32)
    instance, material = np.zeros(shape, np.uint16), np.zeros(shape, np.uint8)
    sensor = depth.copy()
    shift = 0.010 * index
    columns = (np.arange(width) - camera.cx) * TOP_M / camera.fx + shift
    rows = slice(height // 4, 3 * height // 4)
    unit = TOP_M / CAMERA.fx
    for number, kind, left, right in BOXES:
        low, high = (left - CAMERA.cx) * unit, (right - CAMERA.cx) * unit
        box = np.zeros(shape, bool)
        box[rows] = (columns >= low) & (columns < high)
        depth[box], instance[box], material[box] = TOP_M, number, int(kind)
        if kind != Material.TRANSPARENT:
            sensor[box] = TOP_M
        else:
            sensor[box & (columns < (low + high) / 2)] = np.nan
    grey = rng.integers(60, 200, (height, width + 64), dtype=np.uint8)
    rgb = np.repeat(grey[:, index:index + width, None], 3, axis=-1)
    rgb[instance > 0, 0] = 250
    normals = np.zeros((*shape, 3), np.float32)
    normals[..., 2] = -1
    pose = np.eye(4)
    pose[0, 3] = shift
    frame = Frame(np.ascontiguousarray(rgb), round(index * 1e9 / 6), camera, sensor)
    return SceneFrame(index, frame, depth, normals, instance, material, pose)


def make_scene(path, num_frames: int = 3, seed: int = 1_000_000, camera=CAMERA):
    """Write a scene folder of `scene_frame`s and return its path."""
    frames = (scene_frame(i, camera, seed) for i in range(num_frames))
    return write_scene(path, name=path.name, seed=seed, preset='test', fps=6.0, camera=camera,
                       frames=frames, objects=scene_objects(),
                       settings={'maker': 'test'}, meshes=scene_meshes())
