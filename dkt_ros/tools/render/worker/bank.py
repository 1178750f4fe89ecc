"""
A bank of meshes: any folder of glb, gltf, obj, ply or blend files as families of shapes.

Each file is joined to one mesh, welded, put with the middle of its base on the origin, and kept
as an .npz named after the hash of the file. Needs bpy.

For whoever builds scenes: call `read_bank` before a scene is begun, because importing empties
Blender; the functions that it returns only read the cache and have the signature of those in
`shapes.LIBRARY`.
"""
from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import bmesh
import bpy
import numpy as np
from bank_index import digest, mesh_files, sizes
from shapes.mesh import Shape

MAX_FACES = 150_000
WELD = 1e-5
"""Vertices nearer than this share of the longest side are one: glTF splits them at seams."""


def read_bank(folder: str | Path, cache: str | Path, longest_m: tuple[float, float],
              ) -> tuple[dict[str, Callable[[np.random.Generator], Shape]], list[str]]:
    """
    Import what is not in the cache yet, and return the bank's families.

    Parameters
    ----------
    folder, cache : path
        The bank, and the folder of the imported meshes.
    longest_m : (low, high)
        Longest side of a thing of this bank [m]. A mesh within it keeps its size, another one
        gets a random size within it; sizes.json in the bank overrules both.

    Returns
    -------
    families : dict
        From the path of a file, relative to the bank, to a function `rng -> Shape`.
    problems : list of str
        A sentence for each file that cannot be used.

    """
    folder, cache = Path(folder).expanduser(), Path(cache).expanduser()
    table, families, problems = sizes(folder), {}, []
    cache.mkdir(parents=True, exist_ok=True)
    for path in mesh_files(folder):
        name = path.relative_to(folder).as_posix()
        try:
            stored = imported(path, cache)
        except (RuntimeError, ValueError, OSError, KeyError) as error:
            reason = str(error).strip().splitlines() or ['no reason given']
            problems.append(f'{name} is left out: {reason[-1]}')
            continue
        families[name] = partial(sized, stored, table.get(name), tuple(longest_m))
    if not families:
        raise ValueError(f'none of the {len(problems)} meshes in {folder} can be read '
                         f'({problems[0]}); repair or replace them')
    return families, problems


def imported(path: Path, cache: Path) -> Path:
    """Return the cached mesh of a file, importing it where there is none yet."""
    stored = cache / f'{digest(path)[:32]}.npz'
    if not stored.is_file():
        vertices, counts, corners, closed = _prepared(*_read(path))
        temporary = stored.with_name(f'.{stored.stem}.{os.getpid()}.npz')
        np.savez_compressed(temporary, vertices=vertices.astype(np.float32), counts=counts,
                            corners=corners, closed=closed)
        os.replace(temporary, stored)
    return stored


def sized(stored: Path, longest: float | None, longest_m: tuple[float, float],
          rng: np.random.Generator) -> Shape:
    """Return a cached mesh at life size."""
    with np.load(stored) as data:
        vertices, counts, corners = (data[key] for key in ('vertices', 'counts', 'corners'))
        closed = bool(data['closed'])
    own = float(np.ptp(vertices, axis=0).max())
    if longest is None:
        drawn = float(rng.uniform(*longest_m))
        longest = own if longest_m[0] <= own <= longest_m[1] else drawn
    vertices = vertices.astype(float) * (longest / own)
    faces = [tuple(face.tolist()) for face in np.split(corners, np.cumsum(counts)[:-1])]
    return Shape(vertices, faces, float(vertices[:, 2].max()),
                 float(np.hypot(vertices[:, 0], vertices[:, 1]).max()), closed=closed)


def _read(path: Path) -> tuple[np.ndarray, list]:
    """Import a file into an empty Blender and join its meshes; vertices (N, 3), faces."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    kind = path.suffix.lower()
    if kind == '.blend':
        with bpy.data.libraries.load(str(path)) as (source, target):
            target.objects = source.objects
        for item in target.objects:
            bpy.context.scene.collection.objects.link(item)
    else:
        importer = {'.glb': bpy.ops.import_scene.gltf, '.gltf': bpy.ops.import_scene.gltf,
                    '.obj': bpy.ops.wm.obj_import, '.ply': bpy.ops.wm.ply_import}[kind]
        importer(filepath=str(path))
    return _joined()


def _joined() -> tuple[np.ndarray, list]:
    vertices, faces, start = [], [], 0
    graph = bpy.context.evaluated_depsgraph_get()
    for item in bpy.context.scene.objects:
        if item.type != 'MESH' or item.hide_render:
            continue
        mesh = item.evaluated_get(graph).to_mesh()
        points = np.empty(3 * len(mesh.vertices), np.float32)
        mesh.vertices.foreach_get('co', points)
        pose = np.array(item.matrix_world)
        vertices.append(points.reshape(-1, 3) @ pose[:3, :3].T + pose[:3, 3])
        turn = -1 if np.linalg.det(pose[:3, :3]) < 0 else 1
        faces += [tuple(start + v for v in face.vertices)[::turn] for face in mesh.polygons]
        start += len(mesh.vertices)
    if not faces:
        raise ValueError('it holds no faces')
    return np.concatenate(vertices), faces


def _prepared(vertices: np.ndarray, faces: list) -> tuple:
    """Weld, thin out and place a mesh; return vertices, counts, corners and if it is closed."""
    if not np.isfinite(vertices).all():
        raise ValueError('some of its vertices are not finite')
    longest = float(np.ptp(vertices, axis=0).max())
    if longest <= 0:
        raise ValueError('all its vertices lie in one point')
    mesh = bpy.data.meshes.new('bank')
    mesh.from_pydata((vertices / longest).tolist(), [], faces)
    mesh.validate()
    work = bmesh.new()
    work.from_mesh(mesh)
    bmesh.ops.remove_doubles(work, verts=work.verts, dist=WELD)
    bmesh.ops.dissolve_degenerate(work, dist=WELD / 10, edges=work.edges)
    bmesh.ops.recalc_face_normals(work, faces=work.faces)
    work.to_mesh(mesh)
    closed = all(edge.is_manifold for edge in work.edges)
    work.free()
    mesh = _thinned_out(mesh)
    if len(mesh.polygons) < 4:
        raise ValueError(f'it has only {len(mesh.polygons)} faces')
    points = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get('co', points)
    points = points.reshape(-1, 3).astype(float) * longest
    low, high = points.min(axis=0), points.max(axis=0)
    points -= [*(low + high)[:2] / 2, low[2]]
    counts = np.array([len(face.vertices) for face in mesh.polygons], np.int32)
    corners = np.concatenate([np.array(face.vertices, np.int32) for face in mesh.polygons])
    return points, counts, corners, closed


def _thinned_out(mesh: bpy.types.Mesh) -> bpy.types.Mesh:
    if len(mesh.polygons) <= MAX_FACES:
        return mesh
    item = bpy.data.objects.new('bank', mesh)
    bpy.context.scene.collection.objects.link(item)
    modifier = item.modifiers.new('decimate', 'DECIMATE')
    modifier.ratio = MAX_FACES / len(mesh.polygons)
    graph = bpy.context.evaluated_depsgraph_get()
    return bpy.data.meshes.new_from_object(item.evaluated_get(graph))
