"""Intrinsics in a file of their own, JSON or YAML."""
from __future__ import annotations

import json
from pathlib import Path

import yaml

from dkt_ros.camera import PinholeCamera
from dkt_ros.data.scenes import CAMERA_KEYS
from dkt_ros.errors import UserError


def folder_camera(folder: Path) -> PinholeCamera | None:
    """Return the camera of `camera.json` or `camera_intrinsics.yaml` in `folder`, if any."""
    for name in ('camera.json', 'camera.yaml', 'camera_intrinsics.yaml'):
        if (folder / name).is_file():
            return read_camera(folder / name)
    return None


def read_camera(path: str | Path) -> PinholeCamera:
    """Read intrinsics from JSON or YAML with width, height (or xres, yres), fx, fy, cx, cy."""
    path = Path(path)
    try:
        text = path.read_text()
        values = json.loads(text) if path.suffix == '.json' else yaml.safe_load(text)
        values = values.get('camera', values)
        values = {'width': values.get('xres'), 'height': values.get('yres'), **values}
        return PinholeCamera(*(int(values[key]) for key in CAMERA_KEYS[:2]),
                             *(float(values[key]) for key in CAMERA_KEYS[2:]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f'{path} holds no camera ({error}); it needs {", ".join(CAMERA_KEYS)}') \
            from error
