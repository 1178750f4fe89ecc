#!/usr/bin/env python3
"""
Draw the pictures of the README: the grasp frame, and grasps on the bundled clip.

    python scripts/draw_grasps.py [FOLDER]      grasp_frame.png and grasps.png, in docs/ by default
"""
import sys
from pathlib import Path

import cv2
import numpy as np

from dkt_ros.colorize import depth_to_rgb
from dkt_ros.data.clips import open_clip
from dkt_ros.data.images import write_image
from dkt_ros.grasp.drawing import CORNERS, TRIANGLES
from dkt_ros.grasp.grasp import Gripper, load_gripper
from dkt_ros.grasp.planner import GraspPlanner
from dkt_ros.resources import share_path
from dkt_ros.tools.grasp_report import draw_grasps
from dkt_ros.tools.montage import depth_range, write_montage

SIZE, SCALE = (880, 560), 3000.0
OPENING, WIDTH = 0.07, 0.046
GREY, THING = (196, 202, 210), (150, 205, 235)
AXES = ((0.042, (205, 60, 50), 'x', (-26, 4)), (0.08, (40, 130, 40), 'y  closing', (-110, 6)),
        (0.062, (50, 80, 200), 'z  approach', (14, 6)))


def view_axes():
    """Return the rows right, down, away of a look from the side and a little from above."""
    away = np.array([-0.8, 0.34, 0.5])
    away /= np.linalg.norm(away)
    right = np.cross(np.array([0.0, 0.0, 1.0]), away)
    right /= np.linalg.norm(right)
    return np.array([right, np.cross(away, right), away])


class Canvas:
    """A white picture and an orthographic look at the hand."""

    def __init__(self):
        self.picture = np.full((SIZE[1], SIZE[0], 3), 255, np.uint8)
        self.axes = view_axes()

    def pixel(self, point):
        """Return where a point of the grasp frame is drawn."""
        right, down, _ = self.axes @ np.asarray(point, float)
        return round(SIZE[0] * 0.46 + SCALE * right), round(SIZE[1] * 0.64 + SCALE * down)

    def boxes(self, boxes):
        """Draw boxes (low, high, colour), far faces first."""
        faces = []
        for low, high, color in boxes:
            corners = low + CORNERS * (high - low)
            for pair in TRIANGLES.reshape(6, 2, 3):
                a, b, c = corners[pair[0]]
                normal = np.cross(b - a, c - a)
                normal /= np.linalg.norm(normal)
                if normal @ self.axes[2] > 0:
                    continue
                shade = 0.62 + 0.38 * abs(normal @ np.array([0.5, -0.3, -0.8]))
                quad = corners[[pair[0][0], pair[0][1], pair[0][2], pair[1][2]]]
                depth = (quad @ self.axes[2]).mean()
                faces.append((depth, quad, tuple(int(v * shade) for v in color)))
        for _, quad, color in sorted(faces, key=lambda face: -face[0]):
            outline = np.array([self.pixel(point) for point in quad], np.int32)
            cv2.fillPoly(self.picture, [outline], color, cv2.LINE_AA)
            cv2.polylines(self.picture, [outline], True, (90, 90, 90), 1, cv2.LINE_AA)

    def arrow(self, end, color, label, aside):
        """Draw an arrow from the origin and its label, `aside` pixels from its tip."""
        a, b = self.pixel((0, 0, 0)), self.pixel(end)
        cv2.arrowedLine(self.picture, a, b, color, 4, cv2.LINE_AA, tipLength=0.12)
        self.text((b[0] + aside[0], b[1] + aside[1]), label, color)

    def text(self, at, label, color=(40, 40, 40)):
        """Write a label."""
        cv2.putText(self.picture, label, at, cv2.FONT_HERSHEY_SIMPLEX, 0.62, color, 2,
                    cv2.LINE_AA)


def draw(gripper: Gripper) -> np.ndarray:
    """Return the picture (H, W, 3) uint8."""
    canvas = Canvas()
    left, right, palm = gripper.boxes(OPENING)
    palm = np.array([*palm[0][:2], palm[1][2] - 0.03]), palm[1]
    thing = np.array([-0.009, -WIDTH / 2, -0.006]), np.array([0.009, WIDTH / 2, 0.045])
    canvas.boxes([(*palm, GREY), (*left, GREY), (*right, GREY), (*thing, THING)])
    for axis, (length, color, label, aside) in enumerate(AXES):
        canvas.arrow(np.eye(3)[axis] * length, color, label, aside)
    cv2.circle(canvas.picture, canvas.pixel((0, 0, 0)), 7, (20, 20, 20), -1, cv2.LINE_AA)
    canvas.text((300, 30), 'origin: TCP, the midpoint between the fingertip pads')
    canvas.text((300, 58), 'R and R Rz(180 deg) are the same grasp of a parallel jaw')
    return canvas.picture


def planned(gripper: Gripper) -> dict[str, np.ndarray]:
    """Return pictures of a plan on the true depth of the bundled clip's first frame."""
    item = next(iter(open_clip(share_path('clips', 'demo')).items()))
    camera, rgb = item.frame.camera, item.frame.rgb
    grasps = GraspPlanner(gripper).plan(camera.unproject(item.depth)).grasps
    best_of = {grasp.target: grasp for grasp in reversed(grasps)}
    each = tuple(sorted(best_of.values(), key=lambda grasp: -grasp.score))
    near, far = depth_range(item.depth)
    return {'RGB': rgb, 'the best grasp of each thing': draw_grasps(rgb, camera, each, gripper),
            f'{len(grasps)} grasps, red to green by score': draw_grasps(
                depth_to_rgb(item.depth, near, far), camera, grasps, gripper)}


if __name__ == '__main__':
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else 'docs')
    hand = load_gripper('panda_hand')
    write_image(folder / 'grasp_frame.png', draw(hand))
    write_montage(folder / 'grasps.png', [planned(hand)], tile_width=400)
