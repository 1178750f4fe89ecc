"""Resizing as the reference, padding, maps."""
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dkt_ros.model.imaging import (
    pad_clip,
    resize_decoded,
    resize_maps,
    resize_rgb,
    rotate_clip,
    rotate_maps_back,
    to_disparity,
    to_normals,
    to_video,
    to_working_video,
)

DATA = Path(__file__).parent / 'data'


def test_resizing_equals_the_reference():
    image = np.random.default_rng(5).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    expected = load_file(DATA / 'resize.safetensors')['resized'].numpy()
    np.testing.assert_array_equal(resize_rgb(image[None], 32, 48)[0], expected)


@pytest.mark.parametrize(('num_frames', 'padded'), [(1, 1), (2, 5), (5, 5), (6, 9)])
def test_padding_repeats_the_last_frame(num_frames, padded):
    clip = np.arange(num_frames, dtype=np.uint8).reshape(-1, 1, 1, 1)
    result = pad_clip(clip, 4).ravel().tolist()
    assert result == list(range(num_frames)) + [num_frames - 1] * (padded - num_frames)


def test_pixel_values_span_minus_one_to_one():
    video = to_video(np.array([0, 51, 255], np.uint8).reshape(1, 1, 1, 3))
    torch.testing.assert_close(video.flatten(), torch.tensor([-1.0, -0.6, 1.0]))


def test_disparity_is_the_mean_of_the_channels():
    video = torch.tensor([-1.0, 0.0, 2.0]).view(3, 1, 1, 1)
    assert to_disparity(video).item() == pytest.approx(2 / 3)


def test_a_decoded_clip_is_resized_as_the_reference_resizes_its_pictures():
    """Its pictures have 8 bits, truncated; the overshoot of bicubic interpolation is cut off."""
    rng = np.random.default_rng(3)
    pictures = rng.choice([0, 40, 255], size=(2, 12, 16, 3)).astype(np.uint8)
    resized = resize_decoded(to_video(pictures)[0], 30, 23)
    assert resized.shape == (3, 2, 30, 23)
    levels = (resized * 127.5 + 127.5).permute(1, 2, 3, 0).numpy()
    rounding = levels - resize_rgb(pictures, 30, 23)
    assert -1e-3 < rounding.min() <= rounding.max() < 1 + 1e-3
    assert resized.abs().max() == 1.0
    video = 2 * to_video(pictures)[0]
    assert torch.equal(resize_decoded(video, 12, 16), video.clamp(-1, 1))


def test_normals_have_unit_length_and_are_not_flipped():
    video = torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [-4.0, 0.5, 0.0]]).view(3, 1, 1, 3)
    normals = to_normals(video)[0, 0]
    torch.testing.assert_close(normals, torch.tensor([[0, 0.6, -0.8], [0, 0, 1], [0, 0, -1.0]]))


def test_resized_maps_stay_maps():
    flat = resize_maps(np.full((2, 4, 6), 0.3, np.float32), 9, 13)
    np.testing.assert_allclose(flat, np.full((2, 9, 13), 0.3), atol=1e-6)
    normals = np.zeros((1, 2, 2, 3), np.float32)
    normals[:, :, 0, 0] = normals[:, :, 1, 2] = 1.0
    np.testing.assert_allclose(np.linalg.norm(resize_maps(normals, 5, 7), axis=-1), 1.0, atol=1e-5)


def test_turning_back_undoes_turning():
    clip = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    np.testing.assert_array_equal(rotate_maps_back(rotate_clip(clip)), clip)
    # a wall whose normal points to the left of the upright image points down in the turned one
    turned = np.broadcast_to(np.float32([0.0, 1.0, 0.0]), (1, 5, 3, 3))
    np.testing.assert_array_equal(rotate_maps_back(turned)[0, 0, 0], [-1.0, 0.0, 0.0])


def test_a_frame_resized_in_whole_numbers_is_half_a_step_off():
    rgb = np.random.default_rng(3).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    found, expected = to_working_video(rgb, 24, 40), to_video(resize_rgb(rgb[None], 24, 40))
    assert found.shape == expected.shape
    steps = (found - expected) * 127.5
    assert steps.abs().max() < 1.51
    assert steps.mean().abs() < 0.05
    assert torch.equal(to_working_video(rgb, 48, 64), to_video(rgb[None]))
