"""
How deep the open hand can go, how wide it must open, and what lies between its pads.

The way in is straight, so fingers and palm are columns along the approach, and the first point in
a column bounds how far the hand can go. That needs no search over depths, and what is checked is
the whole approach, not the last pose alone. The support is a half-space, seen or not.
"""
from __future__ import annotations

import copy
from dataclasses import dataclass, fields, replace

import numpy as np

from dkt_ros.grasp.candidates import RIM, Hypotheses
from dkt_ros.grasp.config import CollisionConfig
from dkt_ros.grasp.grasp import Gripper

MAX_CELLS = 120_000
"""Hypotheses x points at a time: what is worked on stays in the cache."""
CONTACT_M = 0.003
"""Points this near to the outermost one touch the pad."""
NEIGHBOUR_M = 0.008
"""Obstacles this far beside the fingers still cost clearance."""
FACING = 0.8
"""Cosine from which a point faces a pad, whatever the friction."""
CRUMBS, LOW_M = 30, 0.02
"""So few points of other things around are noise, or a foot whose stem was not seen; so are any so
low above the support: nothing hides behind them."""
MAX_FOREIGN = 3
"""Points of other things that may lie between the pads: noise."""


@dataclass(frozen=True)
class Obstacles:
    """
    One thing and what is around it, in the table frame.

    Attributes
    ----------
    points, normals : (N, 3) float32
        Of this thing and of all that is in the way.
    is_target : (N,) bool
        True for this thing, whose points come first.
    observed, confidence : (N,) float32
        1 where seen, and how sure its depth is.
    has_support : bool
        False where there is no plane at z = 0.

    """

    points: np.ndarray
    normals: np.ndarray
    is_target: np.ndarray
    observed: np.ndarray
    confidence: np.ndarray
    has_support: bool


@dataclass(frozen=True)
class Contacts:
    """
    What closing the hand would do, one row a hypothesis (F,), lengths in m.

    `sink` is how far the TCP goes beyond the centre, `shift` how far the hand moves along its
    closing axis to be centred; `left` is the contact at -y, `right` that at +y; rows (F, 2) hold
    both. `cosine` is that of the angle between normals and closing axis: over the points that face
    the pad where there are some, else over all of the contact.
    """

    sink: np.ndarray
    slack: np.ndarray
    shift: np.ndarray
    width: np.ndarray
    opening: np.ndarray
    count: np.ndarray
    cosine: np.ndarray
    x: np.ndarray
    z: np.ndarray
    spread: np.ndarray
    observed: np.ndarray
    confidence: np.ndarray
    neighbours: np.ndarray
    state: np.ndarray


BLOCKED, TOO_WIDE, NOTHING, COLLIDES, GOOD = range(5)
"""States: no way in, wider than the jaw, nothing between the pads, no way in centred, fine."""


