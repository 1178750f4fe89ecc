"""`dkt scenes`: check, show, stats, pack."""
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dkt_ros.verbs.common import Json, Out, finish, verb

scenes = typer.Typer(no_args_is_help=True, help='Scene folders: check, show, stats, pack.')

Folder = Annotated[Path, typer.Argument(
    metavar='DIR', help='A scene folder or a folder of them.')]


@verb(scenes)
def check(
    folder: Folder,
    every: Annotated[int, typer.Option(min=1, help='Read each n-th frame only.')] = 1,
    json: Json = None,
) -> None:
    """
    Prove that scene folders are whole: files, values, geometry, poses. Leaves with 1 if not.

    Example: `dkt scenes check scenes`
    """
    from dkt_ros.tools.scenes import run_check
    result = run_check(folder, every)
    finish(result, json)
    for problem in result['problems']:
        typer.echo(problem)
    typer.echo(f'{result["num_scenes"]} scenes, {len(result["problems"])} problems')
    if result['problems']:
        raise typer.Exit(1)


@verb(scenes)
def show(
    folder: Folder,
    out: Out = Path('scenes_out'),
    num_scenes: Annotated[int, typer.Option(min=1, help='Scenes to draw, from the first.')] = 8,
    num_frames: Annotated[int, typer.Option(min=1, help='Frames of each, from the first.')] = 3,
    turntable: Annotated[bool, typer.Option(help="Also turn each scene's points, as mp4.")] = True,
    photographs: Annotated[Path | None, typer.Option(
        help='Write one .jpg or .png here instead: the colour image of each scene.')] = None,
    columns: Annotated[int, typer.Option(min=1, help='Images a row of --photographs.')] = 6,
) -> None:
    """
    Draw scenes: RGB, sensor, depth, normals, materials; a contact sheet, turntables as mp4.

    Example: `dkt scenes show scenes --out pictures --num-scenes 4`
    """
    if photographs is not None:
        from dkt_ros.tools.scenes import run_photographs
        typer.echo(run_photographs(folder, photographs, num_scenes, columns))
        return
    from dkt_ros.tools.scenes import run_show
    shown = run_show(folder, out, num_scenes, num_frames, turntable)
    for name in shown['pictures'] + shown['videos']:
        typer.echo(name)


@verb(scenes)
def pack(
    folder: Folder,
    out: Out = Path('shards'),
    shard_mb: Annotated[float, typer.Option(min=1, help='Size of a shard, about [MB].')] = 512.0,
    json: Json = None,
) -> None:
    """
    Pack scenes into WebDataset shards (tar files), a sample a frame, for training at size.

    Example: `dkt scenes pack scenes --out shards`
    """
    from dkt_ros.tools.scene_pack import run_pack
    done = run_pack(folder, out, shard_mb)
    finish(done, json)
    typer.echo(f'{done["num_frames"]} frames of {done["num_scenes"]} scenes in '
               f'{len(done["shards"])} shards, {done["bytes"] / 1e6:.1f} MB')


@verb(scenes)
def stats(
    folder: Folder,
    every: Annotated[int, typer.Option(min=1, help='Read each n-th frame only.')] = 1,
    sensor: Annotated[bool, typer.Option(
        '--sensor', help='Compare sensors instead: rendered pairs, statistics, real.')] = False,
    real: Annotated[Path | None, typer.Option(
        help='With --sensor: real frames beside them, in the layout of ClearGrasp.')] = None,
    picture: Annotated[Path | None, typer.Option(help='With --sensor: draw them here.')] = None,
    json: Json = None,
) -> None:
    """
    Measure what the sensor does to each material, and if a set is as hard as tabletop-v1.

    Example: `dkt scenes stats scenes --json stats.json`
    """
    import rich
    if sensor:
        from dkt_ros.tools.sensor_stats import run_sensor_stats, sensor_table, write_sensor_picture
        figures = run_sensor_stats(folder, real)
        finish(figures, json)
        rich.print(sensor_table(figures))
        if picture is not None:
            write_sensor_picture(picture, folder, real)
        return
    from dkt_ros.tools.scenes import run_stats, stats_table
    result = run_stats(folder, every)
    finish(result, json)
    rich.print(stats_table(result))
