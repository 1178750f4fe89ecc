"""Which data sets are known, and where their sequences lie below a folder."""
from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dkt_ros.data.clip import Clip, repeated
from dkt_ros.data.datasets.cleargrasp import CLEARGRASP
from dkt_ros.data.datasets.cleargrasp_synthetic import CLEARGRASP_SYNTHETIC
from dkt_ros.data.datasets.clearpose import CLEARPOSE
from dkt_ros.data.datasets.declared import DECLARED
from dkt_ros.data.datasets.dreds import DREDS
from dkt_ros.data.datasets.hiss import HISS
from dkt_ros.data.datasets.sequence import STILL_REPEATS, DataSet, FrameSequence
from dkt_ros.data.datasets.transcg import TRANSCG
from dkt_ros.data.scenes import SceneFrame
from dkt_ros.errors import UserError

# The order decides where two could claim a folder: what says most about itself comes first.
DATASETS: tuple[DataSet, ...] = (DECLARED, TRANSCG, CLEARPOSE, CLEARGRASP, CLEARGRASP_SYNTHETIC,
                                 DREDS, HISS)
STILL_FPS = 6.0


def dataset_of(folder: Path) -> DataSet | None:
    """Return the data set whose layout one folder of frames has, if any."""
    return next((dataset for dataset in DATASETS if dataset.is_sequence(folder)), None)


def find_sequences(root: str | Path) -> list[FrameSequence]:
    """
    Open every sequence of a known data set at or below a folder, in order of name.

    Raises
    ------
    UserError
        If there is none, or one that cannot be opened.

    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise UserError(f'{root} does not exist; give the folder of a data set')
    sequences = [sequence for folder in _folders(root)
                 for sequence in dataset_of(folder).open(folder)]
    if not sequences:
        names = ', '.join(dataset.name for dataset in DATASETS)
        raise UserError(f'nothing at or below {root} has the layout of a known data set '
                        f'({names}); describe it by a dataset.yaml, see config/datasets/')
    return sequences


def _folders(root: Path) -> Iterator[Path]:
    for place, folders, _ in os.walk(root, followlinks=True):
        if dataset_of(Path(place)) is not None:
            folders.clear()
            yield Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith('.'))


def as_clip(sequence: FrameSequence, repeat: int | None = None) -> Clip:
    """
    Return a sequence as a clip that tools play.

    A video is played as it is; of unrelated views each is shown `repeat` times, far apart in time.
    """
    notes = sequence.notes
    if sequence.is_video:
        return Clip(sequence.path, sequence.preset, sequence.fps, sequence.camera,
                    lambda: iter(sequence), len(sequence), notes, sequence.has_depth,
                    title=sequence.name, problems=sequence.problems)
    repeat = STILL_REPEATS if repeat is None else repeat

    def read() -> Iterator[SceneFrame]:
        for index, (item, stamp_ns) in enumerate(repeated(iter(sequence), repeat, STILL_FPS)):
            frame = replace(item.frame, stamp_ns=stamp_ns)
            yield replace(item, index=index, frame=frame)

    notes += (f'the frames of {sequence.preset} are unrelated views: each is shown {repeat} '
              'times, a still is no video',)
    return Clip(sequence.path, sequence.preset, STILL_FPS, sequence.camera, read,
                len(sequence) * repeat, notes, sequence.has_depth, title=sequence.name,
                is_video=False, problems=sequence.problems)
