"""Training at toy size: the networks' shortcuts, the losses, a run, its resumption."""
import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from safetensors.torch import load_file

from dkt_ros.camera import PinholeCamera
from dkt_ros.data.scenes import EVALUATION_SEED, SceneFrame, write_scene
from dkt_ros.errors import UserError
from dkt_ros.frame import Frame
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.tools.train import losses
from dkt_ros.tools.train.data import draw_batch, draw_windows, load_clips, normalized
from dkt_ros.tools.train.loop import Trainer, learning_rate, make_optimizers, run_train
from dkt_ros.tools.train.networks import (
    build_transformer,
    build_vae,
    decode,
    draw_prompt_rows,
    encode,
    still_convolutions,
)
from dkt_ros.tools.train.steps import predict, set_trainable
from dkt_ros.train_config import StageConfig, TrainConfig, TransformerConfig, VaeConfig

VAE = VaeConfig(base_dim=8, decoder_base_dim=8, z_dim=8)
DIT = TransformerConfig(num_heads=1, head_dim=12, ffn_dim=24, num_layers=1, freq_dim=16)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def write_toy_scene(folder, seed, path='orbit'):
    """A sloping floor with a nearer block, five frames, 32x48."""
    rng = np.random.default_rng(seed)
    camera = PinholeCamera(48, 32, 48.0, 48.0, 23.5, 15.5)
    frames = []
    for index in range(5):
        depth = np.linspace(1.0, 0.5, 32, dtype=np.float32)[:, None].repeat(48, 1)
        material = np.zeros((32, 48), np.uint8)
        material[8:20, 10 + index:22 + index] = 1
        depth[material > 0] = 0.45
        normals = np.zeros((32, 48, 3), np.float32)
        normals[..., 2] = -1
        rgb = rng.integers(0, 255, (32, 48, 3), dtype=np.uint8)
        frames.append(SceneFrame(index, Frame(rgb, index, camera, depth), depth, normals,
                                 material.astype(np.uint16), material, np.eye(4)))
    write_scene(folder / f'scene_{seed:08d}', name=f'scene_{seed:08d}', seed=seed, preset='toy',
                fps=6.0, camera=camera, frames=frames, settings={'render': {'path': path}})


@pytest.fixture
def scenes(tmp_path):
    for seed in range(3):
        write_toy_scene(tmp_path / 'scenes', seed)
    return tmp_path / 'scenes'


def toy_config(tmp_path, scenes, **changes):
    stage = {'steps': 2, 'batch_size': 3, 'height': 32, 'width': 32, 'warmup_steps': 0}
    options = {'data': [str(scenes)], 'run': str(tmp_path / 'run'), 'held_out': 1, 'bf16': False,
               'checkpoint_every': 1, 'validate_every': 2, 'vae': VAE.to_dict(),
               'transformer': DIT.to_dict(),
               'stages': [{'kind': 'vae', **stage}, {'kind': 'flow', **stage},
                          {'kind': 'e2e', **stage, 'optimizer': 'muon'},
                          {'kind': 'e2e', **stage, 'num_frames': 5, 'drift_share': 0.5,
                           'stills': 2}]}
    return TrainConfig.from_dict({**options, **changes})


