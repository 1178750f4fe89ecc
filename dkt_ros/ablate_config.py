"""Options of `dkt ablate`."""
from __future__ import annotations

from dataclasses import dataclass

from dkt_ros.errors import UserError
from dkt_ros.options import Config, option

MODES = ('stream', 'offline')
TRAIN = 'train.'


def is_training(key: str) -> bool:
    """Return True for the name of an option of the training file."""
    return key.startswith(TRAIN)


@dataclass(frozen=True)
class AblateConfig(Config):
    """
    What is varied, one thing at a time, and on what it is measured.

    `axes` maps the name of an axis to its cells, and a cell's label to what it changes: dotted
    names of PerceptionConfig options (`stream.preset`), `model`, `mode` (stream or offline),
    `protocol` (one for all cells of an axis), or `train.` and an option of the training file, in
    which case a model is trained first. Models that several cells share stand in `models`.
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
    models: dict = option({}, 'Models that are trained once for each seed, each a name and its '
                          '`train.` options; `model` and `train.base` may name them.')
    device: str = option('auto', 'Where networks run: auto, cpu, cuda or cuda:N.')
    common: dict = option({}, 'What every cell changes that does not change it otherwise.')
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
            protocols = {changes.get('protocol', self.protocol) for changes in cells.values()}
            if len(protocols) > 1:
                raise UserError(f'axis {axis!r} has the protocols {sorted(protocols)}, whose '
                                'figures cannot be compared; give its cells one')
        if any(map(is_training, self.common)):
            raise UserError(f'common is {self.common!r}; what all models are trained with belongs '
                            'into the training file')
        for name, changes in self.models.items():
            if not isinstance(changes, dict) or not all(map(is_training, changes)):
                raise UserError(f'model {name!r} is {changes!r}; a mapping of options that begin '
                                f'with {TRAIN!r} is expected')
            self._check_cell(f'model {name}', changes)
            self._check_bases(name)

    def _check_bases(self, name: str) -> None:
        seen, base = [name], self.models[name].get(f'{TRAIN}base')
        while base in self.models:
            if base in seen:
                raise UserError(f'models {", ".join(map(repr, seen))} are bases of each other; '
                                'begin with a model folder')
            seen.append(base)
            base = self.models[base].get(f'{TRAIN}base')

    def _check_cell(self, where: str, changes: dict) -> None:
        if changes.get('mode', MODES[0]) not in MODES:
            raise UserError(f'cell {where}: mode is {changes["mode"]!r}; allowed: '
                            f'{", ".join(MODES)}')
        if any(map(is_training, changes)) and not self.train:
            raise UserError(f'cell {where} changes training, but `train` names no training file')
