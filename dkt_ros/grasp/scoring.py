"""
How good a hypothesis is: parts in [0, 1], and the score, their weighted geometric mean.

contact     area of the smaller contact, and how squarely both contacts face each other
friction    how far inside the friction cone the surface normals lie
clearance   room between hand and everything else, and between pads and thing on opening
balance     nearness of the jaw to the middle of the thing: less torque on lifting
confidence  of the depth at the contacts, and room in the jaw for what it may be off by
observed    share of the contacts, and of the space of the fingers, that was really seen
vertical    approach from above
"""
from __future__ import annotations

import numpy as np

from dkt_ros.grasp.candidates import RIM, Hypotheses, Target
from dkt_ros.grasp.collision import CONTACT_M, Contacts
from dkt_ros.grasp.config import GraspConfig, ScoreWeights
from dkt_ros.grasp.grasp import Gripper
from dkt_ros.grasp.visibility import FREE, HIDDEN, Visibility

PARTS = ('contact', 'friction', 'clearance', 'balance', 'confidence', 'observed', 'vertical')
ANGLE_SLACK_DEG = 12.0
"""Normals of voxels are off by so much; only beyond it does an angle speak against a grasp."""
EDGE_COSINE, EDGE_FRICTION, EDGE_SPREAD_M = 0.45, 0.6, 0.003
"""A contact whose normals run along it is the edge of a face that was not seen."""
MIN_POINTS, MIN_SEEN = 3, 0.1
DOUBT_M, BEYOND_M = 0.03, 0.03
"""What depth of no confidence may be off by, and how far behind the middle of a thing it is still
worth something: there it was seen through the near side, or past its rim."""
GOOD_CLEARANCE_M, MANY_NEIGHBOURS = 0.01, 30.0
HIDDEN_FLOOR, CROWDED_FLOOR, SOLID_FLOOR, PALM_FLOOR = 0.35, 0.1, 0.05, 0.3
"""What is left of the score when the fingers move in hidden space only: behind a thing whose back
is known by symmetry, behind such a one among others, and behind one whose back is not known and
may be anywhere there; and when the palm moves there."""


def is_antipodal(contacts: Contacts, kind: np.ndarray, tip_length: float,
                 friction: float) -> np.ndarray:
    """
    Say which contacts hold: both within the friction cone, or an edge of an unseen face.

    Parameters
    ----------
    contacts : Contacts
        F rows.
    kind : (F,) int
        A rim is one thin wall, of which one side at least must face a pad.
    tip_length : float
        How far the fingers reach beyond the TCP [m].
    friction : float
        Coefficient.

    Returns
    -------
    (F,) bool

    """
    limit = np.cos(np.arctan(friction) + np.radians(ANGLE_SLACK_DEG))
    enough = (contacts.count >= MIN_POINTS).all(axis=1)
    # Between two guesses there may be nothing.
    enough &= contacts.observed.max(axis=1) > MIN_SEEN
    # Outermost only because the fingers end there, a point is no edge: the surface goes on.
    ends = contacts.z < (contacts.sink + tip_length - CONTACT_M)[:, None]
    edge = (np.abs(contacts.cosine) < EDGE_COSINE) & (contacts.spread > EDGE_SPREAD_M) & ends
    holds = (contacts.cosine > limit) | edge
    both = holds.all(axis=1) & ~edge.all(axis=1) | _two_straight_edges(contacts, edge)
    wall = (kind == RIM) & (np.abs(contacts.cosine).max(axis=1) > limit)
    return enough & (both | wall)


def _two_straight_edges(contacts: Contacts, edge: np.ndarray) -> np.ndarray:
    """Two long edges opposite each other: a box of which neither side was seen."""
    return edge.all(axis=1) & (contacts.spread.min(axis=1) > 1.3 * EDGE_SPREAD_M)


