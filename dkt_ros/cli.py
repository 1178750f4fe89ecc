"""
The command line: one function a verb, imported late so that `dkt --help` is instant.

A verb leaves with 0 only when it did what was asked, with 2 for a mistake of the user (one
sentence on stderr), with 1 for anything unexpected and with 130 when interrupted.
"""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

import dkt_ros
from dkt_ros.config import (
    PRESETS,
    AssetsConfig,
    BenchConfig,
    DepthNodeConfig,
    PerceptionConfig,
    RenderConfig,
    TrainConfig,
)
from dkt_ros.errors import RunError, UserError
from dkt_ros.grasp.config import GraspBenchConfig

app = typer.Typer(name='dkt', no_args_is_help=True, add_completion=False,
                  pretty_exceptions_enable=False, rich_markup_mode='markdown',
                  help='Metric depth, normals and points for transparent objects.')
scenes = typer.Typer(no_args_is_help=True, help='Scene folders: check, show, stats, pack.')
assets = typer.Typer(no_args_is_help=True,
                     help='What the renderer can draw: list, show, filter.')
bench = typer.Typer(no_args_is_help=True,
                    help='Speed, age and memory: stream, ros, grasp, render.')
app.add_typer(scenes, name='scenes')
app.add_typer(assets, name='assets')
app.add_typer(bench, name='bench')

Out = Annotated[Path, typer.Option(help='Folder for the results.')]
Json = Annotated[Path | None, typer.Option('--json', help='Also write the figures to this file.')]
Size = Annotated[str, typer.Option(metavar='WxH', help='Size of the camera image [px].')]
Preset = Annotated[str | None, typer.Option(
    help=f'Latents a window and overlap: {", ".join(PRESETS)}.')]
Device = Annotated[str, typer.Option(help='auto, cpu, cuda or cuda:N.')]
Options = Annotated[Path | None, typer.Option('--config', help='YAML file with options.')]
Model = Annotated[str, typer.Option(help='A bundled model or the path of a model folder.')]


