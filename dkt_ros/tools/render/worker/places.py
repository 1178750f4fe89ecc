"""Where things lie: table, tray, bin, cluttered desk. numpy only; no bpy."""
from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from boxes import Box

PLACES = ('tabletop', 'tray', 'bin', 'desk')
TABLE_M = 0.04
CLUTTER_M = (0.30, 0.55)
"""Clutter stands at this distance from the middle of a desk [m]."""


@dataclass
class Piece:
    """
    A piece of furniture: one box for the solver, one or more for the eye.

    Attributes
    ----------
    box : Box
        What the solver knows.
    material : str
        Name of its material; pieces of one name share it.
    parts : list of (Box, str)
        What is seen instead, each with its material; empty where that is the box itself.

    """

    box: Box
    material: str
    parts: list[tuple[Box, str]] = field(default_factory=list)

    @property
    def seen(self) -> list[tuple[Box, str]]:
        """Return what is drawn."""
        return self.parts or [(self.box, self.material)]


@dataclass
class Place:
    """
    Somewhere for things to lie, its middle at the origin, its floor near z = 0.

    Attributes
    ----------
    pieces : list of Piece
    half : (float, float)
        Half sides of the region that things start over [m].
    floor_m : float
        Height of what they fall on [m].
    elevation_rad : (float, float)
        Range of the camera's elevation that sees into it.
    reach_m : float
        Things farther from the middle have left [m].
    crowd : float
        How many times as many things as on a table.
    inside : Box or None
        The inside of a tray or bin, seen from above; what lies beyond its walls has left too.

    """

    pieces: list[Piece]
    half: tuple[float, float]
    floor_m: float = 0.0
    elevation_rad: tuple[float, float] = (0.3, 1.1)
    reach_m: float = 0.4
    crowd: float = 1.0
    inside: Box | None = None

    @property
    def boxes(self) -> list[Box]:
        """Return all boxes, for the solver."""
        return [piece.box for piece in self.pieces]

    def keeps(self, points: np.ndarray) -> bool:
        """Return True if the middle of a thing's points (N, 3) [m] lies where it belongs."""
        middle = points.mean(axis=0)
        if self.inside is not None:
            local = self.inside.pose[:3, :3].T @ (middle - self.inside.pose[:3, 3])
            if (np.abs(local[:2]) > np.array(self.inside.size[:2]) / 2).any():
                return False
        return bool(np.hypot(*middle[:2]) <= self.reach_m and points[:, 2].min() > -0.005)


def upright(x: float, y: float, z: float, yaw: float = 0.0) -> np.ndarray:
    """Return the pose (4, 4) at (x, y, z) [m], turned by `yaw` [rad] about z."""
    pose = np.eye(4)
    pose[:2, :2] = [[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]]
    pose[:3, 3] = x, y, z
    return pose


def draw_place(name: str, spread_m: float, azimuth_rad: float,
               rng: np.random.Generator) -> Place:
    """
    Draw a place.

    Parameters
    ----------
    name : str
        One of `PLACES`.
    spread_m : float
        Radius that things are spread over on an open table [m].
    azimuth_rad : float
        Where the camera stands; clutter keeps out of its way.

    """
    if name in ('tray', 'bin'):
        return _vessel(name, azimuth_rad, rng)
    if name == 'desk':
        return _desk(spread_m, azimuth_rad, rng)
    half = (0.8 * spread_m, 0.8 * spread_m)
    return Place([_table(4.0, 4.0)], half, reach_m=2.2 * spread_m)


def _table(x: float, y: float, yaw: float = 0.0) -> Piece:
    return Piece(Box((x, y, TABLE_M), upright(0, 0, -TABLE_M / 2, yaw)), 'table')


