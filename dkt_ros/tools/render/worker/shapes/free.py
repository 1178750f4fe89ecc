"""
Free shapes: vessels and solids of any silhouette, which no cupboard holds.

Whoever learns from seven families of things learns these seven. What is drawn here has nothing in
common but that light goes through a wall, or through all of it. Pure numpy; no bpy.
"""
from __future__ import annotations

import numpy as np

from .labware import solid
from .mesh import Shape
from .profile import join, rounded, smooth
from .tableware import base
from .vessel import Relief, cornered, ribs, rings_around, together, vessel

NARROWEST = 0.011
"""Radius of a body where it is narrowest [m]."""


def vessel_of_any_form(rng: np.random.Generator) -> Shape:
    """Make something hollow with an open top: three to six radii at any heights, or a stem."""
    widest = rng.uniform(0.024, 0.062)
    height = widest * np.exp(rng.uniform(np.log(0.7), np.log(6.0)))
    height = float(np.clip(height, 0.03, 0.28))
    radii, heights = _silhouette(widest, height, int(rng.integers(3, 7)), rng)
    wall = min(np.exp(rng.uniform(np.log(0.001), np.log(0.006))), 0.35 * radii.min())
    floor = rng.uniform(1.0, 4.0) * wall + 0.002
    body = smooth([(radii[0], 0.003), *zip(radii[1:], heights[1:])])
    outer = rounded(join(base(radii[0], rng.choice([0.0, 0.0, 0.1 * radii[0]])), body), 0.003)
    foot = None
    if rng.random() < 0.2:
        outer, foot = _on_a_stem(outer, radii[0], rng)
    bend, relief = _ornament(height, wall, rng)
    return vessel(outer, wall, floor, foot=foot, bend=bend, relief=relief,
                  can_lie=bend is None and foot is None)


def solid_of_any_form(rng: np.random.Generator) -> Shape:
    """Make something massive: a turned body of any silhouette, or one with some sides."""
    widest = rng.uniform(0.014, 0.045)
    height = float(np.clip(widest * rng.uniform(0.6, 4.5), 0.02, 0.16))
    radii, heights = _silhouette(widest, height, int(rng.integers(2, 6)), rng)
    sides = int(rng.integers(3, 9)) if rng.random() < 0.4 else 96
    outer = join([(0.0, 0.0), (radii[0], 0.0)], smooth([*zip(radii, heights)])
                 if rng.random() < 0.6 else list(zip(radii, heights)), [(0.0, height)])
    return solid(rounded(outer, rng.uniform(0.0015, 0.006)), sides)


def _silhouette(widest: float, height: float, count: int, rng: np.random.Generator
                ) -> tuple[np.ndarray, np.ndarray]:
    """Return radii, of which one is `widest`, and the heights that they are at, from 0 up [m]."""
    # A random walk: neighbours resemble each other, ends need not.
    walk = np.cumsum(rng.normal(0.0, 0.4, count))
    radii = np.maximum(widest * np.exp(walk - walk.max()), NARROWEST)
    radii[0] = max(radii[0], 0.45 * radii.max())  # or it falls over
    gaps = rng.uniform(0.4, 1.0, count - 1)
    return radii, height * np.concatenate([[0.0], np.cumsum(gaps) / gaps.sum()])


def _on_a_stem(outer: np.ndarray, radius: float, rng: np.random.Generator
               ) -> tuple[np.ndarray, np.ndarray]:
    """Lift a body onto a stem with a foot; return what is left of it and the foot's profile."""
    rise, stem = rng.uniform(0.015, 0.09), rng.uniform(0.0035, min(0.009, 0.4 * radius))
    foot = max(rng.uniform(0.75, 1.2) * radius, 0.6 * outer[:, 0].max())
    knot = stem * rng.uniform(1.0, 2.0)
    below = join([(0.0, 0.0), (foot - 0.001, 0.0)], smooth(
        [(foot - 0.001, 0.0), (foot, 0.0012), (foot - 0.001, 0.0024), (0.5 * (foot + stem), 0.005),
         (stem, 0.012), (knot, 0.3 * 0.012 + 0.7 * rise), (stem, rise)]))
    lifted = outer + (0.0, rise)
    return join([(0.0, rise)], lifted[lifted[:, 0] >= stem]), below


def _ornament(height: float, wall: float, rng: np.random.Generator
              ) -> tuple[Relief | None, Relief | None]:
    """Return corners of the whole and a relief of the outside, each at times."""
    bend = relief = None
    if rng.random() < 0.3:
        bend = cornered(rng.uniform(2.5, 7.0), rng.uniform(0.3, 0.9), int(rng.integers(3, 9)))
    low, high = np.sort(rng.uniform(0.05, 0.95, 2)) * height
    style, deep = rng.random(), rng.uniform(0.1, 0.3) * wall
    if high - low > 0.02 and style < 0.2:
        relief = ribs(int(rng.integers(5, 31)), deep, low, high, rng.uniform(-15, 15))
    elif high - low > 0.02 and style < 0.35:
        relief = rings_around(rng.uniform(0.006, 0.02), deep, low, high)
    elif high - low > 0.02 and style < 0.42:
        relief = together(ribs(int(rng.integers(6, 19)), 0.6 * deep, low, high),
                          rings_around(rng.uniform(0.01, 0.02), 0.6 * deep, low, high))
    return bend, relief
