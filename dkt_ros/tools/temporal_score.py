"""Steadiness of one clip by source: OPW, TAE, drift of scale, seams between windows."""
from __future__ import annotations

import numpy as np

from dkt_ros.data.scenes import SceneFrame
from dkt_ros.temporal import alignment_error, optical_flow, opw, warping_weights

TEMPORAL_METRICS = ('opw_cm', 'tae_percent', 'scale_std')
TRUTH = 'truth'
"""Its own OPW belongs beside the others': a camera that moves changes true depth too."""
STEP = 4


class TemporalScore:
    """
    Collects the frames of one clip as they come; keeps one frame of images.

    Parameters
    ----------
    max_gap_s : float
        Frames farther apart in time are no pair [s].

    """

    def __init__(self, max_gap_s: float) -> None:
        self._max_gap_s = max_gap_s
        self._before: tuple[SceneFrame, dict] | None = None
        self._pairs: dict[str, dict[str, list[float]]] = {}
        self._scales: dict[str, list[float]] = {}
        self._seams: tuple[list[float], list[float]] = ([], [])
        self._last: tuple[np.ndarray, int] | None = None

    def add(self, item: SceneFrame, depths: dict[str, np.ndarray]) -> None:
        """Take in one frame and its depth images (H, W) [m] by source."""
        if item.depth is not None:
            depths = {TRUTH: item.depth, **depths}
        before, self._before = self._before, (item, depths)
        if before is None or not self._is_pair(before[0], item):
            return
        flow = optical_flow(item.frame.rgb, before[0].frame.rgb)
        weights = warping_weights(item.frame.rgb, before[0].frame.rgb, flow)
        motion = _motion(before[0], item)
        for source, depth in depths.items():
            if source not in before[1]:
                continue
            figures = self._pairs.setdefault(source, {})
            figures.setdefault('opw_cm', []).append(opw(depth, before[1][source], weights, flow))
            if motion is not None:
                figures.setdefault('tae_percent', []).append(alignment_error(
                    depth, before[1][source], motion, item.frame.camera))
            if source != TRUTH and item.depth is not None:
                self._scales.setdefault(source, []).append(_scale(depth, item.depth))

    def add_disparity(self, disparity: np.ndarray, window_id: int) -> None:
        """Take in the disparity (H, W) of one frame and which window it came from."""
        small = np.array(disparity[::STEP, ::STEP])
        if self._last is not None:
            change = float(np.nanmean(np.abs(small - self._last[0])))
            self._seams[window_id != self._last[1]].append(change)
        self._last = small, window_id

    def rows(self) -> dict[str, dict[str, float]]:
        """Return the figures by source; empty for a clip without consecutive frames."""
        result = {}
        for source, figures in self._pairs.items():
            result[source] = {metric: _finite_mean(figures.get(metric, []))
                              for metric in TEMPORAL_METRICS[:2]}
            scales = [value for value in self._scales.get(source, []) if np.isfinite(value)]
            result[source]['scale_std'] = float(np.std(scales) / np.mean(scales)) if scales \
                else float('nan')
        return result

    def seam_ratio(self) -> float:
        """Return the change at seams over that inside windows; NaN without one of each."""
        inside, at_seams = map(_finite_mean, self._seams)
        return at_seams / inside if inside > 0 else float('nan')

    def _is_pair(self, before: SceneFrame, item: SceneFrame) -> bool:
        gap = (item.frame.stamp_ns - before.frame.stamp_ns) / 1e9
        return 0 < gap <= self._max_gap_s and not np.array_equal(item.frame.rgb,
                                                                 before.frame.rgb)


def _motion(before: SceneFrame, item: SceneFrame) -> np.ndarray | None:
    if before.T_world_camera is None or item.T_world_camera is None:
        return None
    return np.linalg.inv(item.T_world_camera) @ before.T_world_camera


def _scale(depth: np.ndarray, truth: np.ndarray) -> float:
    both = np.isfinite(depth) & np.isfinite(truth)
    p, g = depth[both].astype(np.float64), truth[both].astype(np.float64)
    return float((p @ g) / (p @ p)) if p.size else float('nan')


def _finite_mean(values: list[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float('nan')
