"""
Parametric laboratory glass, spoons, lenses and ornaments; lengths in metres.

Each function draws its shape parameters from `rng`. Pure numpy; no bpy.
"""
from __future__ import annotations

import math

import numpy as np

from .mesh import Patch, Shape, bezier, graft, loft, measured, revolve, tube_rings
from .pieces import solid_pieces, tube_pieces, vessel_pieces
from .profile import inside, join, rim, rounded, smooth, thinned
from .vessel import SEGMENTS, spout, vessel


def beaker(rng: np.random.Generator) -> Shape:
    """Make a beaker: a straight wall, a flared lip and a spout."""
    height, radius = rng.uniform(0.06, 0.14), rng.uniform(0.024, 0.045)
    lip = rng.uniform(0.0015, 0.004)
    outer = rounded(join([(0.0, 0.0), (radius, 0.0)], [(radius, height - 2.5 * lip)], smooth(
        [(radius, height - 2.5 * lip), (radius + 0.35 * lip, height - lip),
         (radius + lip, height)])), 0.006)
    return vessel(outer, rng.uniform(0.0013, 0.0022), 0.0,
                  bend=spout(height, rng.uniform(0.012, 0.02), rng.uniform(0.16, 0.28), 0.26),
                  step=0.003)


def test_tube(rng: np.random.Generator) -> Shape:
    """Make a test tube: a round end and at times a rolled lip; it can only lie or lean."""
    radius, height = rng.uniform(0.006, 0.0125), rng.uniform(0.08, 0.17)
    lip = rng.choice([0.0, rng.uniform(0.0006, 0.0015)])
    turn = np.linspace(0.0, math.pi / 2, 24)
    end = np.stack([radius * np.sin(turn), radius * (1 - np.cos(turn))], axis=1)
    outer = rounded(join(end, [(radius, height - 0.004)], smooth(
        [(radius, height - 0.004), (radius + lip, height)])), 0.001)
    return vessel(outer, rng.uniform(0.0009, 0.0014), 0.0, can_lie=True, can_stand=False)


# The name begins with `test_`, which makes pytest take it for a test where it is imported.
test_tube.__test__ = False


def flask(rng: np.random.Generator) -> Shape:
    """Make an Erlenmeyer flask, or a round one with a flat base."""
    height, low = rng.uniform(0.09, 0.18), rng.uniform(0.032, 0.055)
    neck, lip = rng.uniform(0.011, 0.017), rng.uniform(0.001, 0.003)
    z_neck = height * rng.uniform(0.66, 0.76)
    if rng.random() < 0.6:
        body = smooth([(low, 0.006), (0.93 * low, 0.16 * z_neck), (1.25 * neck, 0.9 * z_neck),
                       (neck, z_neck)])
        under = join([(0.0, 0.0), (0.9 * low, 0.0)], smooth([(0.9 * low, 0.0), (low, 0.006)]))
    else:
        turn = np.linspace(0.55, math.pi - math.asin(min(0.9, neck / low)), 60)
        body = np.stack([low * np.sin(turn), low * (math.cos(0.55) - np.cos(turn))], axis=1)
        under, z_neck = np.array([(0.0, 0.0), body[0]]), body[-1, 1]
        height = max(height, z_neck + 0.03)
    outer = join(under, body, [(neck, height - 0.006)], smooth(
        [(neck, height - 0.006), (neck + lip, height - 0.001), (neck + lip, height)]))
    return vessel(rounded(outer, 0.005), rng.uniform(0.0013, 0.0022), 0.0)


