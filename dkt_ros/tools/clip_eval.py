"""One clip of an evaluation: every source's depth beside the truth, frame by frame."""
from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dkt_ros.config import PerceptionConfig
from dkt_ros.data.clip import Clip
from dkt_ros.data.scenes import SceneFrame
from dkt_ros.errors import UserError
from dkt_ros.frame import DepthEstimate, Frame
from dkt_ros.geometry import depth_to_normals
from dkt_ros.tools.baselines.learned import Predict, Prediction
from dkt_ros.tools.infer import shrunk
from dkt_ros.tools.montage import panels
from dkt_ros.tools.perceive import RunStats, perceive
from dkt_ros.tools.protocols import FITTED, ClipFit
from dkt_ros.tools.scoring import ClipScore, NormalScore, estimate_sources, sensor_sources
from dkt_ros.tools.temporal_score import TemporalScore

WINDOW = 9
"""Frames that another method's disparity is anchored over at once; ours has its own windows."""
REFERENCES = {'affine-gt': 'truth', 'affine-sensor-oracle': 'oracle', 'affine-sensor': 'sensor'}


@dataclass(frozen=True)
class Task:
    """
    What is asked of every clip.

    Attributes
    ----------
    protocol : str
        One of `PROTOCOLS`.
    fillers : tuple of str
        Classical repairs of the sensor's depth.
    methods : dict of str to callable
        Other methods by name, see `load_method`.
    config : PerceptionConfig
        For our chain and for anchoring the others.
    max_frames : int or None
        Frames taken of each clip.
    poses : bool
        Whether our chain is told where the camera was.

    """

    protocol: str
    fillers: tuple[str, ...]
    methods: dict[str, Predict]
    config: PerceptionConfig
    max_frames: int | None = None
    poses: bool = False


@dataclass
class ClipResult:
    """The figures of one clip and a row of pictures."""

    score: ClipScore
    normals: NormalScore
    temporal: TemporalScore
    row: dict[str, np.ndarray] = field(default_factory=dict)


def evaluate_clip(clip: Clip, perception: object, task: Task, stats: RunStats) -> ClipResult:
    """
    Score every source on one clip.

    Raises
    ------
    UserError
        If not one frame with truth got an estimate, or the protocol cannot serve the data.

    """
    gap = task.config.stream.max_gap_s
    result = ClipResult(ClipScore(), NormalScore(), TemporalScore(gap))
    others = {name: _method_frames(predict, clip, task) for name, predict in task.methods.items()}
    middle = _count(clip, task) // 2
    with tempfile.TemporaryDirectory() as scratch:
        pairs = perceive(perception, _items(clip, task), gap, stats)
        if task.protocol in FITTED:
            pairs = _fitted(pairs, clip, task, Path(scratch))
        for item, estimate in pairs:
            rivals = {name: _at(frames, item.index) for name, frames in others.items()}
            _score_frame(result, item, estimate, rivals, task)
            if item.depth is not None and (item.index <= middle or not result.row):
                result.row = shrunk(panels(estimate, item))
    if not len(result.score):
        raise UserError(f'{clip.path} gave no estimate of a frame with truth')
    return result


def _score_frame(result: ClipResult, item: SceneFrame, estimate: DepthEstimate,
                 rivals: dict[str, tuple], task: Task) -> None:
    ours = estimate_sources(estimate)
    if task.protocol in FITTED:
        del ours['fused']  # fusion is what the anchor published, not this fit
    depths = {**sensor_sources(item.frame, task.fillers), **ours,
              **{name: depth for name, (depth, _) in rivals.items() if depth is not None}}
    result.score.add(item, depths)
    result.temporal.add(item, depths)
    result.temporal.add_disparity(estimate.disparity, estimate.window_id)
    if item.normals is None:
        return
    normals = {name: depth_to_normals(depths[name], item.frame.camera)
               for name in ('sensor', 'filled') if name in depths}
    normals['dkt'] = estimate.normals
    normals |= {name: image for name, (_, image) in rivals.items()}
    result.normals.add(item, normals)


def _items(clip: Clip, task: Task) -> Iterator[SceneFrame]:
    for count, item in enumerate(clip.items()):
        if task.max_frames is not None and count >= task.max_frames:
            return
        if task.poses:
            item = replace(item, frame=replace(item.frame, T_world_camera=item.T_world_camera))
        yield item


def _count(clip: Clip, task: Task) -> int:
    known = clip.num_frames if clip.num_frames is not None else 1
    return known if task.max_frames is None else min(known, task.max_frames)


