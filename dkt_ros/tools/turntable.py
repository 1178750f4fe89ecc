"""A scene's coloured points of all frames, seen from a camera that swings about its objects."""
from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np

from dkt_ros.camera import PinholeCamera
from dkt_ros.data.scenes import Scene

NUM_VIEWS = 36
FPS = 12.0
SWING_RAD = 0.6
MAX_SOURCES = 8
BACKGROUND = 245


def scene_points(scene: Scene, max_frames: int = MAX_SOURCES) -> tuple[np.ndarray, np.ndarray]:
    """
    Gather the points of some frames, evenly over the scene.

    Returns
    -------
    (N, 3) float32
        Points in the world [m].
    (N, 3) uint8
        Their colours.

    """
    points, colors = [], []
    for index in np.unique(np.linspace(0, len(scene) - 1, min(len(scene), max_frames), dtype=int)):
        item = scene[int(index)]
        valid = np.isfinite(item.depth)
        pose = item.T_world_camera
        points.append(scene.camera.unproject(item.depth)[valid] @ pose[:3, :3].T + pose[:3, 3])
        colors.append(item.frame.rgb[valid])
    return np.concatenate(points).astype(np.float32), np.concatenate(colors)


def draw_points(points: np.ndarray, colors: np.ndarray, camera: PinholeCamera,
                T_world_camera: np.ndarray) -> np.ndarray:
    """Draw points (N, 3) as a camera sees them, nearest last, (H, W, 3) uint8."""
    T_camera_world = np.linalg.inv(T_world_camera)
    seen = points @ T_camera_world[:3, :3].T + T_camera_world[:3, 3]
    pixels = camera.project(seen)
    inside = np.isfinite(pixels).all(1) & (pixels > -0.5).all(1) & (
        pixels < np.array([camera.width, camera.height]) - 0.5).all(1)
    order = np.argsort(-seen[inside, 2], kind='stable')
    u, v = np.rint(pixels[inside][order]).astype(int).T
    image = np.full((camera.height, camera.width, 3), BACKGROUND, np.uint8)
    empty = np.ones((camera.height, camera.width), np.uint8)
    image[v, u], empty[v, u] = colors[inside][order], 0
    # Gaps between the points of one surface are a pixel or two wide.
    filled = cv2.medianBlur(image, 3)
    image[empty > 0] = filled[empty > 0]
    return image


def swing(T_world_camera: np.ndarray, target: np.ndarray, angle_rad: float) -> np.ndarray:
    """Turn a pose (4, 4) about the vertical through `target` (3,)."""
    turn = np.eye(4)
    cosine, sine = math.cos(angle_rad), math.sin(angle_rad)
    turn[:2, :2] = [[cosine, -sine], [sine, cosine]]
    turn[:3, 3] = target - turn[:3, :3] @ target
    return turn @ T_world_camera


def write_turntable(path: str | Path, scene: Scene, num_views: int = NUM_VIEWS) -> Path:
    """Write an mp4 that swings to and fro once; the file appears when it is whole."""
    path = Path(path)
    points, colors = scene_points(scene)
    middle = scene.poses[len(scene) // 2]
    places = [np.asarray(item['T_world_object'])[:3, 3] for item in scene.objects
              if 'T_world_object' in item]
    target = np.mean(places, axis=0) if places else np.median(points, axis=0)
    size = (scene.camera.width // 2 * 2, scene.camera.height // 2 * 2)
    partial = path.with_name(f'.{path.stem}.partial.mp4')
    writer = cv2.VideoWriter(str(partial), cv2.VideoWriter_fourcc(*'mp4v'), FPS, size)
    if not writer.isOpened():
        raise OSError(f'{path} cannot be written as mp4; check the folder and disk')
    try:
        for index in range(num_views):
            pose = swing(middle, target, SWING_RAD * math.sin(2 * math.pi * index / num_views))
            view = draw_points(points, colors, scene.camera, pose)[:size[1], :size[0]]
            writer.write(np.ascontiguousarray(view[..., ::-1]))
    finally:
        writer.release()
    partial.replace(path)
    return path
