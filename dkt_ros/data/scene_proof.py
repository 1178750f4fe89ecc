"""
What must be true between the layers of a scene: geometry, motion, silhouettes, units, sensor.

Each function returns sentences, none for a scene that is right. Thresholds leave room for pixels
that several surfaces share, not for a wrong sign, unit, pose or id.
"""
from __future__ import annotations

import cv2
import numpy as np

from dkt_ros.data.scenes import Scene, SceneFrame

MAX_NORMAL_ERROR_DEG = 25.0
"""Median angle between stored normals and those of the depth image, on any one object; the rims of
glasses that are a few pixels wide reach 19."""
MIN_PIXELS = 80
"""Smaller regions are not judged."""
MAX_REPROJECTION_ERROR = 0.01
"""Median relative depth error of one frame seen from the next."""
MAX_SEEN_THROUGH = 0.03
"""Share of points that ought to hide what the next frame shows behind them."""
MAX_OFF_SILHOUETTE = 0.05
MAX_SENSOR_ERROR = 0.03
"""Median relative error of the sensor where there is no object."""
MAX_LIQUID_TILT_DEG = 2.0
DEPTH_RANGE_M = (0.1, 12.0)
OBJECT_RANGE_M = (0.004, 2.0)
FOCAL_RANGE_WIDTHS = (0.2, 5.0)


def check_units(scene: Scene, item: SceneFrame) -> list[str]:
    """Find depth, objects or focal lengths of the wrong size, as millimetres would be."""
    problems = []
    valid = item.depth[np.isfinite(item.depth)] if item.depth is not None else np.empty(0)
    if valid.size and not DEPTH_RANGE_M[0] <= np.median(valid) <= DEPTH_RANGE_M[1]:
        problems.append(f'depth has the median {np.median(valid):g}; metres from '
                        f'{DEPTH_RANGE_M[0]} to {DEPTH_RANGE_M[1]} are expected')
    focal = scene.camera.fx / scene.camera.width
    if not FOCAL_RANGE_WIDTHS[0] <= focal <= FOCAL_RANGE_WIDTHS[1]:
        problems.append(f'the focal length is {focal:.3g} image widths; pixels are expected')
    for record in scene.objects:
        largest = max(record.get('size_m', [0.1]))
        if not OBJECT_RANGE_M[0] <= largest <= OBJECT_RANGE_M[1]:
            problems.append(f'object {record["instance"]} is {largest:g} long; metres from '
                            f'{OBJECT_RANGE_M[0]} to {OBJECT_RANGE_M[1]} are expected')
    return problems


def check_liquid(record: dict) -> list[str]:
    """Find a liquid that would run out: of a vessel that lies, leans or is more than full."""
    liquid = record.get('liquid')
    if liquid is None:
        return []
    problems = []
    missing = {'material', 'material_class', 'level'} - set(liquid)
    if missing:
        return [f'its liquid lacks {", ".join(sorted(missing))}']
    if not 0.0 < liquid['level'] < 1.0:
        problems.append(f'its liquid stands at {liquid["level"]:g} of the inner height; above 0 '
                        'and below 1 is possible')
    tilt = np.degrees(np.arccos(np.clip(np.asarray(record['T_world_object'])[2][2], -1, 1)))
    if tilt > MAX_LIQUID_TILT_DEG:
        problems.append(f'its surface of liquid is tilted by {tilt:.0f} degrees')
    return problems


def check_source(record: dict) -> list[str]:
    """Find a mesh of a bank that could not be found again, or lets light through open walls."""
    source = record.get('source')
    if source is None:
        return []
    missing = {'file', 'sha256', 'closed'} - set(source)
    if missing:
        return [f'its source lacks {", ".join(sorted(missing))}']
    if not source['closed'] and record['material_class'] in ('transparent', 'translucent'):
        return [f'{source["file"]} is an open mesh and cannot be {record["material_class"]}']
    return []


def check_missing(item: SceneFrame) -> list[str]:
    """Find values that are missing where there is a surface."""
    problems = []
    if item.depth is None:
        return problems
    surface = np.isfinite(item.depth)
    if item.instance is not None:
        lost = np.sum((item.instance > 0) & ~surface)
        if lost:
            problems.append(f'depth is missing on {lost} pixels of objects')
    if item.normals is not None:
        broken = np.sum(~np.isfinite(item.normals).all(axis=-1))
        if broken:
            problems.append(f'normals are NaN on {broken} pixels')
        flat = np.mean(np.abs(item.normals[surface]).sum(axis=-1) == 0) if surface.any() else 0.0
        if flat > 0.01:
            problems.append(f'normals are missing on {flat:.0%} of the surface')
    return problems