def score_parts(hypotheses: Hypotheses, contacts: Contacts, target: Target, gripper: Gripper,
                visibility: Visibility | None, config: GraspConfig,
                crowded: bool = False) -> dict[str, np.ndarray]:
    """Return each part (F,) of the scores of F hypotheses; `crowded`: among other things."""
    tcp = hypotheses.centre + np.einsum(
        'fij,fj->fi', hypotheses.rotation,
        np.stack([np.zeros(len(contacts.sink)), contacts.shift, contacts.sink], axis=1))
    return {
        'contact': _contact(contacts, gripper, config.voxel_m),
        'friction': _friction(contacts, hypotheses.kind, config.friction),
        'clearance': _clearance(contacts, config),
        'balance': _balance(tcp, hypotheses, target),
        'confidence': _confidence(tcp, hypotheses, contacts, target, visibility),
        'observed': _observed(tcp, hypotheses, contacts, target, gripper, visibility,
                              config.voxel_m, crowded),
        'vertical': 0.5 + 0.5 * (-hypotheses.rotation[:, 2, 2]).clip(0.0, 1.0),
    }


def combine(parts: dict[str, np.ndarray], weights: ScoreWeights) -> np.ndarray:
    """Return the score (F,): the weighted geometric mean of the parts."""
    exponents = np.array([getattr(weights, name) for name in PARTS])
    logs = np.log(np.stack([np.maximum(parts[name], 1e-6) for name in PARTS]))
    return np.exp(exponents @ logs / max(exponents.sum(), 1e-9))


def _contact(contacts: Contacts, gripper: Gripper, voxel: float) -> np.ndarray:
    pad = gripper.finger_height * 2 * max(gripper.tip_length, voxel)
    area = contacts.count.min(axis=1) * voxel ** 2
    apart = np.hypot(contacts.x[:, 0] - contacts.x[:, 1], contacts.z[:, 0] - contacts.z[:, 1])
    # A contact outside the pad is made by the bare finger.
    depth = contacts.z.mean(axis=1) - contacts.sink
    off_pad = np.maximum(-depth - 2 * gripper.tip_length, 0.0)
    return np.sqrt(np.minimum(area / (0.4 * pad), 1.0)) * np.exp(-(apart / 0.012) ** 2) \
        * np.exp(-(off_pad / 0.015) ** 2)


def _friction(contacts: Contacts, kind: np.ndarray, friction: float) -> np.ndarray:
    cosine = np.where((kind == RIM)[:, None], np.abs(contacts.cosine).max(axis=1)[:, None],
                      contacts.cosine)
    angle = np.arccos(np.clip(cosine, -1, 1))
    slack = np.radians(ANGLE_SLACK_DEG)
    margin = np.clip(1.0 - angle / (np.arctan(friction) + slack), 0.0, 1.0) ** 0.5
    # Beyond the cone nothing holds, unless the normals are off.
    margin *= 1.0 - np.clip((angle - np.arctan(friction)) / slack, 0.0, 1.0)
    edge = (np.abs(cosine) < EDGE_COSINE)
    return np.where(edge, EDGE_FRICTION, margin).min(axis=1)


def _clearance(contacts: Contacts, config: GraspConfig) -> np.ndarray:
    margin = (contacts.opening - contacts.width) / 2
    wanted = max(config.collision.open_margin_m, 1e-6)
    room = np.clip(margin / wanted, 0.0, 1.0) ** 0.5
    slack = 0.6 + 0.4 * np.clip(contacts.slack / GOOD_CLEARANCE_M, 0.0, 1.0)
    return room * slack * np.exp(-contacts.neighbours / MANY_NEIGHBOURS)


def _confidence(tcp: np.ndarray, hypotheses: Hypotheses, contacts: Contacts, target: Target,
                visibility: Visibility | None) -> np.ndarray:
    """Confidence at the contacts, and room in the jaw for what depth in doubt may be off by."""
    confidence = contacts.confidence.mean(axis=1).clip(0.0, 1.0)
    if visibility is None:
        return confidence
    sight = tcp - visibility.viewpoint
    sight /= np.linalg.norm(sight, axis=1, keepdims=True)
    # Depth errs along the line of sight, not across, and more so behind the near side.
    beyond = ((tcp[:, :2] - target.centre) * sight[:, :2]).sum(axis=1).clip(0.0)
    doubt = (1.0 - confidence) * (DOUBT_M + beyond)
    across = np.abs(np.einsum('fi,fi->f', sight, hypotheses.rotation[:, :, 1]))
    margin = np.maximum((contacts.opening - contacts.width) / 2, 1e-3)
    fits = 1.0 / (1.0 + (doubt * across / margin) ** 2)
    return confidence * fits * np.exp(-(1.0 - confidence) * beyond / BEYOND_M)


