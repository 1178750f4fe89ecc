"""
Things to grasp: the renderer's shapes with the mass of their walls, and convex pieces for contact.

The mesh that is rendered and ray-cast, the one that has the mass and the one that the pieces were
cut from are the same one.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dkt_ros.errors import UserError
from dkt_ros.grasp_sim_config import PhysicsConfig
from dkt_ros.material import Material
from dkt_ros.tools.render.worker.choose import COMMON, FITTING
from dkt_ros.tools.render.worker.material_table import LIBRARY as MATERIALS
from dkt_ros.tools.render.worker.shapes import LIBRARY as SHAPES
from dkt_ros.tools.render.worker.shapes import Shape

FAMILIES = {
    'tabletop-v1': ('tumbler', 'wine_glass', 'bottle', 'jar', 'bowl', 'box', 'sphere'),
    'transphy3d': ('tumbler', 'wine_glass', 'bottle', 'carafe', 'jar', 'bowl', 'vase', 'mug',
                   'jug', 'beaker', 'test_tube', 'flask', 'box', 'sphere', 'can', 'cylinder')}
"""What a jaw can take from a table. Plates and spoons lie too flat for any finger."""
COLORED = ('green_glass', 'brown_glass', 'blue_glass', 'rose_glass', 'smoked_glass',
           'hammered_glass')
"""Glass that is not clear: tabletop-v1 has none."""

DENSITY = {  # [kg/m^3], handbook values
    'clear_glass': 2500, 'borosilicate': 2230, 'crystal': 2900, 'green_glass': 2500,
    'brown_glass': 2500, 'blue_glass': 2500, 'rose_glass': 2500, 'smoked_glass': 2500,
    'hammered_glass': 2500, 'pet': 1380, 'acrylic': 1180, 'polycarbonate': 1200,
    'clear_resin': 1150, 'steel': 7850, 'brushed_steel': 7850, 'chrome': 7850, 'copper': 8940,
    'brass': 8500, 'bronze': 8700, 'aluminium': 2700, 'turned_aluminium': 2700,
    'porcelain': 2400, 'stoneware': 2300, 'matt_plastic': 1050, 'satin_plastic': 1050,
    'rubber': 1150, 'wood': 700, 'painted_wood': 700, 'cardboard': 250, 'printed_carton': 300,
    'terracotta': 1900, 'cork': 240}
METALS = ('steel', 'brushed_steel', 'chrome', 'copper', 'brass', 'bronze', 'aluminium',
          'turned_aluminium')

BAND_M, ROOM_M, STEEP = 0.015, 0.006, 0.4
"""Height over which a jaw reaches around a thing, its room, and the slope that slips out of it."""
MOUTH_RADIUS_M = 0.02


@dataclass(frozen=True)
class MassProperties:
    """Mass [kg], its centre (3,) [m] and the inertia (3, 3) about it [kg m^2]."""

    mass: float
    centre: np.ndarray
    inertia: np.ndarray


@dataclass(frozen=True)
class Solid:
    """
    A thing, in its own frame: it stands on z = 0, its axis along +z.

    Attributes
    ----------
    family, material : str
        Names of the renderer's libraries.
    shape_seed : int
        What the shape was drawn from: the renderer draws the same one.
    vertices : (N, 3) float
        [m].
    faces : list of tuple of int
        Counter-clockwise from outside.
    pieces : tuple of (K, 3) float
        Corners of convex parts, which stand for it in contact [m].
    mass : MassProperties
    radius, height : float
        Of the upright cylinder about it [m].
    can_stand, can_lie : bool
    rim : bool
        True for a vessel whose mouth a finger goes into.

    """

    family: str
    material: str
    shape_seed: int
    vertices: np.ndarray
    faces: list
    pieces: tuple[np.ndarray, ...]
    mass: MassProperties
    radius: float
    height: float
    can_stand: bool = True
    can_lie: bool = False
    rim: bool = False

    @property
    def material_class(self) -> Material:
        """What light makes of it."""
        return Material(MATERIALS[self.material].material_class)

    @property
    def triangles(self) -> np.ndarray:
        """Faces as triangles (F, 3)."""
        return fan(self.faces)


def fan(faces: list) -> np.ndarray:
    """Return polygons as triangles (F, 3) around their first corners."""
    return np.array([(face[0], face[i], face[i + 1]) for face in faces
                     for i in range(1, len(face) - 1)], np.int32)


def materials_of(family: str, label: str, things: str) -> list[str]:
    """Return the materials of a class that a family is made of in life, and whose mass we know."""
    return [name for name in FITTING[family] if name in DENSITY
            and Material(MATERIALS[name].material_class).label == label
            and (things == 'transphy3d' or name not in COLORED)]


def draw_solid(label: str, rng: np.random.Generator, physics: PhysicsConfig,
               max_width: float, things: str) -> Solid:
    """
    Draw a thing of a class of material, `transparent`, `reflective` or `diffuse`, out of a world.

    One that no part of fits a jaw of `max_width` [m] is drawn again: it would tell nothing.
    """
    while not fits(solid := _draw(label, rng, physics, things), max_width):
        pass
    return solid


def fits(solid: Solid, max_width: float) -> bool:
    """Return True if a jaw reaches around a thing at some height, or into its mouth."""
    if solid.rim:
        return True
    heights = np.unique(solid.vertices[:, 2].round(5))
    angles = np.arange(0.0, np.pi, np.pi / 24)
    across = solid.vertices[:, :2] @ np.stack([np.cos(angles), np.sin(angles)])
    level = np.searchsorted(heights, solid.vertices[:, 2].round(5))
    widths = np.array([np.ptp(across[level == k], axis=0) for k in range(len(heights))])
    for low in range(len(heights)):
        # Walls are straight from ring to ring: those that bound a band belong to it.
        high = np.searchsorted(heights, heights[low] + BAND_M)
        if high == len(heights):
            break
        band = widths[low:high + 1].max(axis=0)
        slope = np.abs(widths[high] - widths[low]) / 2 / (heights[high] - heights[low])
        if ((band <= max_width - ROOM_M) & (slope < STEEP)).any():
            return True
    return False


def _draw(label: str, rng: np.random.Generator, physics: PhysicsConfig, things: str) -> Solid:
    families = [family for family in FAMILIES[things] if materials_of(family, label, things)]
    if not families:
        raise UserError(f'nothing is made of material {label!r}; allowed: transparent, '
                        'reflective, diffuse')
    family = families[rng.integers(len(families))]
    names = materials_of(family, label, things)
    weights = np.array([COMMON.get(name, 1.0) for name in names])
    material = names[rng.choice(len(names), p=weights / weights.sum())]
    return make_solid(family, material, int(rng.integers(2**31)), physics)


def make_solid(family: str, material: str, shape_seed: int, physics: PhysicsConfig) -> Solid:
    """Make a thing: the shape that the renderer draws for this seed, and its mass."""
    shape = SHAPES[family](np.random.default_rng(shape_seed))
    vertices = np.asarray(shape.vertices, float)
    pieces = [vertices] if shape.pieces is None else [vertices[piece] for piece in shape.pieces]
    triangles = fan(shape.faces)
    if material in METALS:
        sides = 2 if shape.hollow else 1
        mass = sheet_mass(vertices, triangles, DENSITY[material] * physics.sheet_m / sides)
    else:
        mass = volume_mass(vertices, triangles, DENSITY[material])
    return Solid(family, material, shape_seed, vertices, shape.faces, tuple(pieces), mass,
                 shape.radius, shape.height, shape.can_stand, shape.can_lie, _has_rim(shape))


def _has_rim(shape: Shape) -> bool:
    if shape.cavity is None:
        return False
    mouth = shape.cavity.rings[-1]
    return bool(np.hypot(*(mouth - mouth.mean(axis=0)).T[:2]).min() > MOUTH_RADIUS_M)


def volume_mass(vertices: np.ndarray, triangles: np.ndarray, density: float) -> MassProperties:
    """
    Integrate a closed mesh: the wall of a vessel, or all of a solid.

    Parameters
    ----------
    vertices : (N, 3) float
        [m].
    triangles : (F, 3) int
        Counter-clockwise from outside.
    density : float
        [kg/m^3].

    """
    corners = vertices[triangles]
    weights = density * np.linalg.det(corners) / 6.0
    mass = float(weights.sum())
    if not mass > 0:
        raise ValueError(f'the mesh encloses {mass / density} m^3; it must be closed, its faces '
                         'counter-clockwise from outside')
    sums = corners.sum(axis=1)
    centre = (weights[:, None] * sums).sum(axis=0) / (4 * mass)
    # Second moments of tetrahedra with one corner at the origin.
    moments = (np.einsum('f,fki,fkj->ij', weights, corners, corners)
               + np.einsum('f,fi,fj->ij', weights, sums, sums)) / 20.0
    return _about(mass, centre, moments)


def sheet_mass(vertices: np.ndarray, triangles: np.ndarray, surface_density: float,
               ) -> MassProperties:
    """Integrate a surface of a mass per area [kg/m^2]; arguments as of `volume_mass`."""
    corners = vertices[triangles]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    weights = surface_density * np.linalg.norm(across, axis=1) / 2
    # The middles of the edges integrate quadratic functions exactly.
    middles = (corners + np.roll(corners, 1, axis=1)) / 2
    mass = float(weights.sum())
    centre = np.einsum('f,fki->i', weights / 3, middles) / mass
    return _about(mass, centre, np.einsum('f,fki,fkj->ij', weights / 3, middles, middles))


def _about(mass: float, centre: np.ndarray, moments: np.ndarray) -> MassProperties:
    moments = moments - mass * np.outer(centre, centre)
    return MassProperties(mass, centre, np.trace(moments) * np.eye(3) - moments)
