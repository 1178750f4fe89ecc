"""
HISS (Wei et al. 2024, D3RoMa): rooms under Isaac Sim with a simulated stereo sensor.

    HISS/{train,val}/<scene>/**/0000_color.png
        0000_depth.exr            true depth along z [m]
        0000_simDepthImage.exr    what the simulated sensor measured [m]
        0000_ir_l.png  0000_ir_r.png
    HISS/{train,val}/bad_his.txt  frames to skip: the first word of each line

As its own reader does, paths with glass, mirror or bed in them are skipped. There is no mask. The
intrinsics are documented nowhere: put a camera.json or camera.yaml (width, height, fx, fy, cx, cy)
beside the frames or above them, else the field of view of a D435 is assumed and said.
"""
from __future__ import annotations

from pathlib import Path

from dkt_ros.camera import PinholeCamera
from dkt_ros.data.clip import assumed_camera
from dkt_ros.data.datasets.sequence import (
    DataSet,
    FrameSequence,
    Images,
    first_size,
    frame_names,
    resized,
    split_of,
)
from dkt_ros.data.exr import read_depth_exr
from dkt_ros.data.images import read_rgb
from dkt_ros.data.intrinsics import folder_camera

COLOR, TRUTH, SENSOR = '_color.png', '_depth.exr', '_simDepthImage.exr'
SKIPPED_WORDS = ('glass', 'mirror', 'bed')
BAD_LIST = 'bad_his.txt'


def is_hiss(folder: Path) -> bool:
    """Return True if the folder holds colour images with `_depth.exr` beside them."""
    return any((folder / f'{name}{TRUTH}').is_file() for name in frame_names(folder, COLOR))


def open_hiss(folder: Path) -> list[FrameSequence]:
    """Open one folder of unrelated views; a folder of which nothing is wanted gives nothing."""
    if any(word in str(Path(*folder.parts[-3:])) for word in SKIPPED_WORDS):
        return []
    bad = _bad_frames(folder)
    names = tuple(name for name in frame_names(folder, COLOR)
                  if not any(path.endswith(f'{folder.name}/{name}{TRUTH}') for path in bad))
    if not names:
        return []
    size = first_size(folder, names, lambda name: read_depth_exr(folder / f'{name}{TRUTH}'))
    camera, notes = _camera(folder, *size)

    def read(name: str) -> Images:
        return Images(resized(read_rgb(folder / f'{name}{COLOR}'), camera, smooth=True),
                      read_depth_exr(folder / f'{name}{TRUTH}'),
                      resized(read_depth_exr(folder / f'{name}{SENSOR}'), camera))

    return [FrameSequence(folder, f'{folder.parent.name}_{folder.name}', 'hiss', camera, names,
                          read, split=split_of(folder), has_mask=False, notes=notes)]


def _bad_frames(folder: Path) -> set[str]:
    for parent in folder.parents:
        if (parent / BAD_LIST).is_file():
            lines = (parent / BAD_LIST).read_text().splitlines()
            return {line.split()[0] for line in lines if line.strip()}
    return set()


def _camera(folder: Path, width: int, height: int) -> tuple[PinholeCamera, tuple[str, ...]]:
    for place in (folder, *list(folder.parents)[:4]):
        camera = folder_camera(place)
        if camera is not None:
            return camera.resized(width, height), ()
    camera, note = assumed_camera(width, height)
    return camera, (note,)


HISS = DataSet('hiss', 'https://github.com/songlin/d3roma (links in its README)',
               'as stated there', is_hiss, open_hiss, has_mask=False)
