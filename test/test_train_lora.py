"""The LoRA recipe on a tiny model of the 1.3B's form: schedule, cache, resume, processes."""
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from lora_run import begin_and_die, make_base, make_config, make_data
from safetensors.torch import load_file
from scene_factory import make_scene, scene_frame
from toy_model import HEIGHT, WIDTH, randn, toy_clip

from dkt_ros.data.mixture import ClipRef, SourceConfig, open_mixture
from dkt_ros.errors import UserError
from dkt_ros.lora_config import LoraTrainConfig
from dkt_ros.model.lora import add_lora, lora_parameters, merge_lora_file, save_lora
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.tools.train.flow import Denoiser, TrainingSchedule
from dkt_ros.tools.train.latents import LatentCache, target_video
from dkt_ros.tools.train.lora import LoraTrainer, run_lora
from dkt_ros.tools.train.recipes import run_recipe
from dkt_ros.tools.train.sharding import open_base
from dkt_ros.tools.train.validation import SEED, predict
from dkt_ros.train_config import TransformerConfig

HAS_TENSORBOARD = find_spec('tensorboard') is not None
HERE = Path(__file__).parent


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp('lora')
    make_base(root / 'base')
    make_data(root)
    return root


def curve(folder):
    return [json.loads(line)['loss'] for line in (folder / 'log.jsonl').read_text().splitlines()]


def test_the_schedule_is_the_published_one():
    schedule = TrainingSchedule()
    # 5 s / (1 + 4 s) at s = 1, .8, .5 and the last, .001
    np.testing.assert_allclose(schedule.sigmas[[0, 200, 500, 999]],
                               [1, 4 / 4.2, 2.5 / 3, 0.005 / 1.004], rtol=1e-6)
    np.testing.assert_allclose(schedule.timesteps, 1000 * schedule.sigmas, rtol=1e-6)
    assert schedule.weights.mean() == pytest.approx(1.0, rel=1e-5)
    assert schedule.weights[0] == 0
    # The bell is highest at timestep 500: s = 1 / 6.
    assert int(schedule.weights.argmax()) == pytest.approx(1000 * 5 / 6, abs=1)
    ratio = (np.exp(-2 * (833.333e-3 - 0.5) ** 2) - np.exp(-0.5)) / (1 - np.exp(-0.5))
    assert schedule.weights[500] / schedule.weights.max() == pytest.approx(ratio, rel=1e-3)


def test_targets_are_scaled_jointly_over_the_clip_and_holes_take_the_nearest():
    frames = [scene_frame(0), scene_frame(1)]
    frames[0].depth[0, :10] = np.nan
    video = target_video(frames, 'depth', (48, 64), 'minmax')
    assert video.shape == (1, 3, 2, 48, 64)
    assert (video.min(), video.max()) == (-1, 1)
    assert video[0, 0, 0, 0, 0] == -1  # the table, which is farthest
    normals = target_video(frames, 'normal', (24, 32), 'minmax')
    np.testing.assert_allclose(normals[0, :, 0, 3, 3], [0, 0, -1])


def test_latents_are_encoded_once_and_again_when_cut_short(root, tmp_path):
    scene = open_mixture([SourceConfig(str(root / 'scenes'))]).sources[0].sequences[0]
    vae = DKTPipeline.from_pretrained(root / 'base').vae
    cache = LatentCache(tmp_path, vae, 'h', HEIGHT, WIDTH, 'depth', 'minmax')
    clip = ClipRef(scene, 0, 5)
    first = cache.get(clip)
    assert [part.shape for part in first] == [(4, 2, 4, 6)] * 2 and cache.num_encoded == 1
    assert all(torch.equal(a, b) for a, b in zip(first, cache.get(clip)))
    assert cache.num_encoded == 1
    cache.path(clip).write_bytes(b'cut')
    assert torch.equal(cache.get(clip)[1], first[1]) and cache.num_encoded == 2
    other = LatentCache(tmp_path, vae, 'h', HEIGHT, WIDTH, 'normal', 'minmax')
    assert other.path(clip) != cache.path(clip)


