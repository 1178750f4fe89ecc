"""
The tableware of the preset `tabletop-v1`, kept as it is: its sets must stay what they are.

New things go into the other files of this package.
"""
from __future__ import annotations

import math

import numpy as np

from .mesh import Shape


def lathe(profile: list[tuple[float, float]], segments: int = 64) -> tuple[np.ndarray, list]:
    """
    Turn a profile around the z axis.

    Parameters
    ----------
    profile : list of (radius, z)
        From the outer bottom centre over the rim to the inner bottom centre [m]; the first and
        last point must lie on the axis, so that the mesh is closed.
    segments : int
        Faces around the axis.

    """
    if profile[0][0] != 0.0 or profile[-1][0] != 0.0:
        raise ValueError('a closed profile starts and ends on the axis (radius 0)')
    angles = np.arange(segments) * (2 * math.pi / segments)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    vertices = [np.array([[0.0, 0.0, profile[0][1]]])]
    for radius, z in profile[1:-1]:
        vertices.append(np.column_stack([ring * radius, np.full(segments, z)]))
    vertices.append(np.array([[0.0, 0.0, profile[-1][1]]]))
    last = 1 + segments * (len(profile) - 2)
    faces = []
    for i in range(segments):
        j = (i + 1) % segments
        faces.append((0, 1 + j, 1 + i))
        for level in range(len(profile) - 3):
            a = 1 + level * segments
            faces.append((a + i, a + j, a + segments + j, a + segments + i))
        a = last - segments
        faces.append((a + i, a + j, last))
    return np.concatenate(vertices), faces


def _walled(outer: list[tuple[float, float]], wall: float, floor: float) -> list:
    """Give an open outer profile (bottom edge to rim) a wall and a floor; round the rim."""
    rim_radius, rim_z = outer[-1]
    inner = [(max(r - wall, 0.3 * r), z) for r, z in reversed(outer) if z > outer[0][1] + floor]
    inner[0] = (inner[0][0], rim_z)
    rim = [(rim_radius - 0.15 * wall, rim_z + 0.3 * wall), (rim_radius - 0.5 * wall,
           rim_z + 0.45 * wall), (rim_radius - 0.85 * wall, rim_z + 0.3 * wall)]
    z_floor = outer[0][1] + floor
    bottom_radius = inner[-1][0] * 0.97
    return [(0.0, outer[0][1]), *outer, *rim, *inner, (bottom_radius, z_floor), (0.0, z_floor)]


