"""Things of known shape on a table, seen from one side, and grasps proved against the truth."""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

o3d = pytest.importorskip('open3d', reason='open3d is not installed (extra: grasp)')

from dkt_ros.camera import PinholeCamera  # noqa: E402
from dkt_ros.tools.grasp_sim.views import look_at  # noqa: E402

CAMERA = PinholeCamera(320, 240, 335.0, 335.0, 159.5, 119.5)


def lathe(profile, segments=48):
    """Turn a profile of (radius, z) about z; closed on the axis by radius 0."""
    profile = np.asarray(profile, float)
    angle = np.arange(segments) * 2 * np.pi / segments
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    vertices = np.concatenate([np.column_stack([r * ring, np.full(segments, z)])
                               for r, z in profile])
    a = np.arange(segments)
    b = (a + 1) % segments
    faces = []
    for row in range(len(profile) - 1):
        low, high = row * segments, (row + 1) * segments
        faces += [np.stack([low + a, low + b, high + b], axis=1),
                  np.stack([low + a, high + b, high + a], axis=1)]
    return vertices, np.concatenate(faces)


def box(x, y, z):
    mesh = o3d.geometry.TriangleMesh.create_box(x, y, z)
    return np.asarray(mesh.vertices) - [x / 2, y / 2, 0], np.asarray(mesh.triangles)


def sphere(radius):
    mesh = o3d.geometry.TriangleMesh.create_sphere(radius, 30)
    return np.asarray(mesh.vertices) + [0, 0, radius], np.asarray(mesh.triangles)


def cylinder(radius, height):
    return lathe([(0, 0), (radius, 0), (radius, height), (0, height)])


def tumbler(radius=0.033, height=0.1, wall=0.0025):
    return lathe([(0, 0), (radius, 0), (radius, height), (radius - wall, height),
                  (radius - wall, wall), (0, wall)])


def bowl(radius=0.07, wall=0.004):
    angles = np.linspace(-np.pi / 2, 0, 12)
    outer = [(radius * np.cos(a), radius + radius * np.sin(a)) for a in angles]
    inner = [((radius - wall) * np.cos(a), radius + (radius - wall) * np.sin(a))
             for a in angles[::-1]]
    return lathe([*outer, *inner])


def bottle():
    return lathe([(0, 0), (0.034, 0), (0.034, 0.12), (0.014, 0.16), (0.014, 0.2), (0, 0.2)])


def wine_glass():
    return lathe([(0, 0), (0.033, 0), (0.033, 0.003), (0.004, 0.008), (0.004, 0.07),
                  (0.034, 0.1), (0.032, 0.15), (0.0305, 0.15), (0.0325, 0.1), (0.0, 0.074)])


@dataclass
class View:
    """One view (optical frame) of meshes that stand on the plane z = 0 of the world."""

    meshes: list
    points: np.ndarray
    T_world_camera: np.ndarray
    scene: object = field(repr=False)
    surface: np.ndarray = field(repr=False)
    normals: np.ndarray = field(repr=False)

    @property
    def up(self):
        return self.T_world_camera[2, :3]


def placed(mesh, x=0.0, y=0.0, yaw=0.0, lying=False, lift=0.0):
    vertices, triangles = mesh
    if lying:
        vertices = vertices[:, [2, 1, 0]] * [1, 1, -1]
        vertices = vertices - [np.ptp(vertices[:, 0]) / 2, 0, vertices[:, 2].min()]
    c, s = np.cos(yaw), np.sin(yaw)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return vertices @ turn.T + [x, y, lift], triangles


