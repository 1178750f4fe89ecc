"""`dkt grasp-sim`: which rounds are played, on what, and where their records go."""
from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from dkt_ros.errors import UserError
from dkt_ros.grasp.grasp import load_gripper
from dkt_ros.grasp_sim_config import CLASSES, KINDS, SOURCES, GraspSimConfig
from dkt_ros.provenance import plain, provenance, write_json
from dkt_ros.tools.grasp_sim.report import write_report
from dkt_ros.tools.grasp_sim.rounds import play_round
from dkt_ros.tools.grasp_sim.scenes import SimScene
from dkt_ros.tools.grasp_sim.sources import Observer, require_sources
from dkt_ros.tools.grasp_sim.statistics import summary
from dkt_ros.tools.grasp_sim.world import import_mujoco

BATCH = 10
"""Scenes that are rendered together: as many share the start of the renderer."""


@dataclass(frozen=True)
class Cell:
    """So many scenes of one kind and class of material, on some sources."""

    kind: str
    label: str
    num_scenes: int
    sources: tuple[str, ...] = SOURCES

    def __post_init__(self) -> None:
        for value, allowed in ((self.kind, KINDS), (self.label, CLASSES)):
            if value not in allowed:
                raise UserError(f'{value!r} is unknown; allowed: {", ".join(allowed)}')

    def limited(self, sources: Sequence[str], num_scenes: int | None) -> Cell:
        """Return the cell with fewer sources, or another number of scenes."""
        kept = tuple(source for source in self.sources if source in sources)
        return Cell(self.kind, self.label, num_scenes or self.num_scenes, kept)


SINGLE, PILES = 100, 15
"""Scenes of a cell; a round in a pile takes about three attempts."""
STANDARD = (*(Cell('single', label, SINGLE) for label in CLASSES),
            Cell('pile', 'transparent', PILES, ('truth', 'sensor', 'fused')))
FULL = tuple(Cell(kind, label, SINGLE if kind == 'single' else 2 * PILES)
             for kind in KINDS for label in CLASSES)
QUICK = tuple(Cell('single', label, number) for label, number in zip(CLASSES, (4, 3, 3)))


def run_grasp_sim(cells: Sequence[Cell], observer: Observer, out: str | Path,
                  config: GraspSimConfig | None = None, shard: tuple[int, int] = (0, 1),
                  console: Console | None = None) -> dict:
    """
    Play all rounds of some cells; those that were played before are taken as they are.

    Parameters
    ----------
    cells : sequence of Cell
    observer : Observer
        What looks at the scenes.
    out : str or Path
        Gets rounds/*.json, grasp_sim.json, grasp_sim.md and plots. Runs on shards of the same
        cells share it; the report is on all rounds that lie there.
    shard : (i, n)
        Take every n-th scene only, from the i-th on (i from 0).

    Returns
    -------
    dict
        Figures by cell and source, paired tests, settings and machine.

    """
    import_mujoco()
    config, out, console = config or GraspSimConfig(), Path(out), console or Console()
    load_gripper(config.gripper)
    index, count = shard
    if not 0 <= index < count:
        raise UserError(f'shard {index}/{count}; i/n with 0 <= i < n is expected')
    for cell in cells:
        require_sources(cell.sources, observer)
    keep_settings(out, config, observer)
    jobs = [(cell, config.seed + number) for cell in cells
            for number in range(cell.num_scenes) if number % count == index]
    total = sum(len(cell.sources) for cell, _ in jobs)
    with Progress(console=console) as progress:
        task = progress.add_task('playing rounds', total=total)
        for record in played(jobs, observer, out, config):
            progress.advance(task)
            if not record['known']:
                progress.console.print(line(record), highlight=False)
    figures = {**provenance(settings=config.to_dict(), seed=config.seed),
               'depth': type(observer).__name__, **summary(read_rounds(out))}
    write_json(out / 'grasp_sim.json', figures)
    write_report(out, figures)
    console.print(f'results in {out}', highlight=False)
    return figures


def played(jobs: Sequence[tuple[Cell, int]], observer: Observer, out: Path,
           config: GraspSimConfig) -> Iterator[dict]:
    """Yield the record of each round, `known` if it was read; play those that are missing."""
    for start in range(0, len(jobs), BATCH):
        scenes: dict[tuple[str, str, int], SimScene] = {}
        batch = jobs[start:start + BATCH]
        for cell, seed in batch:
            if not all(round_path(out, cell, seed, source).is_file() for source in cell.sources):
                key = cell.kind, cell.label, seed
                scenes[key] = observer.scene(*key)
        if scenes:
            observer.prepare(list(scenes.values()))
        for cell, seed in batch:
            for source in cell.sources:
                path = round_path(out, cell, seed, source)
                known = path.is_file()
                if not known:
                    scene = scenes[cell.kind, cell.label, seed]
                    write_json(path, play_round(scene, source, observer, config))
                yield {**json.loads(path.read_text()), 'known': known}


def round_path(out: Path, cell: Cell, seed: int, source: str) -> Path:
    """Return where the record of a round lies."""
    return out / 'rounds' / f'{cell.kind}_{cell.label}_{seed:08d}_{source}.json'


def read_rounds(out: Path) -> list[dict]:
    """Read all records in a folder."""
    return [json.loads(path.read_text()) for path in sorted((out / 'rounds').glob('*.json'))
            if not path.name.startswith('.')]


def keep_settings(out: Path, config: GraspSimConfig, observer: Observer) -> None:
    """Write the settings of a folder, or raise UserError if it holds rounds of other ones."""
    path = out / 'settings.json'
    settings = plain({'depth': type(observer).__name__, **config.to_dict()})
    if not path.is_file():
        write_json(path, settings)
        return
    before = json.loads(path.read_text())
    changed = sorted(key for key in settings.keys() | before.keys()
                     if settings.get(key) != before.get(key))
    if changed:
        raise UserError(f'{out} holds rounds with other settings ({", ".join(changed)} differ); '
                        'give another folder')


def line(record: dict) -> str:
    """Return a round in a line for the screen."""
    outcomes = ['lifted' if one['success'] else one['cause'] for one in record['attempts']]
    what = ', '.join(thing['family'] for thing in record['things'])
    return (f'{record["kind"]} {record["label"]} {record["seed"]} {record["source"]:6} '
            f'({what}): {", ".join(outcomes)}')


def chosen(tier: Iterable[Cell], kinds: Sequence[str], labels: Sequence[str],
           sources: Sequence[str], num_scenes: int | None) -> list[Cell]:
    """Return the cells of a tier that were asked for; empty lists ask for all."""
    for name, wanted, allowed in (('--kinds', kinds, KINDS), ('--materials', labels, CLASSES),
                                  ('--sources', sources, SOURCES)):
        unknown = [value for value in wanted if value not in allowed]
        if unknown:
            raise UserError(f'{name} has {", ".join(unknown)}; allowed: {", ".join(allowed)}')
    cells = [cell.limited(sources or SOURCES, num_scenes) for cell in tier
             if (not kinds or cell.kind in kinds) and (not labels or cell.label in labels)]
    cells = [cell for cell in cells if cell.sources]
    if not cells:
        raise UserError('nothing is left to play; these kinds, materials and sources do not '
                        'occur together in this tier: try --full')
    return cells