def spoon(rng: np.random.Generator) -> Shape:
    """Make a spoon that lies on its bowl: one closed sheet with a real thickness."""
    length, width = rng.uniform(0.12, 0.21), rng.uniform(0.013, 0.021)
    bowl = rng.uniform(0.24, 0.34) * length
    neck, end = rng.uniform(0.0022, 0.0034), rng.uniform(0.004, 0.0085)
    depth, thick = rng.uniform(0.0045, 0.009), rng.uniform(0.0012, 0.0026)
    x = np.concatenate([bowl * (1 - np.cos(np.linspace(0.12, 2.6, 30))) / 2,
                        np.linspace(0.98 * bowl, length - end, 26),
                        length - end * (1 - np.sin(np.linspace(0.15, 1.42, 8)))])
    half, lift = _spoon_outline(x, bowl, length, width, neck, end, depth, rng.uniform(0.06, 0.14))
    angles = np.arange(40) * (2 * math.pi / 40)
    across = np.cos(angles)
    hollow = np.interp(x, [0, 0.5 * bowl, bowl, 1.15 * bowl], [0.4, 1.0, 0.3, 0.0]) * depth
    height = (lift[:, None] + hollow[:, None] * (across[None] ** 2 - 1)
              + thick / 2 * _flat_sine(angles)[None])
    # Along +x a ring must run clockwise seen from behind: y falls while z rises.
    rings = np.stack([np.repeat(x[:, None], 40, axis=1), half[:, None] * across[None], height],
                     axis=2)[:, ::-1]
    middle = rings.mean(axis=1)
    vertices, faces = loft(rings[:, ::-1], middle[0] - (0.0004, 0, 0), middle[-1]
                           + (0.0004, 0, 0))
    vertices[:, 0] -= vertices[:, 0].mean()
    return measured(vertices, faces, parts=('bowl', 'handle'), smooth_rad=1.3,
                    pieces=tube_pieces(1, *rings.shape[:2], step=8))


