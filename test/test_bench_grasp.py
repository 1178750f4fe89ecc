"""The figures of `dkt bench grasp`."""
import io

import numpy as np
import pytest

pytest.importorskip('open3d', reason='open3d is not installed (extra: grasp)')

from rich.console import Console  # noqa: E402

from dkt_ros.errors import UserError  # noqa: E402
from dkt_ros.grasp.config import GraspBenchConfig  # noqa: E402
from dkt_ros.tools.bench_grasp import bench_clouds, run_bench_grasp  # noqa: E402


def test_it_measures_every_stage(monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    console = Console(file=io.StringIO(), width=120)
    figures = run_bench_grasp(GraspBenchConfig(num_plans=2, num_points=12000), console)
    assert figures['plans'] == 2 and figures['no_grasp'] == 0
    assert {'crop', 'plane', 'clusters', 'candidates', 'collision', 'scoring'} <= set(
        figures['stage_ms'])
    total = sum(stage['p50'] for stage in figures['stage_ms'].values())
    assert total == pytest.approx(figures['plan_ms']['p50'], rel=0.3)
    assert 50 < figures['peak_rss_mb'] < figures['goal_mb'] == 1000
    assert figures['settings']['num_points'] == 12000
    assert 'collision' in console.file.getvalue()
    import os
    assert 'OMP_NUM_THREADS' not in os.environ


def test_clouds_have_the_size_asked_for_and_repeat():
    clouds = list(bench_clouds(GraspBenchConfig(num_plans=3, num_points=5000)))
    assert [cloud.shape for cloud in clouds] == [(5000, 3)] * 3
    assert all(np.isfinite(cloud).all() for cloud in clouds)
    again = list(bench_clouds(GraspBenchConfig(num_plans=3, num_points=5000)))
    np.testing.assert_array_equal(clouds[2], again[2])


def test_an_unknown_gripper_is_told():
    with pytest.raises(UserError, match="'claw' is unknown"):
        run_bench_grasp(GraspBenchConfig(gripper='claw'))
