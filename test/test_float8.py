"""Products in float8 are near those in full precision, and refused where they cannot be."""
import pytest
import torch
from torch import nn
from toy_model import randn, toy_pipeline

from dkt_ros.errors import UserError
from dkt_ros.model import float8
from dkt_ros.model.execution import choose_precision, prepare, storage_dtype
from dkt_ros.model.float8 import FLOAT8, Float8Linear, check_float8, input_dtype
from dkt_ros.model.loading import load_pipeline

CPU = torch.device('cpu')


@pytest.fixture(autouse=True)
def float8_here():
    torch.set_num_threads(1)
    try:
        check_float8(CPU)
    except UserError as error:
        pytest.skip(str(error))


def layer_of(columns=64, rows=96):
    layer = nn.Linear(columns, rows)
    with torch.no_grad():
        layer.weight.copy_(randn(1, rows, columns) * (1 + 100 * randn(2, rows, 1).abs()))
        layer.bias.copy_(randn(3, rows))
    return layer


def test_a_layer_is_near_though_rows_and_tokens_differ_in_size():
    layer = layer_of()
    x = (randn(4, 2, 40, 64) * 10.0 ** randn(5, 2, 40, 1)).to(torch.bfloat16)
    rounded = Float8Linear(layer)
    found, expected = rounded(x), layer(x.float())
    assert (found.shape, found.dtype) == (expected.shape, torch.bfloat16)
    errors = (found.float() - expected).norm(dim=-1) / expected.norm(dim=-1)
    assert 1e-3 < errors.max() < 0.06
    assert (rounded.rounded.dtype, input_dtype(rounded)) == (FLOAT8, torch.bfloat16)
    assert rounded(torch.zeros(1, 64, dtype=torch.bfloat16)).isfinite().all()


def test_weights_take_a_byte_each():
    kept = sum(buffer.nbytes for buffer in Float8Linear(layer_of(1024, 1024)).buffers())
    assert kept < 1.02 * 1024 ** 2


def test_dkt_tiny_multiplies_in_float8():
    rgb, latents = randn(1, 1, 48, 2, 4, 6), randn(2, 2, 48, 2, 4, 6)
    found = []
    for precision in ('float32', 'float8'):
        pipeline = load_pipeline('dkt-tiny', 'cpu', precision=precision)
        told = pipeline.condition(rgb)
        velocity = pipeline.folded().velocity(told, ('depth', 'normal'), 1)
        found.append(velocity(latents, torch.tensor(1000.0)))
    block = pipeline.transformer.blocks[0]
    assert all(isinstance(getattr(block, name), Float8Linear) for name in float8.LAYERS)
    assert pipeline.transformer.proj_out.weight.dtype == torch.float32
    assert 1e-3 < (found[1] - found[0]).norm() / found[0].norm() < 0.08


def test_precision_and_storage():
    assert choose_precision('float8', 'cuda', False) == FLOAT8
    assert choose_precision('auto', 'cuda', True) == torch.bfloat16
    assert storage_dtype(FLOAT8, 'cuda') == torch.bfloat16
    assert storage_dtype(torch.float32, 'cuda') == torch.float32
    assert storage_dtype(torch.bfloat16, 'cpu') == torch.float32


def test_where_it_cannot_be_it_is_refused(monkeypatch):
    with pytest.raises(UserError, match='precision is float8 and execution onnxruntime'):
        prepare(toy_pipeline(), 'onnxruntime', FLOAT8)

    def fail(*arguments, **options):
        raise RuntimeError('only supported on compute capability >= 9.0')

    monkeypatch.setattr(torch, '_scaled_mm', fail)
    with pytest.raises(UserError, match=r'cannot be computed on cpu .*capability >= 9.0.*; it '
                                        r'needs a card'):
        prepare(toy_pipeline(), 'eager', FLOAT8)
