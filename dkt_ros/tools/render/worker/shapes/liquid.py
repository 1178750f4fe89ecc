"""Liquids: what fills a vessel up to a level, as a closed mesh of its own."""
from __future__ import annotations

import numpy as np

from .mesh import Shape, loft

OVERLAP_M = (0.0001, 0.0003)
MENISCUS_M = 0.0008


def fill(shape: Shape, level: float, rng: np.random.Generator) -> Shape:
    """
    Return the liquid in a vessel that stands upright.

    Its sides reach a little into the glass. Were they to touch it, rays would meet two surfaces
    at one place in random order; were there a gap, they would see a film of air.

    Parameters
    ----------
    shape : Shape
        A vessel with a cavity.
    level : float
        Height of the surface, from 0 (the inner floor) to 1 (the rim).

    Returns
    -------
    Shape
        In the vessel's own frame: it takes the vessel's pose, and does not stand on z = 0.

    """
    if shape.cavity is None:
        raise ValueError(f'a shape of {shape.parts} has no cavity; only vessels can be filled')
    if not 0.02 <= level <= 0.98:
        raise ValueError(f'level is {level}; between 0.02 and 0.98 of the inner height is '
                         'allowed, so that nothing is empty or spills')
    rings = shape.cavity.rings
    heights = rings[:, 0, 2]
    surface = float(heights.min() + level * (heights[-1] - heights.min()))
    overlap = rng.uniform(*OVERLAP_M)
    grown = _pushed_out(rings, shape.cavity.bottom, overlap)
    below = int(np.flatnonzero(heights < surface)[-1]) + 1
    t = (surface - heights[below - 1]) / (heights[below] - heights[below - 1])
    shore = (1 - t) * grown[below - 1] + t * grown[below]
    climb = min(MENISCUS_M, 0.3 * (heights[-1] - surface))
    body = grown[:below]
    if heights[below - 1] > surface - 0.0004:  # hardly below: a sliver of faces
        body = body[:-1]
    radius = float(np.hypot(shore[:, 0], shore[:, 1]).min())
    curve = [(0.0, 1.0), (0.0006, 0.45), (0.0015, 0.15), (0.003, 0.0), (0.0035, 0.0)]
    top = [_shrunk(shore, min(overlap + inset, 0.6 * radius * (k + 1) / len(curve)) if k else 0.0,
                   surface + share * climb) for k, (inset, share) in enumerate(curve)]
    centre = [*shore[:, :2].mean(axis=0), surface]
    bottom = shape.cavity.bottom - (0, 0, overlap)
    vertices, faces = loft(np.concatenate([body, top]), bottom, np.array(centre))
    reach = float(np.hypot(vertices[:, 0], vertices[:, 1]).max())
    return Shape(vertices, faces, surface - float(bottom[2]), reach, parts=('liquid',))


def _pushed_out(rings: np.ndarray, bottom: np.ndarray, distance: float) -> np.ndarray:
    """Move the inner wall into the glass by `distance` [m], at right angles to it."""
    start = np.broadcast_to(bottom, (1, *rings.shape[1:]))
    path = np.concatenate([start, rings])
    along = np.gradient(path, axis=0)[1:]
    around = np.roll(rings, -1, axis=1) - np.roll(rings, 1, axis=1)
    normal = np.cross(around, along)
    return rings + distance * normal / np.linalg.norm(normal, axis=2, keepdims=True)


def _shrunk(ring: np.ndarray, inset: float, z: float) -> np.ndarray:
    radius = np.hypot(ring[:, 0], ring[:, 1])
    flat = ring[:, :2] * (1 - inset / radius)[:, None]
    return np.column_stack([flat, np.full(len(ring), z)])