def _spoon_outline(x: np.ndarray, bowl: float, length: float, width: float, neck: float,
                   end: float, depth: float, rise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return half width and height of the middle line [m] at each x."""
    t = np.clip(x / bowl, 0.0, 1.0)
    egg = width * np.sqrt(np.maximum(1 - (2 * t - 1) ** 2, 0.0)) * (1.12 - 0.25 * t)
    s = np.clip((x - 0.8 * bowl) / (length - 0.8 * bowl), 0.0, 1.0)
    tip = np.sqrt(np.clip((length - x) / end, 0.02, 1.0) * (2 - np.clip((length - x) / end, 0, 1)))
    handle = (neck + (end - neck) * s ** 1.5) * tip
    half = np.where(x < 0.5 * bowl, egg, (egg ** 4 + handle ** 4) ** 0.25)
    lift = depth + rise * (length - bowl) * np.sin(0.9 * np.pi * s) * s ** 0.7
    return half, lift


def _flat_sine(angles: np.ndarray) -> np.ndarray:
    return np.sign(np.sin(angles)) * np.abs(np.sin(angles)) ** 0.6


def ladle(rng: np.random.Generator) -> Shape:
    """Make a ladle: a round bowl with a long handle that rises from its wall."""
    radius, height = rng.uniform(0.026, 0.045), rng.uniform(0.022, 0.036)
    wall, length = rng.uniform(0.0012, 0.0022), rng.uniform(0.13, 0.22)
    low = 0.35 * radius
    outer = rounded(join([(0.0, 0.0), (low, 0.0)], smooth(
        [(low, 0.0), (0.78 * radius, 0.3 * height), (radius, height)])), 0.004)
    outside, inner = thinned(outer, 0.002), thinned(inside(outer, wall, 0.0))
    profile = np.concatenate([outside[1:], rim(outside[-1], inner[-1]), inner[:0:-1]])
    level = len(outside) - 6
    patch = Patch((level, level + 3), (-3, 3))
    vertices, faces = loft(revolve(profile, SEGMENTS), np.array([0, 0, outside[0, 1]]),
                           np.array([0, 0, inner[0, 1]]), frozenset(patch.cells(SEGMENTS)))
    loop = patch.loop(SEGMENTS)
    start = vertices[loop].mean(axis=0) * (1, 0, 1)
    tilt = rng.uniform(0.5, 1.35)
    tip = start + length * np.array([math.cos(tilt), 0, math.sin(tilt)])
    path = bezier([start, start + (0.25 * length, 0, 0), tip - 0.4 * (tip - start), tip], 40)
    share = np.linspace(0, 1, 40)
    cap = np.sqrt(np.clip((1 - share) / 0.06, 0.05, 1.0))
    sections = tube_rings(path, cap * (0.003 + 0.004 * share), cap * rng.uniform(0.0014, 0.0024)
                          * np.ones(40), vertices[loop], blend=0.12)
    pieces = vessel_pieces(profile, len(outside) - 1, len(inner) - 1, SEGMENTS) \
        + tube_pieces(len(vertices), *sections.shape[:2])
    vertices, faces = graft(vertices, faces, loop, sections)
    return measured(vertices, faces, hollow=True, parts=('bowl', 'handle'), pieces=pieces)


def lens(rng: np.random.Generator) -> Shape:
    """Make a lens or paperweight: two spherical caps on a short cylinder; it lies flat."""
    radius, edge = rng.uniform(0.018, 0.045), rng.uniform(0.002, 0.008)
    domes = radius * rng.uniform(0.08, 0.5, 2) * rng.choice([[1, 1], [1, 0.02], [1, 0.35]])
    lower, upper = (_cap(radius, dome) for dome in domes)
    outer = join(lower * (1, -1) + (0, domes[1]), upper[::-1] + (0, domes[1] + edge))
    return solid(rounded(outer, 0.0012))


def _cap(radius: float, dome: float) -> np.ndarray:
    """Return a spherical cap from its top on the axis down to its rim at z = 0."""
    sphere = (radius ** 2 + dome ** 2) / (2 * dome)
    turn = np.linspace(0.0, math.asin(min(1.0, radius / sphere)), 40)
    return np.stack([sphere * np.sin(turn), dome - sphere * (1 - np.cos(turn))], axis=1)


def ornament(rng: np.random.Generator) -> Shape:
    """Make a turned ornament or chess-like figure of solid glass, metal or wood."""
    radius, height = rng.uniform(0.014, 0.028), rng.uniform(0.05, 0.12)
    count = int(rng.integers(2, 5))
    z = np.sort(rng.uniform(0.2, 0.78, 2 * count)) * height
    waists = rng.uniform(0.3, 0.6, count) * radius
    bulges = rng.uniform(0.6, 0.95, count) * radius
    middle = [(r, h) for pair in zip(zip(waists, z[::2]), zip(bulges, z[1::2])) for r, h in pair]
    head = rng.uniform(0.35, 0.8) * radius
    outer = join([(0.0, 0.0), (radius - 0.001, 0.0)], smooth(
        [(radius - 0.001, 0.0), (radius, 0.002), (0.95 * radius, 0.1 * height), *middle,
         (0.5 * head, 0.83 * height), (head, 0.92 * height), (0.6 * head, 0.985 * height),
         (0.0, height)]))
    facets = int(rng.integers(6, 13)) if rng.random() < 0.4 else SEGMENTS
    return solid(rounded(outer, 0.0015), facets, sliced=True)


def solid(outer: np.ndarray, segments: int = SEGMENTS, sliced: bool = False,
          **fields: object) -> Shape:
    """
    Turn a profile that begins and ends on the axis; few segments give flat facets.

    `sliced` gives the solver discs, for a profile with waists.
    """
    profile = thinned(outer, 0.004)
    rings = revolve(profile[1:-1], segments)
    ends = (np.array([0, 0, profile[i, 1]]) for i in (0, -1))
    vertices, faces = loft(rings, *ends)
    pieces = solid_pieces(profile[1:-1], segments) if sliced else None
    if pieces:
        pieces[0], pieces[-1] = np.append(pieces[0], 0), np.append(pieces[-1], len(vertices) - 1)
    return measured(vertices, faces, smooth_rad=0.3 if segments < 24 else 0.7, pieces=pieces,
                    **fields)
