"""`dkt render` and `dkt bench render`."""
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dkt_ros.config import RenderConfig
from dkt_ros.errors import UserError
from dkt_ros.verbs.common import Json, Options, finish, two_numbers


def render(
    out: Annotated[Path | None, typer.Option(help='Folder for the scenes.')] = None,
    num_scenes: Annotated[int, typer.Option(min=1, help='How many scenes.')] = 1,
    num_frames: Annotated[int | None, typer.Option(min=1, help='Frames a scene.')] = None,
    size: Annotated[str | None, typer.Option(metavar='WxH', help='Image size [px].')] = None,
    seed: Annotated[int, typer.Option(
        min=0, help='Seed of the first scene; from 1000000 up for evaluation only.')] = 0,
    preset: Annotated[str | None, typer.Option(help='Name that fixes the difficulty.')] = None,
    shard: Annotated[str, typer.Option(
        metavar='I/N', help='Render every N-th scene only, from the I-th on (I from 0).')] = '0/1',
    config: Annotated[Path | None, typer.Option(help='YAML file with options.')] = None,
    sensor: Annotated[str | None, typer.Option(
        help='Depth camera: `stereo` renders infrared pairs, `statistical` draws errors.')] = None,
    ray: Annotated[str | None, typer.Option(
        metavar='ADDRESS', help='Render on the Ray cluster there; `auto` finds one.')] = None,
    estimate: Annotated[int | None, typer.Option(
        min=1, metavar='N', help='Tell what N scenes take, from a measured one; render none.',
    )] = None,
    setup: Annotated[bool, typer.Option(
        '--setup', help='Make the interpreter that has Blender, then leave.')] = False,
    json: Json = None,
) -> None:
    """
    Render scenes of transparent, shiny and plain things, with truth and a sensor's depth.

    A run that was killed goes on where it stopped. Example:
    `dkt render --out scenes --num-scenes 10 --size 320x240 --seed 7`
    """
    if setup:
        from dkt_ros.tools.render.setup import set_up
        typer.echo(f'the renderer is ready in {set_up()}')
        return
    options = _render_options(config, preset, size, num_frames, sensor)
    if estimate is not None:
        import rich

        from dkt_ros.tools.render.estimate import estimate as run_estimate
        from dkt_ros.tools.render.estimate import estimate_table
        figures = run_estimate(estimate, options)
        finish(figures, json)
        rich.print(estimate_table(figures))
        return
    if out is None:
        raise UserError('--out is missing; name the folder for the scenes')
    if ray is not None:
        from dkt_ros.tools.render.farm import run_farm
        finish(run_farm(ray, out, num_scenes, seed, options), json)
        return
    from dkt_ros.tools.render.run import run_render
    finish(run_render(out, num_scenes, seed, options, two_numbers(shard, '/', '--shard')), json)


def _render_options(config: Path | None, preset: str | None, size: str | None,
                    num_frames: int | None, sensor: str | None) -> RenderConfig:
    """Return the options of the YAML file on top of the preset's, the command line's on top."""
    values = RenderConfig.read_yaml(config) if config else {}
    if not isinstance(values, dict):
        return RenderConfig.from_dict(values, str(config))
    width, height = two_numbers(size, 'x', '--size') if size else (None, None)
    changes = {'preset': preset, 'num_frames': num_frames, 'width': width, 'height': height}
    values = {**values, **{k: v for k, v in changes.items() if v is not None}}
    if sensor is not None:
        given = values.get('sensor')
        values['sensor'] = {**(given if isinstance(given, dict) else {}), 'kind': sensor}
    return RenderConfig.from_dict(values, str(config or 'RenderConfig'))


def bench_render(
    sizes: Annotated[str, typer.Option(
        metavar='WxH,...', help='Image sizes, with commas between.')] = '160x128,320x240,640x480',
    frames: Annotated[int, typer.Option(min=1, help='Frames that a scene shares its cost over.')
                      ] = RenderConfig.num_frames,
    preset: Annotated[str, typer.Option(help='What is drawn.')] = RenderConfig.preset,
    anew: Annotated[int | None, typer.Option(
        metavar='N', min=1, help='Instead, render N whole scenes: by `dkt render`, and with '
        'Blender started anew for each, at the same settings and at its own.')] = None,
    config: Options = None,
    json: Json = None,
) -> None:
    """
    Measure seconds a frame by size, with and without the stereo sensor, and where they go.

    Example: `dkt bench render --sizes 160x128,320x240 --json render.json`
    """
    import rich

    from dkt_ros.tools.render.bench import bench_table, run_bench_render
    from dkt_ros.tools.render.compare import compare_table, run_compare
    options = _render_options(config, preset, None, frames, 'statistical' if anew else None)
    wanted = [two_numbers(size, 'x', '--sizes') for size in sizes.split(',')]
    if anew is not None:
        figures = run_compare(wanted, anew, options)
        finish(figures, json)
        rich.print(compare_table(figures))
        return
    figures = run_bench_render(wanted, options)
    finish(figures, json)
    rich.print(bench_table(figures))