@pytest.mark.slow
def test_a_run_of_200_steps_learns_and_leaves_a_lora_that_loads(root, tmp_path):
    config = make_config(root, run=str(tmp_path / 'run'), steps=200, checkpoint_every=1000,
                         batch_size=8, learning_rate=1e-2, log_every=1, ema_decay=0.9,
                         validation=[{'path': str(root / 'held_out')}], validate_every=200,
                         validation_clips=1, validation_latents=2,
                         trackers=('tensorboard',) if HAS_TENSORBOARD else ())
    path = run_lora(config)
    losses = curve(tmp_path / 'run')
    assert np.mean(losses[-40:]) < 0.8 * np.mean(losses[:40])
    state = load_file(path)
    assert 'blocks.1.cross_attn.o.lora_B.default.weight' in state and len(state) == 40
    assert all(value.abs().max() > 0 for value in state.values())
    pipeline = DKTPipeline.from_pretrained(root / 'base')
    pipeline.set_progress_bar_config(disable=True)
    clip = toy_clip(5)
    before = pipeline(clip).prediction
    assert merge_lora_file(pipeline.transformer, path) == 20
    assert np.abs(pipeline(clip).prediction - before).max() > 1e-3
    record = json.loads((tmp_path / 'run' / 'validation.jsonl').read_text())
    assert record['step'] == 200 and 0 < record['all_rel'] < 1
    assert (tmp_path / 'run' / 'samples' / '000200.png').is_file()
    assert not HAS_TENSORBOARD or list((tmp_path / 'run' / 'tensorboard').iterdir())
    assert (tmp_path / 'run' / 'config.yaml').read_text().startswith('accumulate')


def test_a_validation_sees_the_whole_lora(root, tmp_path):
    config = make_config(root, num_inference_steps=3)
    pipeline = DKTPipeline.from_pretrained(root / 'base')
    add_lora(pipeline.transformer, config.rank, config.seed)
    matrices = lora_parameters(pipeline.transformer)
    with torch.no_grad():
        for index, matrix in enumerate(matrices.values()):
            matrix.copy_(0.1 * randn(index, *matrix.shape))
    clip = toy_clip(5)
    given = predict(pipeline, Denoiser(pipeline.transformer, pipeline.prompt_rows(['depth'])),
                    clip, config)
    path = save_lora(tmp_path / 'lora.safetensors', matrices)
    merged = DKTPipeline.from_pretrained(root / 'base')
    merged.set_progress_bar_config(disable=True)
    merge_lora_file(merged.transformer, path)
    expected = merged(clip, preset='faithful', num_inference_steps=3, height=HEIGHT, width=WIDTH,
                      output_size='working',
                      generator=torch.Generator().manual_seed(SEED)).prediction
    np.testing.assert_allclose(given, expected, atol=1e-4)


def test_resume_is_exact(root, tmp_path):
    whole, parts = (make_config(root, run=str(tmp_path / name), ema_decay=0.9)
                    for name in ('whole', 'parts'))
    run_lora(whole)
    begin_and_die(root, parts, DKTPipeline.from_pretrained(parts.base))
    with pytest.raises(UserError, match='--resume'):
        run_lora(parts)
    path = run_lora(parts, resume=True)
    # Step 4 was made twice: once before the end, once after going back to step 3.
    losses = curve(tmp_path / 'parts')
    assert losses[:4] + losses[5:] == curve(tmp_path / 'whole') and losses[3] == losses[4]
    expected = load_file(tmp_path / 'whole' / 'lora.safetensors')
    assert all(torch.equal(value, expected[key]) for key, value in load_file(path).items())


@pytest.mark.slow
def test_two_processes_learn_what_one_does(root):
    def launch(rank):
        environment = {**os.environ, 'RANK': str(rank), 'LOCAL_RANK': str(rank),
                       'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1',
                       'MASTER_PORT': str(29500 + os.getpid() % 2000),
                       'ACCELERATE_USE_CPU': 'true', 'OMP_NUM_THREADS': '1',
                       'PYTHONPATH': os.pathsep.join([str(HERE.parent), str(HERE)])}
        return subprocess.Popen([sys.executable, str(HERE / 'lora_run.py'), str(root), 'two'],
                                env=environment, stderr=subprocess.PIPE, text=True)

    children = [launch(rank) for rank in range(2)]
    run_lora(make_config(root, run=str(root / 'one'), steps=8))
    for child in children:
        _, errors = child.communicate(timeout=900)
        assert child.returncode == 0, errors[-2000:]
    one, two = curve(root / 'one'), curve(root / 'two')
    assert len(one) == len(two) == 8
    np.testing.assert_allclose(two, one, atol=1e-4)


def test_accumulating_and_bf16_and_full_fine_tuning(root, tmp_path):
    run_lora(make_config(root, run=str(tmp_path / 'a'), steps=3))
    run_lora(make_config(root, run=str(tmp_path / 'b'), steps=3, accumulate=2))
    np.testing.assert_allclose(curve(tmp_path / 'a'), curve(tmp_path / 'b'), rtol=1e-4)
    run_lora(make_config(root, run=str(tmp_path / 'c'), steps=1, mixed_precision='bf16',
                         validation=[{'path': str(root / 'held_out')}], validation_clips=1,
                         validation_latents=1, task='normal'))
    assert curve(tmp_path / 'c')[0] > 0
    folder = run_lora(make_config(root, run=str(tmp_path / 'd'), steps=1, method='full'))
    assert DKTPipeline.from_pretrained(folder).tasks == ('depth', 'normal')


