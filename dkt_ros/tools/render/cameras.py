"""Intrinsics of known RGB-D cameras' colour images, at any size."""
from __future__ import annotations

from dkt_ros.camera import PinholeCamera
from dkt_ros.config import RenderConfig

COLOR_CAMERAS = {
    # width, height and focal length of the colour image [px]: typical factory calibrations
    'D415': (1280, 720, 911.0),
    'D435': (1280, 720, 912.0),
    'D455': (1280, 720, 638.0),
    'L515': (1280, 720, 902.0),
    'AzureKinect': (1280, 720, 607.0),
}


def color_camera(model: str, width: int, height: int) -> PinholeCamera:
    """
    Return the colour camera of a model at another image size [px].

    The image is cut to the wanted shape about its middle, then resized, as the cameras do.
    """
    full_width, full_height, focal = COLOR_CAMERAS[model]
    cut = min(full_width / width, full_height / height)
    focal = focal / cut
    return PinholeCamera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)


def intrinsics(config: RenderConfig) -> list[float] | None:
    """Return fx, fy, cx, cy [px] that `config` fixes, or None where they are drawn."""
    if config.K:
        return list(config.K)
    if config.camera:
        camera = color_camera(config.camera, config.width, config.height)
        return [camera.fx, camera.fy, camera.cx, camera.cy]
    return None
