"""
Depth against truth, by class and by source, the same way for every tool.

Classes are the `Material` labels, `object` (transparent or translucent: what a depth camera cannot
see) and `all`. Sources are `sensor`, `filled`, `dkt` and `fused`, and any other baseline.
"""
from __future__ import annotations

import numpy as np

from dkt_ros.data.scenes import SceneFrame
from dkt_ros.frame import DepthEstimate
from dkt_ros.material import Material
from dkt_ros.metrics import depth_metrics
from dkt_ros.tools.baselines.filled import fill_holes

OBJECT = (Material.TRANSPARENT, Material.TRANSLUCENT)
CLASSES = (*(material.label for material in Material), 'object', 'all')
SOURCES = ('sensor', 'filled', 'dkt', 'fused')
METRICS = ('mae_m', 'rel', 'rmse_m', 'delta_105', 'delta_110', 'delta_125', 'coverage',
           'median_bias_m')
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


def sensor_sources(sensor_depth: np.ndarray | None,
                   baselines: tuple[str, ...] = ('filled',)) -> dict[str, np.ndarray]:
    """Return the sensor's depth and its classical repairs (H, W) [m], by source."""
    if sensor_depth is None:
        return {}
    repaired = {name: fill_holes(sensor_depth, 'nearest' if name == 'filled' else name)
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
    """Collects the frames of one clip and scores them together."""

    def __init__(self) -> None:
        self._truth: list[np.ndarray] = []
        self._material: list[np.ndarray | None] = []
        self._depths: dict[str, list[np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self._truth)

    def add(self, item: SceneFrame, depths: dict[str, np.ndarray]) -> None:
        """Take in one frame's truth and its depth images by source; without truth, nothing."""
        if item.depth is None:
            return
        self._truth.append(item.depth)
        self._material.append(item.material)
        for source, depth in depths.items():
            self._depths.setdefault(source, []).append(depth)

    def table(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return the metrics, mean over the frames, by class, then by source."""
        if not self._truth:
            return {}
        truth = np.stack(self._truth)
        known = all(material is not None for material in self._material)
        masks = class_masks(np.stack(self._material) if known else None, truth)
        for mask in masks.values():
            mask[mask.sum(axis=(1, 2)) < MIN_PIXELS] = False
        depths = {source: np.stack(items) for source, items in self._depths.items()
                  if len(items) == len(truth)}
        return {name: {source: score(depth, truth, mask) for source, depth in depths.items()}
                for name, mask in masks.items() if mask.any()}


def score(depth: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Return the metrics of `METRICS` as plain floats over the pixels of `mask`."""
    values = depth_metrics(depth, truth, mask)
    return {name: float(values[name]) for name in METRICS}


def mean_table(tables: list[dict]) -> dict[str, dict[str, dict[str, float]]]:
    """Average the tables of clips: each clip that has the class counts the same."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for name in CLASSES:
        having = [table[name] for table in tables if name in table]
        sources = list(dict.fromkeys(source for table in having for source in table))
        rows = {source: {metric: _mean([t[source][metric] for t in having if source in t])
                         for metric in METRICS} for source in sources}
        if rows:
            result[name] = rows
    return result


def _mean(values: list[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float('nan')


def bootstrap_interval(values: list[float], seed: int = 0, draws: int = 2000) -> list[float]:
    """Return the 95 % interval of the mean over clips, [low, high], by resampling the clips."""
    finite = np.asarray([value for value in values if np.isfinite(value)])
    if not finite.size:
        return [float('nan'), float('nan')]
    rng = np.random.default_rng(seed)
    means = finite[rng.integers(0, finite.size, (draws, finite.size))].mean(axis=1)
    return [float(value) for value in np.percentile(means, [2.5, 97.5])]
