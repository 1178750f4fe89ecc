"""Proof that a scene folder is whole and consistent; `scene_proof` holds the geometry."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from dkt_ros.data.scene_proof import (
    check_liquid,
    check_missing,
    check_motion,
    check_normals_against_depth,
    check_sensor,
    check_silhouettes,
    check_source,
    check_units,
)
from dkt_ros.data.scenes import LAYERS, Scene, SceneFrame, open_scene
from dkt_ros.material import Material


def check_scene(path: str | Path, every: int = 1) -> list[str]:
    """
    Look for anything missing or inconsistent in a scene folder.

    Parameters
    ----------
    path : str or Path
        The scene folder.
    every : int
        Read only each n-th frame; files are counted for all of them.

    Returns
    -------
    list of str
        One sentence a problem; empty for a scene that is whole.

    """
    path = Path(path)
    try:
        scene = open_scene(path)
    except ValueError as error:
        return [str(error)]
    problems = _check_files(scene) + _check_record(scene)
    if problems:
        return problems
    previous: SceneFrame | None = None
    for index in range(0, len(scene), every):
        try:
            item = scene[index]
        except ValueError as error:
            problems.append(str(error))
            continue
        problems += [f'{path.name} frame {index}: {text}' for text in _check_frame(scene, item)]
        if previous is not None:
            problems += [f'{path.name} {text}' for text in check_motion(scene, previous, item)]
        previous = item
    return problems


def _check_files(scene: Scene) -> list[str]:
    problems = []
    for layer in scene.layers:
        wanted = {scene.layer_path(layer, i).name for i in range(len(scene))}
        there = {p.name for p in (scene.path / layer).glob('*') if not p.name.startswith('.')}
        if wanted - there:
            problems.append(f'{scene.name} lacks {len(wanted - there)} of {len(wanted)} files of '
                            f'{layer}, first {min(wanted - there)}; render it again')
        if there - wanted:
            problems.append(f'{scene.name} has {len(there - wanted)} unknown files in {layer}, '
                            f'first {min(there - wanted)}')
    return problems


def _check_record(scene: Scene) -> list[str]:
    problems = []
    if len(scene) < 1 or not scene.fps > 0:
        problems.append(f'{scene.name} says {len(scene)} frames at {scene.fps} fps; both must be '
                        'positive')
    classes = {material.label for material in Material}
    for item in scene.objects:
        missing = {'instance', 'material_class'} - set(item)
        if missing:
            problems.append(f'{scene.name}: an object lacks {", ".join(sorted(missing))}')
            continue
        problems += [f'{scene.name}: object {item["instance"]} has material_class {label!r}; '
                     f'allowed: {", ".join(sorted(classes))}'
                     for label in _classes(item) if label not in classes]
        problems += [f'{scene.name} object {item["instance"]}: {text}'
                     for text in check_liquid(item) + check_source(item)]
    if scene.poses is not None:
        rotation = scene.poses[:, :3, :3]
        identity = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max()
        if identity > 1e-4 or np.any(np.linalg.det(rotation) < 0):
            problems.append(f'{scene.name}: T_world_camera is no rigid pose (R R^T differs from '
                            f'the identity by {identity:.2g})')
    return problems


def _check_frame(scene: Scene, item: SceneFrame) -> list[str]:
    problems = _check_sizes(scene, item)
    if problems:
        return problems
    if item.depth is not None and not np.isfinite(item.depth).any():
        problems.append('depth has no valid pixel')
    if item.frame.rgb.std() < 1.0:
        problems.append('rgb is one flat colour')
    if item.material is not None:
        problems += _check_ids(scene, item)
    if item.normals is not None:
        problems += _check_normals(scene, item)
    return problems + check_units(scene, item) + check_missing(item) \
        + check_normals_against_depth(scene, item) + check_silhouettes(scene, item) \
        + check_sensor(scene, item)


def _check_sizes(scene: Scene, item: SceneFrame) -> list[str]:
    size = (scene.camera.height, scene.camera.width)
    layers = {name: getattr(item, name) for name in LAYERS if name not in ('rgb', 'sensor_depth')}
    layers['sensor_depth'] = item.frame.sensor_depth
    return [f'{name} is {image.shape[:2]}, the camera has {size} pixels (height, width)'
            for name, image in layers.items() if image is not None and image.shape[:2] != size]


def _check_ids(scene: Scene, item: SceneFrame) -> list[str]:
    problems = []
    unknown = set(np.unique(item.material).tolist()) - {int(m) for m in Material}
    if unknown:
        problems.append(f'material has the values {sorted(unknown)}; allowed: 0 to '
                        f'{max(int(m) for m in Material)}')
    if item.instance is None:
        return problems
    known = {int(o['instance']): _classes(o) for o in scene.objects}
    strangers = set(np.unique(item.instance).tolist()) - {0} - set(known)
    if strangers:
        problems.append(f'instance has the ids {sorted(strangers)}, which scene.json does not '
                        'list')
    for instance, labels in known.items():
        of_object = item.material[item.instance == instance]
        allowed = [int(Material[label.upper()]) for label in labels]
        wrong = np.mean(~np.isin(of_object, allowed)) if of_object.size else 0.0
        if wrong > 0.01:
            problems.append(f'{wrong:.0%} of the pixels of object {instance} are not '
                            f'{" or ".join(labels)}')
    return problems


def _classes(record: dict) -> tuple[str, ...]:
    """Return the classes of material that an object shows: its own, and that of a liquid in it."""
    liquid = record.get('liquid') or {}
    return tuple(dict.fromkeys(found['material_class'] for found in (record, liquid)
                               if 'material_class' in found))


def _check_normals(scene: Scene, item: SceneFrame) -> list[str]:
    length = np.linalg.norm(item.normals, axis=-1)
    surface = length > 0.5
    if not surface.any():
        return ['normals are all zero']
    problems = []
    if np.abs(length[surface] - 1).max() > 0.01:
        problems.append(f'normals are not of unit length ({length[surface].min():.3f} to '
                        f'{length[surface].max():.3f})')
    away = np.mean((item.normals * scene.camera.rays()).sum(-1)[surface] > 0.05)
    if away > 0.01:
        problems.append(f'{away:.0%} of the normals point away from the camera')
    return problems
