"""On a GPU: the network compiled and recorded, in float8 and by TensorRT; whole clips, memory."""
import numpy as np
import pytest
import torch
from toy_model import randn, toy_clip, toy_pipeline

from dkt_ros.model.execution import prepare
from dkt_ros.model.loading import load_pipeline
from dkt_ros.model.selftest import check_convolutions

pytestmark = [pytest.mark.gpu,
              pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA here')]


def velocities_of(pipeline):
    """Several steps of several windows: what is recorded must take new inputs every time."""
    network = pipeline.folded()
    found = []
    for seed, held in ((1, 0), (2, 1), (3, 1)):
        rgb = randn(seed, 1, 4, 3, 4, 6).to(network.device)
        velocity = network.velocity(rgb, ('depth', 'normal'), held)
        for step in (1000.0, 884.0):
            latents = randn(int(step) + seed, 2, 4, 3, 4, 6).to(network.device)
            found.append(velocity(latents, torch.tensor(step)).cpu())
    return torch.stack(found)


def test_convolutions():
    check_convolutions(torch.device('cuda'))


@pytest.fixture
def exact():
    allowed = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = allowed


@pytest.mark.parametrize('execution', ['eager', 'compile'])
@torch.no_grad()
def test_a_step_is_that_of_the_cpu(exact, execution, caplog):
    expected = velocities_of(toy_pipeline())
    found = velocities_of(prepare(toy_pipeline().to('cuda'), execution))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert 'not recorded' not in caplog.text


@pytest.mark.parametrize('preset', ['balanced', 'image', 'faithful'])
def test_a_clip_is_that_of_the_cpu(exact, preset):
    clip = toy_clip(11)
    expected = toy_pipeline(3)(clip, preset=preset).prediction
    found = prepare(toy_pipeline(3).to('cuda'), 'compile')(clip, preset=preset).prediction
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize('steps', [1, 3])
@pytest.mark.parametrize('execution', ['eager', 'compile'])
def test_a_clip_with_its_overlap_in_a_cache_is_that_of_the_cpu(exact, execution, steps, caplog):
    clip = toy_clip(25)
    expected = toy_pipeline(steps, 'gaussian')(clip, overlap='cache').prediction
    pipeline = prepare(toy_pipeline(steps, 'gaussian').to('cuda'), execution)
    found = pipeline(clip, overlap='cache').prediction
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert 'not recorded' not in caplog.text


@pytest.mark.parametrize('overlap', ['recompute', 'cache'])
def test_a_clip_by_tensorrt_is_that_of_the_cpu(exact, tmp_path, monkeypatch, overlap, caplog):
    pytest.importorskip('tensorrt')
    pytest.importorskip('onnxscript')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    clip = toy_clip(33)
    expected = toy_pipeline(2, 'gaussian')(clip, overlap=overlap).prediction
    pipeline = prepare(toy_pipeline(2, 'gaussian').to('cuda'), 'tensorrt', model_hash='toy')
    found = pipeline(clip, overlap=overlap).prediction
    np.testing.assert_allclose(found, expected, atol=1e-2)
    assert 'runs in torch' not in caplog.text
    kinds = {path.name.partition('-')[0] for path in tmp_path.rglob('*.engine')}
    assert kinds == {'dit', 'encode', 'decode'}


def test_dkt_tiny_in_float8_is_near():
    clip = toy_clip(9, 96, 128)
    expected, found = (load_pipeline('dkt-tiny', 'cuda', precision=precision)(
        clip, height=96, width=128).prediction for precision in ('float32', 'float8'))
    assert np.linalg.norm(found - expected) < 0.1 * np.linalg.norm(expected)


def test_attention_is_measured_and_the_same(exact):
    clip = toy_clip(11)
    expected = toy_pipeline(3)(clip).prediction
    found = prepare(toy_pipeline(3).to('cuda'), attention='measure')(clip).prediction
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_bfloat16_is_near():
    clip = toy_clip(11)
    expected = toy_pipeline(3)(clip).prediction
    pipeline = prepare(toy_pipeline(3).to('cuda', torch.bfloat16), 'eager', torch.bfloat16)
    error = pipeline(clip).prediction - expected
    assert np.linalg.norm(error) < 0.05 * np.linalg.norm(expected)


def test_memory_does_not_grow():
    pipeline = prepare(toy_pipeline(2).to('cuda'), 'compile')
    pipeline(toy_clip(25))
    before = torch.cuda.memory_allocated()
    pipeline(toy_clip(57))
    assert torch.cuda.memory_allocated() <= before + 1e6
