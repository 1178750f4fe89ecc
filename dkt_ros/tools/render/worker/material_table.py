"""
What things and liquids are made of: classes and physical ranges, as plain data without bpy.

`LIBRARY` holds the materials of things, `LIQUIDS` what vessels are filled with. `draw` takes one
set of values out of the ranges; `materials.build` makes it a Cycles material. The classes are the
values of `dkt_ros.material.Material`: opaque things with a mirror-like surface (metal, glaze,
lacquer) are reflective, because a stereo camera sees the mirror image on them.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TRANSPARENT, TRANSLUCENT, REFLECTIVE, DIFFUSE = 1, 2, 3, 4
CLASSES = {'transparent': TRANSPARENT, 'translucent': TRANSLUCENT, 'reflective': REFLECTIVE,
           'diffuse': DIFFUSE}
KINDS = ('dielectric', 'conductor', 'coated', 'opaque', 'scattering')
TEXTURES = ('', 'mottled', 'wood', 'weave', 'print', 'speckle', 'creased')
Range = tuple[float, float]
Rgb = tuple[float, float, float]
WHITE = ((1.0, 1.0, 1.0),)
ANY_COLOR = ((0.5, 0.06, 0.05), (0.05, 0.12, 0.36), (0.07, 0.26, 0.11), (0.74, 0.54, 0.13),
             (0.8, 0.8, 0.78), (0.03, 0.03, 0.035), (0.62, 0.28, 0.07), (0.22, 0.09, 0.24),
             (0.08, 0.31, 0.35), (0.7, 0.46, 0.45), (0.34, 0.35, 0.36), (0.63, 0.57, 0.47),
             (0.4, 0.5, 0.57))


@dataclass(frozen=True)
class MaterialSpec:
    """
    The ranges of one material.

    Attributes
    ----------
    material_class : int
        1 transparent, 2 translucent, 3 reflective, 4 diffuse.
    kind : str
        `dielectric`: light goes through, dimmed by Beer and Lambert's law; `conductor`: bare
        metal; `coated`: a base under clear lacquer or glaze; `opaque`: a plain surface;
        `scattering`: light enters and is scattered inside.
    ior : (low, high)
        Index of refraction; of the coat for `coated`; unused by `conductor`.
    roughness : (low, high)
        Roughness of Cycles, the square root of the GGX alpha; of the base for `coated`.
    colors : tuple of rgb
        One is drawn: base colour, linear; unused by `dielectric` and `conductor`.
    absorption : tuple of rgb
        One is drawn: absorption coefficient [1/m], times a factor from `strength`.
    n, k : rgb
        Complex index of a `conductor` at red, green and blue.
    anisotropy : (low, high)
        Anisotropy of the reflection, along turned grooves.
    coat_roughness : (low, high)
        Roughness of the coat.
    metallic : (low, high)
        Share of metal flakes below the coat.
    bump_m, grain_m : (low, high)
        Depth and size of bumps [m].
    depth_m : (low, high)
        Mean free path of `scattering` [m].
    transmission : (low, high)
        Share of light that passes a `scattering` surface by refraction.
    texture : str
        Pattern of the colour; `creased` makes bumps with sharp edges instead.

    """

    material_class: int
    kind: str
    ior: Range = (1.45, 1.55)
    roughness: Range = (0.0, 0.0)
    colors: tuple[Rgb, ...] = WHITE
    absorption: tuple[Rgb, ...] = ((0.0, 0.0, 0.0),)
    strength: Range = (1.0, 1.0)
    n: Rgb = (1.0, 1.0, 1.0)
    k: Rgb = (1.0, 1.0, 1.0)
    anisotropy: Range = (0.0, 0.0)
    coat_roughness: Range = (0.0, 0.0)
    metallic: Range = (0.0, 0.0)
    bump_m: Range = (0.0, 0.0)
    grain_m: Range = (0.002, 0.006)
    depth_m: Range = (0.0, 0.0)
    transmission: Range = (0.0, 0.0)
    texture: str = ''


SCALARS = ('ior', 'roughness', 'anisotropy', 'coat_roughness', 'metallic', 'bump_m', 'grain_m',
           'depth_m', 'transmission')


def _clear(ior: Range, absorption: tuple[Rgb, ...] = ((0.0, 0.0, 0.0),), **more) -> MaterialSpec:
    return MaterialSpec(TRANSPARENT, 'dielectric', ior=ior, absorption=absorption, **more)


def _metal(n: Rgb, k: Rgb, roughness: Range, **more) -> MaterialSpec:
    return MaterialSpec(REFLECTIVE, 'conductor', n=n, k=k, roughness=roughness, **more)


def _coated(colors: tuple[Rgb, ...], **more) -> MaterialSpec:
    return MaterialSpec(REFLECTIVE, 'coated', colors=colors, **more)


def _matt(colors: tuple[Rgb, ...], roughness: Range, **more) -> MaterialSpec:
    return MaterialSpec(DIFFUSE, 'opaque', colors=colors, roughness=roughness, **more)


IRON = ((2.87, 2.95, 2.59), (3.35, 2.93, 2.77))
CHROME = ((3.18, 3.18, 2.33), (3.31, 3.33, 3.14))
ALUMINIUM = ((1.35, 0.97, 0.62), (7.47, 6.40, 5.30))
COPPER = ((0.27, 0.68, 1.32), (3.61, 2.63, 2.29))
BRASS = ((0.44, 0.53, 1.09), (3.70, 2.77, 1.83))
GOLD = ((0.18, 0.42, 1.37), (3.42, 2.35, 1.77))
SILVER = ((0.16, 0.145, 0.135), (3.93, 3.19, 2.38))
BRONZE = ((0.46, 0.72, 1.25), (3.30, 2.55, 2.05))

TRANSPARENT_ONES = {
    'clear_glass': _clear((1.50, 1.53), ((2.5, 0.6, 1.6), (0.4, 0.1, 0.3)), strength=(0.3, 2.0)),
    'crystal': _clear((1.54, 1.70)),
    'borosilicate': _clear((1.465, 1.478), ((0.2, 0.1, 0.2),), strength=(0.0, 1.0)),
    'green_glass': _clear((1.50, 1.53), ((130, 25, 120), (75, 20, 55), (150, 55, 170)),
                          strength=(0.4, 1.6)),
    'brown_glass': _clear((1.50, 1.53), ((40, 130, 380), (60, 170, 450)), strength=(0.4, 1.2)),
    'blue_glass': _clear((1.50, 1.53), ((190, 110, 12), (110, 35, 14)), strength=(0.4, 1.5)),
    'rose_glass': _clear((1.50, 1.53), ((10, 75, 45), (12, 90, 110), (45, 60, 15)),
                         strength=(0.3, 1.2)),
    'smoked_glass': _clear((1.50, 1.54), ((90, 95, 95), (80, 95, 115)), strength=(0.4, 2.0)),
    'pet': _clear((1.570, 1.580), ((0.5, 0.3, 0.3), (2.0, 0.8, 0.6), (40, 12, 38), (50, 22, 6)),
                  strength=(0.3, 1.5), roughness=(0.0, 0.08)),
    'acrylic': _clear((1.488, 1.495), ((0.1, 0.1, 0.1), (6, 60, 70), (70, 30, 5), (5, 30, 90)),
                      strength=(0.2, 1.0), roughness=(0.0, 0.05)),
    'polycarbonate': _clear((1.580, 1.590), ((1.0, 0.7, 1.6), (20, 12, 8)), strength=(0.3, 1.2),
                            roughness=(0.0, 0.08)),
    'hammered_glass': _clear((1.50, 1.53), ((2.0, 0.6, 1.4),), strength=(0.3, 1.5),
                             bump_m=(0.0008, 0.002), grain_m=(0.005, 0.012)),
    'clear_resin': _clear((1.52, 1.56), ((8, 14, 40), (2, 2, 4)), strength=(0.3, 1.5),
                          roughness=(0.0, 0.06)),
}
TRANSLUCENT_ONES = {
    'frosted_glass': MaterialSpec(
        TRANSLUCENT, 'dielectric', ior=(1.50, 1.53), roughness=(0.2, 0.5),
        absorption=((2, 1, 2), (12, 4, 8), (15, 8, 3)), strength=(0.3, 1.5)),
    'frosted_plastic': MaterialSpec(
        TRANSLUCENT, 'dielectric', ior=(1.49, 1.54), roughness=(0.25, 0.55),
        absorption=((3, 3, 4), (10, 60, 60), (60, 25, 8)), strength=(0.2, 1.0)),
    'ice': MaterialSpec(
        TRANSLUCENT, 'dielectric', ior=(1.305, 1.315), roughness=(0.08, 0.28),
        absorption=((1.2, 0.4, 0.2),), strength=(0.3, 2.0), bump_m=(0.0008, 0.003),
        grain_m=(0.006, 0.015)),
    'opal_glass': MaterialSpec(
        TRANSLUCENT, 'scattering', ior=(1.50, 1.53), roughness=(0.02, 0.15),
        colors=((0.92, 0.92, 0.9), (0.75, 0.88, 0.85), (0.92, 0.78, 0.78)),
        depth_m=(0.002, 0.006), transmission=(0.1, 0.35)),
    'polypropylene': MaterialSpec(
        TRANSLUCENT, 'scattering', ior=(1.49, 1.50), roughness=(0.2, 0.4),
        colors=((0.9, 0.91, 0.92), (0.5, 0.75, 0.9), (0.9, 0.55, 0.45)),
        depth_m=(0.002, 0.006), transmission=(0.3, 0.6)),
    'wax': MaterialSpec(
        TRANSLUCENT, 'scattering', ior=(1.43, 1.45), roughness=(0.3, 0.55),
        colors=((0.9, 0.83, 0.66), (0.85, 0.85, 0.82), (0.7, 0.2, 0.15)),
        depth_m=(0.002, 0.008), transmission=(0.0, 0.1)),
    'alabaster': MaterialSpec(
        TRANSLUCENT, 'scattering', ior=(1.52, 1.53), roughness=(0.1, 0.35),
        colors=((0.88, 0.84, 0.76), (0.85, 0.86, 0.85)), depth_m=(0.003, 0.010),
        transmission=(0.0, 0.15)),
}
REFLECTIVE_ONES = {
    'steel': _metal(*IRON, (0.04, 0.2)),
    'brushed_steel': _metal(*IRON, (0.2, 0.38), anisotropy=(0.5, 0.9)),
    'chrome': _metal(*CHROME, (0.0, 0.06)),
    'copper': _metal(*COPPER, (0.05, 0.3)),
    'brass': _metal(*BRASS, (0.05, 0.32)),
    'bronze': _metal(*BRONZE, (0.12, 0.38)),
    'gold': _metal(*GOLD, (0.02, 0.2)),
    'silver': _metal(*SILVER, (0.02, 0.2)),
    'aluminium': _metal(*ALUMINIUM, (0.12, 0.38)),
    'turned_aluminium': _metal(*ALUMINIUM, (0.18, 0.35), anisotropy=(0.4, 0.85)),
    'foil': _metal(*ALUMINIUM, (0.08, 0.22), bump_m=(0.003, 0.007), grain_m=(0.008, 0.02),
                   texture='creased'),
    'gold_foil': _metal(*GOLD, (0.08, 0.22), bump_m=(0.002, 0.006), grain_m=(0.006, 0.018),
                        texture='creased'),
    'hammered_copper': _metal(*COPPER, (0.08, 0.25), bump_m=(0.001, 0.003),
                              grain_m=(0.006, 0.014)),
    'mirror': _metal(*SILVER, (0.0, 0.01)),
    'glazed_ceramic': _coated(ANY_COLOR + ((0.8, 0.78, 0.72), (0.25, 0.12, 0.05)),
                              ior=(1.5, 1.6), roughness=(0.4, 0.8), coat_roughness=(0.0, 0.08),
                              texture='speckle'),
    'porcelain': _coated(((0.85, 0.84, 0.82), (0.8, 0.82, 0.84)), ior=(1.5, 1.56),
                         roughness=(0.3, 0.6), coat_roughness=(0.0, 0.05)),
    'lacquer': _coated(((0.015, 0.012, 0.012), (0.35, 0.015, 0.01), (0.02, 0.03, 0.08),
                        (0.2, 0.07, 0.02)), ior=(1.5, 1.56), roughness=(0.3, 0.6),
                       coat_roughness=(0.0, 0.05)),
    'car_paint': _coated(ANY_COLOR, ior=(1.5, 1.55), roughness=(0.25, 0.45),
                         coat_roughness=(0.0, 0.04), metallic=(0.4, 0.95)),
    'enamel': _coated(((0.8, 0.8, 0.78), (0.03, 0.08, 0.3), (0.5, 0.03, 0.03), (0.03, 0.2, 0.1)),
                      ior=(1.5, 1.58), roughness=(0.4, 0.7), coat_roughness=(0.02, 0.1)),
}
DIFFUSE_ONES = {
    'matt_plastic': _matt(ANY_COLOR, (0.35, 0.7), ior=(1.45, 1.55)),
    'satin_plastic': _matt(ANY_COLOR, (0.22, 0.35), ior=(1.45, 1.55)),
    'rubber': _matt(((0.02, 0.02, 0.02), (0.3, 0.03, 0.03), (0.05, 0.1, 0.25), (0.5, 0.4, 0.05)),
                    (0.6, 0.95), ior=(1.50, 1.53)),
    'wood': _matt(((0.42, 0.24, 0.11), (0.2, 0.09, 0.035), (0.6, 0.42, 0.24), (0.3, 0.15, 0.06)),
                  (0.4, 0.8), texture='wood', grain_m=(0.003, 0.012)),
    'cardboard': _matt(((0.46, 0.32, 0.18), (0.55, 0.42, 0.27), (0.7, 0.68, 0.62)), (0.75, 1.0),
                       texture='mottled', grain_m=(0.001, 0.004), bump_m=(0.00002, 0.0001)),
    'printed_carton': _matt(ANY_COLOR, (0.3, 0.7), texture='print'),
    'fabric': _matt(ANY_COLOR, (0.85, 1.0), texture='weave', grain_m=(0.0015, 0.004),
                    bump_m=(0.0002, 0.0006)),
    'terracotta': _matt(((0.5, 0.18, 0.08), (0.42, 0.2, 0.11)), (0.75, 1.0), texture='mottled',
                        bump_m=(0.00005, 0.0002)),
    'stoneware': _matt(((0.45, 0.42, 0.37), (0.16, 0.17, 0.18), (0.28, 0.33, 0.34)), (0.45, 0.75),
                       texture='speckle', grain_m=(0.001, 0.003)),
    'concrete': _matt(((0.36, 0.35, 0.33), (0.22, 0.22, 0.22)), (0.8, 1.0), texture='mottled',
                      grain_m=(0.004, 0.015), bump_m=(0.0001, 0.0004)),
    'cork': _matt(((0.48, 0.3, 0.15),), (0.8, 1.0), texture='speckle', grain_m=(0.0015, 0.004),
                  bump_m=(0.0001, 0.0004)),
    'painted_wood': _matt(ANY_COLOR, (0.3, 0.65)),
}
LIBRARY = {**TRANSPARENT_ONES, **TRANSLUCENT_ONES, **REFLECTIVE_ONES, **DIFFUSE_ONES}
LIQUIDS = {
    'water': _clear((1.330, 1.336), ((0.3, 0.05, 0.02),), strength=(0.3, 1.0)),
    'tea': _clear((1.333, 1.338), ((6, 22, 90), (10, 45, 160)), strength=(0.4, 1.8)),
    'red_wine': _clear((1.340, 1.352), ((25, 330, 260), (15, 220, 150)), strength=(0.5, 1.5)),
    'white_wine': _clear((1.340, 1.350), ((0.5, 2.0, 14),), strength=(0.5, 1.8)),
    'oil': _clear((1.466, 1.475), ((2, 5, 60), (6, 4, 90)), strength=(0.4, 1.5)),
    'cola': _clear((1.340, 1.350), ((90, 260, 700),), strength=(0.5, 1.3)),
    'juice': MaterialSpec(
        TRANSLUCENT, 'scattering', ior=(1.340, 1.355), roughness=(0.0, 0.03),
        colors=((0.9, 0.42, 0.03), (0.75, 0.12, 0.05), (0.85, 0.62, 0.12)),
        depth_m=(0.004, 0.012), transmission=(0.15, 0.4)),
    'milk': MaterialSpec(
        TRANSLUCENT, 'scattering', ior=(1.344, 1.350), roughness=(0.0, 0.03),
        colors=((0.93, 0.92, 0.87),), depth_m=(0.001, 0.003)),
    # For free vessels: any clear colour, so that who learns from them has met none of the others.
    'dye': _clear((1.330, 1.420), ((160, 60, 8), (20, 110, 25), (70, 25, 110), (8, 70, 160),
                                   (120, 15, 60), (15, 15, 90), (60, 60, 60)),
                  strength=(0.02, 1.2)),
}
PROP = {'bank_grey': _matt(((0.4, 0.4, 0.4),), (0.45, 0.45))}
"""What a mesh of a bank wears when a model is asked what it is."""


def find(name: str) -> MaterialSpec:
    """Return the ranges of a material or liquid."""
    spec = {**LIBRARY, **LIQUIDS, **PROP}.get(name)
    if spec is None:
        raise ValueError(f'material is {name!r}; allowed: {", ".join([*LIBRARY, *LIQUIDS])}')
    return spec


def draw(name: str, rng: np.random.Generator) -> dict:
    """
    Take one set of values out of a material's ranges.

    Returns
    -------
    dict
        The fields of `MaterialSpec` in `SCALARS` as numbers, `color` and `absorption` [1/m] as
        (3,) arrays, and `n`, `k`, `kind`, `texture`, `material_class` as they are.

    """
    spec = find(name)
    values = {field: float(rng.uniform(*getattr(spec, field))) for field in SCALARS}
    color = np.array(spec.colors[rng.integers(len(spec.colors))])
    sigma = np.array(spec.absorption[rng.integers(len(spec.absorption))], float)
    color = np.clip(color * rng.uniform(0.8, 1.15) * rng.uniform(0.93, 1.07, 3), 0.005, 0.95)
    return {**values, 'color': color, 'absorption': sigma * rng.uniform(*spec.strength),
            'n': spec.n, 'k': spec.k, 'kind': spec.kind, 'texture': spec.texture,
            'material_class': spec.material_class}


def transmittance(absorption: np.ndarray, thickness_m: float) -> np.ndarray:
    """Return the share of light that is left after a thickness of a medium (Beer, Lambert)."""
    return np.exp(-np.asarray(absorption, float) * thickness_m)


def volume_color(absorption: np.ndarray) -> tuple[np.ndarray, float]:
    """Return colour and density that give Cycles' absorption node the coefficients [1/m]."""
    absorption = np.asarray(absorption, float)
    density = float(absorption.max())
    return (1.0 - absorption / density if density > 0 else np.ones(3)), density


def normal_reflectance(n: tuple, k: tuple) -> np.ndarray:
    """Return what share of light a bare metal reflects at normal incidence (Fresnel)."""
    n, k = np.asarray(n, float), np.asarray(k, float)
    return ((n - 1) ** 2 + k ** 2) / ((n + 1) ** 2 + k ** 2)
