"""
Windows that know nothing of each other, brought to one scale by the frames that they share.

Each window is a clip of its own: its first latent holds one frame, and the frames of the overlap
are encoded, denoised and decoded again. The disparity of a window is then fitted by scale and
shift, least squares, to what its shared frames had before, as Video Depth Anything joins its
windows; a stream has given those frames away, so nothing is blended over them. Errors of the fits
add up from window to window. Normals have no scale and are taken as they are.
"""
from __future__ import annotations

import dataclasses
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import torch

from dkt_ros.alignment import fit_least_squares
from dkt_ros.model.windows import DecodedWindow, LatentWindow, WindowStream

if TYPE_CHECKING:
    from dkt_ros.model.pipeline import DKTPipeline

ALIGN = 'align'
STEP = 2
"""Every second pixel of every second row is plenty for two numbers."""


class AlignedWindowStream(WindowStream):
    """A `WindowStream` for the overlap `align`; the arguments are the same."""

    @property
    def num_shared(self) -> int:
        """Frames that a window has in common with the one before."""
        latents = self.shape.overlap_latents
        return self._temporal_ratio * (latents - 1) + 1 if latents else 0

    def reset(self) -> None:
        """Forget the past; frames not yet given back are lost."""
        super().reset()
        self._recent: deque[tuple[torch.Tensor, torch.Tensor | None]] = deque(
            maxlen=self.num_shared)

    def _append(self, rgb: np.ndarray, depth: np.ndarray | None) -> None:
        if self.num_windows and self._num_waiting == 1:
            self._begin_window()
        super()._append(rgb, depth)

    def _begin_window(self) -> None:
        for branch in self._branches:
            branch.begin_clip(self.shape.overlap_latents)
        for prepared in list(self._recent):
            self._append_prepared(*prepared)
        self._num_new = 0

    def _append_prepared(self, video: torch.Tensor, sensor: torch.Tensor | None) -> None:
        self._recent.append((video, sensor))
        super()._append_prepared(video, sensor)

    def _decoded(self, window: LatentWindow, clean: list[torch.Tensor]) -> DecodedWindow:
        num_shared = self.num_shared if window.window_id else 0
        whole = dataclasses.replace(window, window_id=0,
                                    num_frames=num_shared + window.num_frames)
        decoded = super()._decoded(whole, clean)
        maps = dict(decoded.maps)
        if 'depth' in maps:
            maps['depth'] = self._aligned(maps['depth'], num_shared)
        new = {task: values[num_shared:] for task, values in maps.items()}
        return dataclasses.replace(decoded, window_id=window.window_id, maps=new)

    def _aligned(self, disparity: np.ndarray, num_shared: int) -> np.ndarray:
        """Return a window (n, h, w) at the scale of the one before, and remember its end."""
        if num_shared:
            scale, shift = fit_scale_shift(disparity[:num_shared], self._before)
            disparity = np.float32(scale) * disparity + np.float32(shift)
        self._before = disparity[len(disparity) - self.num_shared:].copy()
        return disparity


def fit_scale_shift(disparity: np.ndarray, wanted: np.ndarray) -> tuple[float, float]:
    """
    Fit wanted = scale * disparity + shift over frames (n, h, w).

    A fit that would turn near into far, or make everything flat, is none: then the shift alone.
    """
    x, y = (frames[:, ::STEP, ::STEP].ravel() for frames in (disparity, wanted))
    scale, shift = fit_least_squares(x, y)
    return (scale, shift) if scale > 0 else (1.0, float(np.mean(y, dtype=np.float64) - np.mean(
        x, dtype=np.float64)))


def open_windows(pipeline: DKTPipeline, *args, overlap: str) -> WindowStream:
    """
    Return the stream of windows for an overlap of this name; arguments of `WindowStream`.

    `auto` is what the model says.
    """
    overlap = pipeline.overlap_of(overlap)
    stream = AlignedWindowStream if overlap == ALIGN else WindowStream
    return stream(pipeline, *args, overlap=overlap)
