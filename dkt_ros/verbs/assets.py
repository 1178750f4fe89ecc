"""`dkt assets`: list, show, filter."""
from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import typer

from dkt_ros.config import AssetsConfig
from dkt_ros.errors import UserError
from dkt_ros.verbs.common import Json, finish, verb

assets = typer.Typer(no_args_is_help=True,
                     help='What the renderer can draw: list, show, filter.')


@verb(assets, 'list')
def list_assets(json: Json = None) -> None:
    """
    Print the families of shapes, the materials by class and the liquids.

    Example: `dkt assets list`
    """
    import rich

    from dkt_ros.tools.render.assets import assets_table, run_list
    listed = run_list()
    finish(listed, json)
    rich.print(assets_table(listed))


@verb(assets, 'show')
def show_assets(
    out: Annotated[Path, typer.Option(help='The picture to write.')] = Path('assets.png'),
    tile: Annotated[int, typer.Option(
        min=32, max=2048, help='Side of each small picture [px].')] = AssetsConfig.tile_px,
    samples: Annotated[int, typer.Option(
        min=1, help='Cycles samples a pixel.')] = AssetsConfig.samples,
) -> None:
    """
    Draw a contact sheet: every family in glass, every material on one jug, every liquid.

    Example: `dkt assets show --out sheet.png`
    """
    from dkt_ros.tools.render.assets import run_show
    typer.echo(run_show(out, AssetsConfig(tile_px=tile, samples=samples)))


@verb(assets, 'filter')
def filter_assets(
    bank: Annotated[Path, typer.Argument(
        metavar='BANK', help='A folder of .glb, .gltf, .obj, .ply or .blend files.')],
    endpoint: Annotated[str | None, typer.Option(
        metavar='URL', help='An OpenAI-compatible server, such as http://localhost:8000/v1; a '
        'key is taken from OPENAI_API_KEY.')] = None,
    model: Annotated[str | None, typer.Option(
        help='With --endpoint the name of the model there, else the folder of a Qwen2.5-VL.',
    )] = None,
    out: Annotated[Path | None, typer.Option(
        help='Where assets.json and the pictures go; BANK if not given.')] = None,
    json: Json = None,
) -> None:
    """
    Ask a vision-language model which meshes of a bank are transparent or reflective.

    Answers are kept: the same command goes on where it stopped. Example:
    `dkt assets filter meshes --endpoint http://localhost:8000/v1`
    """
    if endpoint is None and model is None:
        raise UserError('neither --endpoint nor --model is given; name a server, or the folder '
                        'of a Qwen2.5-VL')
    from dkt_ros.tools.render.assets import run_filter
    from dkt_ros.tools.render.judge import EndpointJudge, LocalJudge
    name = model or AssetsConfig.model
    judge = functools.partial(EndpointJudge, endpoint, name, AssetsConfig.timeout_s) \
        if endpoint is not None else functools.partial(LocalJudge, name)
    done = run_filter(bank, judge, name, out)
    finish(done, json)
    for problem in done.pop('problems'):
        typer.echo(problem)
    typer.echo(', '.join(f'{count} {what}' for what, count in done.items()))
