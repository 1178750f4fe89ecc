"""Point clouds as binary PLY files."""
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
