"""
Parametric tableware: glasses, bottles, jars, bowls, plates, vases, mugs, jugs.

Each function draws its shape parameters from `rng`; lengths in metres. Pure numpy; no bpy.
"""
from __future__ import annotations

import numpy as np

from .mesh import Shape
from .profile import join, rounded, smooth
from .vessel import (
    Handle,
    Relief,
    cornered,
    ribs,
    rings_around,
    spout,
    thread,
    together,
    vessel,
)


def base(radius: float, punt: float = 0.0, edge: float = 0.003) -> np.ndarray:
    """Return the underside of a body: from the axis, raised by `punt` [m], to its lower edge."""
    inner = max(radius - edge, 0.6 * radius)
    if punt <= 0:
        return join([(0.0, 0.0), (inner, 0.0)], smooth([(inner, 0.0), (radius, edge)]))
    return join(smooth([(0.0, punt), (0.45 * inner, 0.75 * punt), (0.86 * inner, 0.08 * punt),
                        (0.94 * inner, 0.0)]), [(inner, 0.0)],
                smooth([(inner, 0.0), (radius, edge)]))


def tumbler(rng: np.random.Generator) -> Shape:
    """Make a drinking glass: straight, conical, bellied or with corners, plain or cut."""
    height, top = rng.uniform(0.07, 0.16), rng.uniform(0.028, 0.045)
    low = top * rng.uniform(0.66, 1.0)
    belly = (top + low) / 2 * rng.uniform(0.96, 1.14)
    wall, floor = rng.uniform(0.0014, 0.0032), rng.uniform(0.004, 0.014)
    outer = rounded(join(base(low), smooth([(low, 0.003), (belly, 0.5 * height),
                                            (top, height)])), 0.003)
    bend = relief = None
    style = rng.random()
    if style < 0.2:
        bend = cornered(rng.uniform(3.0, 6.0), rng.uniform(0.4, 0.9), int(rng.choice([4, 4, 6])))
    elif style < 0.5:
        relief = ribs(int(rng.integers(8, 25)), rng.uniform(0.1, 0.25) * wall, 0.004,
                      height * rng.uniform(0.5, 0.85), rng.choice([0.0, 0.0, rng.uniform(3, 12)]))
    return vessel(outer, wall, floor, bend=bend, relief=relief, can_lie=bend is None)


def wine_glass(rng: np.random.Generator) -> Shape:
    """Make a stemmed glass: a foot, a stem, sometimes with a knop, and a round or slim bowl."""
    foot, stem = rng.uniform(0.028, 0.042), rng.uniform(0.003, 0.0055)
    z0, depth = rng.uniform(0.045, 0.10), rng.uniform(0.06, 0.13)
    wide = rng.uniform(0.024, 0.046) if depth > 0.09 else rng.uniform(0.03, 0.046)
    top = wide * rng.uniform(0.66, 1.02)
    knop = stem * (rng.uniform(1.4, 2.2) if rng.random() < 0.3 else 1.0)
    z_knop = z0 * rng.uniform(0.45, 0.75)
    below = join([(0.0, 0.0), (foot - 0.001, 0.0)],
                 smooth([(foot - 0.001, 0.0), (foot, 0.001), (foot - 0.001, 0.0021),
                         (0.55 * foot, 0.0045), (1.7 * stem, 0.011), (stem, 0.02),
                         (stem, z_knop - 0.007), (knop, z_knop), (stem, z_knop + 0.007),
                         (stem, 0.96 * z0)]))
    bowl = rounded(join([(0.0, z0)], smooth(
        [(1.25 * stem, z0), (0.62 * wide, z0 + 0.12 * depth), (wide, z0 + 0.45 * depth),
         (0.5 * (wide + top), z0 + 0.78 * depth), (top, z0 + depth)])), 0.002)
    # The bowl's outside begins at the stem: what the rounding left on the axis goes.
    bowl = join([(0.0, z0)], bowl[bowl[:, 0] >= stem])
    return vessel(bowl, rng.uniform(0.001, 0.0019), rng.uniform(0.004, 0.009), foot=below)


