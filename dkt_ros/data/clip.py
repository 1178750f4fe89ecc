"""`Clip`: what every source of frames looks like from outside."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dkt_ros.camera import PinholeCamera
from dkt_ros.data.scenes import SceneFrame
from dkt_ros.errors import UserError
from dkt_ros.frame import Frame

ASSUMED_FOV_DEG = 69.4
"""Horizontal field of view of a RealSense D435's colour image, for a video without camera."""
STILL_GAP_S = 10.0
"""Time between two stills that are repeated: long enough to start a new stream."""


@dataclass(frozen=True)
class Clip:
    """
    A finite sequence of frames of one camera; it can be read as often as wanted.

    Iterating gives a `Frame` each; `items()` gives a `SceneFrame` each, with poses and truth where
    the source has them.

    Attributes
    ----------
    path : Path
        Where it came from.
    kind : str
        'scene', 'packed', 'images', 'video', 'bag' or the name of a data set.
    fps : float
        Frame rate [Hz], as recorded or as assumed.
    camera : PinholeCamera
        Camera of the first frame.
    num_frames : int or None
        How many frames will come; None where only reading tells.
    notes : tuple of str
        What had to be assumed, one sentence each, to be shown to the user.
    has_truth : bool
        True if some items have true depth.
    objects : tuple of dict
        The objects of the scene, as in scene.json, where known.
    title : str
        A name of its own, for one of several clips in a folder.
    is_video : bool
        False where each frame is a still that is shown several times.
    problems : list of str
        A sentence for each frame that reading has left out so far.

    """

    path: Path
    kind: str
    fps: float
    camera: PinholeCamera
    read: Callable[[], Iterator[SceneFrame]] = field(repr=False)
    num_frames: int | None = None
    notes: tuple[str, ...] = ()
    has_truth: bool = False
    objects: tuple[dict, ...] = ()
    title: str = ''
    is_video: bool = True
    problems: list[str] = field(default_factory=list, repr=False)

    @property
    def name(self) -> str:
        """The title, else the name of the file or folder without its suffix."""
        if self.title:
            return self.title
        path = self.path.resolve()
        return path.name if path.is_dir() else path.stem

    def items(self) -> Iterator[SceneFrame]:
        """Yield each frame with its pose and truth, where known."""
        count = 0
        for item in self.read():
            count += 1
            yield item
        if not count:
            raise UserError(f'{self.path} has no frame in it; give a clip with at least one')

    def __iter__(self) -> Iterator[Frame]:
        return (item.frame for item in self.items())


def assumed_camera(width: int, height: int,
                   fov_deg: float | None = None) -> tuple[PinholeCamera, str]:
    """
    Return a camera of the given size and horizontal field of view, and a sentence saying so.

    Square pixels, principal point at the image centre and no distortion are assumed.
    """
    fov = ASSUMED_FOV_DEG if fov_deg is None else float(fov_deg)
    if not 1.0 <= fov <= 170.0:
        raise UserError(f'field of view is {fov} degrees; allowed: 1 to 170')
    focal = width / 2 / math.tan(math.radians(fov) / 2)
    camera = PinholeCamera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)
    whose = 'assumed (that of a RealSense D435)' if fov_deg is None else 'as given'
    return camera, (f'no camera intrinsics found: a horizontal field of view of {fov:g} degrees '
                    f'is {whose}, so points are only as true as that')


def camera_for(width: int, height: int, camera: PinholeCamera | None,
               fov_deg: float | None) -> tuple[PinholeCamera, tuple[str, ...]]:
    """Return the given camera, checked against the image size [px], or an assumed one."""
    if camera is None:
        assumed, note = assumed_camera(width, height, fov_deg)
        return assumed, (note,)
    if (camera.width, camera.height) != (width, height):
        raise UserError(f'the camera is for {camera.width}x{camera.height} images, the clip has '
                        f'{width}x{height}; give the intrinsics of these images')
    return camera, ()


def positive_fps(fps: float | None, default: float) -> float:
    """Return `fps`, or the default where None; a rate that is no rate raises UserError."""
    value = default if fps is None else float(fps)
    if not (math.isfinite(value) and 0 < value <= 1000):
        raise UserError(f'fps is {value}; allowed: above 0, at most 1000')
    return value


def repeated(items: Iterator[tuple], repeat: int, fps: float) -> Iterator[tuple[tuple, int]]:
    """Yield each still `repeat` times with its stamp [ns]; stills are `STILL_GAP_S` apart."""
    stamp_s = 0.0
    for item in items:
        for _ in range(repeat):
            yield item, round(stamp_s * 1e9)
            stamp_s += 1.0 / fps
        stamp_s += STILL_GAP_S
