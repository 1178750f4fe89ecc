"""`dkt ablate`: one thing varied at a time, each cell measured alike, drawn and tabulated."""
from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from dkt_ros.ablate_config import MODES, AblateConfig, is_training
from dkt_ros.config import PerceptionConfig
from dkt_ros.errors import UserError
from dkt_ros.options import nest
from dkt_ros.provenance import plain, provenance, write_json
from dkt_ros.resources import resolve_model
from dkt_ros.tools.ablate_models import train_model, trained_values
from dkt_ros.tools.evaluate import run_evaluate, with_normals
from dkt_ros.tools.infer import load_perception
from dkt_ros.tools.report import MISSING

COLUMNS = (('mae_mm', 'MAE glass mm', 1.0, '.1f'), ('delta_105', 'd1.05 glass', 1.0, '.3f'),
           ('all_rel', 'REL all', 1.0, '.4f'), ('normal_deg', 'normals deg', 1.0, '.1f'),
           ('opw_cm', 'OPW cm', 1.0, '.2f'), ('drift', 'drift %', 100.0, '.2f'),
           ('seam_ratio', 'seams', 1.0, '.2f'), ('fps', 'frames/s', 1.0, '.1f'))
PLOTTED = (('mae_mm', 'MAE on glass [mm]'), ('opw_cm', 'OPW [cm]'),
           ('seam_ratio', 'change at seams over change inside windows'))


@dataclass(frozen=True)
class Cell:
    """One setting and one seed; `seed` is None where nothing is trained."""

    axis: str
    label: str
    changes: dict
    seed: int | None = None

    @property
    def trains(self) -> bool:
        """True if the cell trains a model of its own."""
        return any(map(is_training, self.changes))

    @property
    def slug(self) -> str:
        """A name for files."""
        text = f'{self.axis}-{self.label}' + ('' if self.seed is None else f'-{self.seed}')
        return re.sub(r'[^A-Za-z0-9.-]+', '_', text)


def cells_of(config: AblateConfig) -> Iterator[Cell]:
    """Yield all cells of all axes, those of trained models once a seed."""
    for axis, cells in config.axes.items():
        for label, changes in cells.items():
            cell = Cell(axis, str(label), {**config.common, **changes})
            is_ours = cell.trains or cell.changes.get('model', config.model) in config.models
            for seed in config.seeds if is_ours else (None,):
                yield dataclasses.replace(cell, seed=seed)


def run_ablate(config: AblateConfig, out: str | Path, console: Console | None = None,
               measure: Callable[..., dict] | None = None) -> dict:
    """
    Measure every cell; those measured before are taken as they are.

    Parameters
    ----------
    config : AblateConfig
        The axes and the data.
    out : str or Path
        Gets cells/*.json, ablation.json, ablation.md and one plot an axis.
    console : rich.console.Console, optional
        Where progress goes.
    measure : callable, optional
        (cell, config, out) -> figures; `measure_cell` if not given.

    Returns
    -------
    dict
        `axes`: figures by axis and label (mean over seeds, and `spread`, half their range, by
        figure); version, machine and settings.

    """
    if not config.axes or not config.data:
        raise UserError('an ablation needs `data` and at least one axis; see config/ablate.yaml')
    out, console, measure = Path(out), console or Console(), measure or measure_cell
    out.mkdir(parents=True, exist_ok=True)
    figures: dict[str, dict[str, list[dict]]] = {}
    cells = list(cells_of(config))
    for number, cell in enumerate(cells):
        console.print(f'cell {number + 1} of {len(cells)}: {cell.slug}', highlight=False)
        done = _measured(cell, config, out, measure)
        figures.setdefault(cell.axis, {}).setdefault(cell.label, []).append(done)
    axes = {axis: {label: _over_seeds(runs) for label, runs in labels.items()}
            for axis, labels in figures.items()}
    result = {**provenance(settings=config.to_dict()), 'name': config.name, 'axes': axes}
    write_json(out / 'ablation.json', result)
    (out / 'ablation.md').write_text(markdown(result))
    for axis, labels in axes.items():
        write_plot(out / f'{Cell(axis, "plot", {}).slug}.png', axis, labels)
    console.print(f'results in {out}', highlight=False)
    return result


def _measured(cell: Cell, config: AblateConfig, out: Path, measure: Callable[..., dict]) -> dict:
    key = _key(cell, config)
    for path in sorted((out / 'cells').glob('*.json')):
        record = json.loads(path.read_text())
        if record.get('key') == key:
            return record['figures']
    start = time.monotonic()
    figures = {**measure(cell, config, out), 'minutes': (time.monotonic() - start) / 60}
    write_json(out / 'cells' / f'{cell.slug}.json', {
        'key': key, 'changes': cell.changes, 'seed': cell.seed, 'figures': figures})
    return plain(figures)


def _key(cell: Cell, config: AblateConfig) -> str:
    """Name all that decides a cell's figures: cells of several axes may be one and the same."""
    about = {name: getattr(config, name) for name in ('data', 'scenes', 'frames', 'device')}
    about |= {'model': _model_values(cell, config), 'options': _options(cell).to_dict(),
              'mode': cell.changes.get('mode', MODES[0]),
              'protocol': cell.changes.get('protocol', config.protocol)}
    return hashlib.sha256(json.dumps(plain(about), sort_keys=True).encode()).hexdigest()


