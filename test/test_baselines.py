"""Adapters of other methods: tiny random checkpoints of the real classes, stand-in programs."""
import json

import numpy as np
import pytest

from dkt_ros.errors import RunError, UserError
from dkt_ros.tools.baselines.learned import METHODS, Prediction, load_method

torch = pytest.importorskip('torch')
FRAMES = np.random.default_rng(0).integers(0, 255, (3, 48, 64, 3), np.uint8)


def depth_anything(folder, **config):
    transformers = pytest.importorskip('transformers')
    backbone = transformers.Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14,
        out_features=['stage1', 'stage2'], reshape_hidden_states=False, apply_layernorm=True)
    torch.manual_seed(0)
    model = transformers.DepthAnythingForDepthEstimation(transformers.DepthAnythingConfig(
        backbone_config=backbone, patch_size=14, reassemble_hidden_size=24,
        reassemble_factors=[2, 1], neck_hidden_sizes=[16, 16], fusion_hidden_size=16,
        head_hidden_size=8, **config))
    model.save_pretrained(folder)


@pytest.mark.parametrize('config, kind', [({}, 'disparity'), (
    {'depth_estimation_type': 'metric', 'max_depth': 10}, 'metric')])
def test_depth_anything(tmp_path, monkeypatch, config, kind):
    depth_anything(tmp_path / 'depth_anything_v2', **config)
    monkeypatch.setattr('dkt_ros.tools.baselines.depth_anything.SIDE_PX', 42)
    predict = load_method('depth_anything_v2', tmp_path)
    result = predict(FRAMES[:2], 30.0)
    assert result.kind == kind and result.values.shape == (2, 42, 56)
    assert result.frame(1, 48, 64).shape == (48, 64)
    alone = predict(FRAMES[1:2], 30.0)
    np.testing.assert_allclose(alone.values[0], result.values[1], atol=1e-4)


def marigold(folder, in_channels=8):
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    transformers = pytest.importorskip('transformers')
    torch.manual_seed(0)
    UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, sample_size=8, in_channels=in_channels,
        out_channels=4, down_block_types=('DownBlock2D', 'CrossAttnDownBlock2D'),
        up_block_types=('CrossAttnUpBlock2D', 'UpBlock2D'), cross_attention_dim=16,
        norm_num_groups=4, attention_head_dim=2).save_pretrained(folder / 'unet')
    AutoencoderKL(block_out_channels=[8, 16], in_channels=3, out_channels=3, latent_channels=4,
                  down_block_types=['DownEncoderBlock2D'] * 2, norm_num_groups=4,
                  up_block_types=['UpDecoderBlock2D'] * 2).save_pretrained(folder / 'vae')
    DDIMScheduler(beta_schedule='scaled_linear', prediction_type='v_prediction',
                  steps_offset=1, clip_sample=False).save_pretrained(folder / 'scheduler')
    transformers.CLIPTextModel(transformers.CLIPTextConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        vocab_size=10, bos_token_id=0, eos_token_id=1)).save_pretrained(folder / 'text_encoder')
    (folder / 'tokenizer').mkdir()
    words = ['<|startoftext|>', '<|endoftext|>', 'a</w>']
    (folder / 'tokenizer' / 'vocab.json').write_text(
        json.dumps({word: i for i, word in enumerate(words)}))
    (folder / 'tokenizer' / 'merges.txt').write_text('#version: 0.2\n')
    (folder / 'tokenizer' / 'tokenizer_config.json').write_text(json.dumps(
        {'tokenizer_class': 'CLIPTokenizer', 'model_max_length': 77}))


@pytest.mark.parametrize('name, kind', [('marigold_e2e_ft', 'depth'),
                                        ('marigold_e2e_ft_normals', 'normals')])
