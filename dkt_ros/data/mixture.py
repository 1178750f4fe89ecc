"""Several sets of sequences drawn from by weight: stills from all, clips from video only."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dkt_ros.data.datasets.registry import find_sequences
from dkt_ros.data.datasets.sanity import ensure_sane
from dkt_ros.data.scenes import EVALUATION_SEED, Scene, is_scene, list_scenes, open_scene
from dkt_ros.errors import UserError
from dkt_ros.options import Config, option

STILL_PATHS = ('views',)
"""Camera paths of rendered scenes whose frames are unrelated views."""


@dataclass(frozen=True)
class SourceConfig(Config):
    """One set of training data."""

    path: str = option('', 'Folder of scenes or of a known data set.')
    weight: float = option(1.0, 'How often it is drawn from, beside the other sources.',
                           minimum=0.0)
    stride: int = option(4, 'Frames between the starts of clips.', minimum=1, maximum=10000)
    share: float = option(1.0, 'Share of its sequences that is learnt from, evenly spread; those '
                          'of 0.25 are among those of 0.5.', minimum=0.0001, maximum=1.0)


@dataclass(frozen=True)
class ClipRef:
    """
    A clip that can be read: consecutive frames of one sequence.

    Attributes
    ----------
    sequence : Scene or FrameSequence
        Where it lies.
    start, num_frames : int
        Its first frame and how many follow.

    """

    sequence: Sequence
    start: int
    num_frames: int

    @property
    def key(self) -> str:
        """A text that names the clip for good."""
        return (f'{Path(self.sequence.path).resolve()}|{self.sequence.name}|{self.start}|'
                f'{self.num_frames}')

    def frames(self) -> list:
        """Read the frames; a broken one raises."""
        return [self.sequence[i] for i in range(self.start, self.start + self.num_frames)]


@dataclass(frozen=True)
class Source:
    """The sequences of one set of data and its weight."""

    name: str
    weight: float
    sequences: tuple[Sequence, ...]
    stride: int = 4

    def usable(self, num_frames: int) -> list[Sequence]:
        """Return the sequences that hold a clip of so many frames; any holds a still."""
        if num_frames == 1:
            return list(self.sequences)
        return [s for s in self.sequences if is_video(s) and len(s) >= num_frames]


class Mixture:
    """
    Draws clips from several sources.

    A source is drawn by its weight among those that have clips of the wanted length, then one of
    its sequences, then a start on its stride: what is drawn can be cached.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        if not sources or not any(source.weight > 0 for source in sources):
            raise UserError('no training data: give `data` a list of sources with a path and a '
                            'weight above 0')
        self.sources = tuple(sources)

    def draw(self, num_frames: int, rng: np.random.Generator) -> ClipRef:
        """Draw a clip of so many frames; a mixture without one raises UserError."""
        usable = [(source, source.usable(num_frames)) for source in self.sources]
        usable = [(source, found) for source, found in usable if found and source.weight > 0]
        if not usable:
            raise UserError(f'no source has a video of {num_frames} consecutive frames; render '
                            f'some with --num-frames {num_frames} or lower max_clip_latents')
        weights = np.array([source.weight for source, _ in usable])
        source, sequences = usable[rng.choice(len(usable), p=weights / weights.sum())]
        sequence = sequences[rng.integers(len(sequences))]
        starts = range(0, len(sequence) - num_frames + 1, source.stride)
        return ClipRef(sequence, int(starts[rng.integers(len(starts))]), num_frames)


def is_video(sequence: Sequence) -> bool:
    """Return True if consecutive frames of a scene or a sequence follow each other in time."""
    if isinstance(sequence, Scene):
        return sequence.settings.get('render', {}).get('path', 'orbit') not in STILL_PATHS
    return sequence.is_video


def open_mixture(configs: Sequence[SourceConfig]) -> Mixture:
    """
    Open the sources, check what they hold, and refuse what is for evaluation.

    Raises
    ------
    UserError
        For a missing path, a reserved seed or split, or data that cannot be right.

    """
    return Mixture([Source(Path(config.path).name, config.weight,
                           tuple(_thinned(_open(Path(config.path).expanduser()), config.share)),
                           config.stride) for config in configs])


def _thinned(sequences: list[Sequence], share: float) -> list[Sequence]:
    kept = [sequence for index, sequence in enumerate(sequences)
            if int((index + 1) * share) > int(index * share)]
    return kept or sequences[:1]


def _open(path: Path) -> list[Sequence]:
    if is_scene(path) or any(path.glob('*/scene.json')):
        scenes = [open_scene(scene) for scene in list_scenes(path)]
        for scene in scenes:
            if scene.seed >= EVALUATION_SEED:
                raise UserError(f'{scene.path} has the seed {scene.seed}; seeds from '
                                f'{EVALUATION_SEED} up are for evaluation only: train on other '
                                'scenes')
        return scenes
    sequences = find_sequences(path)
    for sequence in sequences:
        if sequence.split == 'test':
            raise UserError(f'{sequence.path} belongs to the test split of {sequence.preset}; '
                            'train on its training split')
    ensure_sane(sequences[:1])
    return sequences