def test_a_still_needs_no_third_dimension():
    vae = build_vae(VAE)
    x = torch.rand(2, 48, 1, 8, 8)
    with torch.no_grad():
        expected = vae.encoder(x)
        with still_convolutions(vae):
            torch.testing.assert_close(vae.encoder(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('num_rows', [1, 2])
def test_the_answer_to_one_prompt_row_is_its_value(num_rows):
    transformer = build_transformer(DIT, 8)
    x, rows = torch.randn(2, 16, 2, 4, 4), torch.randn(2, num_rows, DIT.text_dim)

    def gradients():
        transformer.zero_grad()
        out = transformer(hidden_states=x, timestep=torch.full((2,), 1000.0),
                          encoder_hidden_states=rows, return_dict=False)[0]
        out.square().mean().backward()
        return out, {name: p.grad for name, p in transformer.named_parameters()}

    fast, grads = gradients()
    for block in transformer.blocks:
        block.attn2.set_processor(WanAttnProcessor())
    slow, expected = gradients()
    torch.testing.assert_close(fast, slow, atol=1e-6, rtol=1e-5)
    for name, gradient in grads.items():
        gradient = torch.zeros_like(expected[name]) if gradient is None else gradient
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-4)


def test_an_untrained_vae_treats_frames_by_themselves():
    vae = build_vae(VAE)
    clip = torch.rand(1, 3, 9, 32, 32) * 2 - 1
    with torch.no_grad():
        latents = encode(vae, clip)
        last = encode(vae, clip[:, :, 8:9])
        torch.testing.assert_close(latents[:, :, 2:], last, atol=1e-5, rtol=1e-4)
        images = decode(vae, latents[:, :8])
        still = decode(vae, last[:, :8])
    assert images.shape == clip.shape
    torch.testing.assert_close(images[:, :, 5:], still.expand(-1, -1, 4, -1, -1), atol=1e-5,
                               rtol=1e-4)


def test_alignment_removes_scale_and_shift_but_not_glass_error():
    inverse = torch.rand(2, 1, 16, 16) + 1
    material = torch.zeros(2, 1, 16, 16, dtype=torch.long)
    material[:, :, 4:8, 4:8] = 1
    prediction = 0.7 * inverse - 2
    assert losses.relative_error(prediction, inverse, material).max() < 1e-4
    prediction[:, :, 4:8, 4:8] += 0.07 * inverse[:, :, 4:8, 4:8]
    error = losses.relative_error(prediction, inverse, material)
    assert error[:, :, 4:8, 4:8].mean() == pytest.approx(0.1, abs=1e-3)
    assert error[material == 0].max() < 1e-4


def test_gradients_and_normals_are_zero_for_the_truth():
    maps, ones = torch.rand(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    assert losses.gradient_error(maps + 3, maps, ones) < 1e-6
    assert losses.gradient_error(2 * maps, maps, ones) > 0.05
    normals = torch.nn.functional.normalize(torch.randn(1, 3, 1, 8, 8), dim=1)
    assert losses.normal_error(normals, normals, ones) < 1e-5
    assert losses.normal_error(-normals, normals, ones) > 1.9


def test_disparity_spans_its_range_over_the_whole_clip():
    inverse = np.array([[[1.0, 2.0]], [[3.0, 0.0]]], np.float32)
    assert normalized(inverse).tolist() == [[[-1, 0]], [[1, 0]]]


def test_flipping_a_clip_flips_its_normals(scenes):
    clips = load_clips([scenes])
    batch = draw_batch(clips, 16, 5, 32, 48, np.random.default_rng(0))
    assert batch.rgb.shape == (16, 3, 5, 32, 48)
    assert batch.rgb.abs().max() <= 1
    assert set(batch.material.unique().tolist()) == {0, 1}
    near = batch.inverse_depth[batch.material == 1]
    torch.testing.assert_close(near, torch.full_like(near, 1 / 0.45), rtol=1e-3, atol=0)


def test_a_window_that_drifts_makes_a_clip_of_one_view(scenes):
    clips = load_clips([scenes])
    batch = draw_batch(clips, 8, 9, 32, 48, np.random.default_rng(0), drift_share=1.0)
    assert batch.rgb.shape == (8, 3, 9, 32, 48)
    # The floor's depth depends on the row alone: a window that moves sideways leaves it.
    step = (batch.inverse_depth[:, 1:] - batch.inverse_depth[:, :-1]).abs()
    moved = step.amax((1, 2, 3)) > 0
    assert moved.any()
    near = batch.inverse_depth[batch.material == 1]
    torch.testing.assert_close(near, torch.full_like(near, 1 / 0.45), rtol=1e-3, atol=0)


def test_all_but_unrelated_views_serve_as_clips(tmp_path):
    for seed, path in enumerate(('orbit', 'views', 'circle')):
        write_toy_scene(tmp_path, seed, path)
    assert [clip.is_video for clip in load_clips([tmp_path])] == [True, False, True]


def test_windows_drift_slowly_and_stay_inside():
    rng = np.random.default_rng(0)
    for _ in range(50):
        windows = draw_windows((100, 200), 9, rng, True, True)
        corners = np.array([(y.start, x.start) for y, x in windows])
        assert all(y.stop <= 100 and x.stop <= 200 for y, x in windows)
        assert np.abs(np.diff(corners, axis=0)).max(0).tolist() <= [3, 5]
        still = draw_windows((100, 200), 9, rng, True, False)
        assert all(window == still[0] for window in still)


def test_muon_takes_the_matrices_of_the_dit(tmp_path, scenes):
    config = toy_config(tmp_path, scenes)
    trainer = Trainer(config, load_clips(config.data))
    stage = StageConfig(kind='e2e', optimizer='muon')
    parameters = set_trainable(trainer.nets, 'e2e')
    rest, matrices = make_optimizers(trainer.nets, stage, parameters)
    taken = [p for optimizer in (rest, matrices) for group in optimizer.param_groups
             for p in group['params']]
    assert {id(p) for p in taken} == {id(p) for p in parameters} and len(taken) == len(parameters)
    assert all(p.ndim == 2 for group in matrices.param_groups for p in group['params'])


def test_the_rate_rises_and_falls():
    stage = StageConfig(steps=100, learning_rate=1.0, warmup_steps=10, decay=0.5)
    rates = [learning_rate(stage, step) for step in (0, 9, 40, 75, 99)]
    assert rates == pytest.approx([0.1, 1.0, 1.0, 0.5, 0.02])


def test_a_run_resumes_where_it_stopped_and_leaves_a_model(tmp_path, scenes):
    config = toy_config(tmp_path, scenes)
    model = run_train(config)
    assert (model / 'model_index.json').is_file()
    kinds = [json.loads(line)['stage'] for line in (tmp_path / 'run' / 'validation.jsonl')
             .read_text().splitlines()]
    assert kinds == [1, 2, 3]
    with pytest.raises(UserError, match='--resume'):
        run_train(config)
    trainer = Trainer(config, load_clips(config.data))
    trainer.resume()
    assert (trainer.stage, trainer.step) == (4, 0)
    assert np.std(trainer.nets.vae.config.latents_std) > 0


@pytest.mark.parametrize('stage', [0, 1, 2, 3])
def test_a_resumed_stage_ends_where_an_uninterrupted_one_does(tmp_path, scenes, stage):
    config = toy_config(tmp_path, scenes)
    clips = load_clips(config.data)
    kind = config.stages[stage]

    def trainer():
        made = Trainer(TrainConfig.from_dict({**config.to_dict(), 'stages': [kind]}), clips)
        made.validate = lambda stage: None
        return made

    whole = trainer()
    whole.run_stage(whole.stages[0])
    first = trainer()
    first.train_step(whole.stages[0], next(first.batches(whole.stages[0])),
                     first.start(whole.stages[0]))
    first.step = 1
    first.save()
    again = trainer()
    again.resume()
    assert (again.stage, again.step) == (0, 1)
    again.run_stage(whole.stages[0])
    for kind in ('vae', 'transformer'):
        ends = zip(getattr(whole.nets, kind).parameters(), getattr(again.nets, kind).parameters())
        assert all(torch.equal(a, b) for a, b in ends)


def test_a_run_starts_from_a_model_of_the_same_shape(tmp_path, scenes):
    stage = {'kind': 'e2e', 'steps': 1, 'batch_size': 2, 'height': 32, 'width': 32}
    first = run_train(toy_config(tmp_path, scenes, stages=[stage]))
    config = toy_config(tmp_path, scenes, run=str(tmp_path / 'second'), stages=[stage],
                        initial_model=str(first), seed=1)
    trainer = Trainer(config, load_clips([scenes]))
    saved = load_file(first / 'transformer' / 'diffusion_pytorch_model.safetensors')
    for name, value in trainer.nets.transformer.state_dict().items():
        torch.testing.assert_close(value, saved[name].float())
    rows = draw_prompt_rows(DIT.text_dim, 0)
    torch.testing.assert_close(trainer.nets.rows['normal'], rows['normal'], atol=1e-2, rtol=1e-2)
    wider = {**DIT.to_dict(), 'ffn_dim': 32}
    with pytest.raises(UserError, match='shape'):
        Trainer(TrainConfig.from_dict({**config.to_dict(), 'transformer': wider}),
                load_clips([scenes]))


def test_a_clip_comes_with_what_the_sensor_saw_or_without(scenes):
    clips = load_clips([scenes])
    without = draw_batch(clips, 8, 5, 32, 48, np.random.default_rng(0))
    assert without.sensor.shape == (8, 2, 5, 32, 48) and not without.sensor.any()
    assert without.disparity.amin() == -1 and without.disparity.amax() == 1
    told = draw_batch(clips, 8, 5, 32, 48, np.random.default_rng(0), augment=False,
                      sensor_share=1.0)
    seen = told.sensor[:, 1] > 0
    assert seen.float().mean() > 0.9
    # this scene's sensor errs nowhere, and the target is in the range of what it saw
    torch.testing.assert_close(told.sensor[:, 0][seen], told.disparity[seen], atol=1e-2, rtol=0)
    some = draw_batch(clips, 64, 1, 32, 48, np.random.default_rng(0), sensor_share=0.5)
    assert 0.2 < some.sensor[:, 1].amax((1, 2, 3)).mean() < 0.8
    assert [len(part.rgb) for part in some.split(24)] == [24, 24, 16]


def test_a_model_learns_to_listen_to_the_sensor(tmp_path, scenes):
    """From a model of colour alone: at first nothing changes, then each part is trained."""
    stage = {'batch_size': 4, 'height': 32, 'width': 32, 'warmup_steps': 0}
    deaf = run_train(toy_config(tmp_path, scenes, stages=[{'kind': 'e2e', 'steps': 1, **stage}]))
    config = toy_config(
        tmp_path, scenes, run=str(tmp_path / 'told'), initial_model=str(deaf), sensor_prompt=True,
        stages=[{'kind': 'sensor', 'steps': 2, **stage},
                {'kind': 'e2e', 'steps': 1, 'sensor_share': 1.0, **stage}])
    trainer = Trainer(config, load_clips([scenes]))
    batch = next(trainer.batches(trainer.stages[1]))[0]
    assert batch.sensor.any()
    quiet = dataclasses.replace(batch, sensor=torch.zeros_like(batch.sensor))
    with torch.no_grad():
        torch.testing.assert_close(predict(trainer.nets, batch, ['depth'] * 4),
                                   predict(trainer.nets, quiet, ['depth'] * 4))
    before = {name: copy.deepcopy(module.state_dict())
              for name, module in trainer.nets.modules.items()}

    def changed(name):
        state = trainer.nets.modules[name].state_dict()
        return any(not torch.equal(before[name][key], value) for key, value in state.items())

    trainer.run_stage(trainer.stages[0])
    assert [changed(name) for name in ('vae', 'transformer', 'sensor_encoder')] == [
        False, False, True]
    pipeline = DKTPipeline.from_pretrained(run_train(config, resume=True))
    assert pipeline.sensor_channels == 8
    assert pipeline.transformer.patch_embedding.weight[:, -8:].abs().max() > 0


def test_crops_keep_to_their_smallest_size():
    rng = np.random.default_rng(0)
    widths = [draw_windows((100, 200), 1, rng, True, False, crop=0.9)[0][1] for _ in range(200)]
    sizes = [window.stop - window.start for window in widths]
    assert min(sizes) >= 180 and min(sizes) < 185 and max(sizes) > 195


def test_what_cannot_be_trained_on_is_refused(tmp_path, scenes):
    write_toy_scene(tmp_path / 'eval', EVALUATION_SEED)
    with pytest.raises(UserError, match='evaluation only'):
        load_clips([tmp_path / 'eval'])
    with pytest.raises(UserError, match='no training data'):
        load_clips([])
    with pytest.raises(UserError, match='no stage'):
        Trainer(toy_config(tmp_path, scenes, stages=[]), load_clips([scenes]))
    with pytest.raises(UserError, match='set sensor_prompt to true'):
        Trainer(toy_config(tmp_path, scenes, stages=[{'kind': 'sensor'}]), load_clips([scenes]))
    with pytest.raises(UserError, match='9 consecutive'):
        draw_batch(load_clips([scenes]), 1, 9, 32, 32, np.random.default_rng(0))
