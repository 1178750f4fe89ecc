"""
Closed meshes: the class of every shape, lofts of rings between two poles, and tubes grafted on.

Pure numpy; no bpy. Every shape stands on z = 0, its axis along +z; lengths in metres.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass
class Cavity:
    """
    The inside of a vessel, for what is poured into it.

    Attributes
    ----------
    bottom : (3,) float
        Point of the inner floor on the axis [m].
    rings : (L, S, 3) float
        The inner wall from the floor to the rim, each ring at one height [m].

    """

    bottom: np.ndarray
    rings: np.ndarray


@dataclass
class Shape:
    """
    A closed mesh.

    Attributes
    ----------
    vertices : (N, 3) float
        Positions [m].
    faces : list of tuple of int
        Triangles and quads, counter-clockwise from outside.
    height, radius : float
        Extent along z and largest distance from the axis [m].
    can_lie : bool
        True if it may also rest on its side.
    can_stand : bool
        False if it only lies or leans.
    hollow : bool
        True if the walls are thin and the inside is open to the air.
    cavity : Cavity or None
        The inside, where a liquid can be poured into it; see `fill`.
    parts : tuple of str
        What it is made of, for example `('body', 'handle')`.
    smooth_rad : float
        Edges that turn by less than this are shaded as one surface [rad].
    closed : bool
        True if every edge belongs to exactly two faces; a mesh of a bank may be open.
    pieces : list of (K,) int or None
        Vertices of convex parts, for the solver; None where one hull will do.

    """

    vertices: np.ndarray
    faces: list
    height: float
    radius: float
    can_lie: bool = False
    can_stand: bool = True
    hollow: bool = False
    cavity: Cavity | None = None
    parts: tuple[str, ...] = ('body',)
    smooth_rad: float = 0.7
    closed: bool = True
    pieces: list[np.ndarray] | None = None


def measured(vertices: np.ndarray, faces: list, **fields: object) -> Shape:
    """Return a shape that stands on z = 0, without vertices that no face uses, and its size."""
    used = np.zeros(len(vertices), bool)
    used[[corner for face in faces for corner in face]] = True
    pieces = fields.pop('pieces', None)
    if not used.all():
        number = np.cumsum(used) - 1
        faces = [tuple(number[list(face)].tolist()) for face in faces]
        pieces = pieces and [number[piece[used[piece]]] for piece in pieces]
    vertices = np.array(vertices, float)[used]
    low = vertices[:, 2].min()
    vertices[:, 2] -= low
    cavity = fields.pop('cavity', None)
    if cavity is not None:
        down = np.array([0.0, 0.0, low])
        cavity = Cavity(cavity.bottom - down, cavity.rings - down)
    return Shape(vertices, faces, float(vertices[:, 2].max()),
                 float(np.hypot(vertices[:, 0], vertices[:, 1]).max()), cavity=cavity,
                 pieces=pieces, **fields)


def loft(rings: np.ndarray, first: np.ndarray, last: np.ndarray,
         skip: frozenset = frozenset()) -> tuple[np.ndarray, list]:
    """
    Close a stack of rings with a fan to a point at each end.

    Parameters
    ----------
    rings : (L, S, 3) float
        Rings in order; seen along the stack from its first point, their points run clockwise
        (about +z: counter-clockwise from above when the stack starts at the bottom).
    first, last : (3,) float
        The points that close the ends.
    skip : set of (level, column)
        Quads left out, so that something can be grafted on.

    Returns
    -------
    vertices : (2 + L * S, 3) float
        The first point, the rings, the last point.
    faces : list of tuple of int

    """
    levels, segments = rings.shape[:2]
    vertices = np.concatenate([np.reshape(first, (1, 3)), rings.reshape(-1, 3),
                               np.reshape(last, (1, 3))])
    end = len(vertices) - 1
    faces = []
    for i in range(segments):
        j = (i + 1) % segments
        faces.append((0, 1 + j, 1 + i))
        for level in range(levels - 1):
            a = 1 + level * segments
            if (level, i) not in skip:
                faces.append((a + i, a + j, a + segments + j, a + segments + i))
        faces.append((end - segments + i, end - segments + j, end))
    return vertices, faces


def revolve(profile: np.ndarray, segments: int) -> np.ndarray:
    """
    Turn points about the z axis.

    Parameters
    ----------
    profile : (L, 2) float
        Radius and height of each ring [m].

    Returns
    -------
    (L, segments, 3) float
        The rings [m].

    """
    angles = np.arange(segments) * (2 * math.pi / segments)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    flat = profile[:, :1, None] * ring
    return np.concatenate([flat, np.repeat(profile[:, 1:, None], segments, axis=1)], axis=2)


@dataclass(frozen=True)
class Patch:
    """A rectangle of quads of a loft: levels and columns [start, stop), columns may be < 0."""

    levels: tuple[int, int]
    columns: tuple[int, int]

    def cells(self, segments: int) -> set:
        """Return the (level, column) of every quad."""
        return {(level, column % segments) for level in range(*self.levels)
                for column in range(*self.columns)}

    def loop(self, segments: int, upside_down: bool = False) -> np.ndarray:
        """
        Return the vertices around the patch.

        From the lower left corner (seen from outside) counter-clockwise; `upside_down` starts at
        the upper left corner and runs clockwise, as the far end of a handle needs it.
        """
        (low, high), (left, right) = self.levels, self.columns
        if upside_down:
            low, high = high, low
        step = 1 if high > low else -1
        corners = ([(low, c) for c in range(left, right)]
                   + [(row, right) for row in range(low, high, step)]
                   + [(high, c) for c in range(right, left, -1)]
                   + [(row, left) for row in range(high, low, -step)])
        return np.array([1 + level * segments + c % segments for level, c in corners])


def graft(vertices: np.ndarray, faces: list, start: np.ndarray, rings: np.ndarray,
          end: np.ndarray | None = None) -> tuple[np.ndarray, list]:
    """
    Grow a tube out of the hole of one patch, into that of another or to a rounded end.

    Parameters
    ----------
    start, end : (P,) int
        Loops of vertices: `Patch.loop(...)`, the end with `upside_down`. Without an end, the
        tube is closed by a fan.
    rings : (Q, P, 3) float
        The tube's rings between them [m].

    """
    base, (count, around) = len(vertices), rings.shape[:2]
    grown = [vertices, rings.reshape(-1, 3)]
    loops = [start, *(base + q * around + np.arange(around) for q in range(count))]
    if end is not None:
        loops.append(end)
    faces = list(faces)
    for one, two in zip(loops, loops[1:]):
        for i in range(around):
            j = (i + 1) % around
            faces.append((int(one[i]), int(one[j]), int(two[j]), int(two[i])))
    if end is None:
        grown.append(rings[-1].mean(axis=0, keepdims=True))
        tip = base + count * around
        last = loops[-1]
        faces += [(int(last[i]), int(last[(i + 1) % around]), tip) for i in range(around)]
    return np.concatenate(grown), faces


def tube_rings(path: np.ndarray, half_width: np.ndarray, half_thickness: np.ndarray,
               start: np.ndarray, end: np.ndarray | None = None, blend: float = 0.22,
               ) -> np.ndarray:
    """
    Lay elliptic sections along a path in the x-z plane, flowing out of the loops at its ends.

    Parameters
    ----------
    path : (Q, 3) float
        Centres of all sections, those of the end loops included [m]; y is 0.
    half_width, half_thickness : (Q,) float
        Half axes along y and across the path [m].
    start, end : (P, 3) float
        Positions of the loops that the tube grows from and into [m].
    blend : float
        Share of the path over which the section changes from the loop to the ellipse.

    Returns
    -------
    (Q - 2, P, 3) or (Q - 1, P, 3) float
        The rings between the loops, or after the first loop where there is no end [m].

    """
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    across = np.stack([-tangent[:, 2], tangent[:, 1], tangent[:, 0]], axis=1)
    side = np.array([0.0, 1.0, 0.0])
    local = [_section(start, path[0], side, across[0])]
    angles = np.arctan2(local[0][:, 1] / np.abs(local[0][:, 1]).max(),
                        local[0][:, 0] / np.abs(local[0][:, 0]).max())
    if end is not None:
        local.append(_section(end, path[-1], side, across[-1]))
    rings, share = [], np.linspace(0.0, 1.0, len(path))
    for q in range(1, len(path) - (end is not None)):
        section = np.stack([half_width[q] * np.cos(angles), half_thickness[q] * np.sin(angles)],
                           axis=1)
        for loop, distance in zip(local, (share[q], 1.0 - share[q])):
            weight = 1.0 - _smoothstep(distance / blend)
            section = weight * loop + (1.0 - weight) * section
        rings.append(path[q] + section[:, :1] * side + section[:, 1:] * across[q])
    return np.array(rings)


def _section(loop: np.ndarray, centre: np.ndarray, side: np.ndarray,
             across: np.ndarray) -> np.ndarray:
    return np.stack([(loop - centre) @ side, (loop - centre) @ across], axis=1)


def _smoothstep(x: float) -> float:
    x = min(max(x, 0.0), 1.0)
    return x * x * (3.0 - 2.0 * x)


def bezier(points: list, count: int) -> np.ndarray:
    """Return `count` points of the cubic Bezier curve of four control points, ends included."""
    t = np.linspace(0.0, 1.0, count)[:, None]
    a, b, c, d = (np.asarray(p, float) for p in points)
    return ((1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t ** 2 * (1 - t) * c + t ** 3 * d)