def view(meshes, elevation_deg=40.0, azimuth_deg=0.0, distance=0.55, noise=0.0, camera=CAMERA,
         table=True, seed=0):
    """Render the points of a camera that looks at the middle of the table."""
    e, a = np.radians([elevation_deg, azimuth_deg])
    eye = distance * np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    pose = look_at(eye, (0, 0, 0.03))
    scene = o3d.t.geometry.RaycastingScene()
    for vertices, triangles in meshes:
        scene.add_triangles(vertices.astype(np.float32), triangles.astype(np.uint32))
    rays = camera.rays().reshape(-1, 3)
    directions = rays @ pose[:3, :3].T
    stack = np.concatenate([np.broadcast_to(eye, directions.shape), directions], axis=1)
    hit = scene.cast_rays(o3d.core.Tensor(stack.astype(np.float32)))['t_hit'].numpy()
    depth = hit.copy()
    if table:
        with np.errstate(divide='ignore'):
            plane = -eye[2] / directions[:, 2]
        plane[(plane < 0) | (plane > 3)] = np.inf
        depth = np.minimum(hit, plane)
    rng = np.random.default_rng(seed)
    depth = depth + noise * rng.standard_normal(len(depth))
    depth[~np.isfinite(depth)] = np.nan
    points = (rays * depth[:, None]).astype(np.float32)
    surface, normals = sampled(meshes, rng)
    return View(meshes, points.reshape(camera.height, camera.width, 3), pose, scene, surface,
                normals)


def sampled(meshes, rng, spacing=0.002):
    """Sample the meshes evenly; returns points and outward normals of triangles as given."""
    points, normals = [], []
    for vertices, triangles in meshes:
        a, b, c = (vertices[triangles[:, k]] for k in range(3))
        cross = np.cross(b - a, c - a)
        area = np.linalg.norm(cross, axis=1) / 2
        number = int(area.sum() / spacing ** 2)
        if not number:
            continue
        chosen = rng.choice(len(area), number, p=area / area.sum())
        u, v = rng.random((2, number, 1))
        flip = u + v > 1
        u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
        points.append(a[chosen] + u * (b - a)[chosen] + v * (c - a)[chosen])
        normals.append(cross[chosen] / np.maximum(2 * area[chosen, None], 1e-12))
    return np.concatenate(points), np.concatenate(normals)


@dataclass(frozen=True)
class Proof:
    """What a grasp does to the true shapes."""

    collides: bool
    below_table: float
    between: int
    distance: float
    angles_deg: tuple[float, float]
    width: float
    tilt_deg: float

    @property
    def good(self):
        return (not self.collides and self.below_table <= 0 and self.between >= 20
                and max(self.angles_deg) < 35)


def prove(grasp, gripper, view, approach_m=0.08):
    """Check a grasp in the optical frame of a view against the true surfaces."""
    T = view.T_world_camera @ grasp.T_frame_grasp
    local = (view.surface - T[:3, 3]) @ T[:3, :3]
    normals = view.normals @ T[:3, :3]
    collides = False
    lowest = np.inf
    for low, high in gripper.boxes(grasp.opening):
        swept = low - [0, 0, approach_m]
        collides |= bool(((local > swept) & (local < high)).all(axis=1).any())
        corners = np.array(np.meshgrid(*zip(low, high))).reshape(3, -1).T
        lowest = min(lowest, (corners @ T[:3, :3].T + T[:3, 3])[:, 2].min())
    region = (np.abs(local[:, 0]) < gripper.finger_height / 2) \
        & (np.abs(local[:, 1]) < grasp.opening / 2) \
        & (local[:, 2] > gripper.palm_z) & (local[:, 2] < gripper.tip_length)
    inside, facing = local[region], normals[region]
    angles, width = [180.0, 180.0], np.nan
    if len(inside):
        low, high = inside[:, 1].min(), inside[:, 1].max()
        width = high - low
        # Sign by the geometry: lathes here are turned either way.
        for k, mask in enumerate((inside[:, 1] < low + 0.002, inside[:, 1] > high - 0.002)):
            along = np.abs(facing[mask][:, 1])
            angles[k] = float(np.degrees(np.arccos(np.clip(np.median(along), -1, 1))))
    nearest = np.linalg.norm(view.surface - T[:3, 3], axis=1).min()
    return Proof(collides, -lowest, len(inside), float(nearest), tuple(angles), float(width),
                 float(np.degrees(np.arccos(np.clip(-T[2, 2], -1, 1)))))