def _vessel(name: str, azimuth: float, rng: np.random.Generator) -> Place:
    """Draw an open box of five boards on a table: a shallow tray or a deep bin."""
    x, y = rng.uniform(0.30, 0.42), rng.uniform(0.22, 0.32)
    rim = rng.uniform(0.012, 0.035) if name == 'tray' else rng.uniform(0.09, 0.16)
    board = rng.uniform(0.003, 0.007)
    # The long side faces the camera, about.
    yaw = azimuth + math.pi / 2 + rng.uniform(-0.5, 0.5)
    turn = upright(0, 0, 0, yaw)

    def part(size, place):
        return Piece(Box(size, turn @ upright(*place)), name)

    pieces = [_table(4.0, 4.0), part((x, y, board), (0, 0, board / 2))]
    for side in (-1, 1):
        pieces.append(part((board, y, rim), (side * (x + board) / 2, 0, rim / 2)))
        pieces.append(part((x + 2 * board, board, rim), (0, side * (y + board) / 2, rim / 2)))
    elevation = (0.45, 1.2) if name == 'tray' else (0.85, 1.4)
    return Place(pieces, (0.32 * min(x, y), 0.32 * min(x, y)), board, elevation,
                 0.5 * math.hypot(x, y), 1.5 if name == 'bin' else 1.0, Box((x, y, rim), turn))


def _desk(spread: float, azimuth: float, rng: np.random.Generator) -> Place:
    """Draw a desk with an edge, and books, boxes and a screen around its middle."""
    yaw = azimuth + rng.choice([0.0, math.pi / 2]) + rng.uniform(-0.2, 0.2)
    pieces = [_table(rng.uniform(1.2, 1.8), rng.uniform(1.0, 1.4), yaw)]
    taken: list[float] = []
    for index in range(int(rng.integers(3, 8))):
        angle = azimuth + math.pi + rng.uniform(-2.0, 2.0)
        if any(abs(math.remainder(angle - other, 2 * math.pi)) < 0.5 for other in taken):
            continue
        taken.append(angle)
        away = rng.uniform(*CLUTTER_M) + spread - 0.17
        place = (away * math.cos(angle), away * math.sin(angle))
        pieces += _clutter(place, angle + rng.uniform(-0.5, 0.5), index, rng)
    return Place(pieces, (0.75 * spread, 0.75 * spread), 0.0, (0.3, 1.1), 2.2 * spread)


def _clutter(place: tuple[float, float], yaw: float, index: int,
             rng: np.random.Generator) -> list[Piece]:
    """Draw a pile of books, a carton or a screen."""
    kind, name = rng.choice(3, p=[0.5, 0.35, 0.15]), f'clutter_{index}'
    if kind == 2:
        return _screen(upright(*place, 0.0, yaw), rng)
    if kind == 1:
        size = tuple(rng.uniform([0.06, 0.06, 0.05], [0.16, 0.2, 0.2]))
        return [Piece(Box(size, upright(*place, size[2] / 2, yaw)), name)]
    pile, z = [], 0.0
    for number in range(int(rng.integers(1, 5))):
        size = (rng.uniform(0.11, 0.17), rng.uniform(0.16, 0.24), rng.uniform(0.008, 0.035))
        turned = yaw + rng.uniform(-0.3, 0.3)
        pile.append(_book(Box(size, upright(*place, z + size[2] / 2, turned)),
                          f'{name}_{number}'))
        z += size[2]
    return pile


def _book(box: Box, name: str) -> Piece:
    """Bind a block of pages between two covers and a spine."""
    (x, y, z), board, lip = box.size, min(0.0025, 0.15 * box.size[2]), 0.003

    def part(size, middle):
        return Box(size, box.pose @ upright(*middle))

    parts = [(part((x - board - lip, y - 2 * lip, z - 2 * board), ((board - lip) / 2, 0, 0)),
              'paper'), (part((board, y, z), ((board - x) / 2, 0, 0)), name)]
    parts += [(part((x - board, y, board), (board / 2, 0, side * (z - board) / 2)), name)
              for side in (-1, 1)]
    return Piece(box, name, parts)


def _screen(turn: np.ndarray, rng: np.random.Generator) -> list[Piece]:
    """Stand a screen on a foot; its face looks along -x."""
    wide, tall, raised = rng.uniform(0.4, 0.6), rng.uniform(0.25, 0.35), 0.08

    def part(size, middle):
        return Box(size, turn @ upright(*middle))

    panel = part((0.02, wide, tall), (0, 0, raised + tall / 2))
    face = part((0.002, wide - 0.016, tall - 0.016), (-0.0105, 0, raised + tall / 2))
    return [Piece(panel, 'casing', [(panel, 'casing'), (face, 'screen')]),
            Piece(part((0.025, 0.05, 0.14), (0.02, 0, 0.07)), 'casing'),
            Piece(part((0.15, 0.2, 0.006), (0.01, 0, 0.003)), 'casing')]
