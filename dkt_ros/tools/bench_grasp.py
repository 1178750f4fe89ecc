"""
`dkt bench grasp`: how long a plan takes, and where the time goes, on clouds of the bundled clip.

The planner runs in a process of its own, so that its peak memory is its own. Beside the time that
passed stands the processor's: on a busy machine the first says little.
"""
from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dkt_ros.data.clips import open_clip
from dkt_ros.errors import UserError
from dkt_ros.grasp.config import GraspBenchConfig, GraspConfig
from dkt_ros.grasp.grasp import load_gripper
from dkt_ros.provenance import provenance
from dkt_ros.resources import share_path
from dkt_ros.tools.processes import in_own_process

GOAL_MS, GOAL_MB = 300.0, 1000.0
THREAD_VARIABLES = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')


def run_bench_grasp(config: GraspBenchConfig | None = None,
                    console: Console | None = None) -> dict:
    """
    Measure the planner as `config` says; the table goes to `console`.

    Returns
    -------
    dict
        `plan_ms`, `cpu_ms`, `stage_ms`, `peak_rss_mb`, `num_grasps`, `no_grasp`, beside version,
        machine and config.

    """
    config, console = config or GraspBenchConfig(), console or Console()
    load_gripper(config.gripper)
    # The libraries read these when they are loaded: before the process begins.
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(config.threads)))
    try:
        with console.status(f'{config.num_plans} plans'):
            figures = in_own_process(measure, config)
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    console.print(bench_table(figures, config))
    return {**provenance(None, config.to_dict(), config.seed), **figures,
            'goal_ms': GOAL_MS, 'goal_mb': GOAL_MB}


def measure(config: GraspBenchConfig) -> dict:
    """Return the figures; call it in a process that did nothing else."""
    from dkt_ros.grasp.planner import GraspPlanner
    planner = GraspPlanner(load_gripper(config.gripper), GraspConfig(seed=config.seed))
    clouds = list(bench_clouds(config))
    planner.plan(clouds[0])  # imports Open3D, fills caches
    passed, processor, stages, found = [], [], [], []
    for cloud in clouds:
        start, cpu = time.perf_counter(), time.process_time()
        plan = planner.plan(cloud)
        passed.append(1e3 * (time.perf_counter() - start))
        processor.append(1e3 * (time.process_time() - cpu))
        stages.append(plan.stage_ms)
        found.append(len(plan.grasps))
    names = dict.fromkeys(name for stage in stages for name in stage)
    return {
        'plan_ms': _percentiles(passed), 'cpu_ms': _percentiles(processor),
        'stage_ms': {name: _percentiles([stage.get(name, 0.0) for stage in stages])
                     for name in names},
        'peak_rss_mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        'num_grasps': _percentiles(found), 'no_grasp': found.count(0), 'plans': len(found)}


def bench_clouds(config: GraspBenchConfig) -> Iterator[np.ndarray]:
    """Yield clouds (N, 3) float32 [m] of the clip's frames, evenly over it, again and again."""
    clip = open_clip(config.clip or share_path('clips', 'demo'))
    rng, clouds = np.random.default_rng(config.seed), []
    wanted = min(config.num_plans, clip.num_frames or config.num_plans)
    step = max(1, (clip.num_frames or 1) // wanted)
    for item in clip.items():
        depth = item.frame.sensor_depth if item.depth is None else item.depth
        if item.index % step or depth is None:
            continue
        points = item.frame.camera.unproject(depth).reshape(-1, 3)
        points = points[np.isfinite(points).all(axis=1)]
        clouds.append(points[rng.permutation(len(points))[:config.num_points]])
        if len(clouds) == wanted:
            break
    if not clouds:
        raise UserError(f'clip {config.clip} has no depth; give one that has')
    for number in range(config.num_plans):
        yield clouds[number % len(clouds)]


def _percentiles(values: list[float]) -> dict[str, float]:
    p50, p95 = np.percentile(values, (50, 95))
    return {'p50': round(float(p50), 1), 'p95': round(float(p95), 1)}


def bench_table(figures: dict, config: GraspBenchConfig) -> Table:
    """Return the table: each stage, the whole, the memory."""
    table = Table(title=f'{config.num_points} points, {config.gripper}, {config.threads} threads; '
                        f'{figures["plans"]} plans, {figures["no_grasp"]} without a grasp',
                  box=SIMPLE_HEAD)
    table.add_column('stage')
    for name in ('p50 [ms]', 'p95 [ms]'):
        table.add_column(name, justify='right')
    rows = figures['stage_ms'] | {'all, time that passed': figures['plan_ms'],
                                  'all, time of the processor': figures['cpu_ms']}
    for name, value in rows.items():
        table.add_row(name, f'{value["p50"]:.0f}', f'{value["p95"]:.0f}')
    table.add_row('peak memory [MB]', f'{figures["peak_rss_mb"]:.0f}', '')
    return table
