"""Keys, rebuilds and fallbacks of engines and recorded steps, against stand-ins."""
import dataclasses
import logging
import sys

import pytest
import torch
from toy_model import randn, toy_pipeline

from dkt_ros.errors import UserError
from dkt_ros.model import engines, runners
from dkt_ros.model.engines import EngineCache, EngineKey
from dkt_ros.model.execution import prepare
from dkt_ros.model.runners import CudaGraphRunner, EngineSteps, TensorRtRunner

KEY = EngineKey('dit', 'abc', 'H200 sm_90', '10.9', '2.13', ((1, 16, 3, 60, 80), (1, 3600, 1536)),
                'bfloat16', 'tasks (0,) held 1')


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / 'engines')


def test_an_engine_is_built_once(cache):
    builds = []
    for _ in range(2):
        assert cache.obtain(KEY, lambda: builds.append(1) or b'engine') == b'engine'
    assert len(builds) == 1
    assert sorted(path.suffix for path in cache.folder.iterdir()) == ['.engine', '.json']


@pytest.mark.parametrize('change', [
    {'model': 'abd'}, {'gpu': 'L4 sm_89'}, {'tensorrt': '10.10'}, {'torch': '2.14'},
    {'dtype': 'float32'}, {'options': 'tasks (0, 1) held 1'}])
def test_whatever_differs_it_is_built_again_and_told(cache, caplog, change):
    cache.store(KEY, b'old')
    other = dataclasses.replace(KEY, **change)
    assert cache.load(other) is None
    name, value = next(iter(change.items()))
    assert f'{name} was {getattr(KEY, name)!r} and is {value!r}' in caplog.text
    assert cache.obtain(other, lambda: b'new') == b'new'
    assert cache.load(KEY) == b'old'


def test_other_shapes_are_other_engines_and_no_reason_to_talk(cache, caplog):
    cache.store(KEY, b'old')
    assert cache.load(dataclasses.replace(KEY, shapes=((1, 16, 2, 60, 80),))) is None
    assert caplog.text == ''


def test_a_build_that_fails_is_told_and_leaves_nothing(cache, caplog):
    def fail():
        raise UserError('TensorRT is not installed')

    assert cache.obtain(KEY, fail) is None
    assert 'TensorRT is not installed' in caplog.text
    assert 'runs in torch' in caplog.text
    assert not cache.folder.exists()


def test_an_unreadable_note_does_not_stop_it(cache, caplog):
    cache.store(KEY, b'old').with_suffix('.json').write_text('{')
    assert cache.load(dataclasses.replace(KEY, torch='2.14')) is None
    assert 'cannot be read' in caplog.text


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(runners, 'gpu_name', lambda device: 'H200 sm_90')
    monkeypatch.setattr(runners, 'tensorrt_version', lambda: '10.9')
    monkeypatch.setattr(runners, 'export_onnx', lambda graph, path: path)


def tensorrt(network, cache, *build):
    return TensorRtRunner(network, EngineSteps(network.device, 'abc', cache, *build))


def velocity_of(network, seed=2):
    return network.velocity(randn(1, 1, 4, 2, 2, 3), ('depth',))(
        randn(seed, 1, 4, 2, 2, 3), torch.tensor(884.0))


def test_a_step_runs_in_the_engine(cache, gpu, monkeypatch):
    network = toy_pipeline().folded()
    expected, seen = velocity_of(network), []

    class Engine:
        def __init__(self, content, device):
            assert content == b'engine'

        def __call__(self, inputs):
            seen.append({name: tuple(tensor.shape) for name, tensor in inputs.items()})
            return {'velocity': network(*inputs.values(), network.rope((2, 2, 3)), [0])[0]}

    monkeypatch.setattr(runners, 'Engine', Engine)
    paths = []
    network.runner = tensorrt(network, cache, lambda path: paths.append(path) or b'engine')
    for _ in range(2):
        torch.testing.assert_close(velocity_of(network), expected)
    assert len(paths) == 1
    assert seen[0] == {'latents': (1, 4, 2, 2, 3), 'rgb_tokens': (1, 12, 24),
                       'blocks': (2, 6, 24), 'head': (2, 24)}


