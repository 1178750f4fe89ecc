"""
Marigold-E2E-FT (Garcia et al. 2024) through diffusers: one step from zero noise, frame by frame.

Depth is affine-invariant depth, not disparity.
"""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from dkt_ros.geometry import opengl_to_optical
from dkt_ros.tools.baselines.learned import Predict, Prediction

LONG_SIDE_PX, MULTIPLE_PX = 768, 8


def load_depth(folder: Path, device: str) -> Predict:
    """Load the depth checkpoint."""
    from diffusers import MarigoldDepthPipeline
    pipeline = MarigoldDepthPipeline(**_components(folder), prediction_type='depth',
                                     scale_invariant=True, shift_invariant=True).to(device)
    return _predictor(pipeline, 'depth')


def load_normals(folder: Path, device: str) -> Predict:
    """Load the normals checkpoint."""
    from diffusers import MarigoldNormalsPipeline
    pipeline = MarigoldNormalsPipeline(**_components(folder), prediction_type='normals').to(device)
    return _predictor(pipeline, 'normals')


def _components(folder: Path) -> dict:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer
    local = {'local_files_only': True}
    weights = {**local, 'use_safetensors': True}
    # Trailing steps begin at full noise; with alpha one at the end the step is the clean latent.
    scheduler = DDIMScheduler.from_pretrained(str(folder / 'scheduler'), **local,
                                              timestep_spacing='trailing', set_alpha_to_one=True)
    return {
        'unet': UNet2DConditionModel.from_pretrained(str(folder / 'unet'), **weights),
        'vae': AutoencoderKL.from_pretrained(str(folder / 'vae'), **weights),
        'scheduler': scheduler,
        'text_encoder': CLIPTextModel.from_pretrained(str(folder / 'text_encoder'), **weights),
        'tokenizer': CLIPTokenizer.from_pretrained(str(folder / 'tokenizer'), **local)}


def _predictor(pipeline, kind: str) -> Predict:
    pipeline.set_progress_bar_config(disable=True)

    @torch.no_grad()
    def predict(frames: np.ndarray, fps: float) -> Prediction:
        results = []
        for frame in frames:
            image = _fitted(frame, LONG_SIDE_PX)
            ratio = 2 ** (len(pipeline.vae.config.block_out_channels) - 1)
            latents = torch.zeros(1, pipeline.vae.config.latent_channels, image.shape[2] // ratio,
                                  image.shape[3] // ratio, device=pipeline.device)
            output = pipeline(image, num_inference_steps=1, ensemble_size=1, latents=latents,
                              processing_resolution=0, match_input_resolution=False)
            results.append(output.prediction[0])
        values = np.stack(results).astype(np.float32)
        return Prediction(kind, opengl_to_optical(values) if kind == 'normals' else values[..., 0])

    return predict


def _fitted(frame: np.ndarray, long_side_px: int) -> torch.Tensor:
    height, width = frame.shape[:2]
    scale = long_side_px / max(height, width)
    size = [max(MULTIPLE_PX, MULTIPLE_PX * round(n * scale / MULTIPLE_PX))
            for n in (width, height)]
    resized = cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return torch.from_numpy(np.moveaxis(resized, -1, 0)[None].copy())
