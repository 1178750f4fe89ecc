"""Depth Anything V2 (Yang et al. 2024) through transformers: single frames to disparity."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from dkt_ros.tools.baselines.learned import Predict, Prediction, batches

SIDE_PX, MULTIPLE_PX = 518, 14
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load(folder: Path, device: str) -> Predict:
    """Load a checkpoint in transformers' layout; a metric one gives metres."""
    from transformers import DepthAnythingForDepthEstimation
    model = DepthAnythingForDepthEstimation.from_pretrained(
        str(folder), local_files_only=True, use_safetensors=True).to(device).eval()
    kind = 'metric' if model.config.depth_estimation_type == 'metric' else 'disparity'

    @torch.no_grad()
    def predict(frames: np.ndarray, fps: float) -> Prediction:
        parts = [model(prepare(part, SIDE_PX).to(device)).predicted_depth.float().cpu().numpy()
                 for part in batches(frames)]
        return Prediction(kind, np.concatenate(parts))

    return predict


def prepare(frames: np.ndarray, side_px: int) -> torch.Tensor:
    """Resize (T, H, W, 3) uint8 so that the shorter side is about `side_px`, and normalise."""
    height, width = frames.shape[1:3]
    scale = side_px / min(height, width)
    size = [max(MULTIPLE_PX, MULTIPLE_PX * round(n * scale / MULTIPLE_PX))
            for n in (width, height)]
    resized = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC)
                        for frame in frames]).astype(np.float32) / 255
    normalised = (resized - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(normalised, -1, 1)))
