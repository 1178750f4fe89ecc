"""
The command line: one function a verb, imported late so that `dkt --help` is instant.

A verb leaves with 0 only when it did what was asked, with 2 for a mistake of the user (one
sentence on stderr), with 1 for anything unexpected and with 130 when interrupted.
"""
from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

import dkt_ros
from dkt_ros.config import PRESETS, BenchConfig, DepthNodeConfig
from dkt_ros.errors import RunError, UserError
from dkt_ros.verbs.ablate import ablate
from dkt_ros.verbs.assets import assets
from dkt_ros.verbs.common import Device, Json, Model, Options, Out, Preset, verb
from dkt_ros.verbs.common import finish as _finish
from dkt_ros.verbs.common import perception_options as _perception
from dkt_ros.verbs.common import two_numbers as _two_numbers
from dkt_ros.verbs.data import data
from dkt_ros.verbs.evaluate import evaluate
from dkt_ros.verbs.grasp import bench_grasp
from dkt_ros.verbs.grasp_sim import grasp_sim
from dkt_ros.verbs.models import bench_model, export, prepare
from dkt_ros.verbs.render import bench_render, render
from dkt_ros.verbs.scenes import scenes

app = typer.Typer(name='dkt', no_args_is_help=True, add_completion=False,
                  pretty_exceptions_enable=False, rich_markup_mode='markdown',
                  help='Metric depth, normals and points for transparent objects.')
bench = typer.Typer(no_args_is_help=True,
                    help='Speed, age and memory: stream, ros, grasp, render, model.')
app.add_typer(scenes, name='scenes')
app.add_typer(data, name='data')
app.add_typer(assets, name='assets')
app.add_typer(bench, name='bench')

Size = Annotated[str, typer.Option(metavar='WxH', help='Size of the camera image [px].')]

