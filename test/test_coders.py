"""The VAE's streaming steps by engines: the same stream, with onnxruntime in TensorRT's place."""
import pytest
import torch
from toy_model import randn, smallest_vae, toy_frames, toy_pipeline

from dkt_ros.config import StreamConfig
from dkt_ros.errors import UserError
from dkt_ros.model import engines, runners
from dkt_ros.model.causal_vae import CausalVAEDecoder, CausalVAEEncoder
from dkt_ros.model.coders import VaeEngines
from dkt_ros.model.engines import EngineCache
from dkt_ros.model.graphs import open_onnx
from dkt_ros.model.runners import EngineSteps
from dkt_ros.stream import DKTStream

CPU = torch.device('cpu')


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(runners, 'gpu_name', lambda device: 'H200 sm_90')
    monkeypatch.setattr(runners, 'tensorrt_version', lambda: '10.9')


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / 'engines')


@pytest.fixture(scope='module')
def vae():
    return smallest_vae()


class OnnxEngine:
    """What `Engine` is to TensorRT, onnxruntime is here: the engine is the graph itself."""

    paths = []

    def __init__(self, content, device):
        path = content.decode()
        self.paths.append(path)
        self._session = open_onnx(path, 1)

    def __call__(self, inputs):
        names = [entry.name for entry in self._session.get_outputs()]
        needed = {entry.name for entry in self._session.get_inputs()}
        feeds = {name: tensor.float().numpy() for name, tensor in inputs.items() if name in needed}
        return dict(zip(names, map(torch.from_numpy, self._session.run(None, feeds))))


def test_a_stream_by_engines_is_that_of_torch(vae, cache, monkeypatch):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    monkeypatch.setattr(runners, 'Engine', OnnxEngine)
    monkeypatch.setattr(OnnxEngine, 'paths', [])
    coders = VaeEngines(vae, EngineSteps(CPU, 'abc', cache, lambda path: str(path).encode()))
    pairs = ((coders.open_encoder(), CausalVAEEncoder(vae)),
             (coders.open_decoder(), CausalVAEDecoder(vae)))
    by_torch = vae.encoder.forward
    for number, count in enumerate((1, 2, 2, 2, 2, 2)):
        frames, latent = randn(number, 1, 3, count, 8, 12), randn(number, 2, 2, 1, 4, 6)
        for (fast, plain), call, given in zip(pairs, ('encode', 'decode'), (frames, latent)):
            expected = getattr(plain, call)(given)
            if number > 3:
                monkeypatch.setattr(vae.encoder, 'forward', None)
            torch.testing.assert_close(getattr(fast, call)(given), expected, atol=1e-4, rtol=1e-4)
            monkeypatch.setattr(vae.encoder, 'forward', by_torch)
    names = sorted(path.rpartition('/')[2].partition('-')[0] for path in OnnxEngine.paths)
    assert names == ['decode', 'encode']
    kinds = sorted(path.name.partition('-')[0] for path in cache.folder.glob('*.engine'))
    assert kinds == ['decode', 'encode']
    again = VaeEngines(vae, EngineSteps(CPU, 'abc', cache, lambda path: pytest.fail('built anew')))
    assert again.step('encode', randn(0, 1, 3, 2, 8, 12)) is not None


class Recorded:
    """An engine that torch computes; the content says which graph it is of."""

    graphs = {}

    def __init__(self, content, device):
        self._graph = self.graphs[content]

    def __call__(self, inputs):
        found = self._graph(*(inputs[name] for name in self._graph.input_names))
        return dict(zip(self._graph.output_names, found, strict=True))


@pytest.fixture
def recorded(monkeypatch):
    """Builds are free: what would be exported is kept and run."""
    monkeypatch.setattr(Recorded, 'graphs', {})
    monkeypatch.setattr(runners, 'Engine', Recorded)

    def keep(graph, path):
        Recorded.graphs[path.name.encode()] = graph
        return path

    monkeypatch.setattr(runners, 'export_onnx', keep)
    return Recorded