def _options(cell: Cell) -> PerceptionConfig:
    options = {key: value for key, value in cell.changes.items()
               if key not in ('model', 'mode', 'protocol') and not is_training(key)}
    # What windows say by themselves is compared.
    options.setdefault('stream.seam_blend', 0.0)
    return PerceptionConfig.from_dict(nest(options), f'cell {cell.slug}')


def _model_values(cell: Cell, config: AblateConfig) -> dict | str:
    """Return what the cell's model is trained with, or the name of one that is there."""
    name = cell.changes.get('model', config.model)
    if cell.seed is None:
        return name
    return trained_values(cell.changes if cell.trains else config.models[name], config, cell.seed)


def measure_cell(cell: Cell, config: AblateConfig, out: Path) -> dict:
    """Train the cell's model where it has one, evaluate it, return the figures of `COLUMNS`."""
    model = _model_values(cell, config)
    if isinstance(model, dict):
        model = train_model(model, out)
    folder = resolve_model(model)
    perception_config = with_normals(folder, _options(cell))
    perception = load_perception(folder, perception_config, config.device,
                                 cell.changes.get('mode', MODES[0]))
    result = run_evaluate(config.data, protocol=cell.changes.get('protocol', config.protocol),
                          config=perception_config, max_scenes=config.scenes,
                          max_frames=config.frames or None, baselines=(), perception=perception,
                          console=Console(quiet=True))
    return figures_of(result)


def figures_of(result: dict) -> dict[str, float]:
    """Return what `COLUMNS` shows of an evaluation; NaN for what it does not hold."""
    glass = result.get('object', result['all'])['dkt']
    normals = result['normals'].get('object', {}).get('dkt', {})
    nan = float('nan')
    return {'mae_mm': glass['mae_m'] * 1000, 'delta_105': glass['delta_105'],
            'all_rel': result['all']['dkt']['rel'],
            'normal_deg': normals.get('median_deg', nan),
            'opw_cm': result['temporal'].get('dkt', {}).get('opw_cm', nan),
            'drift': result['temporal'].get('dkt', {}).get('scale_std', nan),
            'seam_ratio': result['seam_ratio'], 'fps': result['fps']}


def _over_seeds(runs: list[dict]) -> dict:
    """Return the mean and half the range of each figure over the seeds."""
    result: dict = {'seeds': len(runs), 'spread': {}}
    for name in runs[0]:
        values = [run[name] for run in runs if run[name] is not None]
        result[name] = float(np.mean(values)) if values else float('nan')
        result['spread'][name] = (max(values) - min(values)) / 2 if values else float('nan')
    return result


def markdown(result: dict) -> str:
    """Return a table an axis, in Markdown."""
    settings, machine = result['settings'], result['machine']
    lines = [f'# {result["name"]}', '',
             f'{settings["scenes"]} scenes of {settings["data"]}, protocol '
             f'{settings["protocol"]} where an axis names no other; {machine["processor"]}, '
             f'{machine["cores"]} cores. One thing is varied at a time; glass is transparent and '
             'translucent; ± is half the range over the seeds.', '']
    for axis, labels in result['axes'].items():
        rows = [['', *(title for _, title, _, _ in COLUMNS)], ['---'] * (len(COLUMNS) + 1)]
        rows += [[label, *(_text(row, *column) for column in COLUMNS)]
                 for label, row in labels.items()]
        lines += [f'## {axis}', '', *(f'| {" | ".join(row)} |' for row in rows), '',
                  f'![{axis}]({Cell(axis, "plot", {}).slug}.png)', '']
    return '\n'.join(lines)


def _text(row: dict, name: str, _title: str, factor: float, style: str) -> str:
    if not np.isfinite(row[name]):
        return MISSING
    spread = f' ± {row["spread"][name] * factor:{style}}' if row['seeds'] > 1 else ''
    return f'{row[name] * factor:{style}}{spread}'


def write_plot(path: Path, axis: str, labels: dict[str, dict]) -> None:
    """Draw error, steadiness and seams of the cells of one axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure(figsize=(4.2 * len(PLOTTED), 3.4), layout='constrained')
    FigureCanvasAgg(figure)
    names = list(labels)
    for place, (metric, title) in enumerate(PLOTTED):
        panel = figure.add_subplot(1, len(PLOTTED), place + 1)
        values = np.array([labels[name][metric] for name in names], float)
        around = np.array([labels[name]['spread'][metric] for name in names], float)
        panel.bar(names, np.nan_to_num(values), color='tab:blue')
        seen = np.isfinite(values) & (np.array([labels[name]['seeds'] for name in names]) > 1)
        panel.errorbar(np.flatnonzero(seen), values[seen], around[seen], fmt='none', capsize=3,
                       ecolor='black')
        for missing in np.flatnonzero(~np.isfinite(values)):
            panel.text(missing, 0, MISSING, ha='center', va='bottom')
        panel.set_title(title, fontsize=10)
        panel.set_xticks(range(len(names)), names, rotation=30, ha='right')
    figure.suptitle(axis)
    figure.savefig(path, dpi=110)