def main() -> None:
    """Entry point of `dkt`."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f'dkt_ros {dkt_ros.__version__}')
        raise typer.Exit()


@app.callback()
def _options(version: Annotated[bool, typer.Option(
        '--version', callback=_print_version, is_eager=True,
        help='Print the version and leave.')] = False) -> None:
    pass


@verb(app)
def demo(
    out: Out = Path('demo_out'),
    frames: Annotated[int | None, typer.Option(
        min=10, help='Stop after so many frames of the clip.')] = None,
    model: Annotated[str | None, typer.Option(
        help='Another model than that of config/dkt.yaml.')] = None,
    clip: Annotated[Path | None, typer.Option(help='Another clip than the bundled one.')] = None,
    json: Json = None,
) -> None:
    """
    Play the bundled clip through the whole ROS graph: pictures, points, a recording, a table.

    Example: `dkt demo --out demo_out`
    """
    from dkt_ros.tools.demo import MIN_SHARE_OUT, run_demo
    summary = run_demo(out, frames, model=model, clip=clip)
    _finish(summary, json)
    if summary['frames_out'] < MIN_SHARE_OUT * summary['frames_in']:
        raise RunError(f'{summary["frames_out"]} of {summary["frames_in"]} frames came out, less '
                       f'than {MIN_SHARE_OUT:.0%}; give the demo a less busy machine')


@verb(app)
def up(
    params: Annotated[Path | None, typer.Option(
        help='Parameter file; config/dkt.yaml of the package if not given.')] = None,
    camera: Annotated[str, typer.Option(
        help='`none`: a camera runs elsewhere; `clip`: a clip takes its place.')] = 'none',
    clip: Annotated[str, typer.Option(help='With --camera clip: another than the bundled.')] = '',
) -> None:
    """
    Run the nodes of the launch file in one process, until interrupted.

    Example: `dkt up --camera clip`
    """
    _require_ros()
    from dkt_ros.nodes.compose import up as run_up
    if run_up(params, camera, clip) != 0:
        raise RunError('the clip cannot be played; the log above says why')


def _require_ros() -> None:
    if find_spec('rclpy') is None:
        raise UserError("rclpy is not installed; install it with pip install 'dkt_ros[ros]', or "
                        'source a ROS 2 installation')


verb(app)(render)
verb(app)(prepare)
verb(app)(export)


@verb(app)
def train(
    config: Annotated[Path, typer.Argument(help='YAML file of the run: data, sizes, steps.')],
    resume: Annotated[bool, typer.Option(
        '--resume', help='Go on from the last checkpoint of the run.')] = False,
) -> None:
    """
    Train dkt-tiny from scratch, or with `recipe: lora` a LoRA on a pretrained video model.

    Example: `dkt train config/train.yaml`
    """
    from dkt_ros.tools.train.recipes import run_recipe
    typer.echo(f'the model lies in {run_recipe(config, resume)}')


@verb(app)
def infer(
    source: Annotated[Path, typer.Argument(
        metavar='INPUT', help='An mp4, image folder, MCAP, rosbag2, scene or data-set folder.')],
    model: Model = DepthNodeConfig.model,
    out: Out = Path('infer_out'),
    mode: Annotated[str, typer.Option(
        help='`stream`: frame by frame as a robot gets it; `offline`: the whole clip at once.',
    )] = 'stream',
    preset: Preset = None,
    repeat: Annotated[int | None, typer.Option(
        min=1, help='Show each still so many times.')] = None,
    camera: Annotated[Path | None, typer.Option(
        help='YAML file with width, height, fx, fy, cx, cy, for a clip without.')] = None,
    frames: Annotated[int | None, typer.Option(min=1, help='Stop after so many frames.')] = None,
    device: Device = DepthNodeConfig.device,
    config: Options = None,
    json: Json = None,
) -> None:
    """
    Write depth, disparity and normals of a recording as float EXR files, and pictures.

    Example: `dkt infer my_clip.mp4 --out infer_out`
    """
    from dkt_ros.data.intrinsics import read_camera
    from dkt_ros.tools.infer import run_infer
    intrinsics = read_camera(camera) if camera else None
    _finish(run_infer(source, out, model=model, mode=mode, config=_perception(config, preset),
                      device=device, max_frames=frames, repeat=repeat, camera=intrinsics),
            json)


verb(app, 'eval')(evaluate)
verb(app)(ablate)
verb(app, 'grasp-sim')(grasp_sim)


@verb(bench)
def stream(
    model: Model = DepthNodeConfig.model,
    presets: Annotated[str, typer.Option(
        help='Live presets, with commas between.')] = ','.join(PRESETS),
    frames: Annotated[int, typer.Option(
        help='Frames a preset; from 201 on the growth of memory is told.',
    )] = BenchConfig.num_frames,
    size: Size = f'{BenchConfig.width}x{BenchConfig.height}',
    clip: Annotated[str, typer.Option(
        help='Another clip than the bundled one.')] = BenchConfig.clip,
    device: Device = BenchConfig.device,
    json: Json = None,
) -> None:
    """
    Measure speed, age, memory and seams of each live preset.

    Example: `dkt bench stream --presets balanced,long --json stream.json`
    """
    width, height = _two_numbers(size, 'x', '--size')
    config = BenchConfig(num_frames=frames, width=width, height=height, clip=clip, device=device)
    from dkt_ros.tools.bench import run_bench_stream
    _finish(run_bench_stream(model, presets.split(','), config), json)


@verb(bench)
def ros(
    frames: Annotated[int, typer.Option(
        min=10, max=250, help='Frames of each size, with and without normals.')] = 100,
    json: Json = None,
) -> None:
    """
    Measure what the ROS side costs a frame, with one reliable subscriber in another process.

    Example: `dkt bench ros --json ros.json`
    """
    _require_ros()
    from rich.console import Console

    from dkt_ros.nodes.bench import run_bench_ros
    _finish(run_bench_ros(num_frames=frames, console=Console()), json)


verb(bench, 'render')(bench_render)
verb(bench, 'grasp')(bench_grasp)
verb(bench, 'model')(bench_model)


if __name__ == '__main__':
    main()
