"""A clip in, maps out; the folder on disk; what a user can get wrong."""
import json
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file
from toy_model import HEIGHT, WIDTH, randn, toy_clip, toy_pipeline, toy_transformer, toy_vae

from dkt_ros.errors import UserError
from dkt_ros.model.causal_vae import decode_clip
from dkt_ros.model.imaging import to_maps
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.model.prompt import PromptRows
from dkt_ros.model.sampler import denoise_joint
from dkt_ros.model.saving import save_model_folder
from dkt_ros.provenance import model_hash

LIVE = ('image', 'low_latency', 'balanced', 'long')


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope='module')
def pipeline():
    return toy_pipeline()


@pytest.fixture
def folder(tmp_path):
    return save_model_folder(
        tmp_path / 'model', toy_transformer(), toy_vae(),
        {'depth': randn(1, 2, 6), 'normal': randn(2, 2, 6)}, default_num_inference_steps=1,
        initial_noise='zeros', default_height=HEIGHT, default_width=WIDTH)


@pytest.mark.parametrize('preset', [*LIVE, 'faithful'])
@pytest.mark.parametrize('num_frames', [1, 2, 11])
def test_every_frame_gets_a_map_of_its_size(pipeline, preset, num_frames):
    clip = toy_clip(num_frames, 30, 50)
    disparity = pipeline(clip, preset=preset).prediction
    assert disparity.shape == (num_frames, 30, 50)
    assert disparity.dtype == np.float32
    normals = pipeline(clip, 'normal', preset=preset).prediction
    assert normals.shape == (num_frames, 30, 50, 3)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1.0, atol=1e-5)


def test_disparity_is_not_quantised(pipeline):
    assert len(np.unique(pipeline(toy_clip(1)).prediction)) > 1000


def test_working_size_output_and_tensors(pipeline):
    output = pipeline(toy_clip(2, 60, 90), output_size='working', output_type='pt')
    assert isinstance(output.prediction, torch.Tensor)
    assert output.prediction.shape == (2, HEIGHT, WIDTH)
    assert pipeline(toy_clip(1), height=16, width=24,
                    output_size='working').prediction.shape == (1, 16, 24)


@pytest.mark.parametrize('steps', [1, 3])
def test_one_live_window_is_one_offline_window(steps):
    pipeline, clip = toy_pipeline(steps), toy_clip(9)
    live = pipeline(clip, preset='balanced').prediction
    # the schedule of `faithful` is rounded, which the live one is not
    rgb = pipeline.encode_rgb(clip, HEIGHT, WIDTH)
    velocity = pipeline.folded().velocity(rgb, ('depth',))
    latents = denoise_joint(lambda x, t, part: velocity(x, t), torch.zeros_like(rgb),
                            pipeline.schedule(), 21, 3)
    np.testing.assert_allclose(live, to_maps(decode_clip(pipeline.vae, latents)[0], 'depth'),
                               atol=1e-5)


def test_zero_channels_are_filled_in():
    plain, wide = toy_pipeline(), toy_pipeline(extra_channels=4)
    clip = toy_clip(5)
    with torch.no_grad():
        weight = wide.transformer.patch_embedding.weight
        weight[:, :8] = plain.transformer.patch_embedding.weight
        rest = {key: value for key, value in plain.transformer.state_dict().items()
                if key != 'patch_embedding.weight'}
        wide.transformer.load_state_dict(rest | {'patch_embedding.weight': weight})
    np.testing.assert_allclose(plain(clip).prediction, wide(clip).prediction, atol=1e-6)


def test_a_seed_gives_the_same_result_again():
    pipeline, clip = toy_pipeline(2, 'gaussian'), toy_clip(5)
    for preset in ('balanced', 'faithful'):
        results = [pipeline(clip, preset=preset,
                            generator=torch.Generator().manual_seed(seed)).prediction
                   for seed in (3, 3, 4)]
        np.testing.assert_array_equal(results[0], results[1])
        assert np.abs(results[0] - results[2]).max() > 1e-4
        np.testing.assert_array_equal(pipeline(clip, preset=preset).prediction,
                                      pipeline(clip, preset=preset).prediction)


