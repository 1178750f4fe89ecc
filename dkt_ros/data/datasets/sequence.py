"""
What every public data set looks like from outside: sequences of `SceneFrame`s, read in place.

Nothing is converted. A frame that is broken or lacks a file is reported and left out; what a data
set is, where it comes from and under which licence stands beside its reader.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from dkt_ros.camera import PinholeCamera
from dkt_ros.data.clip import STILL_GAP_S
from dkt_ros.data.scenes import SceneFrame
from dkt_ros.errors import UserError
from dkt_ros.frame import Frame

logger = logging.getLogger(__name__)

STILL_REPEATS = 9
"""How often a still is shown to a video model: one window of preset `balanced`, 1 + 4 + 4."""


@dataclass(frozen=True)
class DataSet:
    """
    A public data set and its reader.

    Attributes
    ----------
    name : str
        As in tables and on the command line.
    source, licence : str
        Where it is obtained, and under which licence; one line each.
    is_sequence : callable
        (folder) -> True if the folder holds frames in this layout.
    open : callable
        (folder) -> its sequences, one a camera.
    has_mask : bool
        True if the data set marks what is transparent.

    """

    name: str
    source: str
    licence: str
    is_sequence: Callable[[Path], bool] = field(repr=False)
    open: Callable[[Path], list[FrameSequence]] = field(repr=False)
    has_mask: bool = True


@dataclass(frozen=True)
class Images:
    """The images of one frame as read; the names, shapes and units are those of `SceneFrame`."""

    rgb: np.ndarray
    depth: np.ndarray | None = None
    sensor_depth: np.ndarray | None = None
    material: np.ndarray | None = None
    instance: np.ndarray | None = None
    normals: np.ndarray | None = None
    T_world_camera: np.ndarray | None = None


@dataclass(frozen=True)
class FrameSequence(Sequence):
    """
    Frames of one scene and one camera, with the attributes that a `Scene` has.

    Attributes
    ----------
    path : Path
        The folder.
    name : str
        Unique within its data set.
    preset : str
        Name of the data set.
    camera : PinholeCamera
        Of every frame, after resizing.
    frame_names : tuple of str
        What the data set calls its frames, in order.
    read : callable
        (frame name) -> Images; raises ValueError or OSError for a broken frame.
    is_video : bool
        False for unrelated views.
    split : str
        'train', 'val' or 'test' where the data set says so, else ''.
    notes : tuple of str
        What had to be assumed, a sentence each.
    problems : list of str
        A sentence for each frame left out so far.

    """

    path: Path
    name: str
    preset: str
    camera: PinholeCamera
    frame_names: tuple[str, ...]
    read: Callable[[str], Images] = field(repr=False)
    is_video: bool = False
    fps: float = 30.0
    split: str = ''
    has_mask: bool = True
    has_depth: bool = True
    notes: tuple[str, ...] = ()
    seed: int = 0
    objects: tuple[dict, ...] = ()
    problems: list[str] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        if not self.frame_names:
            raise UserError(f'{self.path} holds no frame in the layout of {self.preset}; copy it '
                            'again')

    def __len__(self) -> int:
        return len(self.frame_names)

    def __getitem__(self, index: int | slice) -> SceneFrame | list[SceneFrame]:
        """Read frames by position; a broken one raises UserError."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f'frame {index} of {self.name}, which has {len(self)}')
        return self._frame(index % len(self))

    def __iter__(self) -> Iterator[SceneFrame]:
        """Yield the frames that can be read; the others are reported and left out."""
        for index in range(len(self)):
            try:
                yield self._frame(index)
            except UserError as error:
                self.report(str(error))

    def report(self, problem: str) -> None:
        """Note a problem once, in `problems` and in the log."""
        if problem not in self.problems:
            self.problems.append(problem)
            logger.warning('%s', problem)

    def _frame(self, index: int) -> SceneFrame:
        name = self.frame_names[index]
        try:
            images = self._checked(self.read(name))
        except (ValueError, OSError, KeyError) as error:
            raise UserError(f'frame {name} of {self.path} is left out: {error}') from error
        step_s = 1.0 / self.fps if self.is_video else STILL_GAP_S
        frame = Frame(images.rgb, round(index * step_s * 1e9), self.camera, images.sensor_depth)
        return SceneFrame(index, frame, images.depth, images.normals, images.instance,
                          images.material, images.T_world_camera)

    def _checked(self, images: Images) -> Images:
        size = (self.camera.height, self.camera.width)
        for what in ('rgb', 'depth', 'sensor_depth', 'material', 'instance', 'normals'):
            image = getattr(images, what)
            if image is not None and image.shape[:2] != size:
                raise ValueError(f'{what} is {image.shape[1]}x{image.shape[0]}, the camera '
                                 f'{size[1]}x{size[0]}')
        return images