def bottle(rng: np.random.Generator) -> Shape:
    """Make a bottle: shoulder, neck, lip or thread, with a punt, grooves or corners at times."""
    height, body = rng.uniform(0.14, 0.30), rng.uniform(0.026, 0.041)
    neck, shoulder = rng.uniform(0.0105, 0.0145), height * rng.uniform(0.52, 0.72)
    z_neck = min(shoulder + rng.uniform(0.1, 0.22) * height, 0.87 * height)
    punt = rng.choice([0.0, rng.uniform(0.004, 0.02)])
    screw = rng.random() < 0.5
    lip = neck + (0.0 if screw else rng.uniform(0.0012, 0.003))
    z_lip = height - rng.uniform(0.006, 0.014)
    outer = join(base(body, punt, 0.005), smooth(
        [(body, 0.005), (body, 0.5 * shoulder), (body, shoulder),
         (0.5 * (body + neck), 0.5 * (shoulder + z_neck)), (1.05 * neck, z_neck),
         (neck, 0.5 * (z_neck + z_lip)), (neck, z_lip)]),
        smooth([(neck, z_lip), (lip, z_lip + 0.002), (lip, height)]))
    outer = rounded(outer, 0.0025)
    reliefs: list[Relief] = []
    if screw:
        reliefs.append(thread(0.0032, 0.001, height - 0.014, height - 0.002))
    bend = None
    style = rng.random()
    if style < 0.25:
        reliefs.append(rings_around(rng.uniform(0.008, 0.016), rng.uniform(0.0003, 0.0008),
                                    0.12 * shoulder, 0.9 * shoulder))
    elif style < 0.4:
        bend = _square_below(rng.uniform(3.5, 8.0), shoulder, z_neck)
    return vessel(outer, rng.uniform(0.0015, 0.003), rng.uniform(0.003, 0.008), bend=bend,
                  relief=together(*reliefs) if reliefs else None, can_lie=bend is None,
                  step=0.002 if reliefs else 0.005)


def _square_below(power: float, shoulder: float, z_neck: float) -> Relief:
    flat = cornered(power, 0.9)

    def bend(angle: np.ndarray, z: np.ndarray) -> np.ndarray:
        share = np.clip((z_neck - z) / (z_neck - shoulder), 0, 1) ** 2
        return 1 + share * (flat(angle, z) - 1) * 0.7

    return bend


def carafe(rng: np.random.Generator) -> Shape:
    """Make a decanter: a wide belly, a slim neck and a flared mouth."""
    height, belly = rng.uniform(0.18, 0.28), rng.uniform(0.045, 0.07)
    neck, z_belly = rng.uniform(0.014, 0.022), height * rng.uniform(0.18, 0.32)
    z_neck, mouth = height * rng.uniform(0.6, 0.75), neck * rng.uniform(1.2, 1.8)
    low = belly * rng.uniform(0.6, 0.85)
    outer = join(base(low, rng.choice([0.0, 0.008])), smooth(
        [(low, 0.003), (belly, z_belly), (0.5 * (belly + neck), 0.5 * (z_belly + z_neck)),
         (neck, z_neck), (mouth, height)]))
    return vessel(rounded(outer, 0.003), rng.uniform(0.0018, 0.003), rng.uniform(0.004, 0.008))


def jar(rng: np.random.Generator) -> Shape:
    """Make a preserving jar: a round shoulder and a wide neck with a thread."""
    height, body = rng.uniform(0.075, 0.17), rng.uniform(0.03, 0.05)
    neck, wall = body * rng.uniform(0.72, 0.92), rng.uniform(0.002, 0.0036)
    z_neck = height - rng.uniform(0.013, 0.018)
    outer = rounded(join(base(body, rng.choice([0.0, 0.003])), smooth(
        [(body, 0.003), (body, 0.4 * z_neck), (body, 0.82 * z_neck), (neck, z_neck),
         (neck, height)])), 0.003)
    relief = thread(0.005, 0.0013, z_neck + 0.002, height - 0.0015)
    if rng.random() < 0.3:
        relief = together(relief, ribs(int(rng.integers(6, 13)), 0.2 * wall, 0.01, 0.75 * z_neck))
    bend = None
    if rng.random() < 0.25:
        bend = _square_below(rng.uniform(3.0, 6.0), 0.8 * z_neck, z_neck)
    return vessel(outer, wall, rng.uniform(0.003, 0.007), relief=relief, bend=bend,
                  can_lie=bend is None, step=0.002)


