"""
What one optimiser step learns, stage by stage.

`vae`: the autoencoder on colour, disparity and normal images. `flow`: flow matching of the
target's latents given the colour latents (Lipman et al. 2022; schedule shift as in DKT). `sensor`:
the encoder of a depth camera's depth, where there is one, on the latents of the truth. `e2e`:
one step from zeros at sigma 1, through the decoder, with losses on pixels (the end-to-end
fine-tuning that image diffusion models gain most from: Garcia et al. 2024); clips longer than a
still are denoised in two windows whose overlap is held, as the stream does it.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from dkt_ros.model.sensor_encoder import SensorEncoder, with_sensor
from dkt_ros.tools.train.data import Batch
from dkt_ros.tools.train.losses import (
    gradient_error,
    normal_error,
    pixel_weights,
    relative_error,
    weighted_mean,
)
from dkt_ros.tools.train.networks import TASKS, decode, encode, velocity
from dkt_ros.train_config import StageConfig, TrainConfig


@dataclass
class Networks:
    """The networks under training and their stored prompt rows, one (1, text_dim) row a task."""

    vae: AutoencoderKLWan
    transformer: WanTransformer3DModel
    rows: dict[str, torch.Tensor]
    sensor_encoder: SensorEncoder | None = None

    @property
    def modules(self) -> dict[str, torch.nn.Module]:
        """The networks that there are, by name."""
        named = {'vae': self.vae, 'transformer': self.transformer,
                 'sensor_encoder': self.sensor_encoder}
        return {name: module for name, module in named.items() if module is not None}

    def prompt(self, tasks: list[str]) -> torch.Tensor:
        """Return the rows of each clip's task, (B, 1, text_dim)."""
        return torch.stack([self.rows[task] for task in tasks])

    def statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the latents' mean and standard deviation by channel, (1, z, 1, 1, 1) each."""
        config = self.vae.config
        return tuple(torch.tensor(values)[None, :, None, None, None]
                     for values in (config.latents_mean, config.latents_std))

    def mode(self, clips: torch.Tensor) -> torch.Tensor:
        """Encode clips (B, 3, T, H, W) to normalised latents, their mode (B, z, T', h, w)."""
        mean, std = self.statistics()
        return (encode(self.vae, clips)[:, :self.vae.config.z_dim] - mean) / std

    def condition(self, batch: Batch) -> torch.Tensor:
        """Return what the DiT is told of a batch: RGB latents, and those of the sensor."""
        return with_sensor(self.mode(batch.rgb), self.sensor_encoder, batch.sensor)

    def images(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode normalised latents (B, z, T', h, w) to images (B, 3, T, H, W) float32."""
        mean, std = self.statistics()
        return decode(self.vae, latents * std + mean).float()


def target_images(batch: Batch, tasks: list[str]) -> torch.Tensor:
    """Return each clip's target as an image (B, 3, T, H, W) in [-1, 1]."""
    disparity = batch.disparity[:, None].expand(-1, 3, -1, -1, -1)
    depth = torch.tensor([task == 'depth' for task in tasks])[:, None, None, None, None]
    return torch.where(depth, disparity, batch.normals)


def vae_loss(nets: Networks, batch: Batch, config: TrainConfig, stage: StageConfig,
             generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Reconstruct colour, disparity and normals in equal parts."""
    third = -(-len(batch.rgb) // 3)
    kinds = torch.arange(len(batch.rgb)) // third
    tasks = ['depth' if kind == 1 else 'normal' for kind in kinds]
    images = target_images(batch, tasks)
    images[kinds == 0] = batch.rgb[kinds == 0]
    mean, logvar = encode(nets.vae, images).chunk(2, dim=1)
    logvar = logvar.float().clamp(-20, 4)
    noise = torch.randn(mean.shape, generator=generator)
    decoded = decode(nets.vae, mean + noise * torch.exp(0.5 * logvar)).float()
    kl = 0.5 * (mean.float() ** 2 + logvar.exp() - 1 - logvar).mean()
    pixels = (decoded - images).abs().mean()
    edges = gradient_error(decoded.flatten(0, 1), images.flatten(0, 1),
                           torch.ones_like(images.flatten(0, 1)))
    return {'loss': pixels + edges + config.kl_weight * kl, 'l1': pixels, 'kl': kl}


def timestep_weight(sigma: torch.Tensor) -> torch.Tensor:
    """
    Return the bell-shaped weight of the reference's scheduler, centred on the middle timestep.

    Its minimum is not subtracted here: that would leave sigma 1, where sampling starts, untrained.
    """
    return torch.exp(-2 * (sigma - 0.5) ** 2)


def flow_loss(nets: Networks, batch: Batch, config: TrainConfig, stage: StageConfig,
              generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Match the velocity noise - target at a random noise level; the VAE is frozen."""
    tasks = draw_tasks(len(batch.rgb), config, generator)
    with torch.no_grad():
        rgb, clean = nets.condition(batch), nets.mode(target_images(batch, tasks))
    uniform = torch.rand(len(rgb), generator=generator)
    shift = config.schedule_shift
    sigma = shift * uniform / (1 + (shift - 1) * uniform)
    noise = torch.randn(clean.shape, generator=generator)
    level = sigma[:, None, None, None, None]
    noisy = (1 - level) * clean + level * noise
    predicted = velocity(nets.transformer, noisy, rgb, sigma, nets.prompt(tasks)).float()
    error = ((predicted - (noise - clean)) ** 2).mean((1, 2, 3, 4))
    return {'loss': (timestep_weight(sigma) * error).mean(), 'mse': error.mean()}


def draw_tasks(count: int, config: TrainConfig, generator: torch.Generator) -> list[str]:
    """Draw a task for each clip."""
    depth = torch.rand(count, generator=generator) < config.depth_share
    return [TASKS[0] if d else TASKS[1] for d in depth]


def one_step(nets: Networks, rgb: torch.Tensor, rows: torch.Tensor,
             held: torch.Tensor | None = None) -> torch.Tensor:
    """
    Predict clean latents in one step from zeros.

    Parameters
    ----------
    rgb : (B, z, T', h, w) float32
        Colour latents of the window, which may have those of the sensor beside them.
    held : (B, z, o, h, w) float32, optional
        Clean latents of the overlap: part of the noisy target, and returned as they are.

    """
    start = torch.zeros_like(rgb[:, :nets.vae.config.z_dim])
    if held is not None:
        start = torch.cat([held.to(rgb.dtype), start[:, :, held.shape[2]:]], dim=2)
    clean = start - velocity(nets.transformer, start, rgb, torch.ones(len(rgb)), rows)
    if held is None:
        return clean
    return torch.cat([held.to(clean.dtype), clean[:, :, held.shape[2]:]], dim=2)


def predict(nets: Networks, batch: Batch, tasks: list[str]) -> torch.Tensor:
    """Predict the target images (B, 3, T, H, W); long clips as two windows that overlap by one."""
    rgb, rows = nets.condition(batch), nets.prompt(tasks)
    count = rgb.shape[2]
    if count <= 2:
        return nets.images(one_step(nets, rgb, rows))
    first = one_step(nets, rgb[:, :, :count - 1], rows)
    held = first[:, :, -1:].detach()
    second = one_step(nets, rgb[:, :, count - 2:], rows, held)
    return nets.images(torch.cat([first, second[:, :, 1:]], dim=2))


def sensor_loss(nets: Networks, batch: Batch, config: TrainConfig, stage: StageConfig,
                generator: torch.Generator) -> dict[str, torch.Tensor]:
    """
    Give the sensor's encoder the language of the VAE: the latents of the true disparity.

    What the sensor got wrong it cannot know; the DiT is to. All else is frozen.
    """
    with torch.no_grad():
        clean = nets.mode(target_images(batch, ['depth'] * len(batch.rgb)))
    error = (nets.sensor_encoder.encode_clip(batch.sensor).float() - clean.float()) ** 2
    return {'loss': error.mean()}


def e2e_loss(nets: Networks, batch: Batch, config: TrainConfig, stage: StageConfig,
             generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Predict in one step and compare pixels: aligned disparity, its edges, normals."""
    tasks = draw_tasks(len(batch.rgb), config, generator)
    images = predict(nets, batch, tasks)
    return pixel_losses(images, batch, tasks, stage.object_weight)


def pixel_losses(images: torch.Tensor, batch: Batch, tasks: list[str],
                 object_weight: float) -> dict[str, torch.Tensor]:
    """Return the losses of predicted images (B, 3, T, H, W), and `loss`, their sum."""
    valid = (batch.inverse_depth > 0).float()
    weights = pixel_weights(batch.material, valid, object_weight)
    depth = torch.tensor([task == 'depth' for task in tasks])
    losses = {}
    if depth.any():
        disparity, target, w = images[depth].mean(1), batch.disparity[depth], weights[depth]
        relative = relative_error(disparity, batch.inverse_depth[depth], batch.material[depth])
        losses['relative'] = weighted_mean(relative, w)
        losses['l1'] = weighted_mean((disparity - target).abs(), w)
        losses['edges'] = gradient_error(disparity, target, w)
        losses['spread'] = images[depth].std(1).mean()
    if not depth.all():
        losses['normal'] = normal_error(images[~depth], batch.normals[~depth], weights[~depth])
    share = {'relative': 6.0, 'l1': 0.15, 'edges': 1.5, 'spread': 0.1, 'normal': 0.35}
    losses['loss'] = sum(share[name] * value for name, value in losses.items())
    return losses


@torch.no_grad()
def measure_latents(nets: Networks, batch: Batch) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation by latent channel over colour and target images."""
    images = [batch.rgb, target_images(batch, ['depth'] * len(batch.rgb)), batch.normals]
    latents = encode(nets.vae, torch.cat(images))[:, :nets.vae.config.z_dim].float()
    return latents.mean((0, 2, 3, 4)).tolist(), latents.std((0, 2, 3, 4)).clamp(min=1e-3).tolist()


LOSSES = {'vae': vae_loss, 'flow': flow_loss, 'sensor': sensor_loss, 'e2e': e2e_loss}
TRAINED = {'vae': ('vae',), 'flow': ('transformer', 'sensor_encoder'),
           'sensor': ('sensor_encoder',), 'e2e': ('vae', 'transformer', 'sensor_encoder')}
"""What each kind of stage trains."""


def set_trainable(nets: Networks, kind: str) -> list[torch.nn.Parameter]:
    """Freeze what the stage does not train and return the rest."""
    for name, module in nets.modules.items():
        module.requires_grad_(name in TRAINED[kind])
    return [p for module in nets.modules.values() for p in module.parameters()
            if p.requires_grad]
