"""
Depth against truth, by class and by source, the same way for every tool.

Classes are the `Material` labels, `object` (transparent or translucent: what a depth camera cannot
see) and `all`. Sources are `sensor`, `filled`, `dkt` and `fused`, and any other baseline.
"""
from __future__ import annotations

import numpy as np

from dkt_ros.data.scenes import SceneFrame
from dkt_ros.frame import DepthEstimate, Frame
from dkt_ros.material import Material
from dkt_ros.metrics import depth_metrics, is_depth, normal_metrics
from dkt_ros.tools.baselines.filled import BEST, fill_holes

OBJECT = (Material.TRANSPARENT, Material.TRANSLUCENT)
CLASSES = (*(material.label for material in Material), 'object', 'all')
SOURCES = ('sensor', 'filled', 'dkt', 'fused')
METRICS = ('mae_m', 'rel', 'rmse_m', 'delta_105', 'delta_110', 'delta_125', 'coverage',
           'median_bias_m', 'mae_seen_m')
NORMAL_METRICS = ('mean_deg', 'median_deg', 'within_11', 'within_22', 'within_30', 'coverage')
MIN_PIXELS = 50
"""A class with fewer pixels in a frame is left out of that frame."""


def class_masks(material: np.ndarray | None, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Return where each class has truth, (..., H, W) bool by class; only `all` without ids."""
    valid = np.isfinite(truth)
    masks = {}
    if material is not None:
        masks = {kind.label: valid & (material == int(kind)) for kind in Material}
        masks['object'] = valid & np.isin(material, [int(kind) for kind in OBJECT])
    return {**masks, 'all': valid}


def sensor_sources(frame: Frame, baselines: tuple[str, ...] = ('filled',)
                   ) -> dict[str, np.ndarray]:
    """Return the sensor's depth and its classical repairs (H, W) [m], by source."""
    sensor_depth = frame.sensor_depth
    if sensor_depth is None:
        return {}
    repaired = {name: fill_holes(sensor_depth, BEST if name == 'filled' else name, frame.rgb)
                for name in baselines}
    return {'sensor': sensor_depth, **repaired}


def estimate_sources(estimate: DepthEstimate) -> dict[str, np.ndarray]:
    """Return our depth images (H, W) [m], by source; NaN throughout while there are no metres."""
    size = estimate.frame.rgb.shape[:2]
    nothing = np.full(size, np.nan, np.float32)
    fused = estimate.depth_fused
    if fused is None:
        fused = estimate.frame.sensor_depth
    return {'dkt': nothing if estimate.depth is None else estimate.depth,
            'fused': nothing if fused is None else fused}


class ClipScore:
    """Scores the frames of one clip as they come; keeps figures, no images."""

    def __init__(self) -> None:
        self._frames: list[dict] = []
        self._sources: set[str] | None = None

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, item: SceneFrame, depths: dict[str, np.ndarray]) -> None:
        """Take in one frame's truth and its depth images by source; without truth, nothing."""
        if item.depth is None:
            return
        self._sources = set(depths) & (set(depths) if self._sources is None else self._sources)
        masks = class_masks(item.material, item.depth)
        sensor = depths.get('sensor')
        seen = None if sensor is None else is_depth(sensor)
        self._frames.append({
            name: {source: score(depth, item.depth, mask, seen)
                   for source, depth in depths.items()}
            for name, mask in masks.items() if mask.sum() >= MIN_PIXELS})

    def table(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return the metrics, mean over the frames, by class, then by source."""
        return mean_table(self.frames())

    def frames(self) -> list[dict]:
        """Return the figures of each frame; only the sources that every frame has."""
        return [{name: {source: row for source, row in rows.items() if source in self._sources}
                 for name, rows in frame.items()} for frame in self._frames]


class NormalScore:
    """Scores the normals of one clip's frames as they come."""

    def __init__(self) -> None:
        self._frames: list[dict] = []

    def add(self, item: SceneFrame, normals: dict[str, np.ndarray | None]) -> None:
        """Take in one frame's true normals and its normals (H, W, 3) by source."""
        if item.normals is None:
            return
        exists = np.linalg.norm(np.nan_to_num(item.normals), axis=-1) > 0.5
        masks = class_masks(item.material, np.where(exists, np.float32(1), np.float32(np.nan)))
        self._frames.append({
            name: {source: _chosen(normal_metrics(given, item.normals, mask), NORMAL_METRICS)
                   for source, given in normals.items() if given is not None}
            for name, mask in masks.items() if mask.sum() >= MIN_PIXELS})

    def table(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return the metrics, mean over the frames, by class, then by source."""
        return mean_table(self._frames, NORMAL_METRICS)

    def frames(self) -> list[dict]:
        """Return the figures of each frame."""
        return self._frames


def _chosen(values: dict, names: tuple[str, ...]) -> dict[str, float]:
    return {name: float(values[name]) for name in names}


def score(depth: np.ndarray, truth: np.ndarray, mask: np.ndarray,
          seen: np.ndarray | None = None) -> dict[str, float]:
    """
    Return the metrics of `METRICS` as plain floats over the pixels of `mask`.

    `mae_seen_m` is the error where the sensor measured something, `seen` (H, W) bool: a depth
    without holes is to be compared with the sensor's on these pixels. NaN without a sensor.
    """
    values = depth_metrics(depth, truth, mask)
    values['mae_seen_m'] = float('nan') if seen is None else \
        depth_metrics(depth, truth, mask & seen)['mae_m']
    return _chosen(values, METRICS)


def mean_table(tables: list[dict], metrics: tuple[str, ...] = METRICS
               ) -> dict[str, dict[str, dict[str, float]]]:
    """Average the tables of frames or clips: each that has the class counts the same."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for name in CLASSES:
        having = [table[name] for table in tables if name in table]
        sources = list(dict.fromkeys(source for table in having for source in table))
        rows = {source: {metric: _mean([t[source][metric] for t in having if source in t])
                         for metric in metrics} for source in sources}
        if rows:
            result[name] = rows
    return result


def interval_table(tables: list[dict], metrics: tuple[str, ...], seed: int) -> dict:
    """Return the 95 % interval of every figure of `mean_table`, by resampling the tables."""
    result: dict[str, dict[str, dict[str, list[float]]]] = {}
    for name, sources in mean_table(tables, metrics).items():
        for source in sources:
            rows = [t[name][source] for t in tables if source in t.get(name, {})]
            result.setdefault(name, {})[source] = {
                metric: bootstrap_interval([row[metric] for row in rows], seed)
                for metric in metrics}
    return result


def _mean(values: list[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float('nan')


def bootstrap_interval(values: list[float], seed: int = 0, draws: int = 2000) -> list[float]:
    """Return the 95 % interval of the mean over clips, [low, high], by resampling the clips."""
    finite = np.asarray([value for value in values if np.isfinite(value)])
    if finite.size < 2:  # one value says nothing about its spread
        return [float('nan'), float('nan')]
    rng = np.random.default_rng(seed)
    means = finite[rng.integers(0, finite.size, (draws, finite.size))].mean(axis=1)
    return [float(value) for value in np.percentile(means, [2.5, 97.5])]
