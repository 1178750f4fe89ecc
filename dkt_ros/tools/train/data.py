"""Training data: scene folders held in memory, augmented clips, batches drawn ahead of use."""
from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from queue import Queue

import cv2
import numpy as np
import torch
from rich.progress import track

from dkt_ros.data.mixture import is_video
from dkt_ros.data.scenes import EVALUATION_SEED, list_scenes, open_scene
from dkt_ros.errors import UserError
from dkt_ros.model.sensor_encoder import inverted, measure_range, sensor_image
from dkt_ros.tools.train.augmentation import (
    change_colors,
    change_light,
    change_range,
    change_sensor,
    change_tint,
)


@dataclass(frozen=True)
class Clip:
    """
    The frames of one scene.

    Attributes
    ----------
    rgb : (T, H, W, 3) uint8
    inverse_depth : (T, H, W) float16
        [1/m]; 0 where invalid.
    normals : (T, H, W, 3) int8
        Unit normals times 127.
    material : (T, H, W) uint8
    sensor : (T, H, W) float16
        Inverse depth that a depth camera gave [1/m]; 0 where it gave none.
    is_video : bool
        False for unrelated views, which serve as stills only.

    """

    rgb: np.ndarray
    inverse_depth: np.ndarray
    normals: np.ndarray
    material: np.ndarray
    sensor: np.ndarray
    is_video: bool


def load_clips(folders: Sequence[str | Path]) -> list[Clip]:
    """
    Read all scenes below `folders`.

    Raises
    ------
    UserError
        If a scene's seed is reserved for evaluation, or nothing is given.

    """
    paths = [path for folder in folders for path in list_scenes(folder)]
    if not paths:
        raise UserError('no training data: give folders of scenes as `data` (`dkt render` makes '
                        'them)')
    return [load_clip(path) for path in track(paths, description='reading scenes')]


def load_clip(path: Path) -> Clip:
    """Read one scene folder; refuses evaluation scenes."""
    scene = open_scene(path)
    if scene.seed >= EVALUATION_SEED:
        raise UserError(f'{path} has the seed {scene.seed}; seeds from {EVALUATION_SEED} up are '
                        'for evaluation only: train on other scenes')
    frames = list(scene)
    seen = [np.full_like(f.depth, np.nan) if f.frame.sensor_depth is None
            else f.frame.sensor_depth for f in frames]
    return Clip(np.stack([f.frame.rgb for f in frames]), inverses([f.depth for f in frames]),
                np.stack([np.int8(np.rint(f.normals * 127)) for f in frames]),
                np.stack([f.material for f in frames]), inverses(seen), is_video(scene))


def inverses(depths: Sequence[np.ndarray]) -> np.ndarray:
    """Return inverse depth (T, H, W) float16 [1/m], 0 where depth (H, W) [m] is invalid."""
    return np.float16([inverted(depth) for depth in depths])


@dataclass(frozen=True)
class Batch:
    """
    A batch of augmented clips.

    Attributes
    ----------
    rgb : (B, 3, T, H, W) float32
        In [-1, 1].
    inverse_depth : (B, T, H, W) float32
        [1/m]; 0 where invalid.
    disparity : (B, T, H, W) float32
        Target: inverse depth between the clip's valid minimum and maximum, at [-1, 1], or
        between those of what the depth camera saw, where the network is told.
    normals : (B, 3, T, H, W) float32
    material : (B, T, H, W) int64
    sensor : (B, 2, T, H, W) float32
        What a depth camera saw, as `sensor_image` gives it; zeros in clips without.

    """

    rgb: torch.Tensor
    inverse_depth: torch.Tensor
    disparity: torch.Tensor
    normals: torch.Tensor
    material: torch.Tensor
    sensor: torch.Tensor

    def split(self, count: int) -> Iterator[Batch]:
        """Yield the clips in batches of `count`, the last one smaller."""
        for start in range(0, len(self.rgb), count):
            yield Batch(*(getattr(self, part.name)[start:start + count] for part in fields(self)))


def draw_batch(clips: Sequence[Clip], batch_size: int, num_frames: int, height: int, width: int,
               rng: np.random.Generator, augment: bool = True, drift_share: float = 0.0,
               crop: float = 0.65, sensor_share: float = 0.0) -> Batch:
    """
    Draw clips at random and augment them.

    Stills come from all scenes, clips from videos; a share of `drift_share` of the clips is made
    of single views instead, through a window that drifts over the image: a camera whose principal
    point moves, which leaves depth and normals true. Each clip shows `crop` to 1 of the image's
    width. A share of `sensor_share` comes with what a depth camera saw.
    """
    videos = [c for c in clips if c.is_video and len(c.rgb) >= num_frames]
    if num_frames > 1 and not videos and drift_share < 1.0:
        raise UserError(f'no scene has {num_frames} consecutive frames; render some with '
                        f'--num-frames {num_frames} or more, or set drift_share to 1')
    items = []
    for _ in range(batch_size):
        drifts = num_frames > 1 and rng.random() < drift_share
        usable = clips if num_frames == 1 or drifts else videos
        clip = usable[rng.integers(len(usable))]
        if drifts:
            order = np.full(num_frames, rng.integers(len(clip.rgb)))
        else:
            start = rng.integers(len(clip.rgb) - num_frames + 1)
            order = np.arange(start, start + num_frames)
        if augment and rng.random() < 0.5:
            order = order[::-1]
        items.append(prepare(clip, order, height, width, rng, augment, drifts, crop,
                             sensor_share))
    return Batch(*(torch.from_numpy(np.ascontiguousarray(np.stack(part))) for part in zip(*items)))


