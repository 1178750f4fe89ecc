"""A model for normals beside one for depth: one RGB encoding where the VAEs are equal."""
import numpy as np
import pytest
import torch
from toy_model import randn, toy_clip, toy_frames, toy_pipeline, toy_transformer, toy_vae

from dkt_ros.config import NormalsConfig, PerceptionConfig, StreamConfig
from dkt_ros.errors import UserError
from dkt_ros.model.beside import attach_normals, is_same_vae
from dkt_ros.model.loading import load_pipeline
from dkt_ros.model.saving import save_model_folder
from dkt_ros.stream import DKTStream
from dkt_ros.tools.infer import load_perception


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def normals_model(steps=3, vae=None, tasks=('normal',)):
    """Return another network with the same VAE or another one."""
    pipeline = toy_pipeline(steps, 'gaussian')
    with torch.no_grad():
        for i, parameter in enumerate(pipeline.transformer.parameters()):
            parameter.add_(0.1 * randn(i, *parameter.shape))
    rows = {task: pipeline.prompt_rows.rows[task] for task in tasks}
    pipeline.register_modules(prompt_rows=type(pipeline.prompt_rows).from_rows(rows, 4))
    if vae is not None:
        pipeline.register_modules(vae=vae)
    return pipeline


def depth_model():
    pipeline = toy_pipeline(1)
    rows = type(pipeline.prompt_rows).from_rows({'depth': pipeline.prompt_rows.rows['depth']}, 4)
    pipeline.register_modules(prompt_rows=rows)
    return pipeline


def other_vae():
    vae = toy_vae()
    with torch.no_grad():
        for i, parameter in enumerate(vae.parameters()):
            parameter.mul_(1 + 0.1 * randn(i, *parameter.shape))
    return vae.requires_grad_(False)


def run(pipeline, **options):
    stream = DKTStream(pipeline, StreamConfig(seam_blend=0, **options), normals=True)
    estimates = [e for frame in toy_frames(20) for e in stream.push(frame)] + stream.flush()
    return (np.stack([e.disparity for e in estimates]), np.stack([e.normals for e in estimates]))


@pytest.mark.parametrize('shared', [True, False])
@pytest.mark.parametrize('overlap', ['recompute', 'cache'])
def test_each_map_is_that_of_its_own_model(shared, overlap):
    vae = None if shared else other_vae()
    clip = toy_clip(20)
    expected = (depth_model()(clip, 'depth', overlap=overlap).prediction,
                normals_model(vae=vae)(clip, 'normal', overlap=overlap).prediction)
    pair = attach_normals(depth_model(), normals_model(vae=vae))
    assert pair.tasks == ('depth', 'normal')
    assert (pair.normals_model.vae is pair.vae) == shared
    for found, wanted in zip(run(pair, overlap=overlap), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    for task, wanted in zip(pair.tasks, expected, strict=True):
        found = pair(clip, task, overlap=overlap).prediction
        np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize(('shared', 'times'), [(True, 1), (False, 2)])
def test_equal_vaes_encode_a_frame_once_and_decode_one_batch(monkeypatch, shared, times):
    pair = attach_normals(depth_model(), normals_model(vae=None if shared else other_vae()))
    frames, batches = [], []
    for vae in {id(model.vae): model.vae for model in (pair, pair.normals_model)}.values():
        encode, decode = vae.encoder.forward, vae.decoder.forward
        monkeypatch.setattr(vae.encoder, 'forward', lambda x, *a, _f=encode, **k:
                            frames.append(x.shape[2]) or _f(x, *a, **k))
        monkeypatch.setattr(vae.decoder, 'forward', lambda x, *a, _f=decode, **k:
                            batches.append(len(x)) or _f(x, *a, **k))
    stream = DKTStream(pair, normals=True)
    for frame in toy_frames(9):
        stream.push(frame)
    assert sum(frames) == 9 * times
    assert batches == [2] * 3 if shared else [1] * 6


def test_the_model_beside_takes_the_place_of_an_own_task():
    clip, expected = toy_clip(9), normals_model()(toy_clip(9), 'normal').prediction
    pair = attach_normals(toy_pipeline(1), normals_model())
    assert pair.tasks == ('depth', 'normal')
    np.testing.assert_allclose(pair(clip, 'normal').prediction, expected, atol=1e-4)


def test_the_working_size_is_that_of_depth():
    depth, other = depth_model(), normals_model()
    other.register_to_config(default_height=16, default_width=24)
    pair = attach_normals(depth, other)
    maps = pair(toy_clip(9), 'normal', preset='faithful', output_size='working').prediction
    assert maps.shape[1:3] == (32, 48)


def test_models_that_do_not_fit_are_told():
    with pytest.raises(UserError, match=r'normals.model is folder, which has no task for '
                                        r'normals, only depth'):
        attach_normals(depth_model(), depth_model(), 'folder')
    slower = toy_vae()
    slower.register_to_config(temperal_downsample=[True, False])
    with pytest.raises(UserError, match='latents hold 2 frames; those of the model for depth '
                                        'hold 4'):
        attach_normals(depth_model(), normals_model(vae=slower))


def test_vaes_are_compared_by_weights_and_configuration():
    assert is_same_vae(toy_vae(), toy_vae())
    assert not is_same_vae(toy_vae(), other_vae())
    scaled = toy_vae()
    scaled.register_to_config(latents_std=[2.0, 1, 2, 1])
    assert not is_same_vae(toy_vae(), scaled)


@pytest.fixture
def folders(tmp_path):
    options = {'default_num_inference_steps': 1, 'initial_noise': 'zeros',
               'default_height': 32, 'default_width': 48}
    return [save_model_folder(tmp_path / task, toy_transformer(), toy_vae(),
                              {task: randn(1, 2, 6)}, dtype=torch.float32, **options)
            for task in ('depth', 'normal')]


def test_two_folders_become_one_pipeline(folders):
    pair = load_pipeline(folders[0], 'cpu', precision='float32', normals_model=folders[1])
    assert pair.tasks == ('depth', 'normal')
    assert pair.normals_model.vae is pair.vae
    with pytest.raises(UserError, match='normals.model is .*has no task for normals'):
        load_pipeline(folders[0], 'cpu', normals_model=folders[0])
    with pytest.raises(UserError, match='neither a folder nor a bundled model'):
        load_pipeline(folders[0], 'cpu', normals_model=folders[0] / 'nothing')


def test_the_option_reaches_the_chain(folders):
    config = PerceptionConfig(normals=NormalsConfig(model=str(folders[1])))
    perception = load_perception(folders[0], config, 'cpu')
    assert perception.stream.tasks == ('depth', 'normal')
    without = PerceptionConfig(normals=NormalsConfig(source='depth', model='not read'))
    assert load_perception(folders[0], without, 'cpu').stream.tasks == ('depth',)
