"""Sigmas, the held overlap, joint windows and noise, on hand-made velocities."""
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from toy_model import randn

from dkt_ros.model.sampler import (
    denoise_joint,
    denoise_window,
    flow_schedule,
    joint_weights,
    joint_windows,
    latent_noise,
)

SCHEDULER = FlowMatchEulerDiscreteScheduler(shift=5.0)


def drift(latents, timestep, *_):
    """Pull every latent towards the mean of its window: windows and neighbours matter."""
    return latents - latents.mean(dim=2, keepdim=True) + timestep / 1000


@pytest.mark.parametrize(('steps', 'sigmas', 'timesteps'), [
    (5, [1, .95238, .88235, .76923, .55556, 0], [1000, 952, 884, 768, 556]),
    (4, [1, .9375, .83333, .625, 0], [1000, 936, 832, 624]),
    (3, [1, .90909, .71429, 0], [1000, 908, 716]),
    (2, [1, .83333, 0], [1000, 832]),
    (1, [1, 0], [1000]),
])
def test_sigmas_and_rounded_timesteps_are_the_references(steps, sigmas, timesteps):
    schedule = flow_schedule(SCHEDULER, steps, round_timesteps=True)
    torch.testing.assert_close(schedule.sigmas, torch.tensor(sigmas).float(), atol=1e-5, rtol=0)
    assert schedule.timesteps.tolist() == timesteps
    exact = flow_schedule(SCHEDULER, steps).timesteps
    torch.testing.assert_close(exact, 1000 * schedule.sigmas[:-1])


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match='num_inference_steps is 0'):
        flow_schedule(SCHEDULER, 0)


def test_one_step_from_zeros_is_minus_the_velocity():
    schedule = flow_schedule(SCHEDULER, 1)
    trajectory = denoise_window(lambda x, t: torch.full_like(x, 3.0), torch.zeros(1, 2, 3, 4, 4),
                                schedule)
    assert len(trajectory) == 2
    assert (trajectory[-1] == -3.0).all()


def test_one_step_shows_the_clean_overlap_and_leaves_it():
    seen, clean = [], randn(1, 1, 2, 1, 4, 4)
    schedule = flow_schedule(SCHEDULER, 1)
    result = denoise_window(lambda x, t: seen.append(x) or torch.ones_like(x),
                            torch.zeros(1, 2, 3, 4, 4), schedule, [randn(2, 1, 2, 1, 4, 4), clean])
    assert torch.equal(seen[0][:, :, :1], clean)
    assert not seen[0][:, :, 1:].any()
    assert torch.equal(result[-1][:, :, :1], clean)
    assert (result[-1][:, :, 1:] == -1.0).all()


def test_several_steps_replay_the_trajectory_of_the_overlap():
    schedule, seen = flow_schedule(SCHEDULER, 3), []
    before = denoise_window(drift, randn(1, 1, 2, 3, 4, 4), schedule)
    held = [state[:, :, -1:] for state in before]
    after = denoise_window(lambda x, t: seen.append(x) or drift(x, t), randn(2, 1, 2, 3, 4, 4),
                           schedule, held)
    for step in range(4):
        assert torch.equal(after[step][:, :, :1], held[step])
    assert all(torch.equal(x[:, :, :1], state) for x, state in zip(seen, held))
    assert torch.equal(after[-1][:, :, :1], before[-1][:, :, -1:])


def test_an_overlap_of_another_schedule_is_refused():
    with pytest.raises(ValueError, match='1 steps.*in 3'):
        denoise_window(drift, torch.zeros(1, 2, 3, 4, 4), flow_schedule(SCHEDULER, 3),
                       [torch.zeros(1, 2, 1, 4, 4)] * 2)


@pytest.mark.parametrize(('num_latents', 'expected'), [
    (1, [(0, 1)]), (21, [(0, 21)]), (22, [(0, 21), (18, 22)]), (39, [(0, 21), (18, 39)]),
    (40, [(0, 21), (18, 39), (36, 40)]),
])
def test_joint_windows_start_as_in_the_reference(num_latents, expected):
    assert [(w.start, w.stop) for w in joint_windows(num_latents, 21, 3)] == expected


def test_joint_windows_need_a_smaller_overlap():
    with pytest.raises(ValueError, match='overlap_latents is 3'):
        joint_windows(10, 3, 3)


def test_ramps_are_not_at_the_ends_of_the_clip():
    third = [1 / 6, 1 / 2, 5 / 6]
    middle = joint_weights(slice(6, 15), 26, 3)
    torch.testing.assert_close(middle, torch.tensor(third + [1.0] * 3 + third[::-1]))
    assert joint_weights(slice(0, 9), 26, 3)[:6].tolist() == [1.0] * 6
    assert joint_weights(slice(18, 26), 26, 3)[3:].tolist() == [1.0] * 5


def test_joint_denoising_of_one_window_is_plain_denoising():
    schedule, noise = flow_schedule(SCHEDULER, 4), randn(1, 1, 2, 5, 4, 4)
    joint = denoise_joint(drift, noise, schedule, window=21, overlap=3)
    torch.testing.assert_close(joint, denoise_window(drift, noise, schedule)[-1])


def test_joint_denoising_averages_velocities_with_the_ramps():
    def velocity(latents, timestep, part):
        return torch.full_like(latents, float(part.start))

    result = denoise_joint(velocity, torch.zeros(1, 1, 5, 1, 1), flow_schedule(SCHEDULER, 1),
                           window=3, overlap=1)
    assert result.flatten().tolist() == [0.0, 0.0, -1.0, -2.0, -2.0]


def test_noise_depends_on_seed_and_index_alone():
    shape = (1, 4, 1, 2, 3)
    again = [latent_noise(shape, index, seed) for index, seed in ((7, 1), (7, 1), (8, 1), (7, 2))]
    assert torch.equal(again[0], again[1])
    assert not torch.equal(again[0], again[2])
    assert not torch.equal(again[0], again[3])
    assert not latent_noise(shape, 7, 1, 'zeros').any()
    with pytest.raises(ValueError, match="'pink'.*'gaussian', 'zeros'"):
        latent_noise(shape, 0, 0, 'pink')