def close_hand(hypotheses: Hypotheses, obstacles: Obstacles, gripper: Gripper,
               config: CollisionConfig) -> Contacts:
    """Move the hand in and close it, for every hypothesis; chunked to bound memory."""
    chunk = max(1, MAX_CELLS // max(len(obstacles.points), 1))
    parts = [_close(hypotheses.take(slice(start, start + chunk)), obstacles, gripper, config)
             for start in range(0, len(hypotheses), chunk)]
    return Contacts(*(np.concatenate([getattr(part, item.name) for part in parts])
                      for item in fields(Contacts)))


def _close(hypotheses: Hypotheses, obstacles: Obstacles, gripper: Gripper,
           config: CollisionConfig) -> Contacts:
    hand = _Hand(gripper, config, obstacles, hypotheses)
    width, shift = hand.expected(hypotheses)
    half, limit = hand.opened(width, shift, hypotheses.reach)
    sink = np.minimum(hypotheses.reach, limit)
    reached = sink > np.where(hypotheses.kind == RIM, CONTACT_M, CONTACT_M - gripper.tip_length)
    widest = gripper.max_width - 2 * config.min_margin_m
    state = np.where(width > widest, TOO_WIDE, np.where(reached, GOOD, BLOCKED))
    alive = np.flatnonzero(state == GOOD)
    if not len(alive):
        return _nowhere(state)
    closed = _centred(hypotheses.take(alive), obstacles, hand.take(alive), shift[alive],
                      half[alive], sink[alive])
    state[alive] = np.where(closed.width > widest, TOO_WIDE, closed.state)
    if len(alive) == len(state):
        return replace(closed, state=state)
    # What found no way in keeps its row, so that rows and hypotheses stay together.
    spread = {}
    for name, values in vars(closed).items():
        spread[name] = np.zeros((len(state), *values.shape[1:]), values.dtype)
        spread[name][alive] = values
    return Contacts(**{**spread, 'state': state})


def _centred(hypotheses: Hypotheses, obstacles: Obstacles, hand: _Hand, shift: np.ndarray,
             half: np.ndarray, sink: np.ndarray) -> Contacts:
    """Centre the hand on what lies between the fingers, and check it again, opened to fit."""
    inside = hand.between(shift, half, sink)
    width, shift = _extent(hand.y, inside)
    half, limit = hand.opened(width, shift, sink)
    blocked = (limit < sink - 1e-6) | (hand.foreign(shift, half, sink) > MAX_FOREIGN)
    state = np.where(np.isfinite(width), np.where(blocked, COLLIDES, GOOD), NOTHING)
    return Contacts(
        sink=sink, slack=np.maximum(limit - sink, 0.0), shift=shift, width=width,
        opening=2 * half, neighbours=hand.neighbours(shift, half, sink), state=state,
        **_contacts(hypotheses, obstacles, hand, inside))


def _nowhere(state: np.ndarray) -> Contacts:
    number = len(state)
    single = {name: np.zeros(number) for name in (
        'sink', 'slack', 'shift', 'width', 'opening', 'neighbours')}
    both = {name: np.zeros((number, 2)) for name in (
        'count', 'cosine', 'x', 'z', 'spread', 'observed', 'confidence')}
    return Contacts(**single, **both, state=state)


class _Hand:
    """The columns of fingers and palm over all points, for one chunk of hypotheses."""

    def __init__(self, gripper: Gripper, config: CollisionConfig, obstacles: Obstacles,
                 hypotheses: Hypotheses) -> None:
        rotation = hypotheses.rotation.astype(np.float32)
        number = len(rotation)
        # One product for all hypotheses: (N, 3) x (3, 3F), then the centres.
        local = (obstacles.points @ rotation.transpose(1, 2, 0).reshape(3, -1)).T
        origin = np.einsum('fk,fkj->jf', hypotheses.centre.astype(np.float32), rotation)
        self.x, self.y, self.z = local.reshape(3, number, -1) - origin[..., None]
        self.gripper, self.clear = gripper, config.clearance_m
        self.margins = config.wide_margin_m, config.open_margin_m
        self.target = obstacles.is_target
        others = ~self.target
        if obstacles.has_support:
            others = others & (obstacles.points[:, 2] > LOW_M)
        self._in_clutter = others.sum() > CRUMBS
        side = np.abs(self.x)
        # What lies behind the start of the approach is not in the way.
        ahead = self.z > gripper.palm_z - gripper.palm_depth - config.approach_m
        self.in_slab = ahead & (side < gripper.finger_height / 2)
        in_finger = ahead & (side < gripper.finger_height / 2 + self.clear)
        self.beside = ahead & (side < gripper.finger_height / 2 + NEIGHBOUR_M)
        palm = ahead & (side < gripper.palm_height / 2 + self.clear)
        self._finger_z = np.where(in_finger, self.z, np.float32(np.inf))
        self._palm_z = np.where(palm, self.z, np.float32(np.inf))
        self._support = self._above(hypotheses, config) if obstacles.has_support else None

    def take(self, rows: np.ndarray) -> _Hand:
        """Return the hand for a selection of the hypotheses."""
        part = copy.copy(self)
        for name in ('x', 'y', 'z', 'in_slab', 'beside', '_finger_z', '_palm_z'):
            setattr(part, name, getattr(self, name)[rows])
        if self._support is not None:
            part._support = tuple(value[rows] for value in self._support)
        return part

    def expected(self, hypotheses: Hypotheses) -> tuple[np.ndarray, np.ndarray]:
        """Return width and shift (F,) to open for; measured where the hypothesis has none."""
        rows = np.flatnonzero(np.isnan(hypotheses.width))
        width, shift = hypotheses.width.copy(), np.zeros(len(hypotheses))
        if len(rows):
            y, z = self.y[rows], self.z[rows]
            deep = (hypotheses.reach[rows] + self.gripper.tip_length).astype(np.float32)
            region = self.in_slab[rows] & self.target & (z > -CONTACT_M) & (z < deep[:, None]) \
                & (np.abs(y) < self.gripper.max_width / 2 + 2 * CONTACT_M)
            width[rows], shift[rows] = _extent(y, region)
        return width, shift

    def opened(self, width: np.ndarray, shift: np.ndarray,
               reach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Return half the opening (F,), wide where that costs nothing on the way to `reach`.

        And how far the TCP may go beyond the centre, so opened. In clutter no jaw opens wide:
        what one view hides stands where its fingers would go.
        """
        wide, narrow = (np.minimum(width / 2 + margin, self.gripper.max_width / 2)
                        for margin in self.margins)
        side = self._side(shift)
        palm = _first(self._palm_z, side < self.gripper.palm_width / 2 + self.clear)
        limit = self._limit(side, narrow, palm)
        if self._in_clutter:
            return narrow, limit
        wide_limit, sink = self._limit(side, wide, palm), np.minimum(limit, reach)
        free = (wide_limit >= sink) & (self.foreign(shift, wide, sink) <= MAX_FOREIGN)
        return np.where(free, wide, narrow), np.where(free, wide_limit, limit)

    def _limit(self, side: np.ndarray, half: np.ndarray, palm: np.ndarray) -> np.ndarray:
        inner, outer = _column(half), _column(half + self.gripper.finger_width + self.clear)
        finger = _first(self._finger_z, (side > inner) & (side < outer))
        limit = np.minimum(finger - self.gripper.tip_length,
                           palm - self.gripper.palm_z) - self.clear
        if self._support is not None:
            down, height, across, base = self._support
            fingers = height - across * (half + self.gripper.finger_width)
            limit = np.minimum(limit, np.minimum(fingers / down - self.gripper.tip_length, base))
        return limit

    def between(self, shift: np.ndarray, half: np.ndarray, sink: np.ndarray) -> np.ndarray:
        """Return which points of the thing (F, N) lie between the fingers."""
        return self.in_slab & self.target & (self._side(shift) < _column(half)) \
            & (self.z > _column(sink + self.gripper.palm_z)) & self._passed(sink)

    def foreign(self, shift: np.ndarray, half: np.ndarray, sink: np.ndarray) -> np.ndarray:
        """Count the points of other things (F,) that the closing hand would take along."""
        other = slice(int(self.target.sum()), None)
        return (self.in_slab[:, other] & (self._side(shift)[:, other] < _column(half))
                & self._passed(sink)[:, other]).sum(axis=1)

    def neighbours(self, shift: np.ndarray, half: np.ndarray, sink: np.ndarray) -> np.ndarray:
        """Count the points (F,) close beside the fingers."""
        side = self._side(shift)
        outer = _column(half + self.gripper.finger_width + NEIGHBOUR_M)
        return (self.beside & (side > _column(half)) & (side < outer)
                & self._passed(sink)).sum(axis=1)

    def _side(self, shift: np.ndarray) -> np.ndarray:
        return np.abs(self.y - _column(shift))

    def _passed(self, sink: np.ndarray) -> np.ndarray:
        return self.z < _column(sink + self.gripper.tip_length)

    def _above(self, hypotheses: Hypotheses,
               config: CollisionConfig) -> tuple[np.ndarray, ...]:
        """Return what the limit by the support needs: its height under the lowest corners."""
        gripper, up = self.gripper, hypotheses.rotation[:, 2, :]
        down = np.maximum(-up[:, 2], 1e-6)
        height = hypotheses.centre[:, 2] - config.plane_clearance_m
        across = np.abs(up[:, 1])
        fingers = height - np.abs(up[:, 0]) * gripper.finger_height / 2
        palm = height - (np.abs(up[:, 0]) * gripper.palm_height + across * gripper.palm_width) / 2
        return down, fingers, across, palm / down - gripper.palm_z


def _column(values: np.ndarray) -> np.ndarray:
    """Return (F,) as a column (F, 1) of the type of the points: no cast of each point."""
    return values.astype(np.float32)[:, None]


def _first(z: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the smallest z (F,) of the masked points; infinity where there is none."""
    return np.where(mask, z, np.float32(np.inf)).min(axis=1, initial=np.inf).astype(np.float64)


def _extent(y: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return size and middle (F,) of the masked points along y; NaN where there is none."""
    low = _first(y, mask)
    high = -_first(-y, mask)
    empty = ~np.isfinite(low)
    return (np.where(empty, np.nan, high - low),
            np.where(empty, 0.0, (np.where(empty, 0, high) + np.where(empty, 0, low)) / 2))


def _cosine(weight: np.ndarray, along: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return the mean cosine (F,) of contacts, over the points that face the pad if any do."""
    facing = weight * (along > FACING)
    number = facing.sum(axis=1)
    enough = number >= np.maximum(2, 0.25 * count)
    mean = (weight * along).sum(axis=1) / np.maximum(count, 1)
    return np.where(enough, (facing * along).sum(axis=1) / np.maximum(number, 1), mean)


def _contacts(hypotheses: Hypotheses, obstacles: Obstacles, hand: _Hand,
              inside: np.ndarray) -> dict[str, np.ndarray]:
    """Return counts, means and spreads of both contacts, each (F, 2)."""
    # Only points of the thing can be touched, and they come first.
    own = slice(0, int(obstacles.is_target.sum()))
    x, y, z, inside = hand.x[:, own], hand.y[:, own], hand.z[:, own], inside[:, own]
    along = hypotheses.rotation[:, :, 1].astype(np.float32) @ obstacles.normals[own].T
    low, high = _first(y, inside), -_first(-y, inside)
    sums: dict[str, list[np.ndarray]] = {name: [] for name in (
        'count', 'cosine', 'x', 'z', 'spread', 'observed', 'confidence')}
    marks = np.stack([np.ones_like(obstacles.observed), obstacles.observed,
                      obstacles.confidence], axis=1)[own]
    for sign, touching in ((-1, inside & (y < _column(low + CONTACT_M))),
                           (1, inside & (y > _column(high - CONTACT_M)))):
        weight = touching.astype(np.float32)
        count, observed, confidence = (weight @ marks).T
        each = np.maximum(count, 1)
        mean_x, mean_z = (weight * x).sum(axis=1) / each, (weight * z).sum(axis=1) / each
        spread = (weight * ((x - mean_x[:, None]) ** 2 + (z - mean_z[:, None]) ** 2)).sum(axis=1)
        for name, value in (
                ('count', count), ('cosine', _cosine(weight, sign * along, count)),
                ('x', mean_x), ('z', mean_z), ('spread', np.sqrt(spread / each)),
                ('observed', observed / each), ('confidence', confidence / each)):
            sums[name].append(value)
    return {name: np.stack(values, axis=1).astype(np.float64) for name, values in sums.items()}
