"""ONNX graphs of the streaming steps agree with torch, caches included."""
import pytest
import torch
from toy_model import randn, smallest_vae, toy_pipeline

from dkt_ros.model.causal_vae import CausalVAEDecoder, CausalVAEEncoder
from dkt_ros.model.execution import prepare
from dkt_ros.model.graphs import (
    DecodeGraph,
    EncodeGraph,
    export_onnx,
    open_onnx,
    run_onnx,
)
from dkt_ros.model.runners import OnnxRunner

pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope='module')
def vae():
    return smallest_vae()


def session_of(graph, path):
    return open_onnx(export_onnx(graph, path / 'graph.onnx'), 1)


def worst(found, expected):
    return max((a - b).abs().max().item() for a, b in zip(found, expected, strict=True))


@torch.no_grad()
def test_a_stream_encoded_by_the_graph(vae):
    graph = EncodeGraph(vae, 8, 12)
    stream = CausalVAEEncoder(vae)
    chunks = [randn(i, 1, 3, count, 8, 12) for i, count in enumerate((1, 2, 2, 2, 2))]
    for chunk in chunks[:3]:
        stream.encode(chunk)
    state = [entry for entry in stream._cache if isinstance(entry, torch.Tensor)]
    for chunk in chunks[3:]:
        found = graph(chunk, *state)
        assert worst(found[:1], [stream.encode(chunk)]) <= 1e-4
        state = found[1:]


def test_a_stream_decoded_by_the_graph(vae, tmp_path):
    graph = DecodeGraph(vae, 2, 4, 6)
    session = session_of(graph, tmp_path)
    stream = CausalVAEDecoder(vae)
    latents = [randn(i, 2, 2, 1, 4, 6) for i in range(5)]
    for latent in latents[:3]:
        stream.decode(latent)
    state = [entry for entry in stream._cache if isinstance(entry, torch.Tensor)]
    for latent in latents[3:]:
        found = run_onnx(session, graph, (latent, *state))
        assert worst(found[:1], [stream.decode(latent)]) <= 1e-4
        state = found[1:]


def test_onnxruntime_runs_a_pipeline(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    rgb, latents = randn(1, 1, 4, 3, 2, 3), randn(2, 2, 4, 3, 2, 3)
    plain, fast = prepare(toy_pipeline()), prepare(toy_pipeline(), 'onnxruntime')
    assert isinstance(fast.transformer.runner, OnnxRunner)

    def velocity(pipeline, timestep):
        network = pipeline.folded()
        return network.velocity(rgb, ('normal', 'depth'), num_held=1)(latents, timestep)

    for timestep in torch.tensor([1000.0, 884.0]):
        assert worst([velocity(fast, timestep)], [velocity(plain, timestep)]) <= 1e-4
        # from now on torch has no part in it
        monkeypatch.setattr(fast.transformer.blocks[0], 'forward', None)
    assert len(list(tmp_path.rglob('dit-*.onnx'))) == 1
