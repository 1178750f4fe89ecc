"""`dkt export`: graphs that agree with torch are kept, others are refused."""
import pytest
import torch
from toy_model import toy_pipeline
from typer.testing import CliRunner

from dkt_ros.cli import app
from dkt_ros.errors import RunError, UserError
from dkt_ros.model.execution import prepare
from dkt_ros.tools import export
from dkt_ros.tools.export import run_export

ARGUMENTS = {'onnx': True, 'tensorrt': False, 'preset': 'balanced', 'height': None,
             'width': None, 'tasks': None}


@pytest.fixture
def toy(monkeypatch):
    """Stand in for the model, and for the graph on disk: torch itself."""
    torch.set_num_threads(1)
    monkeypatch.setattr(export, 'load_pipeline', lambda *_, **__: prepare(toy_pipeline()))

    def write(graph, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'graph')
        return path

    def run(session, graph, inputs):
        result = graph(*inputs)
        return [result] if isinstance(result, torch.Tensor) else list(result)

    monkeypatch.setattr(export, 'export_onnx', write)
    monkeypatch.setattr(export, 'open_onnx', lambda path, threads: None)
    monkeypatch.setattr(export, 'run_onnx', run)


def test_three_graphs_with_their_caches(toy, tmp_path):
    figures = run_export('dkt-tiny', out=tmp_path, **ARGUMENTS)
    graphs = {graph['name']: graph for graph in figures['graphs']}
    assert set(graphs) == {'dit', 'encode', 'decode'}
    assert graphs['dit']['inputs']['latents'] == [2, 4, 3, 4, 6]
    assert graphs['encode']['inputs']['frames'] == [1, 3, 4, 32, 48]
    assert graphs['decode']['inputs']['latent'] == [2, 4, 1, 4, 6]
    for name in ('encode', 'decode'):
        assert len(graphs[name]['inputs']) == len(graphs[name]['outputs']) > 5
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'decode.onnx', 'dit.onnx', 'encode.onnx']


def test_tasks_and_size_are_those_asked_for(toy, tmp_path):
    options = ARGUMENTS | {'tasks': ('normal',), 'height': 16, 'width': 24, 'preset': 'image'}
    figures = run_export('dkt-tiny', out=tmp_path, **options)
    assert figures['graphs'][0]['inputs']['latents'] == [1, 4, 1, 2, 3]


def test_a_graph_that_disagrees_is_no_success(toy, tmp_path, monkeypatch):
    right = export.run_onnx
    monkeypatch.setattr(export, 'run_onnx', lambda *arguments: [
        tensor + 2e-4 * tensor.abs().max().clamp_min(1.0) for tensor in right(*arguments)])
    with pytest.raises(RunError, match=r'dit.onnx differs from torch by 2\.0e-04'):
        run_export('dkt-tiny', out=tmp_path, **ARGUMENTS)


@pytest.mark.parametrize(('options', 'sentence'), [
    ({'onnx': False}, 'nothing is asked for'),
    ({'preset': 'faithful'}, "preset is 'faithful'"),
    ({'tasks': ('flow',)}, "task is 'flow'"),
    ({'height': 33, 'width': 48}, 'working size is 48x33'),
])
def test_wrong_options_are_named(toy, tmp_path, options, sentence):
    with pytest.raises(UserError, match=sentence):
        run_export('dkt-tiny', out=tmp_path, **(ARGUMENTS | options))


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU here')
def test_engines_need_a_gpu(tmp_path):
    result = CliRunner().invoke(app, ['export', 'dkt-tiny', '--tensorrt', '--out', str(tmp_path)])
    assert result.exit_code == 2
    assert 'needs an NVIDIA GPU' in ' '.join(result.output.split())
