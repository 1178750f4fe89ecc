"""`dkt eval`: a model and others against the truth."""
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dkt_ros.config import DepthNodeConfig
from dkt_ros.verbs.common import (
    Device,
    Json,
    Model,
    Options,
    Out,
    Preset,
    finish,
    perception_options,
)


def evaluate(
    data: Annotated[list[Path], typer.Option(
        help='Folder of scenes, or of a data set; may be given several times: each is also '
        'reported alone.')],
    model: Model = DepthNodeConfig.model,
    protocol: Annotated[str, typer.Option(
        help='Where scale and shift come from: affine-sensor, affine-sensor-oracle, affine-gt or '
        'metric.')] = 'affine-sensor',
    baselines: Annotated[str, typer.Option(
        help='What to score beside, with commas between: repairs of the sensor (filled, nearest, '
        'inpaint, bilateral), other methods (depth_anything_v2, ...).')] = 'filled',
    baseline_models: Annotated[Path | None, typer.Option(
        help='Folder with a folder of weights for each other method.')] = None,
    out: Out = Path('eval_out'),
    preset: Preset = None,
    max_scenes: Annotated[int | None, typer.Option(
        '--scenes', min=1, help='Take the first scenes of each folder only.')] = None,
    frames: Annotated[int | None, typer.Option(
        min=1, help='Take the first frames of each scene only.')] = None,
    repeat: Annotated[int | None, typer.Option(
        min=1, help='Show each still so many times.')] = None,
    poses: Annotated[bool, typer.Option(
        '--poses', help='Tell the chain where the camera was in each frame, as an arm would.',
    )] = False,
    device: Device = DepthNodeConfig.device,
    config: Options = None,
    json: Json = None,
) -> None:
    """
    Measure a model on scenes, by material, beside the sensor, its repair and other methods.

    Example: `dkt eval --data scenes --protocol affine-sensor --out eval_out`
    """
    from dkt_ros.tools.evaluate import run_evaluate
    finish(run_evaluate(data, model=model, protocol=protocol, out=out,
                        baselines=[name for name in baselines.split(',') if name],
                        config=perception_options(config, preset), device=device,
                        max_scenes=max_scenes, max_frames=frames, repeat=repeat,
                        baseline_models=baseline_models, poses=poses), json)
