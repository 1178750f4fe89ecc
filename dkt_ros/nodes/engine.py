"""
Between pairing and publishing, in four threads of their own.

The first reads messages and runs the encoder, the second the transformer, the third the decoder;
the fourth makes the maps and hands them over, while the next windows are computed already.
"""
from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sensor_msgs.msg import CompressedImage

from dkt_ros.config import DepthNodeConfig
from dkt_ros.frame import DepthEstimate, Frame
from dkt_ros.nodes import messages
from dkt_ros.nodes.backend import Backend, PerceptionLike, free_memory, is_out_of_memory
from dkt_ros.nodes.diagnostics import StreamStats
from dkt_ros.nodes.pairing import Pair
from dkt_ros.nodes.worker import Worker
from dkt_ros.pacer import Pacer


def frame_from_pair(pair: Pair, warn: Callable[[str], None] = lambda sentence: None) -> Frame:
    """
    Decode the messages of a pair.

    A depth that cannot be used is told to `warn` and left out; the colour image goes on.

    Raises
    ------
    ValueError
        For a colour image or a camera_info that cannot be used.

    """
    camera = messages.camera_from_info(pair.info)
    if pair.color.header.frame_id:
        camera = dataclasses.replace(camera, frame_id=pair.color.header.frame_id)
    if isinstance(pair.color, CompressedImage):
        rgb = messages.compressed_to_rgb(pair.color)
    else:
        rgb = messages.image_to_rgb(pair.color)
    frame = Frame(rgb, pair.stamp_ns, camera)
    if pair.depth is None:
        return frame
    try:
        if isinstance(pair.depth, CompressedImage):
            depth = messages.compressed_to_depth(pair.depth)
        else:
            depth = messages.image_to_depth(pair.depth)
        return dataclasses.replace(frame, sensor_depth=depth)
    except ValueError as error:
        warn(str(error))
        return frame


