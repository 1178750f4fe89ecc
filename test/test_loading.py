"""What makes a loaded pipeline faster changes little or nothing of what it computes."""
import pytest
import torch

from dkt_ros.errors import UserError
from dkt_ros.model.causal_vae import CausalVAEDecoder, CausalVAEEncoder
from dkt_ros.model.execution import choose_precision, prepare
from dkt_ros.model.folded import FoldedTransformer
from dkt_ros.model.loading import choose_device, load_pipeline
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.resources import resolve_model

TASKS = ('depth', 'normal')


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def tiny():
    return DKTPipeline.from_pretrained(resolve_model('dkt-tiny'))


def run(pipeline):
    generator = torch.Generator().manual_seed(0)
    encoder, decoder = CausalVAEEncoder(pipeline.vae), CausalVAEDecoder(pipeline.vae)
    results = []
    for count in (1, 4, 4):
        frames = torch.rand(1, 3, count, 64, 96, generator=generator) * 2 - 1
        latent = encoder.encode(frames)
        results += [latent, decoder.decode(latent)]
    rgb = torch.cat(results[::2], dim=2)
    velocity = pipeline.folded().velocity(pipeline.condition(rgb), TASKS, num_held=1)
    return [*results, velocity(rgb.expand(2, -1, -1, -1, -1), torch.tensor(1000.0))]


@pytest.fixture(scope='module')
def expected():
    torch.set_num_threads(1)
    return run(tiny())


def test_the_layout_gives_the_same_numbers(expected):
    for result, wanted in zip(run(prepare(tiny())), expected, strict=True):
        torch.testing.assert_close(result, wanted, rtol=1e-4, atol=1e-4)


def test_bfloat16_products_are_near(expected):
    results = run(prepare(tiny(), precision=torch.bfloat16))
    errors = [((result - wanted).norm() / wanted.norm()).item()
              for result, wanted in zip(results, expected, strict=True)]
    assert all(result.dtype == torch.float32 for result in results)
    assert max(errors) < 0.02
    assert min(errors) > 1e-5


def test_bfloat16_keeps_what_must_be_exact():
    pipeline = prepare(tiny(), precision=torch.bfloat16)
    assert pipeline.vae.dtype == torch.float32
    assert pipeline.vae.decoder.conv_out.rounded is None
    assert pipeline.vae.decoder.conv_in.rounded[0].dtype == torch.bfloat16
    network = pipeline.transformer
    assert {buffer.dtype for buffer in network.buffers()} == {torch.float32}
    assert network.proj_out.weight.dtype == torch.float32
    assert network.blocks[0].qkv.weight.dtype == torch.bfloat16


def test_a_loaded_pipeline_is_folded_and_laid_out():
    pipeline = load_pipeline('dkt-tiny', 'cpu')
    weights = [p for p in pipeline.vae.parameters() if p.ndim == 5]
    assert any(p.is_contiguous(memory_format=torch.channels_last_3d) and not p.is_contiguous()
               for p in weights)
    assert isinstance(pipeline.transformer, FoldedTransformer)
    assert pipeline.folded() is pipeline.transformer


@pytest.mark.parametrize(('name', 'device', 'has', 'expected'), [
    ('auto', 'cpu', True, torch.bfloat16), ('auto', 'cpu', False, torch.float32),
    ('auto', 'cuda:1', False, torch.bfloat16), ('float32', 'cuda', True, torch.float32),
    ('bfloat16', 'cpu', False, torch.bfloat16)])
def test_precision_follows_the_hardware(name, device, has, expected):
    assert choose_precision(name, device, has) == expected


@pytest.mark.parametrize('call', [
    lambda: choose_precision('fp8', 'cpu', True),
    lambda: prepare(tiny(), 'fast'),
    lambda: choose_device('gpu', False, 0)])
def test_wrong_choices_are_named(call):
    with pytest.raises(UserError, match=r'is .(fp8|fast|gpu).*; allowed'):
        call()
