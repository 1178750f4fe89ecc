"""
Where frames come from: `open_clip` finds out what a path holds and opens it. No ROS.

What a path holds is decided by its content: scene.json, clip.json, metadata.yaml, the file names
of ClearGrasp, the first bytes of a file.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2

from dkt_ros.camera import PinholeCamera
from dkt_ros.data.bags import open_bag
from dkt_ros.data.clip import Clip, camera_for, positive_fps, repeated
from dkt_ros.data.datasets.cleargrasp import is_cleargrasp, open_cleargrasp
from dkt_ros.data.datasets.registry import as_clip, dataset_of, find_sequences
from dkt_ros.data.images import read_depth_png, read_rgb
from dkt_ros.data.intrinsics import folder_camera
from dkt_ros.data.packed import is_packed, open_packed
from dkt_ros.data.scenes import SceneFrame, is_scene, list_scenes, open_scene
from dkt_ros.data.video import open_video
from dkt_ros.errors import UserError
from dkt_ros.frame import Frame

KINDS = ('an mp4 or another video, a folder of images, an MCAP file, a rosbag2 folder, a scene '
         'folder, or a folder of a known data set (`dkt data list`)')
IMAGES_FPS = 6.0
BAG_STARTS = (b'\x89MCAP0\r\n', b'SQLite format 3\0', b'#ROSBAG V2.0')


@dataclass(frozen=True)
class ClipOptions:
    """
    What a user may say about a clip; None leaves it to the clip.

    Attributes
    ----------
    camera : PinholeCamera or None
        Intrinsics, for a source without its own.
    fov_deg : float or None
        Horizontal field of view, for a source without intrinsics [degrees].
    fps : float or None
        Frame rate, for a source without its own [Hz].
    repeat : int or None
        How often each still is shown; one still is no video.
    color_topic, info_topic, depth_topic : str or None
        Topics of a bag, where their names do not tell.

    """

    camera: PinholeCamera | None = None
    fov_deg: float | None = None
    fps: float | None = None
    repeat: int | None = None
    color_topic: str | None = None
    info_topic: str | None = None
    depth_topic: str | None = None

    def __post_init__(self) -> None:
        if self.repeat is not None and self.repeat < 1:
            raise UserError(f'repeat is {self.repeat}; allowed: 1 or more')


def open_clip(path: str | Path, **options) -> Clip:
    """
    Open whatever `path` holds as a clip.

    Parameters
    ----------
    path : str or Path
        A video, a folder of images, an MCAP file, a rosbag2 folder, a scene folder, a packed clip
        or a sequence of a known data set.
    **options
        Fields of `ClipOptions`.

    Raises
    ------
    UserError
        If there is nothing, nothing readable or nothing known at `path`.

    """
    settings = ClipOptions(**options)
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f'{path} does not exist; give {KINDS}')
    return _opener(path)(path, settings)


def open_clips(path: str | Path, repeat: int | None = None) -> list[Clip]:
    """
    Open all that a folder holds: its scenes, the sequences of a data set, or the one clip it is.

    `repeat` is how often each still is shown.
    """
    path = Path(path).expanduser()
    if is_scene(path) or any(path.glob('*/scene.json')):
        return [open_clip(scene) for scene in list_scenes(path)]
    known = any(is_kind(path) for is_kind, _ in FOLDERS) and dataset_of(path) is None
    if path.is_dir() and not known:
        return [as_clip(sequence, repeat) for sequence in find_sequences(path)]
    return [open_clip(path, repeat=repeat)]


def _opener(path: Path) -> Callable[[Path, ClipOptions], Clip]:
    if path.is_dir():
        for is_kind, opener in FOLDERS:
            if is_kind(path):
                return opener
        raise UserError(_unknown_folder(path))
    if path.stat().st_size == 0:
        raise UserError(f'{path} is an empty file; copy or record it again')
    with path.open('rb') as file:
        start = file.read(16)
    if start.startswith(BAG_STARTS):
        return _open_bag
    if cv2.haveImageReader(str(path)):
        return _open_images
    return _open_video


def _unknown_folder(path: Path) -> str:
    scenes = sorted(item.parent.name for item in path.glob('*/scene.json'))
    if scenes:
        return (f'{path} holds {len(scenes)} scenes; give one of them, for example '
                f'{path / scenes[0]}')
    entries = sorted(item.name for item in path.iterdir())
    found = f'it holds {", ".join(entries[:3])}, ...' if entries else 'it is empty'
    return f'{path} is no clip ({found}); give {KINDS}'


def _open_bag(path: Path, options: ClipOptions) -> Clip:
    return open_bag(path, color_topic=options.color_topic, info_topic=options.info_topic,
                    depth_topic=options.depth_topic, camera=options.camera,
                    fov_deg=options.fov_deg)


def _open_video(path: Path, options: ClipOptions) -> Clip:
    return open_video(path, camera=options.camera, fov_deg=options.fov_deg, fps=options.fps)


def _open_cleargrasp(path: Path, options: ClipOptions) -> Clip:
    return open_cleargrasp(path, repeat=options.repeat, fps=options.fps or IMAGES_FPS)


def _open_dataset(path: Path, options: ClipOptions) -> Clip:
    sequences = find_sequences(path)
    if len(sequences) > 1:
        raise UserError(f'{path} holds {len(sequences)} sequences of {sequences[0].preset}; give '
                        'the folder of one')
    return as_clip(sequences[0], options.repeat)


def _open_packed(path: Path, _: ClipOptions) -> Clip:
    return open_packed(path)


def _open_scene(path: Path, _: ClipOptions) -> Clip:
    scene = open_scene(path)
    return Clip(path, 'scene', scene.fps, scene.camera, lambda: iter(scene), len(scene),
                has_truth='depth' in scene.layers, objects=scene.objects)


def image_files(path: Path) -> list[Path]:
    """Return the image files of a folder in order of name, or of its `rgb` or `color` folder."""
    for folder in (path, path / 'rgb', path / 'color'):
        files = sorted(f for f in folder.glob('*') if f.is_file() and not f.name.startswith('.')
                       and f.suffix.lower() != '.exr' and cv2.haveImageReader(str(f)))
        if files:
            return files
    return []


def _open_images(path: Path, options: ClipOptions) -> Clip:
    files = image_files(path) if path.is_dir() else [path]
    fps, repeat = positive_fps(options.fps, IMAGES_FPS), options.repeat or 1
    folder = path if path.is_dir() else path.parent
    first = read_rgb(files[0])
    camera, notes = camera_for(first.shape[1], first.shape[0],
                               options.camera or folder_camera(folder), options.fov_deg)
    depth_folder = folder / 'depth' if (folder / 'depth').is_dir() else None
    if repeat > 1:
        notes += (f'each of the {len(files)} stills is shown {repeat} times: a still is no video',)

    def read() -> Iterator[SceneFrame]:
        pairs: Iterator = ((item, stamp) for item, stamp in repeated(iter(files), repeat, fps)) \
            if repeat > 1 else ((file, round(i * 1e9 / fps)) for i, file in enumerate(files))
        for index, (file, stamp_ns) in enumerate(pairs):
            rgb = read_rgb(file)
            if rgb.shape != first.shape:
                raise UserError(f'{file} is {rgb.shape[1]}x{rgb.shape[0]}, the first image is '
                                f'{first.shape[1]}x{first.shape[0]}; a clip has one size')
            depth_file = depth_folder / f'{file.stem}.png' if depth_folder else None
            depth = read_depth_png(depth_file) if depth_file and depth_file.exists() else None
            yield SceneFrame(index, Frame(rgb, stamp_ns, camera, depth))

    return Clip(path, 'images', fps, camera, read, len(files) * repeat, notes)


def _is_bag_folder(path: Path) -> bool:
    return (path / 'metadata.yaml').is_file()


FOLDERS: tuple[tuple[Callable[[Path], bool], Callable[[Path, ClipOptions], Clip]], ...] = (
    (is_scene, _open_scene), (is_packed, _open_packed), (_is_bag_folder, _open_bag),
    (is_cleargrasp, _open_cleargrasp), (lambda path: dataset_of(path) is not None, _open_dataset),
    (lambda path: bool(image_files(path)), _open_images))
