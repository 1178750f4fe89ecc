"""
Perception: frames in, metric maps at the image's pixels out. The whole chain, without ROS.

    DKTStream -> (a window of disparity) -> MetricAnchor -> Parallax -> Upsampler -> fusion

Nodes and tools use this class and nothing below it.
"""
from __future__ import annotations

import ctypes
import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING

import cv2
import numpy as np

from dkt_ros import fusion
from dkt_ros.anchor import AnchorState, MetricAnchor, near_holes
from dkt_ros.config import PerceptionConfig
from dkt_ros.frame import DepthEstimate, Frame
from dkt_ros.geometry import cos_incidence, depth_to_normals
from dkt_ros.parallax import Parallax
from dkt_ros.upsample import Upsampler

if TYPE_CHECKING:
    from dkt_ros.model.pipeline import DKTPipeline
    from dkt_ros.stream import DKTStream, PendingEstimate

FIELDS = frozenset({'disparity', 'depth', 'depth_fused', 'mask', 'confidence', 'normals'})
"""The maps that can be asked for."""

# A step of this share within 5 working pixels is an edge between two surfaces.
JUMP = 0.06
# Farther than 50 m is no depth.
MIN_INVERSE_DEPTH = 0.02
TURN_S = 1e-4
# M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_ARENA_MAX of malloc.h.
ALLOCATION = ((-3, 2 ** 22), (-1, 2 ** 29), (-8, 1))
# Read by torch when it makes its first array.
LARGE_PAGES = 'THP_MEM_ALLOC_ENABLE'


def share_processor() -> None:
    """
    Set this process up for encoder, transformer, decoder and maps in threads side by side.

    At Python's 5 ms a turn each would wait for the other after every one of its many small steps,
    and OpenCV's own threads only crowd the processor. The C library keeps the memory of the arrays
    that come and go: to have it back from the system page by page costs more than much of the
    arithmetic. Those over 4 MB go back all the same: several threads would leave ever new gaps
    between them, and memory would grow. Torch is to ask for those in large pages, where the
    system has them: small ones cost it more time than what is done with the array.
    """
    os.environ.setdefault(LARGE_PAGES, '1')
    sys.setswitchinterval(TURN_S)
    cv2.setNumThreads(1)
    libc = ctypes.CDLL(None)
    if hasattr(libc, 'mallopt'):
        for option, value in ALLOCATION:
            libc.mallopt(option, value)


