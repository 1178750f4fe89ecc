"""
The preset `faithful`: a whole clip at once, as the reference implementation runs it.

Joint windows whose overlap is averaged at each step, portrait clips turned on their side, rounded
timesteps, one seed. For comparison with published figures; memory grows with the clip.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor

from dkt_ros.config import PRESETS
from dkt_ros.model import imaging
from dkt_ros.model.causal_vae import temporal_ratio
from dkt_ros.model.sampler import denoise_joint, joint_windows
from dkt_ros.model.sensor_encoder import sensor_clip
from dkt_ros.model.windows import WindowShape

if TYPE_CHECKING:
    from dkt_ros.model.pipeline import DKTPipeline

FAITHFUL = 'faithful'
FAITHFUL_WINDOW = (21, 3)
FAITHFUL_SEED = 1


def preset_window(preset: str) -> WindowShape:
    """Return the window of a live preset or of `faithful`, by name."""
    return WindowShape(*PRESETS.get(preset, FAITHFUL_WINDOW))


@dataclass(frozen=True)
class Request:
    """The arguments of `DKTPipeline.__call__`, checked."""

    frames: np.ndarray
    task: str
    shape: WindowShape
    steps: int | None
    height: int | None
    width: int | None
    generator: torch.Generator | None
    noise: torch.Tensor | None
    keep_size: bool
    overlap: str = 'auto'
    sensor_depth: np.ndarray | None = None


def run_faithful(model: DKTPipeline, request: Request) -> tuple[np.ndarray, torch.Tensor]:
    """
    Predict the maps of a clip.

    Parameters
    ----------
    model : DKTPipeline
        Who has the task.
    request : Request

    Returns
    -------
    maps : (T, H, W) or (T, H, W, 3) float32
        Disparity, or unit normals in the optical frame.
    latents : (1, z, T', h, w) torch.Tensor
        Clean latents.

    """
    frames, depths = request.frames, request.sensor_depth
    is_portrait = frames.shape[1] > frames.shape[2]
    if is_portrait:
        frames = imaging.rotate_clip(frames)
        depths = None if depths is None else imaging.rotate_clip(depths)
    size = model.working_size(request.height, request.width)
    rgb = model.encode_rgb(frames, *size)
    sensor = None if depths is None else sensor_clip(imaging.pad_clip(
        depths, temporal_ratio(model.vae)), *size)
    latents = denoise_clip(model, model.condition(rgb, sensor), request)
    decoder = model.open_decoder()
    video = torch.cat([decoder.decode(latent) for latent in latents.split(1, dim=2)], dim=2)
    video = video[0, :, :len(frames)]
    size = frames.shape[1:3] if request.keep_size else video.shape[2:]
    maps = imaging.to_maps(imaging.resize_decoded(video, *size), request.task)
    return (imaging.rotate_maps_back(maps) if is_portrait else maps), latents


def denoise_clip(model: DKTPipeline, condition: torch.Tensor, request: Request) -> torch.Tensor:
    """
    Denoise all latents of a clip in joint windows.

    Parameters
    ----------
    model : DKTPipeline
    condition : (1, c, T', h, w) torch.Tensor
        RGB latents, and those of the sensor beside them.
    request : Request
        Its `noise`, where there is one, is the start.

    Returns
    -------
    (1, z, T', h, w) torch.Tensor

    Raises
    ------
    ValueError
        If the noise is not of the latents' shape.

    """
    schedule = model.schedule(request.steps, round_timesteps=True)
    rgb = condition[:, :model.vae.config.z_dim]
    noise = request.noise
    if noise is None:
        noise = _clip_noise(model, rgb, request.generator)
    if noise.shape != rgb.shape:
        raise ValueError(f'noise is {tuple(noise.shape)}; {tuple(rgb.shape)} is expected')
    network, task = model.folded(), (request.task,)
    window, overlap = request.shape.window_latents, request.shape.overlap_latents
    parts = joint_windows(rgb.shape[2], window, overlap)
    velocities = {part.start: network.velocity(condition[:, :, part], task) for part in parts}
    with model.progress_bar(total=schedule.num_steps * len(parts)) as progress:
        return denoise_joint(lambda x, t, part: velocities[part.start](x, t), noise.to(rgb),
                             schedule, window, overlap, progress.update)


def _clip_noise(model: DKTPipeline, rgb: torch.Tensor, generator: torch.Generator | None
                ) -> torch.Tensor:
    if model.config.initial_noise == 'zeros':
        return torch.zeros_like(rgb)
    generator = generator or torch.Generator().manual_seed(FAITHFUL_SEED)
    return randn_tensor(rgb.shape, generator=generator, device=rgb.device)