def test_marigold_is_one_step_from_zeros_and_repeatable(tmp_path, monkeypatch, name, kind):
    marigold(tmp_path / name)
    monkeypatch.setattr('dkt_ros.tools.baselines.marigold.LONG_SIDE_PX', 64)
    predict = load_method(name, tmp_path)
    torch.manual_seed(1)
    result = predict(FRAMES[:1], 30.0)
    torch.manual_seed(2)
    np.testing.assert_array_equal(predict(FRAMES[:1], 30.0).values, result.values)
    assert result.kind == kind and result.values.shape[1:3] == (48, 64)
    if kind == 'normals':
        lengths = np.linalg.norm(result.frame(0, 48, 64), axis=-1)
        np.testing.assert_allclose(lengths, 1.0, atol=1e-4)


PROGRAM = """
import sys
from pathlib import Path
import cv2, numpy as np
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2])) if {pairs} else {{
    name: sys.argv[sys.argv.index(name) + 1] for name in ('--input_video', '--output_dir')}}
capture, frames = cv2.VideoCapture(arguments['{video}']), []
while True:
    done, image = capture.read()
    if not done:
        break
    frames.append(image[..., ::-1].mean(axis=-1) / 255)
frames = np.stack(frames)
if {normals}:
    frames = np.stack([frames * 0, frames * 0 + 1, frames * 0], axis=-1)
Path(arguments['{out}'], '{result}').parent.mkdir(exist_ok=True)
np.savez_compressed(Path(arguments['{out}'], '{result}'), **{{'{key}': frames}})
"""


def program(folder, **parts):
    folder.mkdir(parents=True)
    (folder / 'run.py').write_text(PROGRAM.format(**parts))


def test_programs_are_given_the_clip_and_their_result_is_read(tmp_path):
    vda = tmp_path / 'video_depth_anything'
    program(vda, pairs=False, video='--input_video', out='--output_dir', normals=False,
            result='clip_depths.npz', key='depths')
    (vda / 'checkpoints').mkdir()
    with pytest.raises(UserError, match='no video_depth_anything'):
        load_method('video_depth_anything', tmp_path)
    (vda / 'checkpoints' / 'video_depth_anything_vits.pth').write_bytes(b'')
    smooth = np.repeat(np.linspace(20, 230, 64, dtype=np.uint8)[None, None, :, None], 48, 1)
    frames = np.repeat(np.repeat(smooth, 3, 0), 3, 3)
    result = load_method('video_depth_anything', tmp_path)(frames, 15.0)
    assert result.kind == 'disparity'
    np.testing.assert_allclose(result.values, frames.mean(axis=-1) / 255, atol=0.05)

    for name, normals, weights in (('depthcrafter', False, 'unet'),
                                   ('normalcrafter', True, 'weights')):
        program(tmp_path / name, pairs=True, video='--video-path', out='--save-folder',
                normals=normals, result='clip.npz', key='depth')
        for part in (weights, 'svd'):
            (tmp_path / name / part).mkdir()
        result = load_method(name, tmp_path)(frames, 15.0)
        assert result.kind == ('normals' if normals else 'disparity')
    np.testing.assert_allclose(result.values[0, 0, 0], [0, -1, 0])  # y up becomes y down


def test_a_program_that_fails_is_told(tmp_path):
    folder = tmp_path / 'depthcrafter'
    folder.mkdir()
    for part in ('unet', 'svd'):
        (folder / part).mkdir()
    (folder / 'run.py').write_text('raise SystemExit("no GPU here")')
    with pytest.raises(RunError, match='ended with 1: no GPU here'):
        load_method('depthcrafter', tmp_path)(FRAMES, 15.0)
    (folder / 'run.py').write_text('')
    with pytest.raises(RunError, match='left no clip.npz'):
        load_method('depthcrafter', tmp_path)(FRAMES, 15.0)


@pytest.mark.parametrize('name', METHODS)
def test_missing_weights_say_where_to_get_them(tmp_path, name):
    with pytest.raises(UserError, match=rf'{name} has no weights.*https.*licence'):
        load_method(name, tmp_path)


def test_mistakes(tmp_path):
    with pytest.raises(UserError, match="'magic'.*depth_anything_v2"):
        load_method('magic', tmp_path)
    with pytest.raises(ValueError, match='kinds: disparity'):
        Prediction('disparity', np.zeros((2, 3)))
