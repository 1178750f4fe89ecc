"""Point clouds and triangle meshes as binary PLY files."""
from __future__ import annotations

from pathlib import Path

import numpy as np


def write_ply(path: str | Path, points: np.ndarray, colors: np.ndarray | None = None) -> int:
    """
    Write a point cloud; points with NaN are left out.

    Parameters
    ----------
    path : str or Path
        The file.
    points : (..., 3) float
        Points [m].
    colors : (..., 3) uint8, optional
        RGB of each point.

    Returns
    -------
    int
        Number of points written.

    """
    points = np.asarray(points, np.float32).reshape(-1, 3)
    finite = np.isfinite(points).all(axis=1)
    names = [('x', '<f4', 'float'), ('y', '<f4', 'float'), ('z', '<f4', 'float')]
    columns = [points[finite, axis] for axis in range(3)]
    if colors is not None:
        colors = np.asarray(colors, np.uint8).reshape(-1, 3)
        if len(colors) != len(points):
            raise ValueError(f'{len(colors)} colours for {len(points)} points; one each is needed')
        names += [(name, 'u1', 'uchar') for name in ('red', 'green', 'blue')]
        columns += [colors[finite, axis] for axis in range(3)]
    rows = np.empty(int(finite.sum()), np.dtype([(name, kind) for name, kind, _ in names]))
    for (name, *_), column in zip(names, columns):
        rows[name] = column
    properties = ''.join(f'property {kind} {name}\n' for name, _, kind in names)
    header = (f'ply\nformat binary_little_endian 1.0\nelement vertex {len(rows)}\n'
              f'{properties}end_header\n')
    path = Path(path)
    partial = path.with_name(f'.{path.name}.partial')
    partial.write_bytes(header.encode('ascii') + rows.tobytes())
    partial.replace(path)
    return len(rows)


def read_ply(path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read points (N, 3) float32 and colours (N, 3) uint8 or None, as `write_ply` wrote them."""
    header, _, body = Path(path).read_bytes().partition(b'end_header\n')
    lines = header.decode('ascii').splitlines()
    if lines[:2] != ['ply', 'format binary_little_endian 1.0']:
        raise ValueError(f'{path} is no binary little-endian PLY file; write it with write_ply')
    count = next(int(line.split()[2]) for line in lines if line.startswith('element vertex'))
    kinds = {'float': '<f4', 'uchar': 'u1'}
    fields = [(line.split()[2], kinds[line.split()[1]]) for line in lines
              if line.startswith('property')]
    rows = np.frombuffer(body, np.dtype(fields), count)
    points = np.stack([rows[name] for name in 'xyz'], axis=-1)
    if 'red' not in rows.dtype.names:
        return points, None
    return points, np.stack([rows[name] for name in ('red', 'green', 'blue')], axis=-1)


FACE = np.dtype([('count', 'u1'), ('corners', '<i4', 3)])


def write_mesh(path: str | Path, vertices: np.ndarray, triangles: np.ndarray) -> None:
    """Write vertices (N, 3) [m] and triangles (F, 3), counter-clockwise from outside."""
    vertices = np.ascontiguousarray(vertices, '<f4').reshape(-1, 3)
    triangles = np.asarray(triangles).reshape(-1, 3)
    if triangles.size and not 0 <= triangles.min() <= triangles.max() < len(vertices):
        raise ValueError(f'triangles use the vertices {triangles.min()} to {triangles.max()}; '
                         f'there are {len(vertices)}')
    faces = np.empty(len(triangles), FACE)
    faces['count'], faces['corners'] = 3, triangles
    header = ('ply\nformat binary_little_endian 1.0\n'
              f'element vertex {len(vertices)}\n'
              'property float x\nproperty float y\nproperty float z\n'
              f'element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n')
    path = Path(path)
    partial = path.with_name(f'.{path.name}.partial')
    partial.write_bytes(header.encode('ascii') + vertices.tobytes() + faces.tobytes())
    partial.replace(path)


def read_mesh(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read vertices (N, 3) float32 and triangles (F, 3) int32, as `write_mesh` wrote them."""
    header, _, body = Path(path).read_bytes().partition(b'end_header\n')
    counts = {line.split()[1]: int(line.split()[2])
              for line in header.decode('ascii', 'replace').splitlines()
              if line.startswith('element ')}
    if set(counts) != {'vertex', 'face'} \
            or len(body) != 12 * counts['vertex'] + FACE.itemsize * counts['face']:
        raise ValueError(f'{path} is truncated or no mesh of ours; render the scene again')
    vertices = np.frombuffer(body, '<f4', 3 * counts['vertex']).reshape(-1, 3)
    faces = np.frombuffer(body, FACE, counts['face'], 12 * counts['vertex'])
    return vertices, faces['corners'].copy()