def _balance(tcp: np.ndarray, hypotheses: Hypotheses, target: Target) -> np.ndarray:
    """Torque about the pads: an offset along x turns the thing in the jaw, one along y bends."""
    middle = np.array([*target.centre, target.points[:, 2].mean()])
    local = np.einsum('fi,fij->fj', middle - tcp, hypotheses.rotation)
    level = np.einsum('fi,fij->fj', (middle - tcp) * [1, 1, 0], hypotheses.rotation)
    return np.exp(-(level[:, 0] / 0.03) ** 2 - (level[:, 1] / 0.08) ** 2
                  - (local[:, 2] / 0.15) ** 2)


def _observed(tcp: np.ndarray, hypotheses: Hypotheses, contacts: Contacts, target: Target,
              gripper: Gripper, visibility: Visibility | None, voxel: float,
              crowded: bool) -> np.ndarray:
    seen = 0.4 + 0.6 * contacts.observed.mean(axis=1)
    if visibility is None:
        return seen
    hidden, free = finger_space(tcp, hypotheses.rotation, contacts.opening, gripper, visibility,
                                2 * voxel)
    known = not target.observed.all()
    floor = CROWDED_FLOOR if known and crowded else HIDDEN_FLOOR if known else SOLID_FLOOR
    share = hidden.max(axis=1) if crowded else hidden.mean(axis=1)
    clear = 1.0 - (1.0 - floor) * share
    clear *= 1.0 - (1.0 - PALM_FLOOR) * palm_hidden(tcp, hypotheses.rotation, gripper, visibility,
                                                    2 * voxel)
    # A finger inside a wall: what lies behind a front is solid until it was seen to be hollow.
    inner = _inner_side(tcp, hypotheses, target)
    hollow = np.take_along_axis(free, inner[:, None], axis=1)[:, 0]
    rim = hypotheses.kind == RIM
    return seen * clear * np.where(rim, np.clip(hollow / 0.3, 0.0, 1.0), 1.0)


def _inner_side(tcp: np.ndarray, hypotheses: Hypotheses, target: Target) -> np.ndarray:
    """Return 0 where the finger at -y is the one nearer to the middle of the thing, else 1."""
    inward = np.append(target.centre, target.points[:, 2].mean()) - tcp
    return ((inward * hypotheses.rotation[:, :, 1]).sum(axis=1) > 0).astype(int)


def finger_space(tcp: np.ndarray, rotation: np.ndarray, opening: np.ndarray, gripper: Gripper,
                 visibility: Visibility, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares (F, 2) of each finger's tip space that are hidden, and seen to be free."""
    steps = np.linspace(-0.5, 0.5, 3)
    depth = np.linspace(-gripper.tip_length - CONTACT_M, gripper.tip_length, 4)
    grid = np.stack(np.meshgrid(steps * gripper.finger_height, steps * gripper.finger_width,
                                depth, indexing='ij'), axis=-1).reshape(-1, 3)
    hidden, free = [], []
    for sign in (-1, 1):
        aside = sign * (opening + gripper.finger_width) / 2
        local = grid[None] + np.stack([0 * aside, aside, 0 * aside], axis=1)[:, None]
        space = np.einsum('fij,fnj->fni', rotation, local) + tcp[:, None]
        state = visibility.classify(space, tolerance)
        hidden.append((state == HIDDEN).mean(axis=1))
        free.append((state == FREE).mean(axis=1))
    return np.stack(hidden, axis=1), np.stack(free, axis=1)


def palm_hidden(tcp: np.ndarray, rotation: np.ndarray, gripper: Gripper, visibility: Visibility,
                tolerance: float) -> np.ndarray:
    """Return the share (F,) of the palm's face that ends up in hidden space."""
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, 3) * gripper.palm_height,
                       np.linspace(-0.5, 0.5, 7) * gripper.palm_width, indexing='ij')
    face = np.stack([x.ravel(), y.ravel(), np.full(x.size, gripper.palm_z)], axis=1)
    space = np.einsum('fij,nj->fni', rotation, face) + tcp[:, None]
    return (visibility.classify(space, tolerance) == HIDDEN).mean(axis=1)
