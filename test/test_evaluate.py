"""Evaluation with a model whose error is known."""
import dataclasses
import io
import json

import numpy as np
import pytest
from fake_perception import FakePerception
from rich.console import Console
from scene_factory import TABLE_M, TOP_M, make_scene, scene_frame

from dkt_ros.config import AnchorConfig, PerceptionConfig
from dkt_ros.errors import UserError
from dkt_ros.tools.evaluate import run_evaluate


def truth_of(frame):
    for index in range(8):
        item = scene_frame(index, seed=1_000_000)
        if np.array_equal(item.frame.rgb, frame.rgb):
            return item.depth
    raise AssertionError('a frame that no scene has')


def quiet():
    return Console(file=io.StringIO(), width=200)


def evaluate(tmp_path, depth_of=lambda frame: truth_of(frame) + np.float32(0.02), **kwargs):
    if not (tmp_path / 'scenes').exists():
        make_scene(tmp_path / 'scenes' / 'a', 7)
        make_scene(tmp_path / 'scenes' / 'b', 3)
    return run_evaluate(tmp_path / 'scenes', perception=FakePerception(depth_of),
                        console=quiet(), **kwargs)


def test_figures(tmp_path):
    result = evaluate(tmp_path, out=tmp_path / 'out')
    assert result['scenes'] == 2 and result['frames_in'] == result['frames_out'] == 10
    assert result['drops'] == 0
    glass = result['transparent']
    assert glass['dkt']['mae_m'] == pytest.approx(0.02, abs=1e-5)
    assert glass['dkt']['delta_105'] == 1
    assert glass['sensor']['mae_m'] == pytest.approx(TABLE_M - TOP_M, abs=1e-5)
    assert set(glass) == {'sensor', 'filled', 'dkt', 'fused'}
    assert result['intervals']['transparent']['dkt']['mae_m'] == pytest.approx([0.02, 0.02],
                                                                               abs=1e-5)


def test_files(tmp_path):
    evaluate(tmp_path, out=tmp_path / 'out')
    names = {path.name for path in (tmp_path / 'out').iterdir()}
    assert names == {'evaluation.json', 'evaluation.md', 'best.png', 'worst.png'}
    record = json.loads((tmp_path / 'out' / 'evaluation.json').read_text())
    for key in ('version', 'machine', 'settings', 'seed', 'model_sha256', 'per_scene', 'object'):
        assert key in record
    text = (tmp_path / 'out' / 'evaluation.md').read_text()
    assert '| transparent | dkt | 20.0 |' in text


def test_affine_gt_removes_scale_and_shift(tmp_path):
    def warped(frame):
        return (1 / (0.5 / truth_of(frame) + 0.3)).astype(np.float32)

    assert evaluate(tmp_path, warped)['all']['dkt']['mae_m'] > 0.1
    aligned = evaluate(tmp_path, warped, protocol='affine-gt')
    assert aligned['all']['dkt']['mae_m'] < 1e-4


def test_each_scene_starts_anew(tmp_path):
    make_scene(tmp_path / 'scenes' / 'a', 2)
    make_scene(tmp_path / 'scenes' / 'b', 2)
    fake = FakePerception(truth_of)
    run_evaluate(tmp_path / 'scenes', perception=fake, console=quiet())
    assert fake.resets == ['a new scene', 'a new scene']


def test_more_baselines_and_fewer_scenes(tmp_path):
    result = evaluate(tmp_path, baselines=['filled', 'inpaint'], max_scenes=1)
    assert result['scenes'] == 1
    assert list(result['all']) == ['sensor', 'filled', 'inpaint', 'dkt', 'fused']


@pytest.mark.parametrize('kwargs, words', [
    ({'protocol': 'best'}, "'best'.*affine-sensor"),
    ({'protocol': 'metric'}, 'plane or fixed'),
    ({'baselines': ['magic']}, "'magic'.*filled")])
def test_mistakes(tmp_path, kwargs, words):
    with pytest.raises(UserError, match=words):
        evaluate(tmp_path, **kwargs)


def test_metric_takes_the_anchor_as_configured(tmp_path):
    config = PerceptionConfig(anchor=AnchorConfig(source='fixed'))
    result = evaluate(tmp_path, protocol='metric', config=config)
    assert result['settings']['anchor']['source'] == 'fixed'
    with pytest.raises(UserError, match='affine-sensor'):
        evaluate(tmp_path, config=dataclasses.replace(config))


def test_nothing_to_evaluate(tmp_path):
    with pytest.raises(UserError, match='does not exist'):
        run_evaluate(tmp_path / 'nothing', perception=FakePerception(truth_of))
