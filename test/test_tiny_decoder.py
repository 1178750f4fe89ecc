"""A user's decoder in TAEHV's layout: streamed it is the whole clip; wrong files are named."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tiny_decoder_files import published, written
from toy_model import randn, toy_clip, toy_frames, toy_pipeline, toy_vae

from dkt_ros.config import StreamConfig
from dkt_ros.errors import UserError
from dkt_ros.model.tiny_decoder import TinyDecoderStream, load_tiny_decoder
from dkt_ros.stream import DKTStream


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def whole_clip(state, latents, patch=1):
    """Decode a clip layer by layer, all frames of a layer at once, without any state."""
    def conv(x, name, padding=1):
        bias = state.get(f'decoder.{name}.bias')
        return F.conv2d(x, state[f'decoder.{name}.weight'], bias, padding=padding)

    batch = len(latents)
    x = torch.tanh(latents.transpose(1, 2).flatten(0, 1) / 3) * 3
    x = F.relu(conv(x, 1))
    for level in range(3):
        for block in range(3 + 6 * level, 6 + 6 * level):
            frames = x.unflatten(0, (batch, -1))
            past = torch.cat([torch.zeros_like(frames[:, :1]), frames[:, :-1]], 1).flatten(0, 1)
            y = F.relu(conv(torch.cat([x, past], 1), f'{block}.conv.0'))
            y = conv(F.relu(conv(y, f'{block}.conv.2')), f'{block}.conv.4')
            x = F.relu(x + y)
        x = F.interpolate(x, scale_factor=2)
        grown = conv(x, f'{7 + 6 * level}.conv', 0)
        x = conv(grown.reshape(-1, *x.shape[1:]), 8 + 6 * level)
    x = conv(F.relu(x), 22)
    if patch > 1:
        x = F.pixel_shuffle(x, patch)
    return x.clamp(0, 1).unflatten(0, (batch, -1)).transpose(1, 2)[:, :, 3:] * 2 - 1


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
def test_a_stream_decoded_is_the_whole_clip_decoded(tmp_path, suffix):
    state, vae = published(), toy_vae(patchified=False)
    path = tmp_path / f'taew2_1{suffix}'
    (save_file if suffix == '.safetensors' else torch.save)(state, str(path))
    stream = TinyDecoderStream(load_tiny_decoder(path, vae))
    latents = randn(5, 2, 4, 4, 3, 5)
    frames = [stream.decode(latent) for latent in latents.split(1, dim=2)]
    assert [part.shape[2] for part in frames] == [1, 4, 4, 4]
    expected = whole_clip(state, latents)
    assert expected.std() > 0.05
    torch.testing.assert_close(torch.cat(frames, dim=2), expected, atol=1e-5, rtol=1e-5)
    stream.reset()
    assert torch.equal(stream.decode(latents[:, :, :1]), frames[0])


def test_the_caches_are_given_and_given_back(tmp_path):
    network = load_tiny_decoder(written(tmp_path, published()), toy_vae(False))
    latent = randn(1, 2, 4, 3, 5)
    caches = network.empty_caches(latent)
    assert [tuple(cache.shape) for cache in caches] == \
        [(2, 8, 3, 5)] * 3 + [(2, 6, 6, 10)] * 3 + [(2, 4, 12, 20)] * 3
    frames, *after = network(latent, *caches)
    assert frames.shape == (2, 3, 4, 24, 40)
    assert [cache.shape for cache in after] == [cache.shape for cache in caches]
    assert all(cache.any() for cache in after)


def test_files_with_patches_and_with_more_time_steps_than_needed(tmp_path):
    vae = toy_vae()
    vae.register_to_config(patch_size=4)  # 16 pixels a latent pixel
    state = published(strides=(2, 2, 2), patch=2)
    network = load_tiny_decoder(written(tmp_path, state), vae)
    assert (network.temporal_ratio, network.spatial_ratio) == (4, 16)
    stream, latents = TinyDecoderStream(network), randn(1, 1, 4, 3, 2, 3)
    found = torch.cat([stream.decode(latent) for latent in latents.split(1, dim=2)], dim=2)
    last = state | {'decoder.7.conv.weight': state['decoder.7.conv.weight'][-8:]}
    torch.testing.assert_close(found, whole_clip(last, latents, 2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('preset', ['balanced', 'image'])
def test_a_pipeline_decodes_with_it(tmp_path, preset):
    pipeline, plain = (toy_pipeline(2, 'gaussian', patchified=False) for _ in range(2))
    state = published()
    pipeline.tiny_decoder = load_tiny_decoder(written(tmp_path, state), pipeline.vae)
    stream = DKTStream(pipeline, StreamConfig(preset=preset, seam_blend=0), normals=True)
    estimates = [e for frame in toy_frames(13) for e in stream.push(frame)] + stream.flush()
    disparity = np.stack([e.disparity for e in estimates])
    clip = toy_clip(13)
    np.testing.assert_allclose(pipeline(clip, preset=preset).prediction, disparity, atol=1e-5)
    assert np.abs(plain(clip, preset=preset).prediction - disparity).max() > 0.01
    faithful = pipeline(clip, preset='faithful', output_size='working')
    expected = whole_clip(state, faithful.latents)[0].mean(0) * 0.5 + 0.5
    np.testing.assert_allclose(faithful.prediction, expected[:13], atol=1e-5)


class Smeared(torch.nn.Module):
    """The least that a user may bring: frames are blends of this latent and the one before."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))

    def empty_caches(self, latent):
        return [torch.zeros_like(latent)]

    def forward(self, latent, past):
        blends = torch.stack([past + (latent - past) * (i + 1) / 4 for i in range(4)], dim=2)
        video = F.interpolate(blends[:, :3].flatten(1, 2), scale_factor=8)
        return video.unflatten(1, (3, 4)) * self.weight, latent


