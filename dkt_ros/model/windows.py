"""
A stream of frames through the networks, window by window, each frame encoded and decoded once.

`WindowStream` knows pixels and latents only; stamps, cameras, gaps and statistics are the
business of `dkt_ros.stream`. The latent is the unit: the very first one holds 1 frame, every
later one `temporal_ratio`. The tasks of a model go through its network as one batch; models with
one VAE share the latents of the RGB and are decoded as one batch. Memory does not grow with the
length of the stream.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from dkt_ros.model.causal_vae import temporal_ratio
from dkt_ros.model.imaging import to_maps, to_working_video
from dkt_ros.model.overlap import open_overlap
from dkt_ros.model.sampler import latent_noise
from dkt_ros.model.sensor_encoder import SensorVideo

if TYPE_CHECKING:
    from dkt_ros.model.pipeline import DKTPipeline


@dataclass(frozen=True)
class WindowShape:
    """
    Latents of a window and how many of them the window before has predicted.

    Raises
    ------
    ValueError
        Unless 0 <= overlap_latents < window_latents.

    """

    window_latents: int
    overlap_latents: int

    def __post_init__(self) -> None:
        if not 0 <= self.overlap_latents < self.window_latents:
            raise ValueError(f'overlap_latents is {self.overlap_latents} and window_latents '
                             f'{self.window_latents}; the overlap must be at least 0 and smaller '
                             'than the window')

    @property
    def new_latents(self) -> int:
        """Latents that a window after the first one adds."""
        return self.window_latents - self.overlap_latents

    @property
    def is_single(self) -> bool:
        """True if each frame is a window of its own."""
        return self.window_latents == 1


@dataclass
class LatentWindow:
    """
    The new frames of one window, encoded; what is left may be done in two other threads.

    Windows are denoised in order, and decoded in order, each of them once.

    Attributes
    ----------
    window_id : int
        Number of the window since the stream began.
    num_frames : int
        New frames.
    seconds : dict of str to float
        Time spent since the window before: encode [s], then dit too.

    """

    window_id: int
    num_frames: int
    seconds: dict[str, float]
    _denoise: Callable[[], list[torch.Tensor]]
    _decode: Callable[[LatentWindow, list[torch.Tensor]], DecodedWindow]
    _clean: list[torch.Tensor] | None = None

    @torch.no_grad()
    def denoise(self) -> None:
        """Run the transformer; at the latest when the window is decoded."""
        start = time.perf_counter()
        self._clean = self._denoise()
        self.seconds = self.seconds | {'dit': time.perf_counter() - start}

    @torch.no_grad()
    def decode(self) -> DecodedWindow:
        """Run the decoder."""
        if self._clean is None:
            self.denoise()
        return self._decode(self, self._clean)


@dataclass(frozen=True)
class DecodedWindow:
    """
    The new frames of one window.

    Attributes
    ----------
    window_id : int
        Number of the window since the stream began.
    maps : dict of str to (n, h, w) or (n, h, w, 3) float32
        Disparity for task `depth`, unit normals for task `normal`, at working size.
    seconds : dict of str to float
        Time spent on the window: encode, dit, decode [s].

    """

    window_id: int
    maps: dict[str, np.ndarray]
    seconds: dict[str, float]

    @property
    def num_frames(self) -> int:
        """Number of frames, n."""
        return len(next(iter(self.maps.values())))


class _Branch:
    """The models that share a VAE: each frame is encoded once for all of them."""

    def __init__(self, models: dict, shape: WindowShape, num_inference_steps: int | None,
                 seed: int, overlap: str) -> None:
        owner = next(iter(models))
        self._vae, self._seed = owner.vae, seed
        self.tasks = [task for tasks in models.values() for task in tasks]
        self._encoder, self._decoder = owner.open_encoder(), owner.open_decoder(self.tasks)
        self._is_single = shape.is_single
        self._parts = [(model, tasks, open_overlap(
            overlap, model.folded(), tasks, model.schedule(num_inference_steps),
            shape.overlap_latents)) for model, tasks in models.items()]
        self.reset()

    @property
    def num_frames(self) -> int:
        """Frames of the next latent."""
        return self._encoder.num_frames

    def reset(self) -> None:
        """Forget the past; transformer and decoder do so when they begin anew."""
        self._encoder.reset()
        self._new: list[list[torch.Tensor]] = []
        self._num_latents = 0

    def begin_latent(self) -> None:
        """Let the next frame know no past where each is a window of its own."""
        if self._is_single:
            self._encoder.reset()

    def begin_clip(self, num_shared: int) -> None:
        """Let the next latent be a first one; so many to come start from the noise they had."""
        self._encoder.reset()
        self._num_latents -= num_shared

    def encode(self, frames: torch.Tensor, sensor: torch.Tensor | None) -> None:
        """Add a latent of frames (1, 3, n, H, W) and (1, 2, n, H, W) to the window."""
        rgb = self._encoder.encode(frames.to(self._vae.device))
        self._new.append([model.condition(rgb, sensor) for model, *_ in self._parts])

    def take(self) -> tuple[list[torch.Tensor], int]:
        """Return each model's condition (1, c, n, h, w) of the window, and the first's number."""
        given = [torch.cat(latents, dim=2) for latents in zip(*self._new, strict=True)]
        first = self._num_latents
        self._num_latents += len(self._new)
        self._new = []
        return given, first

    def denoise(self, given: list[torch.Tensor], first: int, begins: bool) -> torch.Tensor:
        """Return the clean new latents (tasks, z, n, h, w); `begins` as for `decode`."""
        clean = []
        for rgb, (model, tasks, overlap) in zip(given, self._parts, strict=True):
            if begins:
                overlap.reset()
            clean.append(overlap.denoise(rgb, self._noise(rgb, first, model, len(tasks))).to(rgb))
        return torch.cat(clean)

    def decode(self, latents: torch.Tensor, begins: bool) -> dict[str, np.ndarray]:
        """Return the maps of the new latents; `begins` with the first ones of a stream."""
        maps: dict[str, list[np.ndarray]] = {task: [] for task in self.tasks}
        if begins:
            self._decoder.reset()
        for latent in latents.split(1, dim=2):
            if self._is_single:
                self._decoder.reset()
            for task, video in zip(self.tasks, self._decoder.decode(latent), strict=True):
                maps[task].append(to_maps(video, task))
        return {task: np.concatenate(parts) for task, parts in maps.items()}

    def _noise(self, rgb: torch.Tensor, first: int, model: object, rows: int) -> torch.Tensor:
        shape = (1, self._vae.config.z_dim, 1, *rgb.shape[3:])
        noise = [latent_noise(shape, first + i, self._seed,
                              model.config.initial_noise) for i in range(rgb.shape[2])]
        return torch.cat(noise, dim=2).expand(rows, -1, -1, -1, -1).to(rgb)


class WindowStream:
    """
    Push frames, receive decoded windows.

    Parameters
    ----------
    pipeline : DKTPipeline
        The networks, those of a model for normals beside it among them.
    tasks : sequence of str
        What to predict.
    shape : WindowShape
        Windows.
    height, width : int
        Working size [px].
    num_inference_steps : int, optional
        Denoising steps a window; each model's own when not given.
    seed : int
        Seed of the noise.
    overlap : str
        One of `OVERLAPS`, see `overlap`.

    """

    def __init__(self, pipeline: DKTPipeline, tasks: Sequence[str], shape: WindowShape,
                 height: int, width: int, num_inference_steps: int | None, seed: int,
                 overlap: str = 'recompute') -> None:
        self.shape, self.tasks, self.size = shape, tuple(tasks), (height, width)
        self._temporal_ratio = temporal_ratio(pipeline.vae)
        by_vae: dict[int, dict[DKTPipeline, list[str]]] = {}
        for task in self.tasks:
            model = pipeline.model_of(task)
            model.check_size(height, width)
            by_vae.setdefault(id(model.vae), {}).setdefault(model, []).append(task)
        self._branches = [_Branch(models, shape, num_inference_steps, seed, overlap)
                          for models in by_vae.values()]
        self._sensor = SensorVideo() if any(model.sensor_encoder for models in by_vae.values()
                                            for model in models) else None
        self.reset()

    @property
    def takes_sensor(self) -> bool:
        """True if what a depth camera saw changes the maps."""
        return self._sensor is not None

    def reset(self) -> None:
        """Forget the past; frames not yet given back are lost."""
        if self._sensor is not None:
            self._sensor.reset()
        for branch in self._branches:
            branch.reset()
        self._frames: list[tuple[torch.Tensor, torch.Tensor | None]] = []
        self._num_waiting = self._num_new = self.num_windows = 0
        self._seconds = {'encode': 0.0}

    @property
    def frames_per_window(self) -> int:
        """New frames of a window after the first one."""
        return (1 if self.shape.is_single else self._temporal_ratio) * self.shape.new_latents

    @property
    def num_waiting(self) -> int:
        """Frames pushed and not yet given back."""
        return self._num_waiting

    def push(self, rgb: np.ndarray, depth: np.ndarray | None = None) -> DecodedWindow | None:
        """
        Take one frame of any size; give back a window when one is full.

        Parameters
        ----------
        rgb : (H, W, 3) uint8
            R first.
        depth : (H', W') float32, optional
            What a depth camera saw there [m], NaN where nothing; for nothing if no model takes it.

        """
        window = self.advance(rgb, depth)
        return window and window.decode()

    def flush(self) -> DecodedWindow | None:
        """Give back the frames still waiting, in a shorter window if need be; then reset."""
        window = self.drain()
        return window and window.decode()

    @torch.no_grad()
    def advance(self, rgb: np.ndarray, depth: np.ndarray | None = None) -> LatentWindow | None:
        """Do what `push` does, short of denoising and decoding."""
        self._num_waiting += 1
        self._append(rgb, depth)
        needed = self.shape.new_latents if self.num_windows else self.shape.window_latents
        return self._window() if self._num_new == needed else None

    @torch.no_grad()
    def drain(self) -> LatentWindow | None:
        """Do what `flush` does, short of denoising and decoding."""
        window = None
        if self._num_waiting:
            while self._frames:
                self._append_prepared(*self._frames[-1])
            window = self._window()
        self.reset()
        return window

    def _append(self, rgb: np.ndarray, depth: np.ndarray | None) -> None:
        start = time.perf_counter()
        video, sensor = to_working_video(rgb, *self.size), None
        if self._sensor is not None:
            sensor = self._sensor.prepared(depth, *self.size)
        self._seconds['encode'] += time.perf_counter() - start
        self._append_prepared(video, sensor)

    def _append_prepared(self, video: torch.Tensor, sensor: torch.Tensor | None) -> None:
        for branch in self._branches:
            branch.begin_latent()
        self._frames.append((video, sensor))
        if len(self._frames) < self._branches[0].num_frames:
            return
        start = time.perf_counter()
        videos, sensors = zip(*self._frames, strict=True)
        frames, self._frames = torch.cat(videos, dim=2), []
        sensor = None if self._sensor is None else torch.cat(sensors, dim=2)
        for branch in self._branches:
            branch.encode(frames, sensor)
        self._num_new += 1
        self._seconds['encode'] += time.perf_counter() - start

    def _window(self) -> LatentWindow:
        number, num_frames = self.num_windows, self._num_waiting
        seconds = {'encode': self._seconds['encode']}
        taken = [branch.take() for branch in self._branches]
        self._seconds['encode'], self._num_new, self._num_waiting = 0.0, 0, 0
        self.num_windows += 1
        return LatentWindow(number, num_frames, seconds, lambda: [
            branch.denoise(*latents, begins=number == 0)
            for branch, latents in zip(self._branches, taken, strict=True)], self._decoded)

    def _decoded(self, window: LatentWindow, clean: list[torch.Tensor]) -> DecodedWindow:
        number, num_frames = window.window_id, window.num_frames
        start = time.perf_counter()
        maps: dict[str, np.ndarray] = {}
        for branch, latents in zip(self._branches, clean, strict=True):
            maps |= branch.decode(latents, begins=number == 0)
        # what a flush added to fill the last latent is cut off
        maps = {task: values[:num_frames] for task, values in maps.items()}
        return DecodedWindow(number, maps, window.seconds | {
            'decode': time.perf_counter() - start})
