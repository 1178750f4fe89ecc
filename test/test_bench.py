"""The figures of `dkt bench stream`, from made-up timelines and from a toy model."""
import io
import json
import time
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


class _Windows:
    """A chain of windows of four whose stages sleep, as `Perception` looks to a bench."""

    def __init__(self, stage_s):
        self.stage_s, self.waiting = stage_s, []
        self.stream = SimpleNamespace(stats=SimpleNamespace(windows=3))
        self.next_id, self.resets, self.log = 3, [], []

    def reset(self, reason):
        self.resets.append(reason)

    def advance(self, frame):
        self.waiting.append(frame)
        if len(self.waiting) < 4:
            return []
        window, self.waiting = [SimpleNamespace(frame=f, window_id=self.next_id)
                                for f in self.waiting], []
        self.next_id += 1
        return window

    def work(self, stage, window):
        self.log.append((stage, window[0].window_id))
        time.sleep(self.stage_s)
        return window

    def denoise(self, window):
        return self.work('denoise', window)

    def decode(self, window):
        return self.work('decode', window)

    def complete(self, window):
        return self.work('complete', window)


def _camera(num_frames, rate_hz):
    return [SimpleNamespace(stamp_ns=round(i * 1e9 / rate_hz)) for i in range(num_frames)]


def test_age_counts_from_the_image_through_all_stages():
    chain = _Windows(0.02)
    ages, drops = camera_ages(chain, _camera(16, 50.0), 0.001, 50.0)
    assert (drops, chain.resets, len(ages)) == (0, ['camera'], 12)
    # the first of a window waits for three more images, and each stage takes 20 ms
    assert min(ages) >= 0.06
    assert max(ages) >= 0.06 + 0.059
    for name in ('denoise', 'decode', 'complete'):
        assert [number for stage, number in chain.log if stage == name] == [3, 4, 5, 6]


def test_a_camera_faster_than_the_computer_is_thinned_out():
    ages, drops = camera_ages(_Windows(0.04), _camera(80, 200.0), 0.01, 200.0)
    assert 30 <= drops <= 65
    assert max(ages) < 1.0


def test_what_goes_wrong_in_a_stage_is_raised():
    chain = _Windows(0.0)
    chain.decode = lambda window: 1 / 0
    with pytest.raises(ZeroDivisionError):
        camera_ages(chain, _camera(12, 1000.0), 0.001, 1000.0)


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
    monkeypatch.setattr(bench, 'AGE_S', 2.0)
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
