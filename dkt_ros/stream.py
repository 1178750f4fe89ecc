"""
`DKTStream`: one camera frame in, finished estimates out.

Windows, overlap, resets and statistics of a live stream. The networks' side of it is
`dkt_ros.model.windows`. No ROS, no clock: time is the frames' capture stamp; how long the
computation takes is measured.
"""
from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from dkt_ros.blending import SeamBlend
from dkt_ros.camera import PinholeCamera
from dkt_ros.config import StreamConfig
from dkt_ros.errors import UserError
from dkt_ros.frame import DepthEstimate, Frame
from dkt_ros.fusion import clean_sensor
from dkt_ros.model.aligned import open_windows
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.model.windows import LatentWindow, WindowShape, WindowStream
from dkt_ros.seams import SeamMonitor

# A stream thinned to what the computer can do has long gaps and is no less a stream.
GAP_IN_COMPUTE_TIMES = 3.0
SPEED_SMOOTHING = 0.3


@dataclass
class StreamStats:
    """
    What a stream has done so far.

    Attributes
    ----------
    frames_in, frames_out : int
        Frames pushed and estimates given back.
    drops : int
        Frames that waited for their window when the stream was reset explicitly.
    resets : Counter
        Number of resets by reason.
    windows : int
        Windows computed.
    seconds_per_frame : float or None
        Smoothed computing time of a frame [s]; None before the first window.
    stage_seconds : Counter
        Computing time so far by stage: encode, dit, decode [s].
    seams : SeamMonitor
        How well windows fit together.

    """

    frames_in: int = 0
    frames_out: int = 0
    drops: int = 0
    windows: int = 0
    resets: Counter = field(default_factory=Counter)
    seconds_per_frame: float | None = None
    stage_seconds: Counter = field(default_factory=Counter)
    seams: SeamMonitor = field(default_factory=SeamMonitor)

    @property
    def seam_ratio(self) -> float | None:
        """Change of disparity at the seams over the change inside windows."""
        return self.seams.ratio


@dataclass(frozen=True)
class PendingEstimate:
    """An estimate whose window is only encoded: its frame and its place in that window."""

    frame: Frame
    window_id: int
    window: LatentWindow
    row: int