def draw_windows(shape: tuple[int, int], count: int, rng: np.random.Generator, augment: bool,
                 drifts: bool, crop: float = 0.65) -> list[tuple[slice, slice]]:
    """Draw the part of an image (H, W) that each of `count` frames shows."""
    height, width = shape
    scale = rng.uniform(crop, 1.0) if augment else 1.0
    if drifts:
        scale = min(scale, 0.9)
    w, h = round(width * scale), round(height * scale)
    room = np.array([height - h, width - w])
    start = rng.integers(room + 1)
    end = start
    if drifts:
        # At most 2 % of the image a frame, as a camera that circles slowly or is held by hand.
        reach = np.array([height, width]) * 0.02 * (count - 1)
        end = np.clip(start + rng.uniform(-reach, reach), 0, room)
    corners = np.rint(np.linspace(start, end, count)).astype(int)
    return [(slice(y, y + h), slice(x, x + w)) for y, x in corners]


def prepare(clip: Clip, order: np.ndarray, height: int, width: int, rng: np.random.Generator,
            augment: bool, drifts: bool = False, crop: float = 0.65, sensor_share: float = 0.0,
            ) -> tuple[np.ndarray, ...]:
    """Cut one clip out, resized and augmented, in the layout of `Batch`."""
    windows = draw_windows(clip.rgb.shape[1:3], len(order), rng, augment, drifts, crop)
    smooth = cv2.INTER_AREA if windows[0][1].stop - windows[0][1].start > width \
        else cv2.INTER_LINEAR

    def resized(images: Sequence[np.ndarray], how: int) -> np.ndarray:
        parts = [np.ascontiguousarray(image[window]) for image, window in zip(images, windows)]
        if parts[0].dtype == np.float16:  # cv2 cannot resize it
            parts = [part.astype(np.float32) for part in parts]
        return np.stack([cv2.resize(part, (width, height), interpolation=how) for part in parts])

    images = clip.rgb[order]
    if augment and (order == order[0]).all():  # patterns of light would have to follow a camera
        images = [change_light(images[0], rng)] * len(order)
    rgb = resized(images, smooth).astype(np.float32) / 255.0
    inverse = resized(clip.inverse_depth[order], cv2.INTER_NEAREST)
    normals = resized(clip.normals[order], cv2.INTER_NEAREST).astype(np.float32) / 127.0
    material = resized(clip.material[order], cv2.INTER_NEAREST).astype(np.int64)
    sensor = resized(clip.sensor[order], cv2.INTER_NEAREST)
    if rng.random() >= sensor_share:
        sensor = np.zeros_like(sensor)
    if augment:
        rgb = change_colors(change_tint(rgb, material, rng), rng)
        sensor = change_sensor(sensor, material, rng)
        if rng.random() < 0.5:
            rgb, inverse, material = rgb[:, :, ::-1], inverse[:, :, ::-1], material[:, :, ::-1]
            normals = normals[:, :, ::-1] * np.array([-1, 1, 1], np.float32)
            sensor = sensor[:, :, ::-1]
    limits = next(filter(None, map(measure_range, sensor)), None)
    target = normalized(inverse)
    if limits is not None:
        limits = change_range(limits, rng) if augment else limits
        target = np.where(inverse > 0, limits.normalized(inverse), np.float32(0))
    return (np.moveaxis(rgb * 2 - 1, -1, 0), inverse, target, np.moveaxis(normals, -1, 0),
            material, sensor_image(sensor, limits))


def normalized(inverse_depth: np.ndarray) -> np.ndarray:
    """Scale inverse depth to [-1, 1] by the clip's valid minimum and maximum."""
    valid = inverse_depth > 0
    if not valid.any():
        return np.zeros_like(inverse_depth)
    low, high = inverse_depth[valid].min(), inverse_depth[valid].max()
    scaled = 2 * (inverse_depth - low) / max(high - low, 1e-3) - 1
    return np.where(valid, scaled, 0).astype(np.float32)


def batches_ahead(draw, depth: int = 3) -> Iterator[Batch]:
    """Yield `draw()` for ever, prepared in a thread up to `depth` batches ahead."""
    queue: Queue = Queue(maxsize=depth)
    stop = threading.Event()

    def work() -> None:
        try:
            while not stop.is_set():
                queue.put(draw())
        except Exception as error:  # noqa: BLE001 - handed to the consumer
            queue.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        while True:
            item = queue.get()
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stop.set()
        while not queue.empty():
            queue.get_nowait()
