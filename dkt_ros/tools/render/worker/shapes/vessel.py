"""
Hollow things with walls of real thickness: the body, its relief, spout, thread and handle.

Pure numpy; no bpy.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .mesh import Cavity, Patch, Shape, bezier, graft, loft, measured, revolve, tube_rings
from .pieces import tube_pieces, vessel_pieces
from .profile import inside, join, rim, thinned

SEGMENTS = 96
Relief = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Maps angles (1, S) [rad] and heights (L, 1) [m] to one value for each vertex (L, S)."""


@dataclass(frozen=True)
class Handle:
    """
    A handle at angle 0, with both ends on the outer wall.

    Attributes
    ----------
    low, high : float
        Heights of its ends [m].
    reach : float
        How far it stands off the wall [m].
    width, thickness : float
        Axes of its section, across and along the wall [m].
    sag : float
        How far its outermost point lies below the middle of the ends [m].

    """

    low: float
    high: float
    reach: float
    width: float
    thickness: float
    sag: float = 0.0


def vessel(outer: np.ndarray, wall: float, floor: float, *, foot: np.ndarray | None = None,
           bend: Relief | None = None, relief: Relief | None = None,
           handle: Handle | None = None, step: float = 0.005, **fields: object) -> Shape:
    """
    Make a vessel from its outer profile.

    Parameters
    ----------
    outer : (N, 2) float
        Dense profile of the body from the axis below to the rim [m].
    wall, floor : float
        Thickness of the wall, and height of the inner floor above the body's lowest point [m].
    foot : (M, 2) float, optional
        Profile of foot and stem below the body, from the axis to where the body begins [m].
    bend : callable, optional
        Factor on the radius of both the outer and the inner surface: spouts, corners.
    relief : callable, optional
        What is added to the radius of the outer surface alone [m]: threads, ribs, cuts.
    step : float
        Largest distance of two rings on a straight stretch of the outside [m].
    fields : object
        Further fields of the shape.

    """
    whole = outer if foot is None else join(foot, outer[1:])
    outside, inner = thinned(whole, step), thinned(inside(outer, wall, floor))
    profile = np.concatenate([outside[1:], rim(outside[-1], inner[-1]), inner[:0:-1]])
    rings = revolve(profile, SEGMENTS)
    angles = np.arange(SEGMENTS)[None] * (2 * math.pi / SEGMENTS)
    if relief is not None:
        count = len(outside) - 2  # the rim's own ring stays, so that it stays round
        radius = profile[:count, :1]
        rings[:count, :, :2] *= (1 + relief(angles, profile[:count, 1:]) / radius)[..., None]
    if bend is not None:
        rings[..., :2] *= bend(angles, profile[:, 1:])[..., None]
    first, last = np.array([0, 0, outside[0, 1]]), np.array([0, 0, inner[0, 1]])
    cavity = Cavity(last, rings[:-len(inner):-1].copy())
    parts = ('body',) if foot is None else ('body', 'foot')
    pieces = vessel_pieces(profile, len(outside) - 1, len(inner) - 1, SEGMENTS)
    if handle is None:
        vertices, faces = loft(rings, first, last)
    else:
        vertices, faces, grown = _with_handle(rings, first, last, outside[1:], handle)
        parts, pieces = (*parts, 'handle'), pieces + grown
    return measured(vertices, faces, hollow=True, cavity=cavity, parts=parts, pieces=pieces,
                    **fields)