def _fitted(pairs: Iterable[tuple[SceneFrame, DepthEstimate]], clip: Clip, task: Task,
            scratch: Path) -> Iterator[tuple[SceneFrame, DepthEstimate]]:
    """Fit the whole clip first; what it gave waits on disk, since a clip may be long."""
    fit, windows = ClipFit('disparity', REFERENCES[task.protocol], task.config.stream.seed), {}
    for item, estimate in pairs:
        fit.add(estimate.disparity, item)
        windows[item.index] = estimate.window_id
        np.save(scratch / f'{item.index}.npy', estimate.disparity)
        if estimate.normals is not None:
            np.save(scratch / f'{item.index}_normals.npy', estimate.normals)
    if not windows:
        return
    scale, shift = fit.solve()
    for item in _items(clip, task):
        if item.index in windows:
            disparity = np.load(scratch / f'{item.index}.npy')
            normals = scratch / f'{item.index}_normals.npy'
            yield item, DepthEstimate(
                item.frame, disparity, windows[item.index],
                np.load(normals) if normals.is_file() else None,
                fit.apply(disparity, scale, shift))


def _method_frames(predict: Predict, clip: Clip, task: Task) -> Iterator[tuple]:
    """Yield (index, depth or None, normals or None) of each frame, under the protocol."""
    prediction = predict(np.stack([item.frame.rgb for item in _items(clip, task)]), clip.fps)
    if prediction.kind == 'normals':
        for item, normals in _sized(prediction, clip, task):
            yield item.index, None, normals
        return
    for item, depth in _method_depths(prediction, clip, task):
        yield item.index, depth, None


def _sized(prediction: Prediction, clip: Clip, task: Task
           ) -> Iterator[tuple[SceneFrame, np.ndarray]]:
    # By position: the indices of a clip with broken frames have gaps.
    for position, item in enumerate(_items(clip, task)):
        yield item, prediction.frame(position, *item.frame.rgb.shape[:2])


def _method_depths(prediction: Prediction, clip: Clip, task: Task
                   ) -> Iterator[tuple[SceneFrame, np.ndarray]]:
    if prediction.kind == 'metric':
        yield from _sized(prediction, clip, task)
        return
    if task.protocol == 'metric':
        raise UserError('protocol metric compares metres, and a method gives affine-invariant '
                        f'{prediction.kind}; use another protocol')
    if task.protocol == 'affine-sensor' and prediction.kind == 'disparity':
        yield from _anchored(prediction, clip, task)
        return
    fit = ClipFit(prediction.kind, REFERENCES[task.protocol], task.config.stream.seed)
    for item, values in _sized(prediction, clip, task):
        fit.add(values, item)
    scale, shift = fit.solve()
    for item, values in _sized(prediction, clip, task):
        yield item, fit.apply(values, scale, shift)


def _anchored(prediction: Prediction, clip: Clip, task: Task
              ) -> Iterator[tuple[SceneFrame, np.ndarray]]:
    """Give another method's disparity to the anchor that ours goes through."""
    from dkt_ros.perception import Perception
    stream = _Replay(prediction)
    chain = Perception(stream, task.config, wanted={'depth'})
    for item, estimate in perceive(chain, _items(clip, task), task.config.stream.max_gap_s,
                                   RunStats()):
        yield item, estimate_sources(estimate)['dkt']


class _Replay:
    """A prediction behind the face of a stream: windows of `WINDOW` frames."""

    def __init__(self, prediction: Prediction) -> None:
        self._prediction, self._waiting = prediction, []
        self._next = self._window = 0

    def advance(self, frame: Frame) -> list[DepthEstimate]:
        self._waiting.append(frame)
        return self.drain() if len(self._waiting) == WINDOW else []

    def denoise(self, pending: Iterable[DepthEstimate]) -> list[DepthEstimate]:
        return list(pending)

    decode = denoise

    def drain(self) -> list[DepthEstimate]:
        frames, self._waiting = self._waiting, []
        self._window += 1
        values = self._prediction.values[self._next:self._next + len(frames)]
        self._next += len(frames)
        return [DepthEstimate(frame, np.asarray(disparity, np.float32), self._window)
                for frame, disparity in zip(frames, values)]

    def reset(self, reason: str) -> None:
        self._waiting = []


def _at(frames: Iterator[tuple], index: int) -> tuple:
    """Return (depth, normals) of one frame of a method; earlier ones are passed over."""
    for found, depth, normals in frames:
        if found == index:
            return depth, normals
    raise UserError(f'a method gave nothing for frame {index}')
