"""What the depth camera saw as a condition: its range, its image, its way through every chain."""
import dataclasses

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from toy_model import HEIGHT, WIDTH, randn, toy_clip, toy_frames, toy_transformer, toy_vae

from dkt_ros.config import PRESETS, StreamConfig
from dkt_ros.errors import UserError
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.model.prompt import PromptRows
from dkt_ros.model.saving import save_model_folder
from dkt_ros.model.sensor_encoder import (
    LIMIT,
    SensorEncoder,
    SensorRange,
    SensorVideo,
    measure_range,
    nearest_measured,
    sensor_clip,
    sensor_image,
)
from dkt_ros.stream import DKTStream
from dkt_ros.tools.perceive import OfflineStream

CHANNELS = 5


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def toy_encoder():
    torch.manual_seed(7)
    return SensorEncoder(CHANNELS, 4, 8, 8, 8)


def told_pipeline(extra_channels=0, steps=1, initial_noise='zeros'):
    pipeline = DKTPipeline(
        toy_transformer(CHANNELS + extra_channels), toy_vae(),
        FlowMatchEulerDiscreteScheduler(shift=5.0),
        PromptRows.from_rows({'depth': randn(1, 2, 6), 'normal': randn(2, 3, 6)}, 4),
        default_num_inference_steps=steps, initial_noise=initial_noise, default_height=HEIGHT,
        default_width=WIDTH, sensor_encoder=toy_encoder())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def depths(num_frames, seed=0):
    """Depth of a floor with holes, another one in each frame, (T, H, W)."""
    rng = np.random.default_rng(seed)
    floor = np.linspace(1.0, 0.4, HEIGHT, dtype=np.float32)[:, None].repeat(WIDTH, 1)
    clip = np.stack([floor * rng.uniform(0.98, 1.02) for _ in range(num_frames)])
    clip[rng.random(clip.shape) < 0.2] = np.nan
    return clip.astype(np.float32)


def frames_with(depth_clip):
    frames = toy_frames(len(depth_clip))
    return [dataclasses.replace(frame, sensor_depth=depth)
            for frame, depth in zip(frames, depth_clip, strict=True)]


def test_the_range_is_that_of_nearly_all_that_was_measured():
    inverse = np.full((40, 50), 1.0)
    inverse[20:] = 2.0
    inverse[0, :10], inverse[1, :10] = 50.0, 0.0
    found = measure_range(inverse)
    assert (found.low, found.high) == (1.0, 2.0)
    np.testing.assert_allclose(found.normalized(np.array([1.0, 1.5, 2.0, 50.0])),
                               [-1, 0, 1, LIMIT])


def test_a_flat_wall_gets_a_range_and_a_blind_camera_none():
    wall = measure_range(np.full((40, 50), 2.0))
    assert wall.high - wall.low == pytest.approx(0.2)
    assert np.abs(wall.normalized(np.array([2.0]))).max() < 1e-6
    blind = np.zeros((40, 50))
    blind[0, :5] = 1.0
    assert measure_range(blind) is None
    assert not sensor_image(blind, None).any()


def test_an_image_says_what_was_measured_and_where():
    inverse = np.array([[0.0, 1.0], [2.0, 1.5]], np.float32)
    image = sensor_image(inverse, SensorRange(1.0, 2.0))
    np.testing.assert_array_equal(image, [[[0, -1], [1, 0]], [[0, 1], [1, 1]]])


def test_a_stream_keeps_its_range_until_what_is_seen_has_moved_out_of_it():
    video, still = SensorVideo(), depths(1)[0]
    first = video.prepared(still, HEIGHT, WIDTH)
    nearer = video.prepared(still * 0.95, HEIGHT, WIDTH)
    seen = first[0, 1] > 0
    assert (nearer[0, 0][seen] > first[0, 0][seen]).all()
    assert not video.prepared(None, HEIGHT, WIDTH).any()
    elsewhere = video.prepared(still * 0.5, HEIGHT, WIDTH)
    torch.testing.assert_close(elsewhere, first, atol=1e-4, rtol=0)
    video.reset()
    torch.testing.assert_close(video.prepared(still, HEIGHT, WIDTH), first)