def verb(group: typer.Typer, name: str | None = None) -> Callable[[Callable], Callable]:
    """Register a function as a verb whose mistakes end in one sentence and an exit code."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*args: object, **kwargs: object) -> None:
            try:
                function(*args, **kwargs)
            except (UserError, RunError) as error:
                typer.secho(f'dkt: {error}', err=True, fg=typer.colors.RED)
                raise typer.Exit(2 if isinstance(error, UserError) else 1) from None
            except KeyboardInterrupt:
                raise typer.Exit(130) from None

        return group.command(name)(run)

    return register


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


@verb(app)
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
        _finish(figures, json)
        rich.print(estimate_table(figures))
        return
    if out is None:
        raise UserError('--out is missing; name the folder for the scenes')
    if ray is not None:
        from dkt_ros.tools.render.farm import run_farm
        _finish(run_farm(ray, out, num_scenes, seed, options), json)
        return
    from dkt_ros.tools.render.run import run_render
    _finish(run_render(out, num_scenes, seed, options, _two_numbers(shard, '/', '--shard')), json)


def _render_options(config: Path | None, preset: str | None, size: str | None,
                    num_frames: int | None, sensor: str | None) -> RenderConfig:
    """Return the options of the YAML file on top of the preset's, the command line's on top."""
    values = RenderConfig.read_yaml(config) if config else {}
    if not isinstance(values, dict):
        return RenderConfig.from_dict(values, str(config))
    width, height = _two_numbers(size, 'x', '--size') if size else (None, None)
    changes = {'preset': preset, 'num_frames': num_frames, 'width': width, 'height': height}
    values = {**values, **{k: v for k, v in changes.items() if v is not None}}
    if sensor is not None:
        given = values.get('sensor')
        values['sensor'] = {**(given if isinstance(given, dict) else {}), 'kind': sensor}
    return RenderConfig.from_dict(values, str(config or 'RenderConfig'))


def _two_numbers(text: str, separator: str, option: str) -> tuple[int, int]:
    first, found, second = text.partition(separator)
    if not (found and first.isdecimal() and second.isdecimal()):
        raise UserError(f'{option} is {text!r}; two numbers with {separator!r} between are '
                        'expected')
    return int(first), int(second)


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
    _finish(result, json)
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
) -> None:
    """
    Draw scenes: RGB, sensor, depth, normals, materials; a contact sheet, turntables as mp4.

    Example: `dkt scenes show scenes --out pictures --num-scenes 4`
    """
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
    _finish(done, json)
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
        _finish(figures, json)
        rich.print(sensor_table(figures))
        if picture is not None:
            write_sensor_picture(picture, folder, real)
        return
    from dkt_ros.tools.scenes import run_stats, stats_table
    result = run_stats(folder, every)
    _finish(result, json)
    rich.print(stats_table(result))


@verb(assets, 'list')
def list_assets(json: Json = None) -> None:
    """
    Print the families of shapes, the materials by class and the liquids.

    Example: `dkt assets list`
    """
    import rich

    from dkt_ros.tools.render.assets import assets_table, run_list
    listed = run_list()
    _finish(listed, json)
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
    _finish(done, json)
    for problem in done.pop('problems'):
        typer.echo(problem)
    typer.echo(', '.join(f'{count} {what}' for what, count in done.items()))


@verb(app)
def train(
    config: Annotated[Path, typer.Argument(help='YAML file of the run: data, sizes, steps.')],
    resume: Annotated[bool, typer.Option(
        '--resume', help='Go on from the last checkpoint of the run.')] = False,
) -> None:
    """
    Train a VAE and a diffusion transformer on scene folders; leaves a model folder.

    Example: `dkt train config/train.yaml`
    """
    options = TrainConfig.from_yaml(config)
    from dkt_ros.tools.train.loop import run_train
    typer.echo(f'the model lies in {run_train(options, resume)}')


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
    from dkt_ros.data.clips import read_camera
    from dkt_ros.tools.infer import run_infer
    intrinsics = read_camera(camera) if camera else None
    _finish(run_infer(source, out, model=model, mode=mode, config=_perception(config, preset),
                      device=device, max_frames=frames, repeat=repeat, camera=intrinsics),
            json)


@verb(app, 'eval')
def evaluate(
    data: Annotated[Path, typer.Option(help='Folder of scenes, or of a data set.')],
    model: Model = DepthNodeConfig.model,
    protocol: Annotated[str, typer.Option(
        help='Where scale and shift come from: affine-sensor, affine-gt or metric.',
    )] = 'affine-sensor',
    baselines: Annotated[str, typer.Option(
        help='Classical repairs of the sensor to score beside, with commas between.')] = 'filled',
    out: Out = Path('eval_out'),
    preset: Preset = None,
    max_scenes: Annotated[int | None, typer.Option(
        '--scenes', min=1, help='Take the first scenes only.')] = None,
    repeat: Annotated[int | None, typer.Option(
        min=1, help='Show each still so many times.')] = None,
    device: Device = DepthNodeConfig.device,
    config: Options = None,
    json: Json = None,
) -> None:
    """
    Measure a model on scenes, by material, beside the sensor and its classical repair.

    Example: `dkt eval --data scenes --protocol affine-sensor --out eval_out`
    """
    from dkt_ros.tools.evaluate import run_evaluate
    _finish(run_evaluate(data, model=model, protocol=protocol, out=out,
                         baselines=baselines.split(','), config=_perception(config, preset),
                         device=device, max_scenes=max_scenes, repeat=repeat), json)


def _perception(path: Path | None, preset: str | None) -> PerceptionConfig:
    """Return the options of the YAML file, with the preset of the command line."""
    config = PerceptionConfig.from_yaml(path) if path else PerceptionConfig()
    if preset is None:
        return config
    return dataclasses.replace(config, stream=dataclasses.replace(config.stream, preset=preset))


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


@verb(bench, 'grasp')
def bench_grasp(
    gripper: Annotated[str, typer.Option(
        help='Name of a gripper, or the path of a YAML file.')] = GraspBenchConfig.gripper,
    points: Annotated[int, typer.Option(help='Points a cloud.')] = GraspBenchConfig.num_points,
    plans: Annotated[int, typer.Option(
        help='How many clouds are planned on.')] = GraspBenchConfig.num_plans,
    json: Json = None,
) -> None:
    """
    Measure how long a grasp plan takes, by stage, and its memory.

    Example: `dkt bench grasp --gripper robotiq_2f_85 --json grasp.json`
    """
    if find_spec('open3d') is None:
        raise UserError("open3d is not installed; install it with pip install 'dkt_ros[grasp]'")
    from dkt_ros.tools.bench_grasp import run_bench_grasp
    _finish(run_bench_grasp(GraspBenchConfig(gripper=gripper, num_points=points,
                                             num_plans=plans)), json)


@verb(bench, 'render')
def bench_render(
    sizes: Annotated[str, typer.Option(
        metavar='WxH,...', help='Image sizes, with commas between.')] = '160x128,320x240,640x480',
    frames: Annotated[int, typer.Option(min=1, help='Frames that a scene shares its cost over.')
                      ] = RenderConfig.num_frames,
    preset: Annotated[str, typer.Option(help='What is drawn.')] = RenderConfig.preset,
    config: Options = None,
    json: Json = None,
) -> None:
    """
    Measure seconds a frame by size, with and without the stereo sensor, and where they go.

    Example: `dkt bench render --sizes 160x128,320x240 --json render.json`
    """
    import rich

    from dkt_ros.tools.render.bench import bench_table, run_bench_render
    options = _render_options(config, preset, None, frames, None)
    figures = run_bench_render([_two_numbers(size, 'x', '--sizes') for size in sizes.split(',')],
                               options)
    _finish(figures, json)
    rich.print(bench_table(figures))


def _finish(figures: dict, json: Path | None) -> None:
    if json is not None:
        from dkt_ros.provenance import provenance, write_json
        write_json(json, {**provenance(), **figures})
