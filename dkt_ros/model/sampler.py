"""
Flow matching with Euler steps: sigmas, one window with its overlap held, joint windows, noise.

Plain functions of (velocity, latents, schedule). A velocity is any callable; nothing here knows
the network, the VAE or the task. Letters: B batch, C channels, k latents of a window, n steps.
"""
from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

INITIAL_NOISES = ('gaussian', 'zeros')


@dataclass(frozen=True)
class FlowSchedule:
    """
    Noise levels of a denoising run.

    Attributes
    ----------
    sigmas : (n + 1,) float32
        From 1 down to 0.
    timesteps : (n,) float32
        What the network is told, about 1000 * sigma.

    """

    sigmas: torch.Tensor
    timesteps: torch.Tensor

    @property
    def num_steps(self) -> int:
        """Number of network evaluations."""
        return len(self.timesteps)


def flow_schedule(scheduler: FlowMatchEulerDiscreteScheduler, num_steps: int,
                  round_timesteps: bool = False) -> FlowSchedule:
    """
    Return the reference's sigmas for `num_steps` steps.

    With `round_timesteps` the timesteps (not the sigmas) go through bfloat16, as the network of
    the reference saw them.
    """
    if num_steps < 1:
        raise ValueError(f'num_inference_steps is {num_steps}; give 1 or more')
    scheduler = copy.copy(scheduler)
    # Not set_timesteps(num_steps): that starts from a shifted minimum and shifts it again.
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.0, num_steps + 1)[:-1])
    timesteps = scheduler.timesteps.float().cpu()
    if round_timesteps:
        timesteps = timesteps.to(torch.bfloat16).float()
    return FlowSchedule(scheduler.sigmas.float().cpu(), timesteps)


def euler_step(latents: torch.Tensor, velocity: torch.Tensor, sigma: torch.Tensor,
               sigma_next: torch.Tensor) -> torch.Tensor:
    """Move `latents` from noise level `sigma` to `sigma_next`."""
    return latents + velocity * (sigma_next - sigma).to(latents)


def latent_noise(shape: tuple[int, ...], index: int, seed: int,
                 initial_noise: str = 'gaussian') -> torch.Tensor:
    """
    Return the start of one latent of a stream: a function of (seed, index) alone.

    Parameters
    ----------
    shape : tuple of int
        (B, C, 1, h, w).
    index : int
        Number of the latent since the stream began.
    seed : int
        Seed of the stream.
    initial_noise : str
        'gaussian', or 'zeros' for models trained so.

    """
    if initial_noise == 'zeros':
        return torch.zeros(shape)
    if initial_noise != 'gaussian':
        raise ValueError(f'initial_noise is {initial_noise!r}; allowed: '
                         f'{", ".join(map(repr, INITIAL_NOISES))}')
    state = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0]
    generator = torch.Generator().manual_seed(int(state >> np.uint64(1)))
    return torch.randn(shape, generator=generator)


def denoise_window(velocity: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
                   noise: torch.Tensor, schedule: FlowSchedule,
                   held: list[torch.Tensor] | None = None) -> list[torch.Tensor]:
    """
    Denoise one window while its first latents follow what the window before predicted.

    With several steps the overlap is set to the stored trajectory at each step (same noise, same
    sigmas). With one step there is no trajectory: the overlap then carries the clean latents, the
    model is trained so, and they come out unchanged.

    Parameters
    ----------
    velocity : callable
        (latents (B, C, k, h, w), timestep ()) -> velocity of the same shape.
    noise : (B, C, k, h, w) float
        Start of the window; the values at the overlap are not used.
    schedule : FlowSchedule
        Noise levels, n steps.
    held : list of (B, C, o, h, w) float, optional
        The n + 1 states of the overlap in the window before.

    Returns
    -------
    list of (B, C, k, h, w) float
        The n + 1 states; the last one is the clean window.

    """
    states = _context(held, schedule.num_steps)
    latents = _hold(noise, states, 0)
    trajectory = [latents]
    for step, timestep in enumerate(schedule.timesteps):
        latents = euler_step(latents, velocity(latents, timestep), schedule.sigmas[step],
                             schedule.sigmas[step + 1])
        latents = _hold(latents, states, step + 1)
        trajectory.append(latents)
    return trajectory


def _context(held: list[torch.Tensor] | None, num_steps: int) -> list[torch.Tensor] | None:
    if held is None:
        return None
    if len(held) != num_steps + 1:
        raise ValueError(f'the overlap was denoised in {len(held) - 1} steps and the window in '
                         f'{num_steps}; both need the same schedule')
    return [held[-1], held[-1]] if num_steps == 1 else held


def _hold(latents: torch.Tensor, states: list[torch.Tensor] | None, step: int) -> torch.Tensor:
    if states is None:
        return latents
    context = states[step]
    return torch.cat([context, latents[:, :, context.shape[2]:]], dim=2)


def joint_windows(num_latents: int, window: int, overlap: int) -> list[slice]:
    """Return the reference's windows; the last one may be short."""
    if not 0 <= overlap < window:
        raise ValueError(f'overlap_latents is {overlap} and window_latents {window}; the overlap '
                         'must be at least 0 and smaller than the window')
    starts = range(0, max(num_latents - overlap, 1), window - overlap)
    return [slice(start, min(start + window, num_latents)) for start in starts]


def joint_weights(part: slice, num_latents: int, overlap: int) -> torch.Tensor:
    """Return the blending weight of each latent of a window, (k,): ramps, none at clip ends."""
    weights = torch.ones(part.stop - part.start)
    ramp = (torch.arange(overlap) + 0.5) / max(overlap, 1)
    if part.start > 0 and overlap:
        weights[:overlap] = ramp
    if part.stop < num_latents and overlap:
        weights[-overlap:] = ramp.flip(0)
    return weights


def denoise_joint(velocity: Callable[[torch.Tensor, torch.Tensor, slice], torch.Tensor],
                  noise: torch.Tensor, schedule: FlowSchedule, window: int, overlap: int,
                  on_step: Callable[[], None] = lambda: None) -> torch.Tensor:
    """
    Denoise a whole clip, velocities of all windows averaged at every step (the reference).

    Parameters
    ----------
    velocity : callable
        (latents (B, C, k, h, w), timestep (), slice of the clip) -> velocity.
    noise : (B, C, T', h, w) float
        Start of the clip.
    schedule : FlowSchedule
        Noise levels.
    window, overlap : int
        Counted in latents.
    on_step : callable
        Called after each window of each step.

    Returns
    -------
    (B, C, T', h, w) float
        Clean latents.

    """
    latents, num_latents = noise, noise.shape[2]
    parts = joint_windows(num_latents, window, overlap)
    weights = [joint_weights(part, num_latents, overlap).to(noise).view(1, 1, -1, 1, 1)
               for part in parts]
    for step, timestep in enumerate(schedule.timesteps):
        total, mass = torch.zeros_like(latents), torch.zeros_like(latents[:1, :1, :, :1, :1])
        for part, weight in zip(parts, weights, strict=True):
            total[:, :, part] += velocity(latents[:, :, part], timestep, part) * weight
            mass[:, :, part] += weight
            on_step()
        latents = euler_step(latents, total / mass, schedule.sigmas[step],
                             schedule.sigmas[step + 1])
    return latents