class Engine:
    """
    Takes pairs, keeps the pace, computes, and gives estimates to `publish`.

    Parameters
    ----------
    backend : Backend
        With its weights loaded.
    config : DepthNodeConfig
        Options of the perception chain.
    publish : callable
        Called with each finished estimate, in the thread that makes the maps.
    fields : callable
        Says which maps would be used now, by their names in `DepthEstimate`.
    stats : StreamStats
        Counts and times.
    report : callable
        Told a sentence when a frame could not be used.
    pose_of : callable, optional
        Gives the pose of the camera in a frame, or None where nobody knows it.

    """

    def __init__(self, backend: Backend, config: DepthNodeConfig,
                 publish: Callable[[DepthEstimate], None],
                 fields: Callable[[], frozenset[str]], stats: StreamStats,
                 report: Callable[[str], None],
                 pose_of: Callable[[Frame], np.ndarray | None] | None = None) -> None:
        self._backend = backend
        self._config = config
        self._publish = publish
        self._fields = fields
        self._stats = stats
        self._report = report
        self._pose_of = pose_of
        self._lock = threading.Lock()
        self._generation = 0
        self._rebuild = False
        self._reset_reason = ''
        self._read_s = self._encode_s = self._cpu_s = 0.0
        # Seconds a frame took last time, by thread.
        self._paces: dict[str, float] = {}
        self._last_offer = 0.0
        self._open_stream = False
        self._normals = 'normals' in fields()
        self.last_estimate: DepthEstimate | None = None
        self.perception = self._new_perception()
        window, overlap = config.stream.window
        self._pacer = Pacer()
        self._worker = Worker(self._process, self._failed, 4 * (window - overlap) + 1)
        # What these are given waits for what they have: nothing is ever thrown out.
        self._denoiser = Worker(self._denoise_window, self._failed, 1)
        self._decoder = Worker(self._decode_window, self._failed, 1)
        self._finisher = Worker(self._finish, self._failed, 1)

    @property
    def waiting(self) -> int:
        """How many frames wait to be computed."""
        return self._worker.waiting

    def idle(self) -> bool:
        """Return True if nothing waits and nothing runs."""
        return all(worker.idle() for worker in self._workers)

    @property
    def _workers(self) -> tuple[Worker, ...]:
        """In the order in which a window passes through them."""
        return self._worker, self._denoiser, self._decoder, self._finisher

    def describe(self) -> dict[str, str]:
        """Return what runs, for diagnostics."""
        config = self._config
        window, overlap = config.stream.window
        values = {'model': config.model, 'preset': config.stream.preset,
                  'execution': config.execution, 'window_latents': str(window),
                  'overlap_latents': str(overlap), 'waiting': str(self.waiting),
                  'normals': 'computed' if self._normals else 'not asked for'}
        if self._pacer.seconds_per_frame:
            values['seconds_per_frame'] = f'{self._pacer.seconds_per_frame:.4f}'
        values['pace_stride'] = f'{self._pacer.stride:.2f}'
        if self.last_estimate is not None:
            values['window'] = str(self.last_estimate.window_id)
        return values

    def offer(self, pair: Pair) -> None:
        """Take a pair or, to keep the pace, drop it; return at once."""
        if not self._pacer.admit(pair.stamp_ns):
            self._stats.count('drops')
            return
        self._last_offer = time.monotonic()
        self._open_stream = True
        replaced = self._worker.replaced
        self._worker.submit((self._generation, pair))
        self._stats.count('drops', self._worker.replaced - replaced)

    def tick(self) -> None:
        """Compute what waits for the rest of its window, once the camera has paused."""
        pause_s = max(self._config.stream.max_gap_s, 3.0 * (self._pacer.seconds_per_frame or 0.0))
        paused = time.monotonic() - self._last_offer > pause_s
        if self._open_stream and paused and self.idle():
            self._open_stream = False
            self._worker.submit((self._generation, None))

    def restart(self, reason: str, config: DepthNodeConfig | None = None) -> None:
        """Forget what waits and runs; start a new stream, with new options if given."""
        with self._lock:
            self._generation += 1
            self._reset_reason = reason
            self._open_stream = False
            if config is not None:
                self._config = config
                self._rebuild = True
        for worker in self._workers:
            worker.clear()
        self._pacer.reset()

    def close(self, timeout_s: float) -> None:
        """End the threads; a computation that lasts longer ends unheard."""
        self.restart('closed')
        for worker in reversed(self._workers):
            worker.stop(timeout_s)

    def _process(self, item: tuple[int, Pair | None]) -> None:
        generation, pair = item
        if generation != self._generation:
            return
        start, cpu_start = time.perf_counter(), time.thread_time()
        frame = None if pair is None else self._decode(pair)
        if pair is not None and frame is None:
            return
        read_s = time.perf_counter() - start
        self._stats.span('decode', read_s)
        self._renew(generation)
        computing = time.perf_counter()
        pending = self.perception.drain() if frame is None else self.perception.advance(frame)
        self._read_s += read_s
        self._encode_s += time.perf_counter() - computing
        self._cpu_s += time.thread_time() - cpu_start
        self._hand_on(generation, pending)

    def _hand_on(self, generation: int, pending: list) -> None:
        """Have a window denoised, once the window before is."""
        if not pending:
            return
        encode_s = self._encode_s / len(pending)
        self._paces['encode'] = self._read_s / len(pending) + encode_s
        item = generation, pending, encode_s, self._cpu_s
        self._read_s = self._encode_s = self._cpu_s = 0.0
        self._denoiser.join()
        self._denoiser.submit(item)

    def _denoise_window(self, item: tuple[int, list, float, float]) -> None:
        """Run the transformer on a window and have it decoded, once the window before is."""
        generation, pending, encode_s, cpu_s = item
        start, cpu_start = time.perf_counter(), time.thread_time()
        pending = self.perception.denoise(pending)
        seconds = self._paces['denoise'] = (time.perf_counter() - start) / len(pending)
        # Of threads that work side by side, the slowest sets the pace.
        self._pacer.observe(max(self._paces.values()))
        self._stats.span('compute', encode_s + seconds)
        self._decoder.join()
        self._decoder.submit((generation, pending, cpu_s + time.thread_time() - cpu_start))

    def _decode_window(self, item: tuple[int, list, float]) -> None:
        """Decode a window and have its maps made, once those of the window before are."""
        generation, pending, cpu_s = item
        start, cpu_start = time.perf_counter(), time.thread_time()
        estimates = self.perception.decode(pending)
        seconds = self._paces['decode'] = (time.perf_counter() - start) / len(pending)
        self._stats.span('video', seconds)
        self._finisher.join()
        self._finisher.submit((generation, estimates, cpu_s + time.thread_time() - cpu_start))

    def _finish(self, item: tuple[int, list[DepthEstimate], float]) -> None:
        generation, estimates, cpu_s = item
        start, cpu_start = time.perf_counter(), time.thread_time()
        for estimate in self.perception.complete(estimates):
            if not self._hand_over(generation, estimate):
                return
        seconds = self._paces['maps'] = (time.perf_counter() - start) / len(estimates)
        self._stats.span('maps', seconds)
        self._stats.span('cpu', (cpu_s + time.thread_time() - cpu_start) / len(estimates))

    def _decode(self, pair: Pair) -> Frame | None:
        try:
            return frame_from_pair(pair, self._unusable)
        except ValueError as error:
            self._stats.count('bad_frames')
            self._unusable(str(error))
            return None

    def _renew(self, generation: int) -> None:
        """
        Bring the perception chain up to date; the weights stay.

        What the old chain still holds is finished if it ends for want of normals only.
        """
        fields = self._fields()
        normals = 'normals' in fields
        with self._lock:
            rebuild, reason = self._rebuild, self._reset_reason
            self._rebuild, self._reset_reason = False, ''
            toggled, self._normals = normals != self._normals, normals
        if toggled and not (rebuild or reason):
            self._hand_on(generation, self.perception.drain())
        if toggled or rebuild or reason:
            for worker in self._workers[1:]:
                worker.join()
        if toggled or rebuild:
            self.perception = self._new_perception()
        elif reason:
            self.perception.reset(reason)
        if rebuild or reason:
            self._read_s = self._encode_s = self._cpu_s = 0.0
        self.perception.wanted = fields

    def _new_perception(self) -> PerceptionLike:
        perception = self._backend.perception(self._config, self._normals)
        perception.pose_of = self._pose_of
        return perception

    def _hand_over(self, generation: int, estimate: DepthEstimate) -> bool:
        """Publish an estimate unless its stream is over; return whether it still runs."""
        with self._lock:
            if generation != self._generation:
                return False
            start = time.perf_counter()
            self._publish(estimate)
            self._stats.span('publish', time.perf_counter() - start)
            self.last_estimate = estimate
            return True

    def _unusable(self, sentence: str) -> None:
        self._stats.failed(sentence)
        self._report(sentence)

    def _failed(self, error: Exception) -> None:
        sentence = describe_failure(error)
        with self._lock:
            self._reset_reason = 'error'
        self._unusable(sentence)
        if is_out_of_memory(error):
            # The traceback holds the tensors of the failed step.
            error.__traceback__ = None
            free_memory()


def describe_failure(error: Exception) -> str:
    """Say in one sentence what went wrong while a frame was computed, and what helps."""
    first_line: Any = str(error).strip().splitlines() or ['']
    if is_out_of_memory(error):
        return (f'out of memory ({first_line[0]}): set a smaller stream.preset, or a smaller '
                'stream.width and stream.height; the frame is lost, the node goes on')
    return (f'a frame could not be computed ({type(error).__name__}: {first_line[0]}); the stream '
            'starts anew')
