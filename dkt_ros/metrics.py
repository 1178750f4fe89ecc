"""
Figures of depth, normals and steadiness, all masked. No ROS, no files.

How averages are taken: every figure of a frame is over its evaluated pixels, and a sequence is the
mean over its frames (`average`), so that a frame counts once whatever its mask holds.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from dkt_ros.alignment import fit_least_squares

THRESHOLDS = {'delta_105': 1.05, 'delta_110': 1.10, 'delta_125': 1.25}
MIN_INVERSE_DEPTH = 1e-3


def depth_metrics(prediction: np.ndarray, truth: np.ndarray,
                  mask: np.ndarray | None = None) -> dict[str, float]:
    """
    Compare depth with the truth.

    Parameters
    ----------
    prediction, truth : (H, W) or (T, H, W) float
        Depth along z [m]; NaN, Inf and values that are not positive are missing.
    mask : same shape, bool, optional
        Pixels to evaluate; those without truth never are.

    Returns
    -------
    dict
        `mae_m`, `rel`, `rmse_m`, `median_bias_m` (positive is behind the truth) over the pixels
        that are predicted; `delta_105`, `delta_110`, `delta_125` (share with
        max(prediction / truth, truth / prediction) below 1.05, 1.10, 1.25) and `coverage` over all
        evaluated pixels, so that a missing pixel counts as wrong; `count`, the evaluated pixels.
        NaN where there is nothing to average. A sequence (T, H, W) gives the mean over the frames
        that have evaluated pixels, and the sum of `count`.

    """
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    mask = np.ones(truth.shape, bool) if mask is None else np.asarray(mask, bool)
    if not (prediction.shape == truth.shape == mask.shape) or truth.ndim not in (2, 3):
        raise ValueError(f'prediction is {prediction.shape}, truth {truth.shape} and mask '
                         f'{mask.shape}; three equal shapes (H, W) or (T, H, W) are expected')
    if truth.ndim == 3:
        return average(map(depth_metrics, prediction, truth, mask))
    chosen = mask & is_depth(truth)
    p, g = prediction[chosen].astype(np.float64), truth[chosen].astype(np.float64)
    known = is_depth(p)
    error, reference = p[known] - g[known], g[known]
    ratio = np.maximum(p[known] / reference, reference / p[known])
    result = {'mae_m': _mean(np.abs(error)), 'rel': _mean(np.abs(error) / reference),
              'rmse_m': _mean(error ** 2) ** 0.5}
    for name, limit in THRESHOLDS.items():
        result[name] = float((ratio < limit).sum() / g.size) if g.size else float('nan')
    result['coverage'] = float(known.mean()) if g.size else float('nan')
    result['median_bias_m'] = float(np.median(error)) if error.size else float('nan')
    result['count'] = int(g.size)
    return result


def average(results: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """
    Average the figures of frames, each frame once.

    Frames without a figure (NaN) are left out of that figure; `count` is summed. An empty input
    gives an empty dictionary.
    """
    results = list(results)
    names = dict.fromkeys(name for result in results for name in result)
    means = {}
    for name in names:
        values = np.array([result[name] for result in results if name in result], np.float64)
        values = values[np.isfinite(values)]
        means[name] = int(values.sum()) if name == 'count' else _mean(values)
    return means


def affine_fit(disparity: np.ndarray, depth: np.ndarray, mask: np.ndarray | None = None
               ) -> tuple[float, float]:
    """
    Fit 1 / depth = scale * disparity + shift by least squares, over any shape at once.

    Given a whole sequence (T, H, W) this is the one fit of the `affine-gt` protocol (the paper's):
    it measures shape, not metres.

    Parameters
    ----------
    disparity : (...) float
        Affine-invariant.
    depth : (...) float
        Reference [m]; missing values are left out.
    mask : (...) bool, optional
        Pixels to use.

    Returns
    -------
    (float, float)
        Scale and shift.

    """
    valid = is_depth(depth) & np.isfinite(disparity)
    if mask is not None:
        valid &= np.asarray(mask, bool)
    return fit_least_squares(disparity[valid], 1.0 / np.asarray(depth, np.float64)[valid])


def disparity_to_depth(disparity: np.ndarray, scale: float, shift: float,
                       min_inverse_depth: float = MIN_INVERSE_DEPTH) -> np.ndarray:
    """
    Turn affine-invariant disparity (...) into metric depth (...) float32 [m].

    Inverse depth is clipped from below at `min_inverse_depth` [1/m], as the protocols do.
    """
    inverse_depth = np.maximum(scale * np.asarray(disparity, np.float64) + shift,
                               min_inverse_depth)
    return (1.0 / inverse_depth).astype(np.float32)


def affine_gt(disparity: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None
              ) -> np.ndarray:
    """Align a sequence of disparity (T, H, W) by one fit against the truth [m]; returns depth."""
    return disparity_to_depth(disparity, *affine_fit(disparity, truth, mask))


def normal_metrics(prediction: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None
                   ) -> dict[str, float]:
    """
    Compare unit normals (H, W, 3) with the truth.

    A missing normal is NaN or zero; pixels without truth are not evaluated.

    Returns
    -------
    dict
        `mean_deg`, `median_deg` over the predicted pixels; `within_11`, `within_22`, `within_30`
        (share within 11.25, 22.5, 30 degrees; missing counts as wrong), `coverage`, `count`.

    """
    chosen = _is_normal(truth)
    if mask is not None:
        chosen &= np.asarray(mask, bool)
    p, g = prediction[chosen].astype(np.float64), truth[chosen].astype(np.float64)
    known = _is_normal(p)
    p, g = p[known], g[known]
    lengths = np.linalg.norm(p, axis=-1) * np.linalg.norm(g, axis=-1)
    angles = np.degrees(np.arccos(np.clip((p * g).sum(axis=-1) / lengths, -1.0, 1.0)))
    result = {'mean_deg': _mean(angles),
              'median_deg': float(np.median(angles)) if angles.size else float('nan')}
    for name, limit in {'within_11': 11.25, 'within_22': 22.5, 'within_30': 30.0}.items():
        result[name] = float((angles < limit).sum() / known.size) if known.size else float('nan')
    result['coverage'] = float(known.mean()) if known.size else float('nan')
    result['count'] = int(known.size)
    return result


def seam_ratio(disparity: np.ndarray, window_ids: np.ndarray) -> float:
    """
    Compare the change from frame to frame at window seams with the change inside windows.

    Parameters
    ----------
    disparity : (T, H, W) float
        In order of time.
    window_ids : (T,) int
        Which window each frame came from.

    Returns
    -------
    float
        1 where seams cannot be told; NaN if there is no seam or nothing inside a window.

    """
    disparity, window_ids = np.asarray(disparity), np.asarray(window_ids)
    if disparity.ndim != 3 or window_ids.shape != disparity.shape[:1]:
        raise ValueError(f'disparity is {disparity.shape} and window_ids {window_ids.shape}; '
                         '(T, H, W) and (T,) are expected')
    steps = np.array([np.nanmean(np.abs(now - before))
                      for before, now in zip(disparity[:-1], disparity[1:], strict=True)])
    seams = window_ids[1:] != window_ids[:-1]
    inside = _mean(steps[~seams])
    return _mean(steps[seams]) / inside if inside > 0 else float('nan')


def scale_std(prediction: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """
    Measure drift: the standard deviation of each frame's own scale, relative to their mean.

    Parameters
    ----------
    prediction, truth : (T, H, W) float
        Depth [m]; missing values are left out.
    mask : (T, H, W) bool, optional
        Pixels to use.

    Returns
    -------
    float
        0 without drift; NaN if no frame can be compared.

    """
    valid = is_depth(prediction) & is_depth(truth)
    if mask is not None:
        valid &= np.asarray(mask, bool)
    scales = []
    for p, g, chosen in zip(prediction, truth, valid, strict=True):
        p, g = p[chosen].astype(np.float64), g[chosen].astype(np.float64)
        if p.size:
            scales.append((p @ g) / (p @ p))
    return float(np.std(scales) / np.mean(scales)) if scales else float('nan')


def is_depth(values: np.ndarray) -> np.ndarray:
    """Return where values are depths: finite and positive."""
    return np.isfinite(values) & (np.asarray(values) > 0)


def _is_normal(values: np.ndarray) -> np.ndarray:
    return np.isfinite(values).all(axis=-1) & (np.abs(values).sum(axis=-1) > 0)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float('nan')