def test_without_an_engine_the_step_runs_in_torch(cache, gpu, caplog):
    network = toy_pipeline().folded()
    expected = velocity_of(network)
    network.runner = tensorrt(network, cache, lambda path: engines.build_engine(path))
    torch.testing.assert_close(velocity_of(network), expected)
    assert 'TensorRT is not installed' in caplog.text


def test_without_tensorrt_the_step_runs_in_torch(cache, monkeypatch, caplog):
    monkeypatch.setattr(runners, 'gpu_name', lambda device: 'H200 sm_90')
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    network = toy_pipeline().folded()
    expected = velocity_of(network)
    network.runner = tensorrt(network, cache)
    torch.testing.assert_close(velocity_of(network), expected)
    assert 'TensorRT is not installed' in caplog.text
    assert 'the step dit runs in torch' in caplog.text


def test_an_engine_that_cannot_be_loaded_is_told_and_not_needed(cache, gpu, monkeypatch, caplog):
    def broken(content, device):
        raise UserError('the TensorRT engine cannot be loaded')

    monkeypatch.setattr(runners, 'Engine', broken)
    network = toy_pipeline().folded()
    expected = velocity_of(network)
    network.runner = tensorrt(network, cache, lambda path: b'engine')
    torch.testing.assert_close(velocity_of(network), expected)
    assert 'cannot be loaded; the step dit runs in torch' in caplog.text


def test_a_step_is_recorded_once_a_window_shape_and_takes_new_inputs():
    network, recorded = toy_pipeline().folded(), []
    expected = [velocity_of(network, seed) for seed in (2, 3)]

    def record(graph):
        recorded.append(graph.size)
        inputs = tuple(tensor.clone() for tensor in graph.example())

        def step(*given):
            for target, source in zip(inputs, given, strict=True):
                target.copy_(source)
            return graph(*inputs)
        return step

    network.runner = CudaGraphRunner(network, record)
    for seed, wanted in zip((2, 3), expected, strict=True):
        torch.testing.assert_close(velocity_of(network, seed), wanted)
    assert recorded == [(2, 2, 3)]


def test_a_step_that_cannot_be_recorded_runs_as_it_is(caplog):
    def refuse(graph):
        raise RuntimeError('operation not permitted when stream is capturing')

    network = toy_pipeline().folded()
    expected = velocity_of(network)
    network.runner = CudaGraphRunner(network, refuse)
    torch.testing.assert_close(velocity_of(network), expected)
    assert 'not recorded as a CUDA graph (operation not permitted' in caplog.text


def test_the_key_tells_all_that_is_baked_in(cache, gpu):
    network = toy_pipeline().folded()
    runner = EngineSteps(network.device, 'abc', cache)
    graphs = [runners.StepGraph(network, *arguments) for arguments in (
        ((2, 2, 3), (0,)), ((2, 2, 3), (1,)), ((2, 2, 3), (0,), 1), ((3, 2, 3), (0,)),
        ((2, 2, 3), (0,), 0, 1), ((2, 2, 3), (0,), 0, 0, 1))]
    assert len({runner.key(graph).digest for graph in graphs}) == 6


@pytest.mark.parametrize('execution', ['tensorrt'])
def test_a_cpu_has_no_tensorrt(execution):
    with pytest.raises(UserError, match='execution is tensorrt and the device cpu'):
        prepare(toy_pipeline(), execution)


def test_logs_are_warnings(cache, caplog):
    with caplog.at_level(logging.WARNING):
        cache.obtain(KEY, lambda: b'engine')
    assert 'takes minutes' in caplog.text
