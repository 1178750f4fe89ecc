"""
A stream of frames through the networks, window by window, each frame encoded and decoded once.

`WindowStream` knows pixels and latents only; stamps, cameras, gaps and statistics are the
business of `dkt_ros.stream`. The latent is the unit: the very first one holds 1 frame, every
later one `temporal_ratio`. All tasks go through the network as one batch and share the latents of
the RGB. Memory does not grow with the length of the stream.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from dkt_ros.model.causal_vae import CausalVAEDecoder, CausalVAEEncoder, temporal_ratio
from dkt_ros.model.imaging import to_maps, to_working_video
from dkt_ros.model.sampler import denoise_window, latent_noise


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


@dataclass(frozen=True)
class LatentWindow:
    """
    The new frames of one window before they are decoded, which may be done in another thread.

    Windows are decoded in order and each of them once.

    Attributes
    ----------
    window_id : int
        Number of the window since the stream began.
    num_frames : int
        New frames.
    seconds : dict of str to float
        Time spent since the window before: encode, dit [s].
    decode : callable
        Gives the `DecodedWindow`.

    """

    window_id: int
    num_frames: int
    seconds: dict[str, float]
    decode: Callable[[], DecodedWindow]


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


@dataclass
class _Overlap:
    """What a window hands to the next one."""

    rgb: list[torch.Tensor] = field(default_factory=list)
    trajectory: list[torch.Tensor] | None = None


class WindowStream:
    """
    Push frames, receive decoded windows.

    Parameters
    ----------
    pipeline : DKTPipeline
        The networks.
    tasks : sequence of str
        What to predict.
    shape : WindowShape
        Windows.
    height, width : int
        Working size [px].
    num_inference_steps : int
        Denoising steps a window.
    seed : int
        Seed of the noise.

    """

    def __init__(self, pipeline, tasks: Sequence[str], shape: WindowShape, height: int,
                 width: int, num_inference_steps: int, seed: int) -> None:
        self.shape, self.tasks, self.size = shape, tuple(tasks), (height, width)
        self._pipeline, self._seed = pipeline, seed
        pipeline.check_size(height, width)
        self._schedule = pipeline.schedule(num_inference_steps)
        self._network = pipeline.folded()
        self._encoder = CausalVAEEncoder(pipeline.vae)
        self._decoder = CausalVAEDecoder(pipeline.vae, self.tasks)
        self.reset()

    def reset(self) -> None:
        """Forget the past; frames not yet given back are lost."""
        self._encoder.reset()
        self._frames: list[torch.Tensor] = []
        self._new: list[torch.Tensor] = []
        self._overlap = _Overlap()
        self._num_waiting = self._num_latents = self.num_windows = 0
        self._seconds = {'encode': 0.0}

    @property
    def frames_per_window(self) -> int:
        """New frames of a window after the first one."""
        per_latent = 1 if self.shape.is_single else temporal_ratio(self._pipeline.vae)
        return per_latent * self.shape.new_latents

    @property
    def num_waiting(self) -> int:
        """Frames pushed and not yet given back."""
        return self._num_waiting

    def push(self, rgb: np.ndarray) -> DecodedWindow | None:
        """Take one frame (H, W, 3) uint8 of any size; give back a window when one is full."""
        window = self.advance(rgb)
        return window and window.decode()

    def flush(self) -> DecodedWindow | None:
        """Give back the frames still waiting, in a shorter window if need be; then reset."""
        window = self.drain()
        return window and window.decode()

    @torch.no_grad()
    def advance(self, rgb: np.ndarray) -> LatentWindow | None:
        """Do what `push` does, short of decoding."""
        self._num_waiting += 1
        self._append(rgb)
        needed = self.shape.new_latents if self.num_windows else self.shape.window_latents
        return self._window() if len(self._new) == needed else None

    @torch.no_grad()
    def drain(self) -> LatentWindow | None:
        """Do what `flush` does, short of decoding."""
        window = None
        if self._num_waiting:
            while self._frames:
                self._append_prepared(self._frames[-1])
            window = self._window()
        self.reset()
        return window

    def _append(self, rgb: np.ndarray) -> None:
        start = time.perf_counter()
        video = to_working_video(rgb, *self.size)
        self._seconds['encode'] += time.perf_counter() - start
        self._append_prepared(video)

    def _append_prepared(self, video: torch.Tensor) -> None:
        if self.shape.is_single:
            self._encoder.reset()
        self._frames.append(video)
        if len(self._frames) < self._encoder.num_frames:
            return
        start = time.perf_counter()
        frames = torch.cat(self._frames, dim=2).to(self._pipeline.vae.device)
        self._new.append(self._encoder.encode(frames))
        self._frames = []
        self._seconds['encode'] += time.perf_counter() - start

    def _window(self) -> LatentWindow:
        start = time.perf_counter()
        clean = self._denoise()
        seconds = {'encode': self._seconds['encode'], 'dit': time.perf_counter() - start}
        self._seconds['encode'] = 0.0
        self._new = []
        number, num_frames = self.num_windows, self._num_waiting
        self._num_waiting = 0
        self.num_windows += 1
        return LatentWindow(number, num_frames, seconds,
                            lambda: self._decoded(number, num_frames, clean, seconds))

    @torch.no_grad()
    def _decoded(self, number: int, num_frames: int, latents: torch.Tensor,
                 seconds: dict[str, float]) -> DecodedWindow:
        start = time.perf_counter()
        if number == 0:
            self._decoder.reset()
        # what a flush added to fill the last latent is cut off
        maps = {task: maps[:num_frames] for task, maps in self._decode(latents).items()}
        return DecodedWindow(number, maps, seconds | {'decode': time.perf_counter() - start})

    def _denoise(self) -> torch.Tensor:
        """Return the clean new latents (tasks, z, n, h, w) and keep the overlap."""
        rgb = torch.cat([*self._overlap.rgb, *self._new], dim=2)
        num_new = len(self._new)
        velocity = self._network.velocity(rgb, self.tasks, num_held=rgb.shape[2] - num_new)
        trajectory = denoise_window(velocity, self._noise(rgb), self._schedule,
                                    self._overlap.trajectory)
        self._num_latents += num_new
        keep = self.shape.overlap_latents
        if keep:
            last = rgb[:, :, -keep:].split(1, dim=2)
            states = [state[:, :, -keep:].clone() for state in trajectory]
            self._overlap = _Overlap([latent.clone() for latent in last], states)
        return trajectory[-1][:, :, -num_new:]

    def _noise(self, rgb: torch.Tensor) -> torch.Tensor:
        shape = (1, *rgb.shape[1:2], 1, *rgb.shape[3:])
        first = self._num_latents - (rgb.shape[2] - len(self._new))
        noise = [latent_noise(shape, index, self._seed, self._pipeline.config.initial_noise)
                 for index in range(first, first + rgb.shape[2])]
        return torch.cat(noise, dim=2).expand(len(self.tasks), -1, -1, -1, -1).to(rgb)

    def _decode(self, latents: torch.Tensor) -> dict[str, np.ndarray]:
        videos = []
        for latent in latents.split(1, dim=2):
            if self.shape.is_single:
                self._decoder.reset()
            videos.append(self._decoder.decode(latent))
        video = torch.cat(videos, dim=2)
        return {task: to_maps(video[row], task) for row, task in enumerate(self.tasks)}