def test_any_module_with_the_protocol_will_do():
    pipeline, plain = toy_pipeline(2, 'gaussian'), toy_pipeline(2, 'gaussian')
    pipeline.tiny_decoder = Smeared()
    found = pipeline(toy_clip(9), preset='faithful', output_size='working')
    latents = plain(toy_clip(9), preset='faithful').latents[0, :3].clamp(-1, 1).mean(0)
    ends = F.interpolate(latents[None], scale_factor=8)[0].numpy() * 0.5 + 0.5
    np.testing.assert_allclose(found.prediction[::4], ends, atol=1e-5)


def without(state, *names):
    return {key: value for key, value in state.items() if key not in names}


@pytest.mark.parametrize(('state', 'sentence'), [
    (published(z=6), r'decodes 6 latent channels; the VAE of this model has 4'),
    (published(strides=(1, 1, 2)), r'decodes 2 frames a latent; the VAE of this model has 4'),
    (published(patch=2), r'decodes 16 pixels a latent pixel; .* has 8'),
    (without(published(), 'decoder.22.weight'), r"lacks the tensor 'decoder.22.weight'"),
    (without(published(), 'decoder.4.conv.2.bias'), r"'decoder.4.conv.2.bias' .* is missing"),
    (published() | {'decoder.4.skip.weight': randn(1, 8, 8, 1, 1)},
     r"'decoder.4.skip.weight' .* is \(8, 8, 1, 1\), nothing is expected"),
    (published() | {'decoder.9.conv.0.weight': randn(1, 6, 6, 3, 3)},
     r'is \(6, 6, 3, 3\), \(6, 12, 3, 3\) is expected'),
    ({'conv1.weight': randn(1, 4, 4)}, r"has the tensor 'conv1.weight'; the decoder of TAEHV"),
])
def test_files_that_do_not_fit_are_named(tmp_path, state, sentence):
    with pytest.raises(UserError, match=sentence):
        load_tiny_decoder(written(tmp_path, state), toy_vae(False))


def test_paths_that_do_not_fit_are_named(tmp_path):
    vae = toy_vae(False)
    with pytest.raises(UserError, match='does not exist'):
        load_tiny_decoder(tmp_path / 'none.safetensors', vae)
    with pytest.raises(UserError, match='has 0 weight files'):
        load_tiny_decoder(tmp_path, vae)
    path = written(tmp_path, published())
    assert load_tiny_decoder(tmp_path, vae).z_dim == 4
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match='truncated or broken'):
        load_tiny_decoder(path, vae)
    torch.save(torch.nn.Linear(1, 1), tmp_path / 'code.pth')
    with pytest.raises(UserError, match='code.pth holds more than tensors'):
        load_tiny_decoder(tmp_path / 'code.pth', vae)
    written(tmp_path, published(), 'other.safetensors')
    with pytest.raises(UserError, match='has 3 weight files; name the one'):
        load_tiny_decoder(tmp_path, vae)
