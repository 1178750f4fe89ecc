"""The faster layers of the VAE give what the plain ones give, to the rounding of bfloat16."""
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanResidualBlock, WanUpsample
from torch import nn
from toy_model import randn, streamed, toy_vae

from dkt_ros.model import wan_layers
from dkt_ros.model.causal_vae import CausalVAEDecoder
from dkt_ros.model.imaging import to_maps
from dkt_ros.model.wan_layers import (
    FastResidualBlock,
    FastUpsampling,
    multiply_in_bfloat16,
    use_fast_layers,
)

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason='needs oneDNN')


@torch.no_grad()
def test_enlarging_and_convolving_is_one_transposed_convolution():
    plain = nn.Sequential(WanUpsample(scale_factor=(2.0, 2.0), mode='nearest-exact'),
                          nn.Conv2d(6, 5, 3, padding=1))
    x = randn(1, 2, 6, 7, 9)
    expected = plain(x)
    plain.__class__ = FastUpsampling
    plain.set_up()
    weight, bias = plain.spread
    found = nn.functional.conv_transpose2d(x, weight.float(), bias.float(), stride=2, padding=1)
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)
    torch.testing.assert_close(plain(x), expected, atol=0.03, rtol=0)


@pytest.mark.parametrize('patchified', [True, False], ids=['wan2.2', 'wan2.1'])
@torch.no_grad()
def test_a_decoder_that_knows_its_tasks_gives_the_same_maps(patchified):
    vae = use_fast_layers(toy_vae(patchified))
    latents = randn(2, 2, 4, 2, 4, 6).split(1, dim=2)
    plain = CausalVAEDecoder(vae)
    expected = torch.cat([plain.decode(latent) for latent in latents], dim=2)
    multiply_in_bfloat16(vae)
    fast, wide = CausalVAEDecoder(vae, ('depth', 'normal')), CausalVAEDecoder(vae)
    found = torch.cat([fast.decode(latent) for latent in latents], dim=2)
    assert torch.equal(found[0, 0], found[0, 1])
    assert not torch.equal(found[1, 0], found[1, 1])
    for row, task in enumerate(('depth', 'normal')):
        error = to_maps(found[row], task) - to_maps(expected[row], task)
        assert abs(error).mean() < 0.02 * to_maps(expected[row], task).std()
    # without tasks all channels are as they were
    first = wide.decode(latents[0])
    assert not torch.equal(first[0, 0], first[0, 1])
    torch.testing.assert_close(first.mean(1)[0], found[0, 0, :1], atol=1e-5, rtol=0)


@torch.no_grad()
def test_disparity_has_no_steps_of_bfloat16():
    vae = multiply_in_bfloat16(use_fast_layers(toy_vae()))
    video = CausalVAEDecoder(vae, ('depth', 'normal')).decode(randn(3, 2, 4, 1, 4, 6))
    rounded = video.to(torch.bfloat16).float()
    assert not torch.equal(video[0], rounded[0])
    assert torch.equal(video[1], rounded[1])


@pytest.mark.parametrize('patchified', [True, False], ids=['wan2.2', 'wan2.1'])
@torch.no_grad()
def test_a_block_in_pieces_is_the_block(patchified, monkeypatch):
    monkeypatch.setattr(wan_layers, 'PIECE', 100)
    vae = multiply_in_bfloat16(use_fast_layers(toy_vae(patchified)))
    frames = randn(4, 1, 3, 9, 32, 48).mul_(0.3)

    found = streamed(vae, frames, 'depth')
    blocks = [module for module in vae.modules() if isinstance(module, FastResidualBlock)]
    assert len(blocks) > 5
    for block in blocks:
        block.__class__ = WanResidualBlock
    for one, other in zip(found, streamed(vae, frames, 'depth'), strict=True):
        # a value on the brink of two bfloat16 may fall to either
        assert (one - other).abs().mean() < 2e-3 * other.std()


@torch.no_grad()
def test_a_streams_latents_are_its_own():
    """A block works in place: what it is given must not be anyone's memory."""
    vae = multiply_in_bfloat16(use_fast_layers(toy_vae()))
    latents = randn(5, 1, 4, 3, 4, 6).split(1, dim=2)
    copies = [latent.clone() for latent in latents]
    decoder = CausalVAEDecoder(vae, ('depth',))
    first = [decoder.decode(latent) for latent in latents]
    decoder.reset()
    assert all(map(torch.equal, first, [decoder.decode(latent) for latent in latents]))
    assert all(map(torch.equal, latents, copies))
