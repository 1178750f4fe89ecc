"""Where things start before they settle: falling, standing apart, or standing packed."""
from __future__ import annotations

import math

import numpy as np

ARRANGEMENTS = ('fall', 'upright', 'packed')
DROP_M = 0.001
GAP_M = {'upright': 0.012, 'packed': 0.002}


def random_turn(rng: np.random.Generator) -> np.ndarray:
    """Draw a rotation (3, 3), evenly over all orientations."""
    x, y, z, w = (q := rng.standard_normal(4)) / np.linalg.norm(q)
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]])


def start_poses(arrangement: str, sizes: list[tuple[float, float]], half: tuple[float, float],
                floor_m: float, rng: np.random.Generator) -> list[np.ndarray | None]:
    """
    Draw the start of each thing.

    Parameters
    ----------
    arrangement : str
        `fall`: any pose, one above the other; `upright`: standing apart; `packed`: standing as
        close as they fit.
    sizes : list of (radius, height)
        Cylinder about each thing [m]; its frame stands on z = 0.
    half : (float, float)
        Half sides of the region [m].
    floor_m : float
        Height of the floor [m].

    Returns
    -------
    list of (4, 4) float or None
        T_world_thing; None where there is no room.

    """
    if arrangement == 'fall':
        return _falling(sizes, half, floor_m, rng)
    poses, taken = [], []
    for radius, _ in sizes:
        spot = _spot(arrangement, radius, half, taken, rng)
        if spot is None:
            poses.append(None)
            continue
        taken.append((*spot, radius))
        pose, yaw = np.eye(4), rng.uniform(0, 2 * math.pi)
        pose[:2, :2] = [[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]]
        pose[:3, 3] = *spot, floor_m + DROP_M
        poses.append(pose)
    return poses


def _falling(sizes, half, floor_m, rng) -> list[np.ndarray]:
    poses, top = [], floor_m + 0.02
    for radius, height in sizes:
        reach = math.hypot(radius, height / 2)
        pose = np.eye(4)
        pose[:3, :3] = random_turn(rng)
        middle = np.array([*rng.uniform(-1, 1, 2) * half, top + reach])
        pose[:3, 3] = middle - pose[:3, :3] @ (0, 0, height / 2)
        # Half their size apart: they meet in the air and fall in each other's way.
        top += 1.3 * reach + 0.02
        poses.append(pose)
    return poses


def _spot(arrangement, radius, half, taken, rng) -> tuple[float, float] | None:
    """Find a free place; `packed` takes the one nearest to the middle."""
    tries = rng.uniform(-1, 1, (200, 2)) * half
    if arrangement == 'packed':
        tries = tries[np.argsort(np.hypot(*tries.T))]
    for x, y in tries:
        if all(math.hypot(x - ox, y - oy) > radius + r + GAP_M[arrangement]
               for ox, oy, r in taken):
            return float(x), float(y)
    return None