def bowl(rng: np.random.Generator) -> Shape:
    """Make a bowl: deep or shallow, plain, ribbed or with corners."""
    height, top = rng.uniform(0.04, 0.085), rng.uniform(0.048, 0.09)
    low, full = top * rng.uniform(0.3, 0.5), rng.uniform(0.6, 0.9)
    wall = rng.uniform(0.0022, 0.004)
    outer = rounded(join(base(low, rng.choice([0.0, 0.002])), smooth(
        [(low, 0.003), (full * top, 0.28 * height), (0.5 * (full + 1) * top, 0.6 * height),
         (top, height)])), 0.004)
    bend = relief = None
    if rng.random() < 0.2:
        bend = cornered(rng.uniform(2.6, 4.0), rng.uniform(0.4, 0.8))
    elif rng.random() < 0.4:
        relief = ribs(int(rng.integers(10, 31)), 0.15 * wall, 0.004, 0.9 * height,
                      rng.choice([0.0, rng.uniform(5, 20)]))
    return vessel(outer, wall, rng.uniform(0.003, 0.006), bend=bend, relief=relief)


def plate(rng: np.random.Generator) -> Shape:
    """Make a plate or saucer: a well, a flat flange and a foot ring."""
    radius, height = rng.uniform(0.06, 0.115), rng.uniform(0.012, 0.024)
    well = radius * rng.uniform(0.6, 0.75)
    low = well * rng.uniform(0.75, 0.92)
    outer = rounded(join(base(low, 0.0018, 0.0025), smooth(
        [(low, 0.0025), (well, 0.5 * height), (0.5 * (well + radius), 0.78 * height),
         (radius, height)])), 0.004)
    return vessel(outer, rng.uniform(0.0026, 0.0042), 0.0045)


def vase(rng: np.random.Generator) -> Shape:
    """Make a vase: any gentle silhouette, round, ribbed, twisted or with corners."""
    height, low = rng.uniform(0.12, 0.28), rng.uniform(0.022, 0.045)
    belly, waist = rng.uniform(0.028, 0.06), rng.uniform(0.014, 0.034)
    top, wall = waist * rng.uniform(1.05, 2.0), rng.uniform(0.002, 0.004)
    outer = rounded(join(base(low), smooth(
        [(low, 0.003), (belly, height * rng.uniform(0.25, 0.42)),
         (waist, height * rng.uniform(0.65, 0.82)), (top, height)])), 0.003)
    bend = relief = None
    style = rng.random()
    if style < 0.25:
        bend = cornered(rng.uniform(2.5, 5.0), rng.uniform(0.4, 0.9), int(rng.integers(3, 7)))
    elif style < 0.6:
        relief = ribs(int(rng.integers(6, 20)), 0.22 * wall, 0.006, 0.95 * height,
                      rng.uniform(-12, 12))
    return vessel(outer, wall, rng.uniform(0.006, 0.018), bend=bend, relief=relief)


def mug(rng: np.random.Generator) -> Shape:
    """Make a mug or cup with a handle."""
    height, top = rng.uniform(0.06, 0.115), rng.uniform(0.034, 0.046)
    low = top * rng.uniform(0.55 if height < 0.075 else 0.85, 1.02)
    belly = 0.5 * (top + low) * rng.uniform(1.0, 1.1)
    outer = rounded(join(base(low, rng.choice([0.0, 0.002])), smooth(
        [(low, 0.003), (belly, 0.5 * height), (top, height)])), 0.004)
    handle = Handle(height * rng.uniform(0.2, 0.3), height * rng.uniform(0.74, 0.84),
                    rng.uniform(0.02, 0.03), rng.uniform(0.008, 0.014),
                    rng.uniform(0.006, 0.009), rng.uniform(-0.003, 0.008))
    return vessel(outer, rng.uniform(0.0022, 0.0042), rng.uniform(0.004, 0.008), handle=handle,
                  step=0.004)


def jug(rng: np.random.Generator) -> Shape:
    """Make a jug: a belly, a spout and a handle opposite to it."""
    height, belly = rng.uniform(0.12, 0.23), rng.uniform(0.042, 0.06)
    low, neck = belly * rng.uniform(0.7, 0.95), belly * rng.uniform(0.62, 0.85)
    top = neck * rng.uniform(1.02, 1.2)
    outer = rounded(join(base(low), smooth(
        [(low, 0.003), (belly, height * rng.uniform(0.25, 0.4)),
         (neck, height * rng.uniform(0.72, 0.85)), (top, height)])), 0.004)
    handle = Handle(height * rng.uniform(0.25, 0.35), height * rng.uniform(0.76, 0.86),
                    rng.uniform(0.026, 0.038), rng.uniform(0.010, 0.016),
                    rng.uniform(0.007, 0.011), rng.uniform(-0.005, 0.01))
    return vessel(outer, rng.uniform(0.002, 0.0035), rng.uniform(0.004, 0.009), handle=handle,
                  bend=spout(height, 0.3 * height, rng.uniform(0.18, 0.34)), step=0.004)