def check_normals_against_depth(scene: Scene, item: SceneFrame) -> list[str]:
    """Compare stored normals with those of the depth image, object by object, off its steps."""
    if item.normals is None or item.depth is None:
        return []
    points = scene.camera.unproject(item.depth)
    right = points[1:-1, 2:] - points[1:-1, :-2]
    down = points[2:, 1:-1] - points[:-2, 1:-1]
    normals = np.cross(down, right)
    with np.errstate(invalid='ignore', divide='ignore'):
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    inner = (slice(1, -1), slice(1, -1))
    angle = np.degrees(np.arccos(np.clip((normals * item.normals[inner]).sum(-1), -1, 1)))
    smooth = ~depth_steps(item.depth)[inner] & np.isfinite(angle)
    regions = np.zeros(angle.shape, int) if item.instance is None else item.instance[inner]
    problems = []
    for region in np.unique(regions):
        of_region = angle[smooth & (regions == region)]
        if of_region.size >= MIN_PIXELS and np.median(of_region) > MAX_NORMAL_ERROR_DEG:
            where = f'object {region}' if region else 'the background'
            problems.append(f'normals and depth disagree on {where} (median angle '
                            f'{np.median(of_region):.0f} degrees)')
    return problems


def depth_steps(depth: np.ndarray) -> np.ndarray:
    """Return True (H, W) near steps: inverse depth is linear on planes, bends elsewhere."""
    with np.errstate(divide='ignore', invalid='ignore'):
        inverse = np.nan_to_num(1.0 / depth, nan=0.0, posinf=0.0).astype(np.float32)
    steps = np.zeros(depth.shape, np.uint8)
    for image, marks in ((inverse, steps), (inverse.T, steps.T)):
        marks[1:-1] |= np.abs(image[:-2] - 2 * image[1:-1] + image[2:]) > 0.01 * image[1:-1]
    return cv2.dilate(steps, np.ones((3, 3), np.uint8)) > 0


def check_motion(scene: Scene, before: SceneFrame, after: SceneFrame) -> list[str]:
    """
    Warp the depth of each of two frames into the other by their poses; the scene stands still.

    A point behind what the other frame shows is occluded there and proves nothing; one in front
    of it ought to have been seen.
    """
    if any(frame.T_world_camera is None or frame.depth is None for frame in (before, after)):
        return []
    problems = []
    for source, goal in ((before, after), (after, before)):
        error, seen_through = _warp(scene, source, goal)
        if error > MAX_REPROJECTION_ERROR:
            problems.append(f'frame {source.index} seen from {goal.index}: poses and depth '
                            f'disagree (median {error:.1%})')
        elif seen_through > MAX_SEEN_THROUGH:
            problems.append(f'frame {source.index} seen from {goal.index}: {seen_through:.0%} of '
                            'its points should hide what is seen behind them')
    return problems


def _warp(scene: Scene, source: SceneFrame, goal: SceneFrame) -> tuple[float, float]:
    """Return the median relative error off occlusions and the share of points seen through."""
    T_goal_source = np.linalg.inv(goal.T_world_camera) @ source.T_world_camera
    solid = np.isfinite(source.depth) & ~depth_steps(source.depth)
    points = scene.camera.unproject(source.depth)[solid][::3]
    points = points @ T_goal_source[:3, :3].T + T_goal_source[:3, 3]
    pixels = scene.camera.project(points)
    size = np.array([scene.camera.width, scene.camera.height])
    inside = np.isfinite(pixels).all(1) & (pixels > 0.5).all(1) & (pixels < size - 1.5).all(1)
    if inside.mean() < 0.2:
        return 0.0, 0.0
    u, v = np.rint(pixels[inside]).astype(int).T
    z = points[inside, 2]
    window = np.ones((3, 3), np.uint8)
    far = cv2.dilate(np.nan_to_num(goal.depth, nan=1e3), window)[v, u]
    near = cv2.erode(np.nan_to_num(goal.depth, nan=0.0), window)[v, u]
    known = np.isfinite(goal.depth[v, u])
    error = (np.abs(goal.depth[v, u] - z) / z)[known]
    hidden = (z > 1.02 * far)[known]
    through = (z < 0.98 * near)[known]
    if not known.any():
        return 0.0, 0.0
    # Occlusions are few between neighbours; if most points were hidden, the pose is wrong.
    judged = error if hidden.mean() > 0.5 else error[~hidden]
    return float(np.median(judged)), float(through.mean())


