"""A base without a LoRA becomes the folder that training starts from, and says so."""
import io
import json

import pytest
import torch
from published_files import write_published, write_rows
from rich.console import Console
from safetensors.torch import load_file, save_file
from toy_model import published_lora, randn
from typer.testing import CliRunner

from dkt_ros.cli import app
from dkt_ros.errors import UserError
from dkt_ros.model.loading import load_pipeline
from dkt_ros.model.lora import merge_lora_file
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.model.released import load_transformer
from dkt_ros.tools.prepare import PrepareRequest, run_prepare


@pytest.fixture(scope='module')
def published(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp('published')
    return *write_published(folder), write_rows(folder / 'rows.safetensors')


def assert_same_weights(module, expected):
    tensors = expected.state_dict()
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, tensors[name], atol=1e-6, rtol=1e-6)


def test_without_a_lora_it_is_the_base_that_training_starts_from(published, tmp_path, caplog):
    base, lora, rows = published
    arguments = ['prepare', '--base', base, '--out', tmp_path / 'model', '--prompt-rows', rows,
                 '--head-dim', 48, '--dtype', 'float32']
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    assert 'the base that `dkt train` starts from' in ' '.join(result.output.split())
    manifest = json.loads((tmp_path / 'model' / 'manifest.json').read_text())
    assert manifest['lora'] is None
    assert len(manifest['sources']) == 2
    pipeline = load_pipeline(tmp_path / 'model', 'cpu', precision='float32')
    assert 'made without --lora' in caplog.text
    assert pipeline.tasks == ('depth', 'normal')
    state = load_file(base / 'diffusion_pytorch_model.safetensors')
    transformer = DKTPipeline.from_pretrained(tmp_path / 'model').transformer
    assert_same_weights(transformer, load_transformer(state, head_dim=48))
    merge_lora_file(transformer, lora / 'dkt.safetensors')
    assert_same_weights(transformer, load_transformer(state, published_lora(), 48))


def test_a_prepared_lora_is_no_bare_base(published, tmp_path, caplog):
    base, lora, rows = map(str, published)
    run_prepare(PrepareRequest(base, lora, tmp_path / 'model', rows, head_dim=48),
                Console(file=io.StringIO()))
    load_pipeline(tmp_path / 'model', 'cpu')
    assert 'bare base' not in caplog.text


def test_rows_that_lack_a_task_of_the_base_are_named(published, tmp_path):
    save_file({'depth': randn(1, 3, 32)}, tmp_path / 'rows.safetensors')
    request = PrepareRequest(str(published[0]), None, tmp_path / 'model',
                             tmp_path / 'rows.safetensors', head_dim=48)
    with pytest.raises(UserError, match=r"no rows for task 'normal', only depth.*--tasks"):
        run_prepare(request, Console(file=io.StringIO()))
