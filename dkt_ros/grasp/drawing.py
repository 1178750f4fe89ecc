"""Grasps to look at: the hand as triangles or as lines, and colours of scores. No ROS."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dkt_ros.grasp.grasp import Grasp, Gripper

# Corners of a box by bits x y z, and its triangles counter-clockwise from outside.
CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
TRIANGLES = np.array([
    [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
    [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]])
PALM_SHOWN_M = 0.012
"""How much of the palm is drawn: all of it would hide the scene."""


def hand_mesh(gripper: Gripper, opening: float) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices (24, 3) [m] and triangles (36, 3) of the hand in the grasp frame."""
    vertices, triangles = [], []
    for number, (low, high) in enumerate(gripper.boxes(opening)):
        if number == 2:
            low = np.array([*low[:2], high[2] - min(PALM_SHOWN_M, high[2] - low[2])])
        vertices.append(low + CORNERS * (high - low))
        triangles.append(TRIANGLES + 8 * number)
    return np.concatenate(vertices), np.concatenate(triangles)


def hand_lines(gripper: Gripper, opening: float) -> np.ndarray:
    """Return the hand as a fork of line segments (S, 2, 3) [m] in the grasp frame."""
    half, base, tip = opening / 2, gripper.palm_z, gripper.tip_length
    back = base - 0.6 * gripper.palm_depth
    return np.array([[[0, -half, base], [0, -half, tip]], [[0, half, base], [0, half, tip]],
                     [[0, -half, base], [0, half, base]], [[0, 0, base], [0, 0, back]]], float)


def grasps_mesh(grasps: Sequence[Grasp],
                gripper: Gripper) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices (24 G, 3) and triangles (36 G, 3) of all hands, where the grasps are."""
    vertices, triangles = [np.empty((0, 3))], [np.empty((0, 3), int)]
    for number, grasp in enumerate(grasps):
        corners, faces = hand_mesh(gripper, grasp.opening)
        T = grasp.T_frame_grasp
        vertices.append(corners @ T[:3, :3].T + T[:3, 3])
        triangles.append(faces + len(corners) * number)
    return np.concatenate(vertices), np.concatenate(triangles)


def score_color(score: float) -> tuple[float, float, float]:
    """Return red, green, blue in [0, 1]: red for 0, yellow for a half, green for 1."""
    score = float(np.clip(score, 0.0, 1.0))
    return min(1.0, 2.0 - 2.0 * score), min(1.0, 2.0 * score), 0.15
