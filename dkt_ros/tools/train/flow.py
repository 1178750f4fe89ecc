"""
Flow matching as DKT was trained: noise levels, their weights, the target, the network's input.

The levels are the reference scheduler's: s = 1, ..., 1/n, sigma = shift s / (1 + (shift - 1) s); a
clip draws one uniformly. The loss of a level is weighted by a bell around the middle timestep,
less its minimum, with mean 1: the first level, pure noise, has the weight 0.
"""
from __future__ import annotations

import torch
from diffusers import WanTransformer3DModel
from torch import nn

# CLIP's class token and 16 x 16 patches, all zero here: there is no image to follow.
NUM_IMAGE_TOKENS = 257


class TrainingSchedule:
    """
    The noise levels that training draws from.

    Attributes
    ----------
    sigmas, timesteps, weights : (n,) float32
        Noise level in (0, 1], the same times n, and the weight of the loss.

    """

    def __init__(self, shift: float = 5.0, num_timesteps: int = 1000) -> None:
        s = torch.linspace(1, 0, num_timesteps + 1, dtype=torch.float64)[:-1]
        sigmas = shift * s / (1 + (shift - 1) * s)
        timesteps = sigmas * num_timesteps
        bell = torch.exp(-2 * ((timesteps - num_timesteps / 2) / num_timesteps) ** 2)
        bell = bell - bell.min()
        self.sigmas, self.timesteps = sigmas.float(), timesteps.float()
        self.weights = (bell * (num_timesteps / bell.sum())).float()

    def __len__(self) -> int:
        return len(self.sigmas)


class Denoiser(nn.Module):
    """
    The DiT with its constant context, as one module that can be wrapped for many processes.

    Parameters
    ----------
    transformer : WanTransformer3DModel
        Input channels: noisy target, RGB latents, and zeros for whatever is left.
    rows : (n, text_dim) torch.Tensor
        The padded prompt rows of the task.

    """

    def __init__(self, transformer: WanTransformer3DModel, rows: torch.Tensor) -> None:
        super().__init__()
        self.transformer = transformer
        self.register_buffer('rows', rows.detach().clone(), persistent=False)

    def forward(self, noisy: torch.Tensor, rgb: torch.Tensor,
                timesteps: torch.Tensor) -> torch.Tensor:
        """Return the velocity (B, z, T', h, w) of noisy targets given RGB latents, same shapes."""
        config, count = self.transformer.config, len(noisy)
        missing = config.in_channels - noisy.shape[1] - rgb.shape[1]
        zeros = noisy.new_zeros(count, missing, *noisy.shape[2:])
        image = None
        if config.image_dim is not None:
            image = self.rows.new_zeros(count, NUM_IMAGE_TOKENS, config.image_dim)
        # The reference's network saw its timesteps through bfloat16.
        return self.transformer(
            torch.cat([noisy, rgb, zeros], dim=1), timesteps.to(torch.bfloat16).float(),
            self.rows.expand(count, -1, -1), image, return_dict=False)[0]


def flow_matching_loss(denoiser: nn.Module, rgb: torch.Tensor, clean: torch.Tensor,
                       noise: torch.Tensor, levels: torch.Tensor,
                       schedule: TrainingSchedule) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Match the velocity noise - clean at one noise level a clip.

    Parameters
    ----------
    denoiser : Denoiser
        Or the module that wraps it.
    rgb, clean, noise : (B, z, T', h, w) float32
        Latents of colour and target, and the noise.
    levels : (B,) int64
        Which noise level of the schedule each clip has.

    Returns
    -------
    (torch.Tensor, torch.Tensor)
        The weighted loss and the plain mean squared error of each clip, (B,) each.

    """
    sigma = schedule.sigmas[levels].to(clean)[:, None, None, None, None]
    noisy = (1 - sigma) * clean + sigma * noise
    predicted = denoiser(noisy, rgb, schedule.timesteps[levels].to(clean.device)).float()
    error = ((predicted - (noise - clean)) ** 2).mean((1, 2, 3, 4))
    return schedule.weights[levels].to(error) * error, error