def test_a_first_frame_counts_as_a_whole_latent():
    encoder, clip = toy_encoder(), sensor_clip(depths(9), HEIGHT, WIDTH)
    latents = encoder.encode_clip(clip)
    assert latents.shape == (1, CHANNELS, 3, HEIGHT // 8, WIDTH // 8)
    torch.testing.assert_close(latents[:, :, :1],
                               encoder(clip[:, :, :1].expand(-1, -1, 4, -1, -1)))
    torch.testing.assert_close(latents[:, :, 2:], encoder(clip[:, :, 5:]))
    with pytest.raises(ValueError, match=r'sensor frames are \(1, 2, 3, .*\(B, 2, 1 or 4, H, W\)'):
        encoder(clip[:, :, :3])


def test_a_frame_that_the_camera_missed_counts_as_the_nearest_it_saw():
    clip = torch.zeros(2, 2, 4, 1, 1)
    clip[0, :, 1], clip[0, :, 3] = 1.0, 2.0
    kept = nearest_measured(clip)
    assert kept[0, 0].flatten().tolist() == kept[0, 1].flatten().tolist() == [1, 1, 1, 2]
    assert not kept[1].any()
    encoder, missed = toy_encoder(), sensor_clip(depths(5), HEIGHT, WIDTH)[:, :, 1:].clone()
    whole = missed.clone()
    missed[:, :, :3], whole[:, :, :3] = 0.0, missed[:, :, 3:]
    torch.testing.assert_close(encoder(missed), encoder(whole))


@pytest.mark.parametrize('preset', [*PRESETS, 'faithful'])
def test_the_sensor_changes_the_maps_and_the_pipeline_agrees_with_the_stream(preset):
    pipeline, clip = told_pipeline(2, 2, 'gaussian'), depths(11)
    rgb = toy_clip(11)
    alone = pipeline(rgb, preset=preset).prediction
    told = pipeline(rgb, preset=preset, sensor_depth=clip).prediction
    assert np.abs(told - alone).max() > 1e-3
    if preset == 'faithful':
        config = StreamConfig(num_inference_steps=2)
        stream = OfflineStream(pipeline, config)
        for frame in frames_with(clip):
            stream.advance(frame)
        found = stream.drain()
    else:
        stream = DKTStream(pipeline, StreamConfig(preset=preset, seam_blend=0))
        found = [e for frame in frames_with(clip) for e in stream.push(frame)] + stream.flush()
    np.testing.assert_allclose(np.stack([e.disparity for e in found]), told, atol=1e-4)


def test_without_a_prompt_or_a_sensor_it_works_from_colour_alone():
    pipeline, clip = told_pipeline(), depths(9)
    without = DKTStream(pipeline, StreamConfig(sensor_prompt=False))
    blind = DKTStream(pipeline)
    for told, plain in zip(frames_with(clip), toy_frames(9), strict=True):
        first, second = without.push(told), blind.push(plain)
    for ours, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(ours.disparity, theirs.disparity)


def test_a_stream_that_starts_anew_forgets_the_range():
    pipeline = told_pipeline()
    stream = DKTStream(pipeline, StreamConfig(preset='image'))
    frames = frames_with(np.concatenate([depths(1), depths(1) * 0.9]))
    stream.push(frames[0])
    kept = stream.push(frames[1])[0].disparity
    stream.reset('test')
    assert np.abs(stream.push(frames[1])[0].disparity - kept).max() > 1e-5


def test_channels_beyond_the_sensor_s_are_zeros():
    """As the published networks have them: what they weigh changes nothing."""
    pipeline = told_pipeline(extra_channels=3)
    plain = pipeline(toy_clip(5), sensor_depth=depths(5)).prediction
    with torch.no_grad():
        pipeline.transformer.patch_embedding.weight[:, -3:] += 1.0
    again = pipeline(toy_clip(5), sensor_depth=depths(5)).prediction
    np.testing.assert_array_equal(again, plain)


def test_a_model_folder_keeps_its_encoder(tmp_path):
    pipeline = told_pipeline()
    folder = save_model_folder(
        tmp_path / 'told', pipeline.transformer, pipeline.vae, dict(pipeline.prompt_rows.rows), 4,
        torch.float32, pipeline.sensor_encoder, default_num_inference_steps=1,
        initial_noise='zeros', default_height=HEIGHT, default_width=WIDTH)
    loaded = DKTPipeline.from_pretrained(folder)
    loaded.set_progress_bar_config(disable=True)
    arguments = {'frames': toy_clip(5), 'sensor_depth': depths(5)}
    np.testing.assert_allclose(loaded(**arguments).prediction, pipeline(**arguments).prediction,
                               atol=1e-5)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r'packs \(4, 4\) frames and pixels .* the VAE \(4, 8\)'):
        DKTPipeline(toy_transformer(CHANNELS), toy_vae(), FlowMatchEulerDiscreteScheduler(),
                    PromptRows.from_rows({'depth': randn(1, 2, 6)}),
                    sensor_encoder=SensorEncoder(CHANNELS, 4, 4, 8, 8))
    with pytest.raises(ValueError, match='needs at least 13'):
        DKTPipeline(toy_transformer(), toy_vae(), FlowMatchEulerDiscreteScheduler(),
                    PromptRows.from_rows({'depth': randn(1, 2, 6)}), sensor_encoder=toy_encoder())
    with pytest.raises(ValueError, match=r'sensor_depth is \(4, 32, 48\); \(5, 32, 48\)'):
        told_pipeline()(toy_clip(5), sensor_depth=depths(4))
    from toy_model import toy_pipeline
    with pytest.raises(ValueError, match='works from colour alone'):
        toy_pipeline()(toy_clip(5), sensor_depth=depths(5))


def test_a_folder_that_lost_its_encoder_says_so(tmp_path):
    pipeline = told_pipeline()
    folder = save_model_folder(tmp_path / 'told', pipeline.transformer, pipeline.vae,
                               dict(pipeline.prompt_rows.rows), 4,
                               sensor_encoder=pipeline.sensor_encoder)
    (folder / 'sensor_encoder' / 'diffusion_pytorch_model.safetensors').unlink()
    with pytest.raises(UserError, match='sensor_encoder.*is missing; copy the model folder again'):
        DKTPipeline.from_pretrained(folder)
