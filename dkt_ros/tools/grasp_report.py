"""Grasps of a recording: pictures, meshes of the hand, and how they fit the truth."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from dkt_ros.camera import PinholeCamera
from dkt_ros.colorize import depth_to_rgb
from dkt_ros.data.ply import write_mesh
from dkt_ros.data.scenes import SceneFrame
from dkt_ros.frame import DepthEstimate
from dkt_ros.grasp.config import GraspNodeConfig
from dkt_ros.grasp.drawing import grasps_mesh, hand_lines, score_color
from dkt_ros.grasp.grasp import Grasp, Gripper, load_gripper
from dkt_ros.options import Config
from dkt_ros.resources import share_path
from dkt_ros.tools.montage import depth_range

MAX_DRAWN = 12
OPEN_MARGIN_M = 0.024


@dataclass(frozen=True)
class RecordedGrasps:
    """
    Grasps of one cloud, as they came over the wire.

    Attributes
    ----------
    grasps : tuple of Grasp
        In the optical frame of the camera, best first.
    stamp_ns : int
        Capture time of the cloud [ns].
    frame_id : str
        Frame they were published in.
    gripper : Gripper
        The hand.

    """

    grasps: tuple[Grasp, ...]
    stamp_ns: int
    frame_id: str
    gripper: Gripper


def configured_gripper() -> Gripper:
    """Return the gripper of config/grasp.yaml."""
    values = Config.read_yaml(share_path('config', 'grasp.yaml'))
    options = values.get('/**/grasp_node', {}).get('ros__parameters', {})
    return load_gripper(GraspNodeConfig.from_dict(options, 'config/grasp.yaml').gripper)


def read_grasps(path: Path) -> RecordedGrasps | None:
    """Read what the recorder kept; None if no grasp came, or none whose camera pose is known."""
    if not path.is_file():
        return None
    gripper = configured_gripper()
    with np.load(path) as stored:
        rows, stamp, frame = stored['rows'], int(stored['stamp_ns']), str(stored['frame_id'])
        pose = stored['T_frame_camera'] if 'T_frame_camera' in stored else None
    optical = frame.endswith('optical_frame')
    if pose is None and not optical:
        return None
    T_camera_frame = np.eye(4) if optical else np.linalg.inv(pose)
    grasps = []
    for x, y, z, *quaternion, width, score in rows.astype(np.float64):
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = Rotation.from_quat(quaternion).as_matrix(), (x, y, z)
        opening = min(width + OPEN_MARGIN_M, gripper.max_width)
        grasps.append(Grasp(T, width, opening, score).moved(T_camera_frame))
    return RecordedGrasps(tuple(grasps), stamp, frame, gripper)


def draw_grasps(rgb: np.ndarray, camera: PinholeCamera, grasps: tuple[Grasp, ...],
                gripper: Gripper) -> np.ndarray:
    """
    Draw hands as forks, the best one last and thickest, coloured by their score.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
        What the camera saw; it is not changed.
    camera : PinholeCamera
        Its camera.
    grasps : tuple of Grasp
        In its optical frame, best first.
    gripper : Gripper
        The hand.

    Returns
    -------
    (H, W, 3) uint8

    """
    picture = np.ascontiguousarray(rgb).copy()
    for number, grasp in reversed(list(enumerate(grasps))):
        color = tuple(int(255 * value) for value in score_color(grasp.score))
        T = grasp.T_frame_grasp
        for segment in hand_lines(gripper, grasp.opening):
            ends = segment @ T[:3, :3].T + T[:3, 3]
            if (ends[:, 2] < 0.05).any():
                continue
            pixels = np.stack([camera.fx * ends[:, 0] / ends[:, 2] + camera.cx,
                               camera.fy * ends[:, 1] / ends[:, 2] + camera.cy], axis=1)
            (u0, v0), (u1, v1) = np.clip(np.rint(pixels), -10**5, 10**5).astype(int).tolist()
            thick = max(2, round(camera.width / (160 if number == 0 else 320)))
            cv2.line(picture, (u0, v0), (u1, v1), (20, 20, 20), thick + 2, cv2.LINE_AA)
            cv2.line(picture, (u0, v0), (u1, v1), color, thick, cv2.LINE_AA)
    return picture


def grasp_panels(recorded: RecordedGrasps, estimate: DepthEstimate) -> dict[str, np.ndarray]:
    """Return pictures of the frame that was planned on, by title."""
    rgb, camera = estimate.frame.rgb, estimate.camera
    grasps, gripper = recorded.grasps, recorded.gripper
    best = grasps[0]
    panels = {
        f'best grasp: score {best.score:.2f}, {1e3 * best.width:.0f} mm wide':
            draw_grasps(rgb, camera, grasps[:1], gripper),
        f'{min(len(grasps), MAX_DRAWN)} of {len(grasps)} grasps, red to green by score':
            draw_grasps(rgb, camera, grasps[:MAX_DRAWN], gripper)}
    if estimate.depth_fused is not None:
        near, far = depth_range(estimate.depth_fused)
        depth = depth_to_rgb(estimate.depth_fused, near, far)
        panels['the fused depth that they were planned on'] = draw_grasps(
            depth, camera, grasps[:1], gripper)
    return panels


def write_hands(path: Path, recorded: RecordedGrasps) -> int:
    """Write the hands as one mesh beside the cloud, in its frame; return their number."""
    grasps = recorded.grasps[:MAX_DRAWN]
    write_mesh(path, *grasps_mesh(grasps, recorded.gripper))
    return len(grasps)


def grasp_figures(recorded: RecordedGrasps, item: SceneFrame) -> dict[str, object]:
    """Return the figures of grasps, with the distance of the best TCP from the true points."""
    best = recorded.grasps[0]
    figures = {'num_grasps': len(recorded.grasps), 'frame_id': recorded.frame_id,
               'frame_index': item.index, 'gripper': recorded.gripper.name,
               'best': {'score': round(best.score, 3), 'width_m': round(best.width, 4),
                        'position_camera': [round(float(v), 4) for v in best.position]}}
    if item.depth is not None:
        points = item.frame.camera.unproject(item.depth).reshape(-1, 3)
        tree = cKDTree(points[np.isfinite(points).all(axis=1)])
        figures['best']['to_true_surface_m'] = round(float(tree.query(best.position)[0]), 4)
    return figures
