"""Options of `dkt ablate`."""
from __future__ import annotations

from dataclasses import dataclass

from dkt_ros.errors import UserError
from dkt_ros.options import Config, option

MODES = ('stream', 'offline')


@dataclass(frozen=True)
class AblateConfig(Config):
    """
    What is varied, one thing at a time, and on what it is measured.

    `axes` maps the name of an axis to its cells, and a cell's label to what it changes: dotted
    names of PerceptionConfig options (`stream.preset`), `model`, `mode` (stream or offline), or
    `train.` and an option of the training file, in which case the cell is trained first.
    """

    name: str = option('ablation', 'Name of the study.')
    data: str = option('', 'Folder of scenes or of a data set to measure on.')
    model: str = option('dkt-tiny', 'Model, where a cell names no other and trains none.')
    train: str = option('', 'Training file that cells with `train.` options change.')
    protocol: str = option('affine-sensor', 'Where scale and shift come from, see `dkt eval`.')
    scenes: int = option(10, 'Scenes, from the first.', minimum=1, maximum=100_000)
    frames: int = option(0, 'Frames of each scene; 0 takes all.', minimum=0, maximum=1_000_000)
    seeds: tuple[int, ...] = option((0, 1), 'Seeds of a cell that is trained; others run once.',
                                    minimum=0, maximum=2**31 - 1)
    device: str = option('auto', 'Where networks run: auto, cpu, cuda or cuda:N.')
    axes: dict = option({}, 'The axes, each a mapping from a label to what the cell changes.')

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.seeds:
            raise UserError('AblateConfig.seeds is empty; give at least one')
        for axis, cells in self.axes.items():
            if not isinstance(cells, dict) or not all(
                    isinstance(changes, dict) for changes in cells.values()):
                raise UserError(f'axis {axis!r} is {cells!r}; a mapping from labels to mappings '
                                'of options is expected')
            for label, changes in cells.items():
                self._check_cell(f'{axis}, {label}', changes)

    def _check_cell(self, where: str, changes: dict) -> None:
        if changes.get('mode', MODES[0]) not in MODES:
            raise UserError(f'cell {where}: mode is {changes["mode"]!r}; allowed: '
                            f'{", ".join(MODES)}')
        if any(key.startswith('train.') for key in changes) and not self.train:
            raise UserError(f'cell {where} changes training, but `train` names no training file')
