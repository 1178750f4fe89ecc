"""A clip through the perception chain: each estimate beside the truth of its frame."""
from __future__ import annotations

import resource
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from dkt_ros.config import StreamConfig
from dkt_ros.data.scenes import SceneFrame
from dkt_ros.frame import DepthEstimate, Frame
from dkt_ros.fusion import clean_sensor

if TYPE_CHECKING:
    from dkt_ros.model.pipeline import DKTPipeline


@dataclass
class RunStats:
    """Counts and times of one run."""

    frames_in: int = 0
    frames_out: int = 0
    drops: int = 0
    seconds: float = 0.0
    ages_s: list[float] = field(default_factory=list)

    def summary(self) -> dict:
        """Return the figures under the names of summary.json."""
        p50, p95 = np.percentile(self.ages_s, [50, 95]) * 1000 if self.ages_s else (None, None)
        return {'frames_in': self.frames_in, 'frames_out': self.frames_out, 'drops': self.drops,
                'fps': self.frames_out / self.seconds if self.seconds > 0 else 0.0,
                'age_ms': {'p50': p50, 'p95': p95},
                'peak_rss_mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def perceive(perception: object, items: Iterable[SceneFrame], max_gap_s: float,
             stats: RunStats) -> Iterator[tuple[SceneFrame, DepthEstimate]]:
    """
    Push a clip through the chain and yield each estimate with its frame's truth.

    The age of an estimate is the time from the push of its frame until the chain gives it back. A
    gap in time ends a stream: its tail comes out before the next stream starts.

    Parameters
    ----------
    perception : Perception
        Anything with `push`, `flush` and `reset`.
    items : iterable of SceneFrame
        The clip.
    max_gap_s : float
        A longer gap between two frames starts a new stream [s].
    stats : RunStats
        Counts and times, added to.

    """
    waiting: deque[tuple[SceneFrame, float]] = deque()
    last_ns: int | None = None
    for item in items:
        stamp_ns = item.frame.stamp_ns
        if last_ns is not None and not 0 < stamp_ns - last_ns <= max_gap_s * 1e9:
            yield from _collect(perception.flush, waiting, stats)
            perception.reset('a gap in the clip')
        last_ns = stamp_ns
        stats.frames_in += 1
        waiting.append((item, time.perf_counter()))
        yield from _collect(lambda frame=item.frame: perception.push(frame), waiting, stats)
    yield from _collect(perception.flush, waiting, stats)
    stats.drops += len(waiting)


def _collect(step: object, waiting: deque, stats: RunStats) \
        -> Iterator[tuple[SceneFrame, DepthEstimate]]:
    start = time.perf_counter()
    estimates = step()
    now = time.perf_counter()
    stats.seconds += now - start
    for estimate in estimates:
        while waiting and waiting[0][0].frame.stamp_ns != estimate.stamp_ns:
            waiting.popleft()
            stats.drops += 1
        if not waiting:
            raise RuntimeError(f'an estimate with stamp {estimate.stamp_ns} belongs to no frame')
        item, pushed = waiting.popleft()
        stats.frames_out += 1
        stats.ages_s.append(now - pushed)
        yield item, estimate


class OfflineStream:
    """
    The whole clip in one call of the pipeline, behind the face of `DKTStream`.

    Frames wait until `drain`; then all of them are denoised together in the reference's joint
    windows. Memory grows with the clip.

    Parameters
    ----------
    pipeline : DKTPipeline
        The networks.
    config : StreamConfig
        Working size, steps and seed; of the window only what is set beside the preset.
    tasks : sequence of str
        'depth', and 'normal' where wanted.

    """

    def __init__(self, pipeline: DKTPipeline, config: StreamConfig,
                 tasks: tuple[str, ...] = ('depth',)) -> None:
        self.pipeline, self.config, self.tasks = pipeline, config, tasks
        self._frames: list[Frame] = []

    def advance(self, frame: Frame) -> list[DepthEstimate]:
        """Keep the frame; nothing is finished before `drain`."""
        self._frames.append(frame)
        return []

    def denoise(self, pending: Iterable[DepthEstimate]) -> list[DepthEstimate]:
        """Return them: the pipeline has done all of it."""
        return list(pending)

    decode = denoise

    def drain(self) -> list[DepthEstimate]:
        """Compute all frames kept; the maps have the working size."""
        frames, self._frames = self._frames, []
        if not frames:
            return []
        rgb = np.stack([frame.rgb for frame in frames])
        depths = [frame.sensor_depth for frame in frames]
        is_told = self.config.sensor_prompt and self.pipeline.sensor_encoder is not None
        sensor = np.stack([clean_sensor(depth) for depth in depths]) \
            if is_told and all(depth is not None for depth in depths) else None
        maps = {task: self._run(rgb, sensor, task) for task in self.tasks}
        normals = maps.get('normal', [None] * len(frames))
        return [DepthEstimate(frame, disparity, normals=n)
                for frame, disparity, n in zip(frames, maps['depth'], normals)]

    def reset(self, reason: str) -> None:
        """Forget the frames that wait."""
        self._frames = []

    def _run(self, rgb: np.ndarray, sensor: np.ndarray | None, task: str) -> np.ndarray:
        import torch
        generator = torch.Generator('cpu').manual_seed(self.config.seed)
        return self.pipeline(
            rgb, task, num_inference_steps=self.config.num_inference_steps or None,
            height=self.config.height or None, width=self.config.width or None,
            preset='faithful', window_latents=self.config.window_latents or None,
            overlap_latents=None if self.config.overlap_latents < 0
            else self.config.overlap_latents,
            generator=generator, output_size='working', sensor_depth=sensor).prediction
