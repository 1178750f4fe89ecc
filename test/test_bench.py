"""The figures of `dkt bench stream`, from made-up timelines and from a toy model."""
import io
import json
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from scene_factory import make_scene
from toy_model import HEIGHT, WIDTH, randn, toy_transformer, toy_vae

from dkt_ros.config import BenchConfig
from dkt_ros.errors import UserError
from dkt_ros.model.saving import save_model_folder
from dkt_ros.stream import StreamStats
from dkt_ros.tools import bench
from dkt_ros.tools.bench import (
    camera_ages,
    rss_growth,
    run_bench_stream,
    summarise,
)


@pytest.fixture
def model(tmp_path):
    return save_model_folder(
        tmp_path / 'toy', toy_transformer(), toy_vae(),
        {'depth': randn(1, 2, 6), 'normal': randn(2, 2, 6)}, default_num_inference_steps=1,
        initial_noise='zeros', default_height=HEIGHT, default_width=WIDTH)


def test_age_at_a_camera_slower_than_the_computer():
    ages, drops = camera_ages([0.01, 0.01, 0.01, 0.2], [0, 0, 0, 4], 0.0, 0.1, 5.0, 8)
    assert drops == 0
    assert ages == pytest.approx([0.9, 0.8, 0.7, 0.6] * 2)
    ages, _ = camera_ages([0.01, 0.01, 0.01, 0.2], [0, 0, 0, 4], 0.05, 0.1, 5.0, 8)
    assert ages == pytest.approx([1.1, 1.0, 0.9, 0.8] * 2)


def test_age_at_a_camera_faster_than_the_computer_stays_bounded():
    ages, drops = camera_ages([0.1] * 3 + [0.5], [0, 0, 0, 4], 0.0, 0.0, 10.0, 1000)
    assert drops > 400
    assert max(ages) < 2.5


def test_growth_counts_from_frame_200():
    assert rss_growth([1.0] * 200) is None
    assert rss_growth([500.0] + [100.0] * 199 + [103.0, 101.0]) == 3.0
    assert rss_growth([100.0, 130.0] * 100 + [100.0, 131.0] * 9) == 1.0


def test_speed_is_that_of_whole_windows_after_warm_up():
    timeline = bench._Timeline([9.0] * 4 + [0.1, 0.3, 0.1, 0.3, 7.0], [0, 2, 0, 2, 0, 2, 0, 2, 0],
                               [0.2] * 4, [50.0] * 9)
    stats = StreamStats(frames_in=9, frames_out=8)
    stats.stage_seconds.update(encode=8.0, dit=4.0, decode=2.0)
    figures = summarise(timeline, SimpleNamespace(stats=stats))
    assert figures['fps'] == pytest.approx(5.0)
    assert figures['ms_per_frame'] == pytest.approx(200.0)
    assert figures['stage_ms']['encode'] == pytest.approx(1000.0)
    assert figures['stage_ms']['maps'] == pytest.approx(100.0)
    with pytest.raises(UserError, match='9 frames are too few'):
        summarise(bench._Timeline([1.0] * 9, [0] * 8 + [9], [1.0], [0.0] * 9),
                  SimpleNamespace(stats=stats))


def test_bench_of_a_toy_model(model, tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(bench, 'in_own_process', lambda measure, *given: measure(*given))
    config = BenchConfig(clip=str(make_scene(tmp_path / 'scene')), num_frames=14, width=80,
                             height=60)
    console = Console(file=io.StringIO(), width=100)
    record = run_bench_stream(model, ['low_latency', 'image'], config, console)
    json.dumps(record)
    assert {'version', 'model_sha256', 'machine', 'settings', 'seed', 'torch'} <= record.keys()
    row = record['presets']['low_latency']
    assert (row['frames_in'], row['frames_out']) == (14, 13)
    assert row['working_size'] == [WIDTH, HEIGHT]
    assert row['fps'] > 0
    assert row['peak_rss_mb'] > 50
    assert row['age_ms']['p95'] >= row['age_ms']['p50'] > 0
    assert 'low_latency' in console.file.getvalue()


def test_wrong_arguments_are_named(model):
    with pytest.raises(UserError, match="preset is 'fast'; allowed: 'image'"):
        run_bench_stream(model, ['fast'])
    with pytest.raises(UserError, match='num_frames is 0'):
        BenchConfig(num_frames=0)
