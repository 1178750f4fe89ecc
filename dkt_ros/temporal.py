"""
Steadiness of depth over time: from frame to frame, along the optical flow or along known poses.

All figures are of metric depth, so that the protocol which made metres of it belongs beside them.
No ROS, no files.
"""
from __future__ import annotations

import cv2
import numpy as np

from dkt_ros.camera import PinholeCamera

OPW_SHARPNESS = 50.0
"""How fast the weight of a pixel falls with its change of colour (NVDS)."""


def optical_flow(target: np.ndarray, source: np.ndarray) -> np.ndarray:
    """
    Find where each pixel of `target` lies in `source` (Kroeger et al. 2016, DIS).

    Parameters
    ----------
    target, source : (H, W, 3) uint8
        Two pictures.

    Returns
    -------
    (H, W, 2) float32
        Displacement (u, v) from a pixel of `target` to its place in `source` [px].

    """
    gray = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (target, source)]
    solver = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return solver.calc(*gray, None)


def warp(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """
    Fetch `image` (H, W) or (H, W, 3) float32 along a flow (H, W, 2) [px].

    What the flow points outside of, and whatever touches a NaN, is NaN.
    """
    height, width = flow.shape[:2]
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32),
                                np.arange(height, dtype=np.float32))
    u, v = columns + flow[..., 0], rows + flow[..., 1]
    # Replicated and then masked: a border of NaN would reach one pixel into the picture.
    fetched = cv2.remap(np.asarray(image, np.float32), u, v, cv2.INTER_LINEAR,
                        borderMode=cv2.BORDER_REPLICATE)
    fetched[(u < 0) | (v < 0) | (u > width - 1) | (v > height - 1)] = np.nan
    return fetched


def warping_weights(rgb: np.ndarray, rgb_before: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Return how well colours (H, W, 3) uint8 follow the flow, (H, W) in [0, 1]; NaN outside."""
    change = rgb.astype(np.float32) / 255 - warp(rgb_before.astype(np.float32) / 255, flow)
    return np.exp(-OPW_SHARPNESS * (change ** 2).sum(axis=-1))


def opw(depth: np.ndarray, depth_before: np.ndarray, weights: np.ndarray,
        flow: np.ndarray) -> float:
    """
    Measure the change of depth along the optical flow between two frames (NVDS's OPW).

    Parameters
    ----------
    depth, depth_before : (H, W) float32
        Depth of the frame and of the one before it [m]; NaN where missing.
    weights : (H, W) float
        Of `warping_weights`.
    flow : (H, W, 2) float32
        From a pixel of the frame to its place in the one before [px].

    Returns
    -------
    float
        100 times the weighted mean change: centimetres; NaN if no pixel can be compared. A camera
        that moves changes true depth too, so that the truth's own figure belongs beside it.

    """
    change = np.abs(depth - warp(depth_before, flow)) * weights
    known = np.isfinite(change)
    return 100.0 * float(change[known].mean()) if known.any() else float('nan')


def alignment_error(depth: np.ndarray, depth_before: np.ndarray, T_camera_before: np.ndarray,
                    camera: PinholeCamera) -> float:
    """
    Measure how depth agrees with that of the frame before, moved by the known motion (VDA's TAE).

    Parameters
    ----------
    depth, depth_before : (H, W) float32
        Depth of the two frames [m]; NaN where missing.
    T_camera_before : (4, 4) float
        Pose of the camera before, in the camera now.
    camera : PinholeCamera
        Of both frames.

    Returns
    -------
    float
        Mean of the relative errors both ways, in percent; NaN if nothing overlaps.

    """
    there = _projection_error(depth_before, depth, T_camera_before, camera)
    back = _projection_error(depth, depth_before, np.linalg.inv(T_camera_before), camera)
    return 50.0 * (there + back)


def _projection_error(source: np.ndarray, target: np.ndarray, T_target_source: np.ndarray,
                      camera: PinholeCamera) -> float:
    points = camera.unproject(source)[np.isfinite(source)].astype(np.float64)
    moved = points @ T_target_source[:3, :3].T + T_target_source[:3, 3]
    moved = moved[moved[:, 2] > 0]
    pixels = np.rint(camera.project(moved)).astype(int)
    inside = ((pixels >= 0) & (pixels < (camera.width, camera.height))).all(axis=1)
    u, v = pixels[inside].T
    # One point a pixel, without a depth buffer, as the definition has it.
    projected = np.full(target.shape, np.nan)
    projected[v, u] = moved[inside, 2]
    known = np.isfinite(projected) & np.isfinite(target)
    if not known.any():
        return float('nan')
    return float((np.abs(projected[known] - target[known]) / target[known]).mean())