def test_a_live_stream_runs_in_engines_once_its_caches_are_full(recorded, cache):
    plain, fast = toy_pipeline(), toy_pipeline()
    fast.vae_engines = VaeEngines(
        fast.vae, EngineSteps(CPU, 'abc', cache, lambda path: path.name.encode()))
    maps = []
    for pipeline in (plain, fast):
        stream = DKTStream(pipeline, StreamConfig(), normals=True)
        maps.append([e for frame in toy_frames(33) for e in stream.push(frame)])
    assert len(maps[0]) == len(maps[1]) == 33
    for a, b in zip(*maps, strict=True):
        torch.testing.assert_close(torch.from_numpy(a.disparity), torch.from_numpy(b.disparity),
                                   atol=1e-5, rtol=1e-5)
    # one engine each: two tasks are decoded as one batch
    assert sorted(name.partition(b'-')[0] for name in recorded.graphs) == [b'decode', b'encode']


def test_an_engine_of_other_weights_is_built_again_and_told(vae, recorded, cache, caplog):
    built = []
    for model_hash in ('abc', 'abc', 'new'):
        steps = EngineSteps(CPU, model_hash, cache, lambda path: built.append(1) or
                            path.name.encode())
        assert VaeEngines(vae, steps).step('decode', randn(0, 2, 2, 1, 4, 6)) is not None
    assert len(built) == 2
    assert "model was 'abc' and is 'new'" in caplog.text


def test_shapes_and_kinds_have_engines_of_their_own(vae, recorded, cache):
    coders = VaeEngines(vae, EngineSteps(CPU, 'abc', cache, lambda path: path.name.encode()))
    for _ in range(2):
        for batch in (1, 2):
            coders.step('decode', randn(0, batch, 2, 1, 4, 6))
        coders.step('encode', randn(0, 1, 3, 2, 8, 12))
    assert len(recorded.graphs) == 3


def test_without_an_engine_the_vae_runs_in_torch(vae, cache, monkeypatch, caplog):
    monkeypatch.setattr(runners, 'export_onnx', lambda graph, path: path)

    def fail(path):
        raise UserError('TensorRT refuses the graph')

    coders = VaeEngines(vae, EngineSteps(CPU, 'abc', cache, fail))
    fast, plain = coders.open_decoder(), CausalVAEDecoder(vae)
    for number in range(6):
        latent = randn(number, 1, 2, 1, 4, 6)
        torch.testing.assert_close(fast.decode(latent), plain.decode(latent))
    assert caplog.text.count('TensorRT refuses the graph') == 1
    assert 'runs in torch' in caplog.text


def test_without_tensorrt_the_vae_runs_in_torch(vae, cache, caplog):
    steps = EngineSteps(CPU, 'abc', cache, engines.build_engine)
    monkey = pytest.MonkeyPatch()
    monkey.setattr(runners, 'tensorrt_version', engines.tensorrt_version)
    fast, plain = VaeEngines(vae, steps).open_encoder(), CausalVAEEncoder(vae)
    for number, count in enumerate((1, 2, 2, 2, 2)):
        frames = randn(number, 1, 3, count, 8, 12)
        torch.testing.assert_close(fast.encode(frames), plain.encode(frames))
    monkey.undo()
    assert 'the step encode runs in torch' in caplog.text


def test_a_wrong_chunk_is_told_and_changes_nothing(vae, recorded, cache):
    coders = VaeEngines(vae, EngineSteps(CPU, 'abc', cache, lambda path: path.name.encode()))
    encoder = coders.open_encoder()
    with pytest.raises(ValueError, match=r'\(B, 3, 1, H, W\) is expected'):
        encoder.encode(randn(0, 1, 3, 2, 8, 12))
    assert encoder.encode(randn(0, 1, 3, 1, 8, 12)).shape == (1, 2, 1, 4, 6)