def test_injected_noise_is_the_start_of_a_faithful_run():
    pipeline, clip = toy_pipeline(2, 'gaussian'), toy_clip(5)
    noise = randn(1, 1, 4, 2, HEIGHT // 8, WIDTH // 8)
    drawn = pipeline(clip, preset='faithful', generator=torch.Generator().manual_seed(1))
    given = pipeline(clip, preset='faithful', noise=noise)
    np.testing.assert_allclose(given.prediction, drawn.prediction, atol=1e-6)
    assert given.latents.shape == noise.shape
    with pytest.raises(ValueError, match='noise is'):
        pipeline(clip, preset='faithful', noise=noise[:, :, :1])


def test_faithful_turns_portrait_clips_and_turns_normals_back(pipeline):
    clip = toy_clip(1)
    portrait = np.ascontiguousarray(np.rot90(clip, -1, axes=(1, 2)))
    upright = pipeline(clip, 'normal', preset='faithful').prediction
    turned = pipeline(portrait, 'normal', preset='faithful').prediction
    x, y, z = np.moveaxis(np.rot90(upright, -1, axes=(1, 2)), -1, 0)
    np.testing.assert_allclose(turned, np.stack([-y, x, z], -1), atol=1e-5)


@pytest.mark.parametrize(('arguments', 'sentence'), [
    ({'task': 'flow'}, "task is 'flow'; allowed: 'depth', 'normal'"),
    ({'preset': 'fast'}, "preset is 'fast'; allowed: 'image'"),
    ({'height': 33}, 'working size is 48x33.*multiple of 8'),
    ({'window_latents': 2, 'overlap_latents': 2}, 'overlap_latents is 2'),
    ({'num_inference_steps': -1}, 'num_inference_steps is -1'),
    ({'output_size': 'big'}, "output_size is 'big'"),
])
def test_wrong_arguments_are_named(pipeline, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        pipeline(toy_clip(1), **arguments)


@pytest.mark.parametrize('frames', [np.zeros((0, 8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3)),
                                    np.zeros((8, 8, 3), np.uint8), None])
def test_wrong_frames_are_refused(pipeline, frames):
    with pytest.raises(ValueError, match='frames are'):
        pipeline(frames)


def test_components_that_do_not_fit_are_refused():
    pipeline = toy_pipeline()
    with pytest.raises(ValueError, match='4 latent channels.*8'):
        DKTPipeline(toy_transformer(-1), pipeline.vae, pipeline.scheduler, pipeline.prompt_rows)
    with pytest.raises(ValueError, match="'pink'"):
        DKTPipeline(pipeline.transformer, pipeline.vae, pipeline.scheduler, pipeline.prompt_rows,
                    initial_noise='pink')


def test_a_model_with_an_image_branch_sees_zeros_there():
    plain = toy_pipeline()
    torch.manual_seed(0)
    network = WanTransformer3DModel.from_config(plain.transformer.config, image_dim=10,
                                                added_kv_proj_dim=24)
    parts = network, plain.vae, plain.scheduler
    rows = {'depth': randn(1, 2, 6)}
    with pytest.raises(ValueError, match='num_text_tokens is 4.*512'):
        DKTPipeline(*parts, PromptRows.from_rows(rows, 4))
    pipeline = DKTPipeline(*parts, PromptRows.from_rows(rows, 512))
    latents, rgb, timestep = randn(3, 1, 4, 2, 4, 6), randn(4, 1, 4, 2, 4, 6), torch.tensor(884.0)
    text = torch.nn.functional.pad(rows['depth'], (0, 0, 0, 510))[None]
    with torch.no_grad():
        expected = network(torch.cat([latents, rgb], 1), timestep[None], text,
                           torch.zeros(1, 257, 10), return_dict=False)[0]
        velocity = pipeline.folded().velocity(rgb, ('depth',))(latents, timestep)
    torch.testing.assert_close(velocity, expected)


def test_saved_and_loaded_again_it_says_the_same(folder, tmp_path):
    clip = toy_clip(5)
    first = DKTPipeline.from_pretrained(folder)
    first.set_progress_bar_config(disable=True)
    assert first.dtype == torch.float32
    assert first.tasks == ('depth', 'normal')
    assert first.config.default_num_inference_steps == 1
    expected = first(clip).prediction
    first.save_pretrained(tmp_path / 'again')
    second = DKTPipeline.from_pretrained(tmp_path / 'again')
    second.set_progress_bar_config(disable=True)
    np.testing.assert_allclose(second(clip).prediction, expected, atol=1e-5)


def test_stored_as_fp16_safetensors_in_small_shards(folder):
    weights = sorted(folder.rglob('*.safetensors'))
    assert {path.parent.name for path in weights} == {'transformer', 'vae', 'prompt_rows'}
    for path in weights:
        assert {value.dtype for value in load_file(path).values()} == {torch.float16}
    assert not [p for p in folder.rglob('*') if p.suffix in ('.bin', '.pt', '.pth')]


def test_others_may_read_it_as_far_as_the_umask_lets_them(folder):
    assert {path.stat().st_mode & 0o777 for path in folder.rglob('*') if path.is_file()} == {
        0o666 & ~_umask()}


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_saving_again_keeps_the_documents(folder):
    (folder / 'README.md').write_text('card')
    old = model_hash(folder)
    transformer = toy_transformer()
    torch.nn.init.ones_(transformer.proj_out.bias)
    save_model_folder(folder, transformer, toy_vae(), {'depth': randn(1, 2, 6)})
    assert (folder / 'README.md').read_text() == 'card'
    assert DKTPipeline.from_pretrained(folder).tasks == ('depth',)
    assert model_hash(folder) != old
    assert [p.name for p in folder.parent.iterdir()] == ['model']


def test_half_precision_on_request(folder):
    pipeline = DKTPipeline.from_pretrained(folder, torch_dtype=torch.bfloat16)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.vae.dtype == torch.bfloat16
    disparity = pipeline(toy_clip(5)).prediction
    assert disparity.dtype == np.float32
    assert np.isfinite(disparity).all()


def _truncate(folder):
    path = folder / 'vae' / 'diffusion_pytorch_model.safetensors'
    path.write_bytes(path.read_bytes()[:-100])


def _not_a_dkt_model(folder):
    index = json.loads((folder / 'model_index.json').read_text())
    (folder / 'model_index.json').write_text(json.dumps(index | {'_class_name': 'WanPipeline'}))


def _pickle_weights(folder):
    (folder / 'vae' / 'diffusion_pytorch_model.safetensors').unlink()
    (folder / 'vae' / 'diffusion_pytorch_model.bin').write_bytes(pickle.dumps({}))


def _other_config(folder):
    path = folder / 'transformer' / 'config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'num_layers': 3}))


def _misshapen(folder):
    path = folder / 'transformer' / 'config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'ffn_dim': 40}))


DAMAGES = [
    (lambda folder: shutil.rmtree(folder), 'does not exist.*model_index.json'),
    (lambda folder: (folder / 'model_index.json').unlink(), 'not a model folder'),
    (lambda folder: (folder / 'model_index.json').write_text('{'), 'cannot be read as JSON'),
    (_not_a_dkt_model, "'WanPipeline'.*DKT model folder"),
    (lambda folder: (folder / 'vae' / 'diffusion_pytorch_model.safetensors').unlink(),
     r'vae/diffusion_pytorch_model.safetensors is missing'),
    (lambda folder: (folder / 'vae' / 'config.json').unlink(), r'vae/config.json is missing'),
    (_truncate, r'vae/diffusion_pytorch_model.safetensors is truncated'),
    (_pickle_weights, r'vae/diffusion_pytorch_model.bin is a pickle.*safetensors'),
    (_other_config, r'transformer.*blocks\.2'),
    (_misshapen, 'cannot be loaded'),
]


@pytest.mark.parametrize(('damage', 'sentence'), DAMAGES)
def test_a_damaged_folder_is_told_in_one_sentence(folder, damage, sentence):
    damage(folder)
    with pytest.raises(UserError, match=sentence) as caught:
        DKTPipeline.from_pretrained(folder)
    assert '\n' not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_pickle_is_refused(tmp_path):
    path = tmp_path / 'model.pth'
    path.write_bytes(pickle.dumps({}))
    with pytest.raises(UserError, match='model.pth is a pickle'):
        DKTPipeline.from_pretrained(path)
