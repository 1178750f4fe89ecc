"""Frame by frame equals the whole clip; memory is bounded; layouts are read, not assumed."""
import pytest
import torch
from toy_model import randn, toy_vae

from dkt_ros.model.causal_vae import (
    CausalVAEDecoder,
    CausalVAEEncoder,
    decode_clip,
    encode_clip,
    latent_statistics,
    spatial_ratio,
    temporal_ratio,
)
from dkt_ros.model.wan_layers import FastCausalConv3d, use_fast_layers

FORMS = pytest.mark.parametrize('patchified', [True, False], ids=['wan2.2', 'wan2.1'])


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@FORMS
@pytest.mark.parametrize('num_frames', [1, 5, 17])
def test_encoding_by_frame_equals_the_whole_clip(patchified, num_frames):
    vae, video = toy_vae(patchified), randn(3, 2, 3, num_frames, 32, 48).clamp(-1, 1)
    mean, std = latent_statistics(vae)
    with torch.no_grad():
        expected = (vae.encode(video).latent_dist.mode() - mean) / std
    use_fast_layers(vae)
    latents = encode_clip(vae, video)
    assert latents.shape == (2, 4, (num_frames - 1) // 4 + 1, 4, 6)
    torch.testing.assert_close(latents, expected, atol=1e-5, rtol=0)


@FORMS
def test_decoding_by_latent_equals_the_whole_clip(patchified):
    vae, latents = toy_vae(patchified), randn(4, 2, 4, 4, 4, 6)
    mean, std = latent_statistics(vae)
    with torch.no_grad():
        expected = vae.decode(latents * std + mean).sample
    use_fast_layers(vae)
    video = decode_clip(vae, latents)
    assert video.shape == (2, 3, 13, 32, 48)
    torch.testing.assert_close(video.clamp(-1, 1), expected, atol=1e-5, rtol=0)


def test_decoded_values_are_not_clamped():
    vae = toy_vae()
    assert decode_clip(vae, 40.0 * randn(4, 1, 4, 2, 4, 6)).abs().max() > 1.0


@FORMS
def test_reset_makes_the_next_call_the_first(patchified):
    vae = use_fast_layers(toy_vae(patchified))
    encoder, decoder = CausalVAEEncoder(vae), CausalVAEDecoder(vae)
    frames = randn(5, 1, 3, 5, 32, 48)
    first = encoder.encode(frames[:, :, :1])
    second = encoder.encode(frames[:, :, 1:])
    assert not torch.allclose(first, second)
    assert decoder.decode(first).shape[2] == 1
    assert decoder.decode(second).shape[2] == 4
    encoder.reset()
    decoder.reset()
    assert torch.equal(encoder.encode(frames[:, :, :1]), first)
    assert decoder.decode(first).shape[2] == 1


def test_wrong_number_of_frames_is_refused():
    encoder = CausalVAEEncoder(toy_vae())
    with pytest.raises(ValueError, match=r'\(1, 3, 4, 32, 48\).*3, 1, H'):
        encoder.encode(torch.zeros(1, 3, 4, 32, 48))
    with pytest.raises(ValueError, match='one at a time'):
        CausalVAEDecoder(toy_vae()).decode(torch.zeros(1, 4, 2, 4, 6))


def test_caches_do_not_grow_and_hold_no_gradient():
    vae = use_fast_layers(toy_vae())
    encoder, decoder = CausalVAEEncoder(vae), CausalVAEDecoder(vae)
    sizes = []
    for i in range(8):
        latent = encoder.encode(randn(i, 1, 3, encoder.num_frames, 32, 48))
        assert not decoder.decode(latent).requires_grad
        cached = [t for t in encoder._cache + decoder._cache if isinstance(t, torch.Tensor)]
        sizes.append(sum(t.untyped_storage().nbytes() for t in cached))
    assert sizes[3] == sizes[-1]


@FORMS
def test_ratios_come_from_the_structure(patchified):
    vae = toy_vae(patchified)
    assert (temporal_ratio(vae), spatial_ratio(vae)) == (4, 8)


def test_statistics_of_another_length_are_refused():
    vae = toy_vae()
    vae.register_to_config(latents_std=[1.0, 1.0])
    with pytest.raises(ValueError, match='latents_std.*2 values.*z_dim is 4'):
        latent_statistics(vae)
    vae.register_to_config(latents_std=None, latents_mean=None)
    mean, std = latent_statistics(vae)
    assert mean.flatten().tolist() == [0] * 4
    assert std.flatten().tolist() == [1] * 4


def test_fast_layers_leave_gradients_and_weights_alone():
    plain, fast = toy_vae(), use_fast_layers(toy_vae())
    assert any(type(module) is FastCausalConv3d for module in fast.modules())
    assert plain.state_dict().keys() == fast.state_dict().keys()
    x = randn(6, 1, 4, 1, 4, 6)
    outputs = [vae.decode(x).sample for vae in (plain, fast)]
    assert torch.equal(*outputs)
    outputs[1].sum().backward()
    assert fast.decoder.conv_in.weight.grad.abs().sum() > 0
