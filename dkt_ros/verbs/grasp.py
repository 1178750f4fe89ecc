"""`dkt bench grasp`."""
from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from dkt_ros.errors import UserError
from dkt_ros.grasp.config import GraspBenchConfig
from dkt_ros.verbs.common import Json, finish


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
    finish(run_bench_grasp(GraspBenchConfig(gripper=gripper, num_points=points,
                                            num_plans=plans)), json)