def _curve(points: list[tuple[float, float]], count: int) -> list[tuple[float, float]]:
    """Pass a smooth monotone curve through (radius, z) control points."""
    z = np.array([p[1] for p in points])
    r = np.array([p[0] for p in points])
    samples = np.linspace(0.0, 1.0, count)
    knots = np.linspace(0.0, 1.0, len(points))
    radius = np.interp(samples, knots, r)
    height = np.interp(samples, knots, z)
    kernel = np.array([0.25, 0.5, 0.25])
    for _ in range(max(1, count // (2 * len(points)))):
        radius[1:-1] = np.convolve(radius, kernel, 'valid')
        height[1:-1] = np.convolve(height, kernel, 'valid')
    return list(zip(radius.tolist(), height.tolist()))


def tumbler(rng: np.random.Generator) -> Shape:
    """Make a straight or conical drinking glass."""
    height, top = rng.uniform(0.07, 0.15), rng.uniform(0.027, 0.045)
    base = top * rng.uniform(0.68, 1.0)
    belly = (top + base) / 2 * rng.uniform(0.95, 1.12)
    outer = _curve([(base, 0.0), (base * 1.02, 0.004), (belly, height * 0.5), (top, height)], 14)
    profile = _walled(outer, rng.uniform(0.0014, 0.003), rng.uniform(0.004, 0.012))
    return Shape(*lathe(profile), height, max(top, belly), can_lie=True)


def jar(rng: np.random.Generator) -> Shape:
    """Make a preserving jar: a round shoulder and a wide neck."""
    height, body = rng.uniform(0.08, 0.15), rng.uniform(0.032, 0.05)
    neck = body * rng.uniform(0.62, 0.85)
    outer = _curve([(body * 0.94, 0.0), (body, 0.008), (body, height * 0.68),
                    (neck, height * 0.86), (neck, height)], 20)
    profile = _walled(outer, rng.uniform(0.002, 0.004), rng.uniform(0.004, 0.008))
    return Shape(*lathe(profile), height, body, can_lie=True)


def bottle(rng: np.random.Generator) -> Shape:
    """Make a bottle with shoulder and neck."""
    height, body = rng.uniform(0.14, 0.24), rng.uniform(0.026, 0.04)
    neck = rng.uniform(0.010, 0.015)
    shoulder = rng.uniform(0.55, 0.72)
    outer = _curve([(body * 0.93, 0.0), (body, 0.006), (body, height * shoulder),
                    (neck * 1.15, height * min(shoulder + 0.18, 0.88)), (neck, height)], 24)
    profile = _walled(outer, rng.uniform(0.0015, 0.003), rng.uniform(0.004, 0.008))
    return Shape(*lathe(profile), height, body, can_lie=True)


def bowl(rng: np.random.Generator) -> Shape:
    """Make a round bowl."""
    height, rim = rng.uniform(0.04, 0.075), rng.uniform(0.05, 0.08)
    angles = np.linspace(0.25, 0.5 * math.pi, 14)
    outer = [(rim * math.sin(a), height * (1 - math.cos(a)) / 1.0) for a in angles]
    low = outer[0][1]
    outer = [(r, (z - low) * height / (outer[-1][1] - low)) for r, z in outer]
    profile = _walled(outer, rng.uniform(0.002, 0.0035), rng.uniform(0.003, 0.006))
    return Shape(*lathe(profile), height, rim)


def wine_glass(rng: np.random.Generator) -> Shape:
    """Make a stemmed glass: foot, stem and bowl in one closed surface."""
    foot, stem = rng.uniform(0.028, 0.038), rng.uniform(0.003, 0.005)
    stem_height, bowl_height = rng.uniform(0.05, 0.09), rng.uniform(0.06, 0.1)
    wide, top = rng.uniform(0.03, 0.042), rng.uniform(0.024, 0.034)
    wall = rng.uniform(0.0012, 0.0022)
    z0, z1 = stem_height, stem_height + bowl_height
    bowl_outer = _curve([(stem * 1.2, z0), (wide * 0.75, z0 + 0.16 * bowl_height),
                         (wide, z0 + 0.45 * bowl_height), (top, z1)], 18)
    inner = [(max(r - wall, 0.001), z) for r, z in reversed(bowl_outer)
             if z > z0 + 0.05 * bowl_height]
    inner[0] = (inner[0][0], z1)
    profile = [(0.0, 0.0), (foot, 0.0), (foot, 0.0018), (foot * 0.6, 0.004), (stem * 1.6, 0.009),
               (stem, 0.018), (stem, z0 * 0.9), *bowl_outer, (top - 0.5 * wall, z1 + 0.4 * wall),
               *inner, (0.0, inner[-1][1])]
    return Shape(*lathe(profile), z1, max(foot, wide))


def sphere(rng: np.random.Generator) -> Shape:
    """Make a solid ball."""
    radius = rng.uniform(0.02, 0.045)
    angles = np.linspace(0.0, math.pi, 33)
    profile = [(radius * math.sin(a), radius * (1 - math.cos(a))) for a in angles]
    profile[0], profile[-1] = (0.0, 0.0), (0.0, 2 * radius)
    return Shape(*lathe(profile), 2 * radius, radius)


def box(rng: np.random.Generator) -> Shape:
    """Make a solid block."""
    x, y, z = rng.uniform(0.02, 0.05), rng.uniform(0.02, 0.05), rng.uniform(0.03, 0.13)
    corners = np.array([[sx * x, sy * y, sz] for sz in (0.0, z)
                        for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
    faces = [(3, 2, 1, 0), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)]
    return Shape(corners, faces, z, math.hypot(x, y))


FAMILIES = {'tumbler': tumbler, 'jar': jar, 'bottle': bottle, 'bowl': bowl,
            'wine_glass': wine_glass, 'sphere': sphere, 'box': box}
