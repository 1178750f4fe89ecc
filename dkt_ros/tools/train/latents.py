"""
Clips as latents, each encoded once and kept on disk.

A clip's file is named by all that its latents depend on: the frames, the size, the task, how
disparity is scaled, and the weights of the VAE.
"""
from __future__ import annotations

import hashlib
import os
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dkt_ros.data.mixture import ClipRef
from dkt_ros.data.scenes import SceneFrame
from dkt_ros.model.causal_vae import encode_clip
from dkt_ros.model.imaging import resize_rgb, to_video
from dkt_ros.tools.baselines.filled import fill_holes

PERCENTILES = {'minmax': (0.0, 100.0), 'percentile': (2.0, 98.0)}


class LatentCache:
    """
    Latents by clip.

    Parameters
    ----------
    folder : Path
        Where the files lie; made when needed.
    vae : AutoencoderKLWan
        Frozen.
    vae_hash : str
        Names its weights.
    height, width : int
        Size that clips are brought to [px].
    task, normalization : str
        As in `LoraTrainConfig`.

    """

    def __init__(self, folder: Path, vae: torch.nn.Module, vae_hash: str, height: int, width: int,
                 task: str, normalization: str) -> None:
        self.folder, self.vae = folder, vae
        self.size, self.task, self.normalization = (height, width), task, normalization
        self._about = f'{vae_hash}|{height}x{width}|{task}|{normalization}'
        self.num_encoded = 0

    def path(self, clip: ClipRef) -> Path:
        """Return the file of a clip."""
        name = hashlib.sha256(f'{self._about}|{clip.key}'.encode()).hexdigest()
        return self.folder / name[:2] / f'{name}.safetensors'

    def get(self, clip: ClipRef) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return the latents of colour and target, (z, T', h, w) float32 each.

        Raises
        ------
        UserError
            If a frame of the clip is broken.

        """
        path = self.path(clip)
        if not path.is_file():
            self._encode(clip, path)
        try:
            state = load_file(str(path))
        except SafetensorError:  # cut short when a disk was full
            self._encode(clip, path)
            state = load_file(str(path))
        return state['rgb'].float(), state['target'].float()

    @torch.no_grad()
    def _encode(self, clip: ClipRef, path: Path) -> None:
        frames = clip.frames()
        rgb = resize_rgb(np.stack([item.frame.rgb for item in frames]), *self.size)
        videos = {'rgb': to_video(rgb),
                  'target': target_video(frames, self.task, self.size, self.normalization)}
        # Half precision holds latents to a thousandth; what is read back is always the same.
        state = {name: encode_clip(self.vae, video.to(self.vae.device))[0].half().cpu()
                 .contiguous() for name, video in videos.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f'.{path.stem}.{os.getpid()}')
        save_file(state, str(partial))
        os.replace(partial, path)
        self.num_encoded += 1


def target_video(frames: list[SceneFrame], task: str, size: tuple[int, int],
                 normalization: str) -> torch.Tensor:
    """
    Return what the model shall draw for a clip, (1, 3, T, H, W) float32 in [-1, 1].

    Disparity is scaled jointly over the frames; where there is no true depth, it is that of the
    nearest pixel. Normals are drawn as they are.
    """
    height, width = size
    if task == 'normal':
        images = [_resized(_need(item.normals, 'normals', item), width, height)
                  for item in frames]
        return torch.from_numpy(np.moveaxis(np.stack(images), -1, 0)[None].copy()).float()
    depths = [_resized(fill_holes(_need(item.depth, 'true depth', item)), width, height)
              for item in frames]
    with np.errstate(divide='ignore'):
        inverse = 1.0 / np.stack(depths)
    low, high = np.percentile(inverse, PERCENTILES[normalization])
    scaled = np.clip(2 * (inverse - low) / max(high - low, 1e-3) - 1, -1, 1).astype(np.float32)
    return torch.from_numpy(scaled)[None, None].expand(1, 3, -1, -1, -1).contiguous()


def _need(image: np.ndarray | None, what: str, item: SceneFrame) -> np.ndarray:
    if image is None or not np.isfinite(image).any():
        raise ValueError(f'frame {item.index} has no {what}')
    return image


def _resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    return cv2.resize(np.asarray(image, np.float32), (width, height),
                      interpolation=cv2.INTER_NEAREST)
