"""
How a window knows the latents that the window before it has predicted.

`recompute`: they go through the network again beside the new ones, held to their trajectory. Both
see each other. `cache`: only the new latents go through the network; in each layer they query the
keys and values that the old ones had at the same step. Old latents then know nothing of newer
ones, and what they saw of older ones stays in their keys: a stream of windows is, to rounding, the
whole clip denoised at once where a latent sees its own window and the overlap before it.

`renoise`: as `recompute`, but at each step the old latents are noise and clean result mixed at
that step's level, not the states that led to the result. Where the flow is straight, and for a
model of one step, that is the same.

`align`: each window by itself; `dkt_ros.model.aligned` fits them to each other as pictures.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch

from dkt_ros.config import OVERLAPS
from dkt_ros.model.checks import check_choice
from dkt_ros.model.folded import FoldedTransformer
from dkt_ros.model.sampler import FlowSchedule, denoise_window, euler_step


class Overlap:
    """
    What a window is to know of the one before it.

    Parameters
    ----------
    network : FoldedTransformer
        What is evaluated.
    tasks : sequence of str
        Of the rows of the batch.
    schedule : FlowSchedule
        Noise levels.
    num_latents : int
        Latents of the overlap.

    """

    def __init__(self, network: FoldedTransformer, tasks: Sequence[str], schedule: FlowSchedule,
                 num_latents: int) -> None:
        self._network, self._tasks, self._schedule = network, tuple(tasks), schedule
        self._num_latents = num_latents
        self.reset()

    def reset(self) -> None:
        """Forget the past."""
        raise NotImplementedError

    def denoise(self, rgb: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """
        Return the clean new latents, and keep what the next window is to know of them.

        Parameters
        ----------
        rgb : (1, z, n, h, w) float
            RGB latents of the new latents.
        noise : (B, z, n, h, w) float
            Their start.

        Returns
        -------
        (B, z, n, h, w) float

        """
        raise NotImplementedError


class RecomputedOverlap(Overlap):
    """The latents of the overlap as a part of the window."""

    def reset(self) -> None:
        """Forget the past."""
        self._rgb: torch.Tensor | None = None
        self._trajectory: list[torch.Tensor] | None = None

    def denoise(self, rgb: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Return the clean new latents, see `Overlap.denoise`."""
        num_new, held = rgb.shape[2], self._trajectory
        if held is not None:
            rgb = torch.cat([self._rgb, rgb], dim=2)
            noise = torch.cat([held[0], noise], dim=2)
        velocity = self._network.velocity(rgb, self._tasks, rgb.shape[2] - num_new)
        trajectory = denoise_window(velocity, noise, self._schedule, held)
        if self._num_latents:
            self._rgb = rgb[:, :, -self._num_latents:].clone()
            self._trajectory = self._states_of([state[:, :, -self._num_latents:].clone()
                                                for state in trajectory])
        return trajectory[-1][:, :, -num_new:]

    def _states_of(self, trajectory: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return what the old latents (B, z, o, h, w) are held to at each level."""
        return trajectory


class RenoisedOverlap(RecomputedOverlap):
    """The latents of the overlap as a part of the window, made noisy anew from the clean ones."""

    def _states_of(self, trajectory: list[torch.Tensor]) -> list[torch.Tensor]:
        noise, clean = trajectory[0], trajectory[-1]
        return [torch.lerp(clean, noise, float(sigma)) for sigma in self._schedule.sigmas]


class CachedOverlap(Overlap):
    """
    The overlap as stored keys and values.

    Memory: 2 L N D values for each latent of the overlap, task and step.
    """

    def reset(self) -> None:
        """Forget the past."""
        self._pasts: list[torch.Tensor | None] = [None] * self._schedule.num_steps
        self._num_before = 0

    def denoise(self, rgb: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Return the clean new latents, see `Overlap.denoise`."""
        schedule, latents = self._schedule, noise
        before, self._num_before = self._num_before, min(self._num_latents,
                                                         self._num_before + rgb.shape[2])
        velocity = self._network.velocity_after(rgb, self._tasks, before, self._num_before)
        for step, timestep in enumerate(schedule.timesteps):
            found, self._pasts[step] = velocity(latents, timestep, self._pasts[step])
            latents = euler_step(latents, found, schedule.sigmas[step], schedule.sigmas[step + 1])
        return latents


def open_overlap(name: str, network: FoldedTransformer, tasks: Sequence[str],
                 schedule: FlowSchedule, num_latents: int) -> Overlap:
    """Return the strategy of this name, one of `OVERLAPS`."""
    check_choice('overlap', name, OVERLAPS)
    strategy = {'recompute': RecomputedOverlap, 'cache': CachedOverlap,
                'renoise': RenoisedOverlap, 'align': RecomputedOverlap}[name]
    return strategy(network, tasks, schedule, 0 if name == 'align' else num_latents)
