"""`dkt data`: the public data sets that are read in place."""
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dkt_ros.verbs.common import Json, Out, finish, verb

data = typer.Typer(no_args_is_help=True, help='Public data sets: list, check, show.')

Folder = Annotated[Path, typer.Argument(
    metavar='DIR', help='The folder of a data set, or a part of it.')]


@verb(data, 'list')
def list_datasets(json: Json = None) -> None:
    """
    Print the data sets that are known: where each is obtained and under which licence.

    Example: `dkt data list`
    """
    from dkt_ros.tools.data_sets import list_lines, run_list
    figures = run_list()
    finish(figures, json)
    for line in list_lines(figures):
        typer.echo(line)


@verb(data, 'check')
def check_data(
    folder: Folder,
    every: Annotated[int | None, typer.Option(
        min=1, help='Read each n-th frame of all; without it a few of each sequence.')] = None,
    json: Json = None,
) -> None:
    """
    Look for wrong units, masks, axes and broken frames. Leaves with 1 if there are any.

    Example: `dkt data check ClearPose`
    """
    from dkt_ros.tools.data_sets import run_check
    result = run_check(folder, every)
    finish(result, json)
    for problem in result['problems']:
        typer.echo(problem)
    for note in result['notes']:
        typer.echo(f'note: {note}')
    typer.echo(f'{result["num_sequences"]} sequences of {", ".join(result["data_sets"])}, '
               f'{result["num_frames"]} frames, {len(result["problems"])} problems')
    if result['problems']:
        raise typer.Exit(1)


@verb(data, 'show')
def show_data(
    folder: Folder,
    out: Out = Path('data_out'),
    num_sequences: Annotated[int, typer.Option(min=1, help='Sequences to draw.')] = 4,
    num_frames: Annotated[int, typer.Option(min=1, help='Frames of each, evenly spread.')] = 3,
) -> None:
    """
    Draw frames of a data set as they are read: RGB, sensor, truth, normals, materials.

    Example: `dkt data show ClearPose --out pictures`
    """
    from dkt_ros.tools.data_sets import run_show
    for path in run_show(folder, out, num_sequences, num_frames)['pictures']:
        typer.echo(path)
