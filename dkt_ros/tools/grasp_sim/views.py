"""What a camera sees of a scene: its way, and depth by ray casting. numpy and Open3D; no GPU."""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dkt_ros.camera import PinholeCamera
from dkt_ros.errors import UserError
from dkt_ros.grasp.cloud import transform
from dkt_ros.grasp_sim_config import ViewConfig
from dkt_ros.tools.grasp_sim.scenes import SimScene

TABLE_HALF_M = 2.0
LOWEST_AIM_M = 0.04


@dataclass(frozen=True)
class View:
    """
    A picture by ray casting.

    Attributes
    ----------
    depth : (H, W) float32
        Along z [m]; NaN where there is nothing.
    instance : (H, W) uint16
        Number of the thing plus 1; 0 for the table and where there is nothing.
    normals : (H, W, 3) float32
        Unit normals in the frame of the world; 0 where there is nothing.

    """

    depth: np.ndarray
    instance: np.ndarray
    normals: np.ndarray


def sim_camera(config: ViewConfig) -> PinholeCamera:
    """Return the camera: square pixels, the principal point in the middle."""
    focal = config.focal_widths * config.width
    return PinholeCamera(config.width, config.height, focal, focal, (config.width - 1) / 2,
                         (config.height - 1) / 2)


def camera_arc(config: ViewConfig, scene: SimScene) -> np.ndarray:
    """
    Draw the way of a camera on the wrist: a short arc around the things, at one height.

    It aims at half the height of the tallest thing, so that a tall bottle is in the picture.

    Returns
    -------
    (num_frames, 4, 4) float64
        T_world_camera of the optical frame; the grasp is planned on the last.

    """
    rng = np.random.default_rng((scene.seed, 5))
    tops = [transform(pose, solid.vertices)[:, 2].max()
            for solid, pose in zip(scene.solids, scene.poses)]
    aim = np.array([0.0, 0.0, max(LOWEST_AIM_M, max(tops) / 2)])
    distance, elevation = rng.uniform(*config.distance_m), rng.uniform(*config.elevation_rad)
    azimuth, way = rng.uniform(0, 2 * math.pi), rng.choice([-1.0, 1.0])
    turn = way * config.arc_m / (distance * math.cos(elevation))
    shares = np.linspace(-1.0, 0.0, config.num_frames) if config.num_frames > 1 else [0.0]
    return np.stack([look_at(aim + _on_sphere(distance, azimuth + share * turn, elevation), aim)
                     for share in shares])


def _on_sphere(distance: float, azimuth: float, elevation: float) -> np.ndarray:
    return distance * np.array([
        math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth),
        math.sin(elevation)])


def look_at(place: np.ndarray, target: Sequence[float]) -> np.ndarray:
    """Return T_world_camera (4, 4) of an upright optical frame at `place` (3,) [m]."""
    forward = np.asarray(target, float) - place
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = place
    return pose


class RayCaster:
    """
    Sees meshes at poses.

    Parameters
    ----------
    meshes : sequence of ((N, 3) float, (F, 3) int)
        Vertices in the frame of the world [m] and triangles; number 0 is the table.

    """

    def __init__(self, meshes: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        try:
            import open3d
        except ImportError as error:
            raise UserError('ray casting needs Open3D, which is not installed; install it with '
                            "pip install 'dkt_ros[grasp]'") from error
        self._tensor = open3d.core.Tensor
        self._scene = open3d.t.geometry.RaycastingScene(nthreads=1)
        for vertices, triangles in meshes:
            self._scene.add_triangles(self._tensor(np.ascontiguousarray(vertices, np.float32)),
                                      self._tensor(np.ascontiguousarray(triangles, np.uint32)))

    def view(self, camera: PinholeCamera, T_world_camera: np.ndarray) -> View:
        """Return what a camera sees."""
        rays = camera.rays().reshape(-1, 3)  # z is 1: the distance along them is depth
        directions = rays @ T_world_camera[:3, :3].T
        origins = np.broadcast_to(T_world_camera[:3, 3], directions.shape)
        hits = self._scene.cast_rays(self._tensor(
            np.concatenate([origins, directions], axis=1).astype(np.float32)))
        depth = hits['t_hit'].numpy().reshape(camera.height, camera.width)
        number = hits['geometry_ids'].numpy().reshape(depth.shape)
        seen = np.isfinite(depth)
        normals = hits['primitive_normals'].numpy().reshape(*depth.shape, 3)
        return View(np.where(seen, depth, np.nan).astype(np.float32),
                    np.where(seen, number, 0).astype(np.uint16),
                    np.where(seen[..., None], normals, 0).astype(np.float32))


def table_mesh() -> tuple[np.ndarray, np.ndarray]:
    """Return the table's top as a mesh."""
    x, z = TABLE_HALF_M, 0.0
    return (np.array([[-x, -x, z], [x, -x, z], [x, x, z], [-x, x, z]]),
            np.array([[0, 1, 2], [0, 2, 3]]))


def scene_meshes(scene: SimScene, poses: Sequence[np.ndarray | None] | None = None,
                 ) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the table and the things as meshes in the frame of the world; None: not there."""
    nothing = np.zeros((3, 3)) - 10.0, np.array([[0, 1, 2]])
    things = [nothing if pose is None else (transform(pose, solid.vertices), solid.triangles)
              for solid, pose in zip(scene.solids, scene.poses if poses is None else poses)]
    return [table_mesh(), *things]
