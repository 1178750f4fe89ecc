"""`dkt grasp-sim`: grasps planned on several sources of depth, tried in simulation."""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dkt_ros.errors import UserError
from dkt_ros.grasp_sim_config import CLASSES, KINDS, SOURCES, GraspSimConfig
from dkt_ros.verbs.common import Json, Options, Out, finish, two_numbers

if TYPE_CHECKING:
    from dkt_ros.tools.grasp_sim.sources import Observer

DEPTHS = ('rendered', 'raycast')


def grasp_sim(
    out: Out = Path('grasp_sim_out'),
    quick: Annotated[bool, typer.Option(
        '--quick', help='A few single things, on stored or ray-cast depth: no renderer, no GPU, '
                        '3 minutes.')] = False,
    full: Annotated[bool, typer.Option(
        '--full', help='All kinds of scenes, materials and sources: days on a laptop.')] = False,
    sources: Annotated[str, typer.Option(
        help=f'Sources of depth, with commas between: {", ".join(SOURCES)}; empty takes those of '
             'the tier.')] = '',
    kinds: Annotated[str, typer.Option(help=f'Kinds of scenes: {", ".join(KINDS)}.')] = '',
    materials: Annotated[str, typer.Option(help=f'Materials: {", ".join(CLASSES)}.')] = '',
    num_scenes: Annotated[int | None, typer.Option(
        min=1, help='Scenes of each kind and material.')] = None,
    depth: Annotated[str, typer.Option(
        help='`rendered`: pictures, an infrared pair and the model; `raycast`: truth, a '
             'statistical sensor and its filling alone, without the renderer.')] = 'rendered',
    seed: Annotated[int | None, typer.Option(min=0, help='Seed of the first scene.')] = None,
    gripper: Annotated[str | None, typer.Option(
        help='Name of a gripper in config/grippers, or the path of a YAML file.')] = None,
    shard: Annotated[str, typer.Option(
        metavar='I/N', help='Take every N-th scene only, from the I-th on (I from 0).')] = '0/1',
    store: Annotated[Path | None, typer.Option(
        metavar='FILE', help='Also write the depth of the scenes of --quick to this npz.')] = None,
    video: Annotated[int, typer.Option(
        min=0, help='Also film so many attempts, failures first.')] = 0,
    config: Options = None,
    json: Json = None,
) -> None:
    """
    Try grasps in simulation: one planner, the same scenes, several sources of depth.

    A run that was killed goes on where it stopped. Example:
    `dkt grasp-sim --quick --out grasp_sim_out`
    """
    options = _options(config, seed, gripper)
    kind_of_depth = _kind_of_depth(depth, quick, full)
    from dkt_ros.tools.grasp_sim.run import FULL, QUICK, STANDARD, chosen, run_grasp_sim
    observer = _observer(kind_of_depth, options, out)
    wanted = _listed(sources) or list(observer.sources)
    cells = chosen(QUICK if quick else FULL if full else STANDARD, _listed(kinds),
                   _listed(materials), wanted, num_scenes)
    figures = run_grasp_sim(cells, observer, out, options, two_numbers(shard, '/', '--shard'))
    finish(figures, json)
    if store is not None:
        _store(store, observer, options)
    if video:
        from dkt_ros.tools.grasp_sim.video import write_video
        write_video(out, observer, options, video)


def _options(path: Path | None, seed: int | None, gripper: str | None) -> GraspSimConfig:
    options = GraspSimConfig.from_yaml(path) if path else GraspSimConfig()
    changes = {'seed': seed, 'gripper': gripper}
    return dataclasses.replace(
        options, **{key: value for key, value in changes.items() if value is not None})


def _kind_of_depth(depth: str, quick: bool, full: bool) -> str:
    if quick and full:
        raise UserError('--quick and --full exclude each other; give one of them')
    if depth not in DEPTHS:
        raise UserError(f'--depth is {depth!r}; allowed: {", ".join(DEPTHS)}')
    return 'stored' if quick else depth


def _observer(depth: str, options: GraspSimConfig, out: Path) -> Observer:
    if depth == 'stored':
        from dkt_ros.tools.grasp_sim.stored import quick_observer
        return quick_observer(options)
    from dkt_ros.tools.grasp_sim.sources import RayObserver, RenderObserver
    return RayObserver(options) if depth == 'raycast' else RenderObserver(options, out / 'renders')


def _store(path: Path, observer: Observer, options: GraspSimConfig) -> None:
    """Write the depth of the scenes of --quick."""
    from dkt_ros.tools.grasp_sim.run import QUICK
    from dkt_ros.tools.grasp_sim.stored import store
    store(path, [observer.scene(cell.kind, cell.label, options.seed + number)
                 for cell in QUICK for number in range(cell.num_scenes)], observer, options)


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(',') if item.strip()]
