"""Video files, through OpenCV."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

from dkt_ros.camera import PinholeCamera
from dkt_ros.data.clip import Clip, camera_for, positive_fps
from dkt_ros.data.scenes import SceneFrame
from dkt_ros.errors import UserError
from dkt_ros.frame import Frame

MIN_READABLE = 0.9
"""A video that stops before this share of its announced frames is called truncated."""


def open_video(path: Path, camera: PinholeCamera | None = None, fov_deg: float | None = None,
               fps: float | None = None) -> Clip:
    """
    Open an mp4 or any other video that OpenCV decodes.

    A video carries no intrinsics: `camera` gives them, else `fov_deg`, else they are assumed and
    the clip's notes say so.
    """
    with _capture(path) as capture:
        done, first = capture.read()
        announced = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        own_fps = capture.get(cv2.CAP_PROP_FPS)
    if not done:
        raise UserError(f'{path} has no frame that can be decoded: it is empty or corrupt; copy '
                        'or record it again')
    rate = positive_fps(fps, own_fps if 0 < own_fps <= 1000 else 30.0)
    camera, notes = camera_for(first.shape[1], first.shape[0], camera, fov_deg)

    def read() -> Iterator[SceneFrame]:
        index = 0
        with _capture(path) as stream:
            while True:
                done, image = stream.read()
                if not done:
                    break
                rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
                yield SceneFrame(index, Frame(rgb, round(index * 1e9 / rate), camera))
                index += 1
        if index < MIN_READABLE * announced:
            raise UserError(f'{path} stops after {index} of {announced} frames: it is truncated '
                            'or corrupt; copy or record it again')

    return Clip(path, 'video', rate, camera, read, announced if announced > 0 else None, notes)


@contextmanager
def _capture(path: Path) -> Iterator[cv2.VideoCapture]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise UserError(f'{path} is no video that can be decoded, or it is corrupt or cut '
                            'short; copy it again or convert it to mp4 (H.264)')
        yield capture
    finally:
        capture.release()