class DKTStream:
    """
    Push frames, receive estimates at working resolution, in order, each with its input frame.

    `push` and `flush` do all of it at once. Encoder (`advance`, `drain`), transformer (`denoise`)
    and decoder (`decode`) may instead run in three threads, each of them in one.

    A gap or a jump back of the stamps, a new image size and a new camera start a new stream; what
    waited is then computed and given back first, so no frame is lost.

    Parameters
    ----------
    pipeline : DKTPipeline
        The networks.
    config : StreamConfig
        Preset, working size, steps.
    normals : bool
        Predict normals beside disparity.
    tasks : sequence of str, optional
        Instead of `normals`: the tasks by name, `depth` among them.

    """

    def __init__(self, pipeline: DKTPipeline, config: StreamConfig | None = None,
                 normals: bool = False, tasks: Sequence[str] | None = None) -> None:
        self.pipeline = pipeline
        self.config = config or StreamConfig()
        self.tasks = tuple(tasks or (('depth', 'normal') if normals else ('depth',)))
        self.shape = WindowShape(*self.config.window)
        for task in ('depth', *self.tasks):
            if task not in pipeline.tasks or task not in self.tasks:
                raise UserError(f'tasks are {self.tasks}; the model has {pipeline.tasks}, and '
                                "'depth' must be asked for")
        self.stats = StreamStats()
        self._windows = self._open(self.config.height, self.config.width, False)
        self._num_windows = 0
        # Windows that share nothing know nothing of each other, and are asked for that way.
        self._blend = SeamBlend(self.config.seam_blend if self.shape.overlap_latents else 0.0)
        self._forget()

    @property
    def working_size(self) -> tuple[int, int]:
        """Height and width of the maps [px]."""
        return self._windows.size

    @property
    def window_frames(self) -> int:
        """New frames of a window after the first one."""
        return self._windows.frames_per_window

    @property
    def num_waiting(self) -> int:
        """Frames pushed and not yet given back."""
        return len(self._waiting)

    def push(self, frame: Frame) -> list[DepthEstimate]:
        """Take a frame; give back the estimates that are finished now, possibly none."""
        return self.decode(self.advance(frame))

    def flush(self) -> list[DepthEstimate]:
        """Give back the frames that still wait, then start anew: the end of a clip."""
        return self.decode(self.drain())

    def advance(self, frame: Frame) -> list[PendingEstimate]:
        """Take a frame; give back what full windows hold, for `denoise` and `decode`."""
        pending = []
        reason = self._reason_to_reset(frame)
        if reason:
            pending = self._drain()
            self._restart(reason)
        if self._last is None:
            self._fit_to(frame.camera)
        self._last = frame
        self.stats.frames_in += 1
        self._waiting.append(frame)
        return pending + self._pending(self._windows.advance(frame.rgb, self._sensor_of(frame)))

    def drain(self) -> list[PendingEstimate]:
        """Give back what still waits for the rest of its window; then start anew."""
        pending = self._drain()
        self._restart('flush')
        return pending

    def denoise(self, pending: Iterable[PendingEstimate]) -> list[PendingEstimate]:
        """Run the transformer on whole windows, in the order in which they came."""
        pending = list(pending)
        for _, group in groupby(pending, key=lambda estimate: estimate.window_id):
            next(group).window.denoise()
        return pending

    def decode(self, pending: Iterable[PendingEstimate]) -> list[DepthEstimate]:
        """Decode whole windows, in the order in which they came, after `denoise` or without."""
        estimates = []
        for _, group in groupby(pending, key=lambda estimate: estimate.window_id):
            estimates += self._decoded(list(group))
        return estimates

    def reset(self, reason: str) -> None:
        """Forget everything and count the reason; frames that wait are dropped."""
        self.stats.drops += len(self._waiting)
        self._restart(reason)

    def measure(self, height: int, width: int, num_windows: int = 2) -> float:
        """
        Return the computing time of a frame of this size [s], from windows of noise.

        For a pacer that should know the speed before the first frame. Resets the stream.
        """
        stats, self.stats = self.stats, StreamStats()
        camera = PinholeCamera(width, height, float(width), float(width), width / 2, height / 2)
        rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        stamp_ns = 0
        while self.stats.windows < num_windows:
            self.stats.seconds_per_frame = None
            self.push(Frame(rgb, stamp_ns, camera))
            stamp_ns += 1_000_000
        seconds, self.stats = self.stats.seconds_per_frame, stats
        self._restart('measured')
        return seconds

    def _open(self, height: int, width: int, is_portrait: bool) -> WindowStream:
        size = self.pipeline.working_size(height, width, is_portrait)
        return open_windows(self.pipeline, self.tasks, self.shape, *size,
                            self.config.num_inference_steps, self.config.seed,
                            overlap=self.config.overlap)

    def _fit_to(self, camera: PinholeCamera) -> None:
        is_portrait = camera.height > camera.width
        size = self.pipeline.working_size(self.config.height, self.config.width, is_portrait)
        if size != self._windows.size:
            self._windows = self._open(*size, False)

    def _sensor_of(self, frame: Frame) -> np.ndarray | None:
        """Return what the depth camera saw, where the model is to know it."""
        is_told = self.config.sensor_prompt and self._windows.takes_sensor
        depth = frame.sensor_depth
        return clean_sensor(depth) if is_told and depth is not None else None

    def _reason_to_reset(self, frame: Frame) -> str | None:
        if self._last is None:
            return None
        if frame.rgb.shape != self._last.rgb.shape:
            return 'new size'
        if frame.camera != self._last.camera:
            return 'new camera'
        gap_s = (frame.stamp_ns - self._last.stamp_ns) * 1e-9
        if gap_s < 0:
            return 'jump back'
        slowest = GAP_IN_COMPUTE_TIMES * (self.stats.seconds_per_frame or 0.0)
        return 'gap' if gap_s > max(self.config.max_gap_s, slowest) else None

    def _restart(self, reason: str) -> None:
        self.stats.resets[reason] += 1
        self._windows.reset()
        self._forget()

    def _forget(self) -> None:
        self._last: Frame | None = None
        self._waiting: deque[Frame] = deque()

    def _drain(self) -> list[PendingEstimate]:
        return self._pending(self._windows.drain())

    def _pending(self, window: LatentWindow | None) -> list[PendingEstimate]:
        if window is None:
            return []
        self._num_windows += 1
        return [PendingEstimate(self._waiting.popleft(), self._num_windows - 1, window, row)
                for row in range(window.num_frames)]

    def _decoded(self, pending: list[PendingEstimate]) -> list[DepthEstimate]:
        stats, window = self.stats, pending[0].window.decode()
        seconds, old = sum(window.seconds.values()) / window.num_frames, stats.seconds_per_frame
        stats.seconds_per_frame = seconds if old is None else \
            old + SPEED_SMOOTHING * (seconds - old)
        stats.stage_seconds.update(window.seconds)
        if window.window_id == 0:
            stats.seams.reset()
            self._blend.reset()
        maps = self._blend.join(window.maps, [estimate.frame.rgb for estimate in pending])
        disparity, normals = maps['depth'], maps.get('normal', [None] * window.num_frames)
        stats.seams.add(disparity)
        stats.windows += 1
        stats.frames_out += window.num_frames
        return [DepthEstimate(estimate.frame, disparity[estimate.row], estimate.window_id,
                              normals[estimate.row]) for estimate in pending]
