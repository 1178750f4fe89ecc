"""
Camera paths: circle, hand-held, wrist. numpy only; no bpy.

Poses are T_world_camera of the optical frame (x right, y down, z forward), world z up, metres.
"""
from __future__ import annotations

import math

import numpy as np

PATHS = ('circle', 'handheld', 'wrist')
LOWEST_M = 0.06
"""No camera comes nearer to the table."""


def look_at(place: np.ndarray, target: np.ndarray, roll_rad: float = 0.0) -> np.ndarray:
    """Return the pose (4, 4) of a camera at `place` that looks at `target`, image upright."""
    forward = np.asarray(target, float) - place
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    if np.linalg.norm(right) < 1e-6:
        right = np.array([1.0, 0.0, 0.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    turn = np.array([[math.cos(roll_rad), -math.sin(roll_rad), 0.0],
                     [math.sin(roll_rad), math.cos(roll_rad), 0.0], [0.0, 0.0, 1.0]])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, down, forward], axis=1) @ turn
    pose[:3, 3] = place
    return pose


def on_sphere(target: np.ndarray, radius: float, azimuth: float, elevation: float) -> np.ndarray:
    """Return the point at `radius` [m] from `target`, above the table."""
    place = target + radius * np.array([math.cos(azimuth) * math.cos(elevation),
                                        math.sin(azimuth) * math.cos(elevation),
                                        math.sin(elevation)])
    place[2] = max(place[2], LOWEST_M)
    return place


def draw_path(spec: dict, rng: np.random.Generator) -> np.ndarray:
    """
    Draw the poses of all frames.

    Parameters
    ----------
    spec : dict
        path (one of `PATHS`), num_frames, azimuth_rad (middle of the path), distance_m,
        elevation_rad and step_rad (ranges), period_frames, target (3,) [m].

    Returns
    -------
    (num_frames, 4, 4) float

    """
    target = np.asarray(spec['target'], float) + rng.normal(0, 0.01, 3)
    start = {'radius': rng.uniform(*spec['distance_m']),
             'elevation': rng.uniform(*spec['elevation_rad']), 'azimuth': spec['azimuth_rad']}
    draw = {'circle': _circle, 'handheld': _handheld, 'wrist': _wrist}[spec['path']]
    return np.stack(draw(spec, rng, target, start))


def _circle(spec, rng, target, start) -> list[np.ndarray]:
    """Circle the things; radius, height and azimuth swing as sines about their course."""
    step = rng.uniform(*spec['step_rad']) * rng.choice([-1.0, 1.0])
    phase, count = rng.uniform(0, 2 * math.pi, 3), spec['num_frames']
    swing = rng.uniform([0.02, 0.02, 0.2], [0.08, 0.1, 0.8])
    poses = []
    for index in range(count):
        turn = 2 * math.pi * index / max(spec['period_frames'], 1)
        radius = start['radius'] * (1 + swing[0] * math.sin(turn + phase[0]))
        elevation = start['elevation'] + swing[1] * math.sin(0.7 * turn + phase[1])
        # The swing never turns the camera back: its slope stays below the step.
        azimuth = start['azimuth'] + step * (index - (count - 1) / 2 + swing[2] * math.sin(
            1.3 * turn + phase[2]) / max(1.3 * 2 * math.pi / max(spec['period_frames'], 1), 1.0))
        poses.append(look_at(on_sphere(target, radius, azimuth, min(elevation, 1.5)), target))
    return poses


def smooth_walk(count: int, size: np.ndarray, rng: np.random.Generator,
                seconds_per_frame: float) -> np.ndarray:
    """
    Draw a smooth random walk that stays near 0.

    A weight on a damped spring, pushed at random: as a hand that holds a camera.

    Returns
    -------
    (count, len(size)) float
        Standard deviation about `size` in each column.

    """
    size = np.asarray(size, float)
    stiffness, damping, fine = 6.0, 4.0, 8
    place, speed = size * rng.standard_normal(len(size)), np.zeros(len(size))
    step = seconds_per_frame / fine
    push = size * math.sqrt(2 * damping * stiffness)
    places = []
    for _ in range(count):
        places.append(place.copy())
        for _ in range(fine):
            speed += (-stiffness * place - damping * speed) * step \
                + push * math.sqrt(step) * rng.standard_normal(len(size))
            place = place + speed * step
    return np.array(places)


def _handheld(spec, rng, target, start) -> list[np.ndarray]:
    """Stand and look: a hand's tremor and sway in place, aim and roll, with a slow drift."""
    count = spec['num_frames']
    walk = smooth_walk(count, [0.025, 0.025, 0.02, 0.012, 0.012, 0.012, 0.025], rng,
                       1.0 / spec['fps'])
    drift = rng.uniform(*spec['step_rad']) * rng.choice([-0.5, 0.5])
    poses = []
    for index in range(count):
        azimuth = start['azimuth'] + drift * (index - (count - 1) / 2)
        place = on_sphere(target, start['radius'], azimuth, start['elevation']) + walk[index, :3]
        place[2] = max(place[2], LOWEST_M)
        poses.append(look_at(place, target + walk[index, 3:6], walk[index, 6]))
    return poses


def _wrist(spec, rng, target, start) -> list[np.ndarray]:
    """Approach as a camera on a robot's wrist: smoothly from afar to a hand's breadth."""
    count = spec['num_frames']
    near = max(0.22, 0.45 * start['radius'])
    steeper = min(start['elevation'] + rng.uniform(0.2, 0.7), 1.45)
    turn = rng.uniform(-0.5, 0.5)
    roll = rng.uniform(-0.3, 0.3)
    aside = target + rng.normal(0, 0.02, 3) * (1, 1, 0)
    poses = []
    for index in range(count):
        t = index / max(count - 1, 1)
        eased = t ** 3 * (10 - 15 * t + 6 * t * t)
        place = on_sphere(target, start['radius'] + eased * (near - start['radius']),
                          start['azimuth'] + eased * turn,
                          start['elevation'] + eased * (steeper - start['elevation']))
        poses.append(look_at(place, target + eased * (aside - target), eased * roll))
    return poses
