"""Convolutions in 8 bits: rounded as said, near what they stand for, only where asked."""
import numpy as np
import pytest
import torch
from toy_model import randn, streamed, toy_pipeline, toy_vae

from dkt_ros.config import BenchConfig
from dkt_ros.errors import UserError
from dkt_ros.model.execution import (
    choose_precision,
    cpu_has_bfloat16,
    prepare,
    storage_dtype,
)
from dkt_ros.model.int8 import Int8Weights, check_int8, cpu_has_int8, multiply_in_int8
from dkt_ros.model.loading import load_pipeline
from dkt_ros.model.wan_layers import FastResidualBlock, multiply_in_bfloat16, use_fast_layers
from dkt_ros.stream import DKTStream
from dkt_ros.tools.bench import bench_frames

pytestmark = pytest.mark.skipif(not (cpu_has_int8() and cpu_has_bfloat16()),
                                reason='the processor lacks VNNI or bfloat16')


def rounded_blocks(vae):
    return [block for block in vae.modules() if isinstance(block, FastResidualBlock)
            and block.conv1.coarse is not None]


@torch.no_grad()
def test_a_convolution_of_rounded_numbers_is_exact():
    block = use_fast_layers(toy_vae()).decoder.up_blocks[-1].resnets[0]
    norm, convolution = block.pairs[0]
    weights = Int8Weights(convolution, norm)
    values = randn(0, 2, convolution.in_channels, 5, 6, 8).clamp_(min=-0.27)
    rounded = torch.empty(values.shape, dtype=torch.uint8)
    weights.write(rounded, values.clone())
    known = (rounded.float() - weights.zero) * weights.step
    in_range = values < weights.step * (255 - weights.zero)
    assert ((known - values).abs()[in_range] <= 0.501 * weights.step).all()
    assert (known[~in_range] < values[~in_range]).all()
    steps = convolution.weight.abs().amax((1, 2, 3, 4), keepdim=True) / 127
    expected = torch.nn.functional.conv3d(known, (convolution.weight / steps).round() * steps,
                                          convolution.bias, padding=(0, 1, 1))
    found = weights.multiply(rounded).float()
    torch.testing.assert_close(found, expected, rtol=0.005, atol=0.005 * float(expected.std()))


@pytest.mark.parametrize('patchified', [True, False], ids=['wan2.2', 'wan2.1'])
@torch.no_grad()
def test_a_stream_of_latents_stays_near_float32(patchified):
    vae = use_fast_layers(toy_vae(patchified))
    frames = randn(1, 1, 3, 9, 32, 48).mul_(0.3)

    expected = streamed(vae, frames, 'normal')
    multiply_in_int8(multiply_in_bfloat16(vae))
    assert len(rounded_blocks(vae)) > 5
    for found, wanted in zip(streamed(vae, frames, 'normal'), expected, strict=True):
        error = (found - wanted).abs().mean() / wanted.std()
        assert 1e-5 < error < 0.05


def test_the_bundled_model_takes_it_and_its_maps_hardly_change():
    frames = list(bench_frames(BenchConfig(num_frames=9)))

    def run(precision):
        stream = DKTStream(load_pipeline('dkt-tiny', 'cpu', precision=precision), normals=True)
        estimates = [found for frame in frames for found in stream.push(frame)]
        assert bool(rounded_blocks(stream.pipeline.vae)) == (precision in ('auto', 'int8'))
        return (np.stack([estimate.disparity for estimate in estimates]),
                np.stack([estimate.normals for estimate in estimates]))

    expected, found = run('float32'), run('auto')
    error = found[0] - expected[0]
    assert np.sqrt((error ** 2).mean()) < 0.01 * expected[0].std()
    cosine = (found[1] * expected[1]).sum(-1)
    assert np.degrees(np.arccos(cosine.clip(-1, 1))).mean() < 0.25


def test_only_a_model_that_says_so_takes_it_by_itself(tmp_path):
    toy_pipeline().save_pretrained(tmp_path / 'model')
    assert not rounded_blocks(load_pipeline(tmp_path / 'model', 'cpu').vae)
    assert rounded_blocks(load_pipeline(tmp_path / 'model', 'cpu', precision='int8').vae)


def test_a_gpu_and_a_torch_without_it_are_told(monkeypatch):
    with pytest.raises(UserError, match='precision is int8 and the device cuda'):
        choose_precision('int8', 'cuda', True)
    assert storage_dtype(choose_precision('int8', 'cpu', True), 'cpu') == torch.float32
    check_int8()
    monkeypatch.setattr(Int8Weights, 'multiply', lambda self, x: torch.zeros(1))
    with pytest.raises(UserError, match='convolves in it wrongly'):
        prepare(toy_pipeline(), precision=torch.int8)
    monkeypatch.delattr(Int8Weights, 'multiply')
    with pytest.raises(UserError, match='which torch .* cannot compute'):
        check_int8()
    assert not rounded_blocks(load_pipeline('dkt-tiny', 'cpu').vae)  # nobody asked for it there


def test_a_check_leaves_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    check_int8()
    assert torch.equal(torch.rand(1), expected)
