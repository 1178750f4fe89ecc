"""
Let things fall, collide and come to rest; find what went wrong. Blender's rigid bodies.

Everything is simulated ten times as large, under ten times the gravity: the same motion, but far
from the solver's margins, which are made for metres.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import bpy
import numpy as np
from boxes import Box, box_surface
from mathutils import Matrix, Vector
from mathutils.bvhtree import BVHTree

SCALE = 10.0
GRAVITY = 9.81
FRAMES_PER_SECOND = 60
STILL_FRAMES = 6
STILL_M, STILL_RAD = 1e-4, 2e-3
MARGIN_M = 1e-4
SKIN_M = 7e-4
"""Things may touch this deeply: solver and convex hulls are no better."""
REACH_M = 3e-3
"""A thing whose surface is farther than this above all others floats."""


@dataclass
class Body:
    """
    A closed mesh on its way to rest.

    Attributes
    ----------
    vertices : (N, 3) float
        In the thing's frame [m].
    faces : list of tuple of int
    pose : (4, 4) float
        T_world_thing at the start, and after `settle` at the end.
    pieces : list of (K,) int or None
        Vertices of convex parts; None takes the convex hull of all.

    """

    vertices: np.ndarray
    faces: list
    pose: np.ndarray
    pieces: list[np.ndarray] | None = None
    center: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.center = surface_center(self.vertices, self.faces)


def surface_center(vertices: np.ndarray, faces: list) -> np.ndarray:
    """Return the centre of the surface: where a thin-walled thing has its mass."""
    corners = np.array([(face[0], face[i], face[i + 1]) for face in faces
                        for i in range(1, len(face) - 1)])
    a, b, c = (np.asarray(vertices)[corners[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    return (area[:, None] * (a + b + c) / 3).sum(0) / area.sum()


def settle(bodies: list[Body], boxes: list[Box], max_seconds: float) -> bool:
    """
    Drop all bodies at once and write their last poses into them.

    Returns True if all came to rest within `max_seconds`. Leaves an empty Blender file.
    """
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.gravity, scene.render.fps = (0.0, 0.0, -GRAVITY * SCALE), FRAMES_PER_SECOND
    bpy.ops.rigidbody.world_add()
    world = scene.rigidbody_world
    # What is linked to this collection becomes a rigid body: the operator takes far longer.
    world.collection = bpy.data.collections.new('bodies')
    world.substeps_per_frame, world.solver_iterations = 10, 20
    last = round(max_seconds * FRAMES_PER_SECOND)
    world.point_cache.frame_end = scene.frame_end = last
    for box in boxes:
        _add(_box_mesh(box.size), box.pose, 'BOX').rigid_body.type = 'PASSIVE'
    items = [_add_body(body) for body in bodies]
    rested = _run(scene, items, last)
    for body, item in zip(bodies, items):
        pose = np.array(item.matrix_world)
        pose[:3, 3] /= SCALE
        body.pose = pose @ np.array(Matrix.Translation(-body.center))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    return rested


def _run(scene, items: list, last: int) -> bool:
    before, still = None, 0
    for frame in range(1, last + 1):
        scene.frame_set(frame)
        poses = np.array([np.array(item.matrix_world) for item in items])
        if before is not None:
            moved = np.abs(poses - before)
            quiet = moved[:, :3, 3].max() < STILL_M * SCALE and moved[:, :3, :3].max() < STILL_RAD
            still = still + 1 if quiet else 0
            if still >= STILL_FRAMES:
                return True
        before = poses
    return False


def _add_body(body: Body):
    """Add a thing as one convex body, or as several that move together."""
    points = (np.asarray(body.vertices) - body.center) * SCALE
    # The solver takes the origin for the centre of mass.
    start = body.pose @ np.array(Matrix.Translation(body.center))
    item = _add(_point_mesh(points), start, 'COMPOUND' if body.pieces else 'CONVEX_HULL')
    for piece in body.pieces or ():
        _add(_point_mesh(points[piece]), np.eye(4), 'CONVEX_HULL').parent = item
    item.rigid_body.mass = max(0.02, 0.3 * float(np.ptp(points, axis=0).prod()))
    return item


def _point_mesh(points: np.ndarray):
    mesh = bpy.data.meshes.new('points')
    mesh.vertices.add(len(points))
    mesh.vertices.foreach_set('co', points.astype(np.float32).ravel())
    return mesh


def _add(mesh, pose: np.ndarray, shape: str):
    item = bpy.data.objects.new(mesh.name, mesh)
    pose = np.array(pose, float)
    pose[:3, 3] *= SCALE
    item.matrix_world = Matrix(pose)
    bpy.context.collection.objects.link(item)
    bpy.context.scene.rigidbody_world.collection.objects.link(item)
    body = item.rigid_body
    body.collision_shape, body.use_margin = shape, True
    body.collision_margin = MARGIN_M * SCALE
    body.friction, body.restitution = 0.6, 0.05
    # Round things on a table roll for seconds; cloth and dents stop them in life.
    body.linear_damping, body.angular_damping = 0.2, 0.7
    return item


def _box_mesh(size: tuple[float, float, float]):
    points, faces = box_surface(Box(size, np.eye(4)))
    mesh = bpy.data.meshes.new('box')
    mesh.from_pydata([tuple(point) for point in SCALE * points], [], faces)
    return mesh


def at_fault(bodies: list[Body], boxes: list[Box],
             keeps: Callable[[np.ndarray], bool]) -> dict[int, str]:
    """
    Return the bodies that must go, with the reason: `escaped`, `inside another` or `floats`.

    Of two that interpenetrate, the later one goes.

    Parameters
    ----------
    keeps : callable
        False for the points (N, 3) [m] of a thing that has left the scene.

    """
    faults = {}
    fixed = [_tree(*box_surface(box)) for box in boxes]
    points = [_world(body) for body in bodies]
    skins: dict[int, BVHTree] = {}
    solids: dict[int, BVHTree] = {}
    for index, body in enumerate(bodies):
        if not keeps(points[index]):
            faults[index] = 'escaped'
            continue
        skin = _skin(points[index], body.faces)
        if any(skin.overlap(skins[other]) or _contains(solids[other], points[index][0])
               for other in skins) or any(skin.overlap(tree) for tree in fixed):
            faults[index] = 'inside another'
            continue
        skins[index], solids[index] = skin, _tree(points[index], body.faces)
    for index in solids:
        lowered = _tree(points[index] - [0, 0, REACH_M], bodies[index].faces)
        others = fixed + [tree for other, tree in solids.items() if other != index]
        if not any(lowered.overlap(tree) for tree in others):
            faults[index] = 'floats'
    return faults


def _world(body: Body) -> np.ndarray:
    return np.asarray(body.vertices) @ body.pose[:3, :3].T + body.pose[:3, 3]


def _skin(points: np.ndarray, faces: list) -> BVHTree:
    """Return a surface a skin's depth inside of itself."""
    mesh = bpy.data.meshes.new('skin')
    mesh.from_pydata(points.tolist(), [], faces)
    normals = np.empty(3 * len(points), np.float32)
    mesh.vertices.foreach_get('normal', normals)
    bpy.data.meshes.remove(mesh)
    return _tree(points - SKIN_M * normals.reshape(-1, 3), faces)


def _tree(points: np.ndarray, faces: list) -> BVHTree:
    return BVHTree.FromPolygons(points.tolist(), faces)


def _contains(tree: BVHTree, point: np.ndarray) -> bool:
    """Return True if a point lies in the solid part of a closed surface."""
    origin, crossings = Vector(point), 0
    for _ in range(64):
        hit, *_ = tree.ray_cast(origin, Vector((0.137, 0.291, 0.947)))
        if hit is None:
            break
        crossings += 1
        origin = hit + Vector((0.137, 0.291, 0.947)) * 1e-5
    return crossings % 2 == 1
