"""
Pixels to network input and decoded video to maps. No network here.

The maps stay float all the way: disparity is never quantised.
"""
from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

TASKS = ('depth', 'normal')


def check_frames(frames: np.ndarray) -> np.ndarray:
    """Return `frames` if they are (T, H, W, 3) uint8 with T >= 1, else raise ValueError."""
    shape, dtype = getattr(frames, 'shape', None), getattr(frames, 'dtype', None)
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise ValueError(f'frames are {shape} {dtype}; (T, H, W, 3) uint8 with at least one frame '
                         'is expected')
    return frames


def resize_rgb(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """
    Resize colour frames as the reference does.

    Antialiased bicubic without keeping the aspect ratio, then back through uint8, truncating.

    Parameters
    ----------
    frames : (T, H, W, 3) uint8
        R first.
    height, width : int
        New size [px].

    Returns
    -------
    (T, height, width, 3) uint8
        The input itself if it has that size.

    """
    if frames.shape[1:3] == (height, width):
        return frames
    video = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    video = F.interpolate(video.float().div_(255.0), size=(height, width), mode='bicubic',
                          antialias=True, align_corners=False)
    video = video.clamp_(0.0, 1.0).mul_(255.0).to(torch.uint8)
    return video.permute(0, 2, 3, 1).contiguous().numpy()


def to_video(frames: np.ndarray) -> torch.Tensor:
    """Turn (T, H, W, 3) uint8 into (1, 3, T, H, W) float32 in [-1, 1]."""
    video = torch.from_numpy(np.ascontiguousarray(frames)).permute(3, 0, 1, 2)[None]
    return video.float().mul_(2.0 / 255.0).sub_(1.0)


def to_working_video(rgb: np.ndarray, height: int, width: int) -> torch.Tensor:
    """
    Resize a frame (H, W, 3) uint8 and turn it into (1, 3, 1, height, width) float32 in [-1, 1].

    In whole numbers, seven times faster than `resize_rgb`. It rounds where that truncates, so that
    half a step is taken off again; what is left is half a step of noise.
    """
    if rgb.shape[:2] == (height, width):
        return to_video(rgb[None])
    image = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None]
    image = F.interpolate(image, size=(height, width), mode='bicubic', antialias=True,
                          align_corners=False)
    return image[:, :, None].float().sub_(0.5).clamp_(min=0.0).mul_(2.0 / 255.0).sub_(1.0)


def pad_clip(frames: np.ndarray, ratio: int) -> np.ndarray:
    """Repeat the last frame until there are ratio * N + 1."""
    missing = -(len(frames) - 1) % ratio
    if not missing:
        return frames
    return np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)])


def resize_decoded(video: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """
    Resize a decoded clip as the reference does, without its 8 bits.

    Each channel is clamped to [-1, 1], resized by antialiased bicubic interpolation and clamped
    again, for that overshoots at edges.

    Parameters
    ----------
    video : (3, T, h, w) float
        From the decoder.
    height, width : int
        New size [px].

    Returns
    -------
    (3, T, height, width) float32

    """
    video = video.float().clamp(-1.0, 1.0)
    if video.shape[2:] == (height, width):
        return video
    return F.interpolate(video, size=(height, width), mode='bicubic', align_corners=False,
                         antialias=True).clamp_(-1.0, 1.0)


def to_disparity(video: torch.Tensor) -> torch.Tensor:
    """Turn decoded (3, T, H, W) into disparity (T, H, W): channel mean, [-1, 1] to [0, 1]."""
    return video.float().mean(0) * 0.5 + 0.5


def to_normals(video: torch.Tensor) -> torch.Tensor:
    """Turn decoded (3, T, H, W) into unit normals (T, H, W, 3), optical frame."""
    normals = torch.empty((*video.shape[1:], 3), device=video.device)
    # frame by frame: a clip at once would not fit a processor's cache
    for frame, result in zip(video.unbind(1), normals, strict=True):
        result.copy_(_unit(frame.float()).movedim(0, -1))
    return normals


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    """Scale (3, ...) to unit length; a vector without direction faces the camera."""
    x, y, z = vectors
    # torch's norm over an axis of three is twenty times slower
    length = (x * x).addcmul_(y, y).addcmul_(z, z).sqrt_()
    towards_camera = vectors.new_tensor([0.0, 0.0, -1.0]).view(3, *[1] * length.ndim)
    return torch.where(length > 1e-6, vectors / length.clamp_min(1e-6), towards_camera)


def to_maps(video: torch.Tensor, task: str) -> np.ndarray:
    """Turn decoded (3, T, H, W) into the task's map, (T, H, W) or (T, H, W, 3) float32."""
    maps = to_normals(video) if task == 'normal' else to_disparity(video)
    return maps.cpu().numpy()


def resize_maps(maps: np.ndarray, height: int, width: int, mode: str = 'bilinear') -> np.ndarray:
    """Resize disparity (T, h, w) or normals (T, h, w, 3), which stay of unit length."""
    if maps.shape[1:3] == (height, width):
        return maps
    is_normals = maps.ndim == 4
    video = torch.from_numpy(maps if is_normals else maps[..., None]).permute(0, 3, 1, 2)
    video = F.interpolate(video, size=(height, width), mode=mode, align_corners=False,
                          antialias=True)
    if not is_normals:
        return video[:, 0].contiguous().numpy()
    return _unit(video.movedim(1, 0)).permute(1, 2, 3, 0).contiguous().numpy()


def rotate_clip(frames: np.ndarray) -> np.ndarray:
    """Turn (T, H, W, ...) by 90 degrees counter-clockwise."""
    return np.ascontiguousarray(np.rot90(frames, 1, axes=(1, 2)))


def rotate_maps_back(maps: np.ndarray) -> np.ndarray:
    """Undo `rotate_clip` for disparity (T, h, w) or normals (T, h, w, 3), vectors included."""
    maps = np.ascontiguousarray(np.rot90(maps, -1, axes=(1, 2)))
    if maps.ndim == 4:
        x, y, z = np.moveaxis(maps, -1, 0)
        maps = np.stack([-y, x, z], axis=-1)
    return maps
