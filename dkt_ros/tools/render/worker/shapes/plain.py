"""Plain things that stand among the glass: blocks, balls, cans, cylinders, cones, rings."""
from __future__ import annotations

import math

import numpy as np

from .labware import solid
from .mesh import Shape, measured
from .pieces import tube_pieces
from .profile import join, rounded, smooth


def box(rng: np.random.Generator) -> Shape:
    """Make a carton, block or book with slightly broken edges."""
    half = np.sort(rng.uniform((0.015, 0.02, 0.02), (0.04, 0.05, 0.075)))[rng.permutation(3)]
    edge = rng.uniform(0.0005, 0.003)
    corners = [_rounded_rectangle(half[:2] - inset, edge) for inset in (edge, 0, 0, edge)]
    heights = (0.0, edge, 2 * half[2] - edge, 2 * half[2])
    rings = [np.column_stack([c, np.full(len(c), z)]) for c, z in zip(corners, heights)]
    return _capped(np.array(rings), smooth_rad=0.3)


def _rounded_rectangle(half: np.ndarray, radius: float, count: int = 5) -> np.ndarray:
    """Return points counter-clockwise from above, `count` in each corner."""
    turn = np.linspace(0.0, math.pi / 2, count)
    corner = radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    points = []
    for k in range(4):
        c, s = round(math.cos(k * math.pi / 2)), round(math.sin(k * math.pi / 2))
        sign = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)][k])
        points.append(sign * (half - radius) + corner @ np.array([[c, s], [-s, c]]))
    return np.concatenate(points)


def _capped(rings: np.ndarray, **fields: object) -> Shape:
    """Close a stack of rings by one flat face at each end."""
    count, around = rings.shape[:2]
    faces = [tuple(range(around - 1, -1, -1)),
             tuple(range((count - 1) * around, count * around))]
    for level in range(count - 1):
        a = level * around
        faces += [(a + i, a + (i + 1) % around, a + around + (i + 1) % around, a + around + i)
                  for i in range(around)]
    return measured(rings.reshape(-1, 3), faces, **fields)


def sphere(rng: np.random.Generator) -> Shape:
    """Make a ball."""
    radius = rng.uniform(0.015, 0.045)
    turn = np.linspace(0.0, math.pi, 60)
    return solid(np.stack([radius * np.sin(turn), radius * (1 - np.cos(turn))], axis=1))


def can(rng: np.random.Generator) -> Shape:
    """Make a drink or food can: beads at both ends, a recessed lid."""
    radius, height = rng.uniform(0.026, 0.043), rng.uniform(0.06, 0.17)
    narrow = rng.choice([0.0, rng.uniform(0.002, 0.006)])
    end = radius - narrow - 0.002
    outer = join([(0.0, 0.003), (end - 0.003, 0.003), (end - 0.002, 0.0), (end, 0.0)],
                 smooth([(end, 0.0), (radius, narrow + 0.006)]), [(radius, height - narrow
                                                                  - 0.008)],
                 smooth([(radius, height - narrow - 0.008), (end, height - 0.002)]),
                 [(end + 0.001, height), (end - 0.001, height), (end - 0.003, height - 0.004),
                  (0.0, height - 0.004)])
    return solid(rounded(outer, 0.001), can_lie=True)


def cylinder(rng: np.random.Generator) -> Shape:
    """Make a cylinder or prism with broken edges."""
    radius, height = rng.uniform(0.01, 0.04), rng.uniform(0.02, 0.13)
    sides = int(rng.choice([96, 96, 96, 3, 5, 6, 8]))
    outer = join([(0.0, 0.0), (radius, 0.0), (radius, height), (0.0, height)])
    return solid(rounded(outer, rng.uniform(0.001, 0.004)), sides, can_lie=sides == 96)


def cone(rng: np.random.Generator) -> Shape:
    """Make a cone, pyramid or truncated cone."""
    radius, height = rng.uniform(0.02, 0.045), rng.uniform(0.03, 0.11)
    top, sides = radius * rng.uniform(0.08, 0.6), int(rng.choice([96, 96, 4, 6]))
    outer = join([(0.0, 0.0), (radius, 0.0), (top, height), (0.0, height)])
    return solid(rounded(outer, 0.002), sides)


def ring(rng: np.random.Generator) -> Shape:
    """Make a torus: a ring, tyre or roll of tape."""
    radius, tube = rng.uniform(0.018, 0.04), rng.uniform(0.004, 0.012)
    tall, around, across = rng.uniform(0.8, 1.8), 96, 32
    u = np.arange(around)[:, None] * (2 * math.pi / around)
    v = np.arange(across)[None] * (2 * math.pi / across)
    reach = radius + tube * np.cos(v)
    vertices = np.stack([reach * np.cos(u), reach * np.sin(u),
                         tall * tube * np.sin(v) * np.ones_like(u)], axis=2)
    faces = [(i * across + j, (i + 1) % around * across + j,
              (i + 1) % around * across + (j + 1) % across, i * across + (j + 1) % across)
             for i in range(around) for j in range(across)]
    return measured(vertices.reshape(-1, 3), faces,
                    pieces=tube_pieces(0, around, across, step=8)
                    + [np.r_[0:across, (around - 1) * across:around * across]])