def _with_handle(rings: np.ndarray, first: np.ndarray, last: np.ndarray, outside: np.ndarray,
                 handle: Handle) -> tuple[np.ndarray, list, list]:
    heights = outside[:, 1]
    columns = max(1, round(handle.width / 2 * SEGMENTS / (2 * math.pi * outside[:, 0].max())))
    middle = [int(np.argmin(np.abs(heights - z))) for z in (handle.low, handle.high)]
    spacing = abs(heights[middle[1]] - heights[middle[0]]) / max(1, middle[1] - middle[0])
    rows = max(2, round(handle.thickness / spacing))
    low = max(1, middle[0] - rows // 2)
    high = min(max(middle[1] - rows // 2, low + rows + 1), len(outside) - 2 - rows)
    patches = [Patch((start, start + rows), (-columns, columns)) for start in (low, high)]
    skip = frozenset().union(*(patch.cells(SEGMENTS) for patch in patches))
    vertices, faces = loft(rings, first, last, skip)
    loops = patches[0].loop(SEGMENTS), patches[1].loop(SEGMENTS, upside_down=True)
    ends = [vertices[loop].mean(axis=0) * (1, 0, 1) for loop in loops]
    out = 4 / 3 * handle.reach + abs(ends[0][0] - ends[1][0]) / 2
    drop = np.array([0, 0, handle.sag])
    path = bezier([ends[0], ends[0] + (out, 0, 0) - drop, ends[1] + (out, 0, 0) - drop, ends[1]],
                  30)
    half = np.full(len(path), 0.5)
    sections = tube_rings(path, half * handle.width, half * handle.thickness,
                          vertices[loops[0]], vertices[loops[1]])
    pieces = tube_pieces(len(vertices), *sections.shape[:2])
    return *graft(vertices, faces, loops[0], sections, loops[1]), pieces


def spout(height: float, depth: float, length: float, width_rad: float = 0.35) -> Relief:
    """Return a bend that pulls the rim outwards at angle pi, over the topmost `depth` [m]."""

    def bend(angle: np.ndarray, z: np.ndarray) -> np.ndarray:
        rise = np.clip((z - height + depth) / depth, 0.0, 1.0) ** 2
        away = angle - math.pi
        return 1 + rise * length * (np.exp(-(away / width_rad) ** 2)
                                    - 0.25 * np.exp(-(away / (2.2 * width_rad)) ** 2))

    return bend


def cornered(power: float, share: float, sides: int = 4) -> Relief:
    """Return a bend that turns circles into rounded polygons; `share` 0 leaves them round."""

    def bend(angle: np.ndarray, z: np.ndarray) -> np.ndarray:
        turn = math.pi / sides
        nearest = (angle + turn) % (2 * turn) - turn
        flat = (np.abs(np.cos(nearest)) ** power + np.abs(np.sin(nearest)) ** power)
        return (1 + share * (flat ** (-1 / power) - 1)) * np.ones_like(z)

    return bend


def ribs(count: int, depth: float, low: float, high: float, twist: float = 0.0) -> Relief:
    """Return vertical ribs `depth` [m] high between two heights, turning by `twist` [rad/m]."""

    def relief(angle: np.ndarray, z: np.ndarray) -> np.ndarray:
        fade = np.clip((z - low) / 0.01, 0, 1) * np.clip((high - z) / 0.01, 0, 1)
        return depth * fade * np.cos(count * (angle + twist * z))

    return relief


def rings_around(pitch: float, depth: float, low: float, high: float) -> Relief:
    """Return grooves around the body `pitch` [m] apart, as on bottles that must not collapse."""

    def relief(angle: np.ndarray, z: np.ndarray) -> np.ndarray:
        fade = np.clip((z - low) / 0.006, 0, 1) * np.clip((high - z) / 0.006, 0, 1)
        return -depth * fade * np.cos(2 * math.pi * (z - low) / pitch) * np.ones_like(angle)

    return relief


def thread(pitch: float, depth: float, low: float, high: float) -> Relief:
    """Return a screw thread `depth` [m] high between two heights [m]."""

    def relief(angle: np.ndarray, z: np.ndarray) -> np.ndarray:
        fade = np.clip((z - low) / (0.5 * pitch), 0, 1) * np.clip((high - z) / (0.5 * pitch), 0, 1)
        return depth * fade * np.maximum(0.0, np.cos(angle - 2 * math.pi * z / pitch)) ** 2

    return relief


def together(*reliefs: Relief) -> Relief:
    """Return the sum of several reliefs."""
    return lambda angle, z: sum(relief(angle, z) for relief in reliefs)