def share_torch(threads: int = 0) -> None:
    """Let torch use so many processors for each network; 0 takes half of them."""
    import torch
    half = max(1, (os.cpu_count() or 1) // 2)
    torch.set_num_threads(threads or min(torch.get_num_threads(), half))


class Perception:
    """
    Everything between a camera frame and the maps that are published.

    `push` and `flush` do all of it at once. Encoder (`advance`, `drain`), transformer (`denoise`),
    decoder (`decode`) and maps (`complete`) may instead run in four threads, each of them in one;
    then nothing may be under way in any when `reset` is called.

    Parameters
    ----------
    pipeline_or_stream : DKTPipeline or DKTStream
        The model; a pipeline is wrapped into a `DKTStream`. A stream is anything with
        `advance(frame)`, `drain()`, `denoise(pending)`, `decode(pending)` and `reset(reason)`.
    config : PerceptionConfig
        Stream, anchor, fusion, parallax and where normals come from.
    wanted : iterable of str
        Which of `FIELDS` to compute; what is not wanted is None in the estimates (and disparity
        stays at the working size). May be changed at any time.

    Attributes
    ----------
    stream
        What gives disparity.
    anchor : MetricAnchor
        What gives metres.
    parallax : Parallax
        What corrects the distance of things where the camera's pose is known.
    pose_of : callable or None
        Asked for the pose (4, 4) of a frame that has none, when its maps are made; may give None.

    """

    def __init__(self, pipeline_or_stream: DKTPipeline | DKTStream,
                 config: PerceptionConfig | None = None, wanted: Iterable[str] = FIELDS) -> None:
        self.config = config or PerceptionConfig()
        self.stream = _as_stream(pipeline_or_stream, self.config)
        self.anchor = MetricAnchor(self.config.anchor)
        self.parallax = Parallax(self.config.parallax)
        self.pose_of: Callable[[Frame], np.ndarray | None] | None = None
        self.wanted = wanted
        self._last: Frame | None = None

    @property
    def wanted(self) -> frozenset[str]:
        """Which maps are computed."""
        return self._wanted

    @wanted.setter
    def wanted(self, fields: Iterable[str]) -> None:
        fields = frozenset(fields)
        if not fields <= FIELDS:
            raise ValueError(f'wanted is {sorted(fields)}; allowed: {", ".join(sorted(FIELDS))}')
        self._wanted = fields

    def push(self, frame: Frame) -> list[DepthEstimate]:
        """Take a frame; return the finished estimates, in order, possibly none."""
        return list(self.complete(self.decode(self.advance(frame))))

    def flush(self) -> list[DepthEstimate]:
        """Return the estimates that wait for the rest of their window: the end of a clip."""
        return list(self.complete(self.decode(self.drain())))

    def advance(self, frame: Frame) -> list[PendingEstimate]:
        """Take a frame; return the frames of windows that are full, for `decode`."""
        return self.stream.advance(frame)

    def drain(self) -> list[PendingEstimate]:
        """Return the frames that wait for the rest of their window, for `decode`."""
        return self.stream.drain()

    def denoise(self, pending: Iterable[PendingEstimate]) -> list[PendingEstimate]:
        """Run the transformer on whole windows, for `decode`, which else does it itself."""
        return self.stream.denoise(pending)

    def decode(self, pending: Iterable[PendingEstimate]) -> list[DepthEstimate]:
        """Return the estimates of whole windows without their maps, for `complete`."""
        return self.stream.decode(pending)

    def complete(self, estimates: Iterable[DepthEstimate]) -> Iterator[DepthEstimate]:
        """Yield the estimates with their maps, each as soon as it is finished."""
        for _, group in groupby(estimates, key=lambda estimate: estimate.window_id):
            yield from self._complete_window(list(group))

    def reset(self, reason: str) -> None:
        """Start a new stream with a new anchor."""
        self.stream.reset(reason)
        self._forget()
        self._last = None

    def _complete_window(self, window: list[DepthEstimate]) -> Iterator[DepthEstimate]:
        if self._starts_anew(window[0].frame):
            self._forget()
        self._last = window[-1].frame
        cleaned = [_cleaned_sensor(estimate) for estimate in window]
        sensors = [_shrunk(depth, estimate) for depth, estimate in
                   zip(cleaned, window, strict=True)]
        stacked = None if any(sensor is None for sensor in sensors) else np.stack(sensors)
        disparity = np.stack([estimate.disparity for estimate in window])
        height, width = disparity.shape[1:]
        state = self.anchor.update(disparity, stacked, window[0].camera.resized(width, height))
        for estimate, sensor, small in zip(window, cleaned, sensors, strict=True):
            yield _FrameMaps(self._placed(estimate), sensor, small, state, self).finish()

    def _placed(self, estimate: DepthEstimate) -> DepthEstimate:
        """Return the estimate with the camera's pose, if somebody knows it."""
        frame = estimate.frame
        if self.pose_of is None or frame.T_world_camera is not None:
            return estimate
        pose = self.pose_of(frame)
        return estimate.filled(frame=dataclasses.replace(frame, T_world_camera=pose))

    def _forget(self) -> None:
        self.anchor.reset()
        self.parallax.reset()

    def _starts_anew(self, frame: Frame) -> bool:
        if self._last is None:
            return False
        gap_ns = frame.stamp_ns - self._last.stamp_ns
        return (frame.camera != self._last.camera or
                not 0 <= gap_ns <= self.config.stream.max_gap_s * 1e9)


class _FrameMaps:
    """The maps of one frame, each computed at most once and only if something needs it."""

    def __init__(self, estimate: DepthEstimate, sensor: np.ndarray | None,
                 small_sensor: np.ndarray | None, state: AnchorState, owner: Perception) -> None:
        self.estimate, self.state = estimate, state
        self.config, self.wanted = owner.config, owner.wanted
        self.sensor = sensor
        self.factor: np.ndarray | None = None
        self.residual = state.residual
        values = np.asarray(estimate.disparity, np.float32)
        if state.is_metric:
            values = state.inverse_depth(values)
            doubtful = None if small_sensor is None else near_holes(small_sensor)
            self.factor, self.residual = owner.anchor.correction(values, small_sensor, doubtful)
            if self.factor is not None:
                values = values / self.factor
            moved = owner.parallax.correct(estimate.frame, values, small_sensor)
            if moved is not None:
                values = values / moved
        self.small = np.nan_to_num(values)

    @cached_property
    def upsampler(self) -> Upsampler:
        """What takes maps to the size of the image."""
        if self.state.is_metric:
            jump = JUMP * np.maximum(self.small, MIN_INVERSE_DEPTH)
        else:
            jump = JUMP * float(self.small.max() - self.small.min())
        return Upsampler(self.small, jump, self.estimate.frame.rgb)

    def finish(self) -> DepthEstimate:
        """Return the estimate with the wanted maps at the image's pixels."""
        fields: dict = {'anchor': self.state, 'normals': None}
        if self.wanted - {'normals'}:
            values = self.upsampler.values()
            if 'disparity' in self.wanted:
                fields['disparity'] = self._disparity(values)
            if self.state.is_metric:
                fields |= self._metric_maps(values)
        if 'normals' in self.wanted:
            fields['normals'] = self._normals()
        return self.estimate.filled(**fields)

    def _disparity(self, values: np.ndarray) -> np.ndarray:
        if not self.state.is_metric:
            return values
        if self.factor is not None:
            values = values * self.upsampler.smooth(self.factor)
        return (values - np.float32(self.state.shift)) * np.float32(1 / self.state.scale)

    def _metric_maps(self, inverse_depth: np.ndarray) -> dict[str, np.ndarray]:
        wanted, sensor, fields = self.wanted, self.sensor, {}
        limits = self.residual, self.config.fusion
        depth = _inverted(inverse_depth)
        if 'depth' in wanted:
            fields['depth'] = depth
        if not wanted & {'mask', 'depth_fused', 'confidence'}:
            return fields
        mask = (np.ones(depth.shape, bool) if sensor is None else
                fusion.sensor_mask(sensor, inverse_depth, *limits))
        if 'mask' in wanted:
            fields['mask'] = mask
        if 'depth_fused' in wanted:
            fields['depth_fused'] = (depth if sensor is None else
                                     fusion.fuse(sensor, depth, mask, *limits,
                                                 rgb=self.estimate.frame.rgb))
        if 'confidence' in wanted:
            fields['confidence'] = fusion.confidence(sensor, inverse_depth, mask,
                                                     self.upsampler.edges, self._cosine(), *limits)
        return fields

    def _cosine(self) -> np.ndarray:
        normals = self.estimate.normals
        if normals is None:
            normals = self._normals_of_depth()
        height, width = self.small.shape
        cosine = cos_incidence(normals, self.estimate.camera.resized(width, height))
        return self.upsampler.smooth(np.nan_to_num(cosine))

    def _normals(self) -> np.ndarray | None:
        source, normals = self.config.normals.source, None
        if source == 'model':
            normals = self.estimate.normals
        elif source == 'depth' and self.state.is_metric:
            normals = self._normals_of_depth()
        return None if normals is None else self.upsampler.normals(normals)

    def _normals_of_depth(self) -> np.ndarray:
        height, width = self.small.shape
        camera = self.estimate.camera.resized(width, height)
        return depth_to_normals(_inverted(self.small), camera, jump=2 * JUMP, radius=2)


def _as_stream(pipeline_or_stream: DKTPipeline | DKTStream, config: PerceptionConfig) -> DKTStream:
    if hasattr(pipeline_or_stream, 'advance'):
        return pipeline_or_stream
    from dkt_ros.stream import DKTStream
    return DKTStream(pipeline_or_stream, config.stream, normals=config.normals.source == 'model')


def _inverted(inverse_depth: np.ndarray) -> np.ndarray:
    with np.errstate(divide='ignore'):
        return np.where(inverse_depth > MIN_INVERSE_DEPTH, 1 / inverse_depth, np.float32(np.nan))


def _cleaned_sensor(estimate: DepthEstimate) -> np.ndarray | None:
    sensor = estimate.frame.sensor_depth
    return None if sensor is None else fusion.clean_sensor(sensor)


def _shrunk(sensor: np.ndarray | None, estimate: DepthEstimate) -> np.ndarray | None:
    height, width = estimate.disparity.shape
    return None if sensor is None else fusion.shrink_sensor(sensor, width, height)