def silhouette(scene: Scene, item: SceneFrame, record: dict) -> tuple[np.ndarray, float] | None:
    """
    Draw an object's mesh as the camera sees it.

    Returns
    -------
    (H, W) uint8
        1 inside the outline, nothing in front of it considered.
    float
        Depth of its farthest vertex [m].

    None where there is no mesh, or part of it lies behind the camera.

    """
    mesh = scene.read_mesh(int(record['instance']))
    if mesh is None or item.T_world_camera is None:
        return None
    T_camera_object = np.linalg.inv(item.T_world_camera) @ np.asarray(record['T_world_object'])
    points = mesh[0] @ T_camera_object[:3, :3].T + T_camera_object[:3, 3]
    if points[:, 2].min() < 0.02:
        return None
    fixed = np.rint(scene.camera.project(points) * 16).astype(np.int32)
    drawn = np.zeros((scene.camera.height, scene.camera.width), np.uint8)
    for triangle in fixed[mesh[1]]:
        cv2.fillConvexPoly(drawn, triangle, 1, cv2.LINE_8, 4)
    return drawn, float(points[:, 2].max())


def check_silhouettes(scene: Scene, item: SceneFrame) -> list[str]:
    """Compare each object's ids with the outline of its mesh at its pose."""
    if item.instance is None or item.depth is None:
        return []
    problems, window = [], np.ones((3, 3), np.uint8)
    for record in scene.objects:
        outline = silhouette(scene, item, record)
        of_object = item.instance == int(record['instance'])
        if outline is None:
            continue
        drawn, farthest = outline
        outside = of_object & (cv2.dilate(drawn, window) == 0)
        count = max(int(of_object.sum()), MIN_PIXELS)
        if outside.sum() > MAX_OFF_SILHOUETTE * count:
            problems.append(f'{outside.sum()} pixels of object {record["instance"]} lie outside '
                            'of the outline of its mesh')
        inner = cv2.erode(drawn, window) > 0
        lost = inner & ~of_object & (item.depth > 1.01 * farthest)
        if lost.sum() > MAX_OFF_SILHOUETTE * max(int(inner.sum()), MIN_PIXELS):
            problems.append(f'object {record["instance"]} is missing on {lost.sum()} pixels where '
                            'nothing is in front of it')
    return problems


def check_sensor(scene: Scene, item: SceneFrame) -> list[str]:
    """Find a sensor that is blind, out of scale, or whose disparity is no disparity."""
    sensor, truth = item.frame.sensor_depth, item.depth
    if sensor is None or truth is None:
        return []
    if not np.isfinite(sensor).any():
        return ['the sensor sees nothing at all']
    problems = []
    background = np.isfinite(sensor) & np.isfinite(truth)
    if item.instance is not None:
        background &= item.instance == 0
    if background.sum() >= MIN_PIXELS:
        error = np.median(np.abs(sensor - truth)[background] / truth[background])
        if error > MAX_SENSOR_ERROR:
            problems.append(f'sensor and truth differ by {error:.0%} on the background')
    if item.sensor_disparity is not None:
        problems += _check_disparity(scene, item.sensor_disparity, sensor)
    return problems


def _check_disparity(scene: Scene, disparity: np.ndarray, sensor: np.ndarray) -> list[str]:
    infrared = scene.infrared
    if not {'fx', 'baseline_m', 'width', 'height'} <= set(infrared):
        return ['sensor_disparity is there, but scene.json does not describe its cameras']
    size = (infrared['height'], infrared['width'])
    if disparity.shape != size:
        return [f'sensor_disparity is {disparity.shape}, its camera has {size} pixels']
    if not np.isfinite(disparity).any():
        return ['sensor_disparity is empty, sensor_depth is not']
    depth = infrared['fx'] * infrared['baseline_m'] / np.nanmedian(disparity)
    if not 0.5 < depth / np.nanmedian(sensor) < 2.0:
        return [f'sensor_disparity means {depth:.2f} m, sensor_depth {np.nanmedian(sensor):.2f} m']
    return []