def resized(image: np.ndarray, camera: PinholeCamera, smooth: bool = False) -> np.ndarray:
    """Bring an image to the camera's size; `smooth` for colour only, ids and depth are picked."""
    if image.shape[:2] == (camera.height, camera.width):
        return image
    how = cv2.INTER_AREA if smooth else cv2.INTER_NEAREST
    return cv2.resize(image, (camera.width, camera.height), interpolation=how)


def camera_from_matrix(K: np.ndarray, width: int, height: int, where: str) -> PinholeCamera:
    """
    Make a camera of a 3x3 matrix of intrinsics [px].

    Raises
    ------
    UserError
        If the matrix is transposed, normalised or of an image of another size.

    """
    K = np.asarray(K, np.float64)
    if K.shape != (3, 3) or not np.isfinite(K).all():
        raise UserError(f'the intrinsics of {where} have the shape {K.shape}; a 3x3 matrix of '
                        'numbers is expected')
    if not K[0, 2] and not K[1, 2] and (K[2, 0] or K[2, 1]):
        raise UserError(f'the intrinsics of {where} are transposed: cx = {K[2, 0]:g} and cy = '
                        f'{K[2, 1]:g} stand in the last row instead of the last column; transpose '
                        'the matrix')
    return check_camera(K[0, 0], K[1, 1], K[0, 2], K[1, 2], width, height, where)


def check_camera(fx: float, fy: float, cx: float, cy: float, width: int, height: int,
                 where: str) -> PinholeCamera:
    """Return the camera if its numbers [px] can belong to an image of this size."""
    said = f'the intrinsics of {where} (fx {fx:g}, fy {fy:g}, cx {cx:g}, cy {cy:g})'
    if not (0.2 * width < fx < 10 * width and 0.5 < fy / fx < 2):
        raise UserError(f'{said} do not fit a {width}x{height} image; give focal lengths in '
                        'pixels of that image')
    if not (0.25 * width < cx < 0.75 * width and 0.25 * height < cy < 0.75 * height):
        raise UserError(f'{said} put the principal point far from the middle of a '
                        f'{width}x{height} image: width and height are swapped, or they belong to '
                        'another size')
    return PinholeCamera(width, height, float(fx), float(fy), float(cx), float(cy))


def existing(path: Path, what: str) -> Path:
    """Return the path; ValueError names what a frame lacks where it does not exist."""
    if not path.is_file():
        raise ValueError(f'its {what} is missing ({path.name})')
    return path


def frame_names(folder: Path, suffix: str) -> tuple[str, ...]:
    """Return what stands before `suffix` in the names of the files of a folder, in order."""
    return tuple(sorted(path.name.removesuffix(suffix) for path in folder.glob(f'*{suffix}')
                        if not path.name.startswith('.')))


def split_of(folder: Path) -> str:
    """Return 'train', 'val' or 'test' if a folder of that name holds `folder`, else ''."""
    for part in reversed(folder.parts):
        if part.partition('_')[0] in ('train', 'val', 'test'):
            return part.partition('_')[0]
    return ''


def first_size(folder: Path, names: tuple[str, ...], read: Callable[[str], np.ndarray]
               ) -> tuple[int, int]:
    """Return (width, height) of the first image that can be read."""
    for name in names:
        try:
            height, width = read(name).shape[:2]
            return width, height
        except (ValueError, OSError):
            continue
    raise UserError(f'not one of the {len(names)} frames of {folder} can be read; copy it again')