SMALL = {'method': 'full', 'initial_weights': 'random',
         'transformer': TransformerConfig(num_heads=1, head_dim=12, ffn_dim=16, num_layers=1)}


def test_drawn_weights_learn_and_start_from_noise(root, tmp_path):
    folder = run_lora(make_config(root, run=str(tmp_path / 'run'), steps=60, max_clip_latents=1,
                                  learning_rate=1e-2, ema_decay=0.5, **SMALL))
    losses = curve(tmp_path / 'run')
    assert np.mean(losses[-20:]) < 0.9 * np.mean(losses[:20])
    model = DKTPipeline.from_pretrained(folder)
    assert model.transformer.config.num_layers == 1 and model.transformer.config.text_dim == 6
    assert (model.config.initial_noise, model.config.default_num_inference_steps) == (
        'gaussian', 5)
    drawn = [open_base(make_config(root, seed=seed, **SMALL)).transformer.state_dict()
             for seed in (0, 0, 1)]
    name = 'blocks.0.attn1.to_q.weight'
    assert torch.equal(drawn[0][name], drawn[1][name])
    assert not torch.equal(drawn[0][name], drawn[2][name])


def test_pretraining_makes_colour_from_nothing(root, tmp_path):
    mixture = open_mixture([SourceConfig(str(root / 'scenes'))])
    items = [LoraTrainer(make_config(root, run=str(tmp_path), target=target, **SMALL),
                         open_base(make_config(root)), mixture).item(0, 2)
             for target in ('task', 'rgb')]
    (rgb, target, noise, level), (none, colour, same_noise, same_level) = items
    assert not none.any() and torch.equal(colour, rgb) and not torch.equal(rgb, target)
    assert torch.equal(noise, same_noise) and level == same_level


def test_broken_clips_are_drawn_again(root, tmp_path, caplog):
    for index in range(2):
        make_scene(tmp_path / 'scenes' / f's{index}', 3, seed=index)
    (tmp_path / 'scenes' / 's0' / 'depth' / '000001.exr').write_bytes(b'cut')
    config = make_config(root, run=str(tmp_path / 'run'), steps=3, max_clip_latents=1,
                         data=[{'path': str(tmp_path / 'scenes'), 'stride': 1}])
    run_lora(config)
    assert 'another clip is drawn' in caplog.text
    for path in (tmp_path / 'scenes').glob('*/depth/*.exr'):
        path.write_bytes(b'cut')
    with pytest.raises(UserError, match='20 clips in a row'):
        run_lora(make_config(root, run=str(tmp_path / 'again'), max_clip_latents=1, seed=5,
                             cache=str(tmp_path / 'latents'),
                             data=[{'path': str(tmp_path / 'scenes')}]))


@pytest.mark.parametrize('text, words', [
    ('recipe: magic', "'magic'"), ('recipe: lora\nrnak: 3', "did you mean 'rank'"),
    ('recipe: lora', 'base is empty|no training data'), ('stages: []', 'no training data')])
def test_the_recipe_is_chosen_by_the_file(tmp_path, text, words):
    path = tmp_path / 'run.yaml'
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        run_recipe(path)


@pytest.mark.parametrize('changes, words', [
    ({'batch_size': 3, 'accumulate': 2}, 'multiple of'), ({'height': 40}, 'multiple of'),
    ({'trackers': ('wandb',)}, 'not installed'), ({'max_clip_latents': 6, 'seed': 4}, 'frames'),
    ({'initial_weights': 'random'}, 'method: full'),
    ({'target': 'rgb', 'validation': [{'path': 'x'}]}, 'leave validation empty')])
def test_mistakes(root, tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        run_lora(make_config(root, run=str(tmp_path / 'run'), **changes))


@pytest.mark.parametrize('size, fsdp', [('1.3b', False), ('14b', True)])
def test_the_shipped_files_are_valid_and_leave_the_published_defaults(size, fsdp):
    path = HERE.parent / 'config' / f'train_lora_{size}.yaml'
    config = LoraTrainConfig.from_yaml(path)
    assert config.fsdp == fsdp
    assert (config.rank, config.batch_size, config.steps, config.learning_rate,
            config.schedule_shift, config.max_clip_latents) == (128, 8, 70_000, 1e-5, 5.0, 6)
    assert all(SourceConfig.from_dict(source).weight > 0 for source in config.data)
