"""Held-out clips during a run: figures after one fit to the truth, and pictures."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from dkt_ros.colorize import disparity_to_rgb, normals_to_rgb
from dkt_ros.data.images import write_image
from dkt_ros.data.mixture import Mixture
from dkt_ros.data.scenes import SceneFrame
from dkt_ros.lora_config import LoraTrainConfig
from dkt_ros.metrics import affine_gt, average, depth_metrics, normal_metrics
from dkt_ros.model.causal_vae import decode_clip, temporal_ratio
from dkt_ros.model.faithful import FAITHFUL_WINDOW
from dkt_ros.model.imaging import to_maps
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.model.sampler import denoise_joint
from dkt_ros.tools.scoring import class_masks
from dkt_ros.tools.train.flow import Denoiser
from dkt_ros.tools.train.latents import target_video
from dkt_ros.tools.train.runs import append_record
from dkt_ros.tools.train.trackers import Trackers

SEED = 12345
MASKS = ('transparent', 'all')


def validate(pipeline: DKTPipeline, denoiser: Denoiser, mixture: Mixture,
             config: LoraTrainConfig) -> tuple[dict[str, float], np.ndarray]:
    """
    Predict a few clips, always the same, and compare them with the truth.

    Depth is aligned by one scale and shift a clip, fitted to the truth (protocol affine-gt).

    Returns
    -------
    (dict of str to float, (H', W', 3) uint8)
        Figures, and a picture: a clip a row.

    """
    rng = np.random.default_rng(SEED)
    num_frames = temporal_ratio(pipeline.vae) * (config.validation_latents - 1) + 1
    figures, rows = [], []
    for _ in range(config.validation_clips):
        frames = mixture.draw(num_frames, rng).frames()
        prediction = predict(pipeline, denoiser, np.stack([item.frame.rgb for item in frames]),
                             config)
        figures.append(_figures(prediction, frames, config))
        rows.append(_picture(prediction, frames, config))
    return average(figures), np.vstack(rows)


def keep_validation(run: Path, step: int, result: dict[str, float], image: np.ndarray,
                    trackers: Trackers) -> None:
    """Leave a line in validation.jsonl and samples/STEP.png."""
    append_record(run / 'validation.jsonl', {'step': step, **result})
    (run / 'samples').mkdir(exist_ok=True)
    write_image(run / 'samples' / f'{step:06d}.png', image)
    trackers.figures(result, step, 'validation')
    trackers.picture('samples', image, step)


@torch.no_grad()
def predict(pipeline: DKTPipeline, denoiser: Denoiser, frames: np.ndarray,
            config: LoraTrainConfig) -> np.ndarray:
    """
    Predict a clip with the network as it is trained: its LoRA beside the weights, maybe sharded.

    The pipeline itself would fold the weights, which must be whole and merged for that.

    Parameters
    ----------
    frames : (T, H, W, 3) uint8
        R first.

    Returns
    -------
    (T, h, w) or (T, h, w, 3) float32
        Disparity or normals at the size of the training.

    """
    rgb = pipeline.encode_rgb(frames, config.height, config.width)
    noise = torch.randn(rgb.shape, generator=torch.Generator().manual_seed(SEED)).to(rgb)
    latents = denoise_joint(
        lambda x, timestep, part: denoiser(x, rgb[:, :, part], timestep.to(x).expand(len(x))),
        noise, pipeline.schedule(config.num_inference_steps, round_timesteps=True),
        *FAITHFUL_WINDOW)
    video = decode_clip(pipeline.vae, latents)[0, :, :len(frames)]
    return to_maps(video.clamp(-1.0, 1.0), config.task)


def _figures(prediction: np.ndarray, frames: list[SceneFrame],
             config: LoraTrainConfig) -> dict[str, float]:
    size = (config.width, config.height)
    if config.task == 'normal':
        results = [normal_metrics(given, _picked(item.normals, size))
                   for given, item in zip(prediction, frames)]
        return {name: value for name, value in average(results).items() if name != 'count'}
    truth = np.stack([_picked(item.depth, size) for item in frames])
    depth = affine_gt(prediction, truth)
    known = all(item.material is not None for item in frames)
    material = np.stack([_picked(item.material, size) for item in frames]) if known else None
    masks = class_masks(material, truth)
    return {f'{name}_{metric}': depth_metrics(depth, truth, masks[name])[metric]
            for name in MASKS if name in masks for metric in ('rel', 'delta_105')}


def _picture(prediction: np.ndarray, frames: list[SceneFrame],
             config: LoraTrainConfig) -> np.ndarray:
    """Return the last frame: colour, prediction, target, side by side."""
    size = (config.width, config.height)
    rgb = cv2.resize(frames[-1].frame.rgb, size, interpolation=cv2.INTER_AREA)
    target = target_video(frames, config.task, size[::-1], config.normalization)[0, :, -1]
    if config.task == 'normal':
        views = [normals_to_rgb(prediction[-1]), normals_to_rgb(target.permute(1, 2, 0).numpy())]
    else:
        low, high = np.percentile(prediction, [1, 99])
        views = [disparity_to_rgb(prediction[-1], float(low), float(max(high, low + 1e-6))),
                 disparity_to_rgb(target[0].numpy(), -1.0, 1.0)]
    return np.hstack([rgb, *views])


def _picked(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)
