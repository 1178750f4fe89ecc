"""
Fits from affine-invariant disparity to inverse depth: least squares, robust, and slowly varying.

Arrays in, numbers out. The state over time is in anchor.py.
"""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dkt_ros.averaging import shrunk

NUM_HYPOTHESES = 300
NUM_SCORED = 1200
# So many values are plenty for a median.
NUM_MEDIAN = 20000
# Relative residuals under this are the noise of a good depth camera.
NOISE_FLOOR = 0.003


@dataclass(frozen=True)
class _Quality:
    noise: float  # what scores a line, as a share of depth
    quantile: float  # of the residuals, which tells their spread
    sigmas: float  # what that quantile is in standard deviations


# A model is tried as a good one first, then as a rough one.
GOOD, ROUGH = _Quality(0.01, 0.25, 0.45), _Quality(0.04, 0.5, 0.8)


@dataclass(frozen=True)
class RobustFit:
    """
    inverse depth = scale * disparity + shift, and how well that holds.

    Attributes
    ----------
    scale, shift : float
        [1/m] per unit of disparity, and [1/m].
    residual : float
        Robust standard deviation of the supporting pixels, as a share of depth.
    residual_m : float
        The same in metres.
    inlier_ratio : float
        Share of the pixels that support the fit.
    gain : float
        1 - (error of the fit / error of the best constant depth), errors truncated; 0 for noise.

    """

    scale: float
    shift: float
    residual: float
    residual_m: float
    inlier_ratio: float
    gain: float


def fit_least_squares(disparity: np.ndarray, inverse_depth: np.ndarray,
                      weights: np.ndarray | None = None) -> tuple[float, float]:
    """
    Fit inverse_depth = scale * disparity + shift by weighted least squares.

    Parameters
    ----------
    disparity, inverse_depth : (N,) float
        Finite values.
    weights : (N,) float, optional
        Not negative.

    Returns
    -------
    (float, float)
        Scale and shift; scale 0 and the mean where disparity does not vary.

    """
    x, y = np.asarray(disparity, np.float64), np.asarray(inverse_depth, np.float64)
    w = np.ones_like(x) if weights is None else np.asarray(weights, np.float64)
    total = w.sum()
    if not total > 0:
        raise ValueError('no pixel has both a disparity and a depth; a fit needs at least two')
    mean_x, mean_y = (w * x).sum() / total, (w * y).sum() / total
    dx = x - mean_x
    variance = (w * dx * dx).sum() / total
    if variance <= 1e-12 * max(1.0, mean_x * mean_x):
        return 0.0, float(mean_y)
    scale = (w * dx * (y - mean_y)).sum() / total / variance
    return float(scale), float(mean_y - scale * mean_x)


def fit_robust(disparity: np.ndarray, depth: np.ndarray, tolerance: float,
               rng: np.random.Generator) -> RobustFit | None:
    """
    Fit inverse depth = scale * disparity + shift where up to 6 pixels in 10 are wrong.

    Lines through random pairs of pixels are scored by a heavy-tailed cost; the best is refined by
    Tukey's weights with a scale taken from the closest quarter of the pixels. Glass lets a depth
    camera measure behind the surface and never in front of it (and what stands on a support plane
    has the plane behind it), so wrong pixels are looked for behind: this is what tells a scene
    from the same scene seen through glass when most pixels are glass.

    Parameters
    ----------
    disparity, depth : (N,) float
        Finite values; depth positive [m].
    tolerance : float
        Largest residual of a supporting pixel, as a share of depth.
    rng : numpy.random.Generator
        Draws the pairs.

    Returns
    -------
    RobustFit or None
        None if no line with a positive scale (nearer is larger) fits at all.

    """
    disparity, depth = np.asarray(disparity, np.float64), np.asarray(depth, np.float64)
    good = _fit_as(GOOD, disparity, depth, tolerance, rng)
    rough = _fit_as(ROUGH, disparity, depth, tolerance, rng)
    if good is None or rough is None:
        return good or rough
    return good if good.inlier_ratio >= 0.6 * rough.inlier_ratio else rough


def _fit_as(quality: _Quality, disparity: np.ndarray, depth: np.ndarray,
            tolerance: float, rng: np.random.Generator) -> RobustFit | None:
    start = _best_line(disparity, depth, quality.noise, rng)
    if start is None:
        return None
    scale, shift = _refine(disparity, depth, start, tolerance, quality)
    return evaluate_fit(disparity, depth, scale, shift, tolerance) if scale > 0 else None


def evaluate_fit(disparity: np.ndarray, depth: np.ndarray, scale: float, shift: float,
                 tolerance: float) -> RobustFit:
    """Say how well a given scale and shift hold for disparity (N,) and depth (N,) [m]."""
    residuals = np.abs(_residuals(disparity, depth, scale, shift))
    inliers = residuals < tolerance
    if not inliers.any():
        return RobustFit(scale, shift, float('inf'), float('inf'), 0.0, 0.0)
    # residual = sensor / model - 1, hence the error in metres:
    errors_m = residuals[inliers] * depth[inliers] / (1.0 + residuals[inliers])
    flat, flat_error = _best_constant(depth, tolerance)
    either = inliers | flat
    error = np.minimum(residuals / tolerance, 1.0) ** 2
    gain = 1.0 - error[either].sum() / max(flat_error[either].sum(), 1e-12)
    return RobustFit(scale, shift, float(1.4826 * np.median(residuals[inliers])),
                     float(1.4826 * np.median(errors_m)), float(inliers.mean()), float(gain))


def lowpass_correction(inverse_depth: np.ndarray, sensor_depth: np.ndarray, trusted: np.ndarray,
                       tolerance: float) -> tuple[np.ndarray, float]:
    """
    Find the slowly varying factor that takes the model's depth to the trusted sensor pixels.

    The log ratio sensor / model is averaged over a wide and then a narrower neighbourhood of
    trusted pixels, and fades to no correction away from them. Between the averages, pixels that
    still disagree are dropped, those behind the model earlier than those in front (glass).

    Parameters
    ----------
    inverse_depth : (h, w) float32
        The model's, aligned by scale and shift [1/m].
    sensor_depth : (h, w) float32
        [m]; NaN where invalid.
    trusted : (h, w) bool
        Pixels that may be used; none on or near what is thought to be glass.
    tolerance : float
        Disagreement that a trusted pixel may show, as a share of depth; half of it for a good
        model and up to three times for a rough one.

    Returns
    -------
    ((h, w) float32, float)
        The factor on depth, and the robust standard deviation of what is left at all pixels that
        came as trusted, as a share of depth (the tolerance if there are none).

    """
    with np.errstate(invalid='ignore', divide='ignore'):
        ratio = np.log(sensor_depth * inverse_depth)
    trusted = trusted & np.isfinite(ratio)
    ratio = np.where(trusted, ratio, np.float32(0))
    all_trusted, spread = trusted, _spread(ratio[trusted], tolerance)
    trusted = trusted & (np.abs(ratio) < np.clip(4 * spread, tolerance / 2, 3 * tolerance))
    correction = np.zeros(ratio.shape, np.float32)
    for share in (0.12, 0.12, 0.04):
        rest = np.where(trusted, ratio - correction, np.float32(0))
        correction = correction + _masked_blur(rest, trusted, share * ratio.shape[1])
        rest = ratio - correction
        limit = max(_spread(rest[trusted], tolerance), NOISE_FLOOR)
        trusted = trusted & (rest < 2.0 * limit) & (rest > -3.5 * limit)
    return np.exp(correction), _spread((ratio - correction)[all_trusted], tolerance)


def _spread(values: np.ndarray, otherwise: float) -> float:
    some = values[::values.size // NUM_MEDIAN + 1]
    return 1.4826 * float(np.median(np.abs(some))) if values.size else otherwise


def _masked_blur(values: np.ndarray, mask: np.ndarray, sigma_px: float) -> np.ndarray:
    """Average over the mask; fades to 0 where the mask is scarce. All at a quarter of the size."""
    height, width = values.shape
    small = (max(width // 4, 1), max(height // 4, 1))
    weights, sums = shrunk(mask, small), shrunk(values, small)
    sigma = max(sigma_px / 4.0, 0.5)
    weights = cv2.GaussianBlur(weights, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    sums = cv2.GaussianBlur(sums, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    return cv2.resize(sums / (weights + 0.03), (width, height), interpolation=cv2.INTER_LINEAR)


def _residuals(disparity: np.ndarray, depth: np.ndarray, scale: float | np.ndarray,
               shift: float | np.ndarray) -> np.ndarray:
    # reference / model - 1: positive where the reference lies behind.
    return (scale * disparity + shift) * depth - 1.0


def _best_line(disparity: np.ndarray, depth: np.ndarray, noise: float,
               rng: np.random.Generator) -> tuple[float, float] | None:
    low, high = np.percentile(disparity, (2, 98))
    first, second = rng.integers(0, disparity.size, (2, 8 * NUM_HYPOTHESES))
    step = disparity[second] - disparity[first]
    rise = 1.0 / depth[second] - 1.0 / depth[first]
    good = np.abs(step) > 0.15 * (high - low)
    good[good] &= rise[good] / step[good] > 0
    first, step, rise = first[good], step[good], rise[good]
    if first.size == 0:
        return None
    scales = rise[:NUM_HYPOTHESES] / step[:NUM_HYPOTHESES]
    shifts = 1.0 / depth[first[:NUM_HYPOTHESES]] - scales * disparity[first[:NUM_HYPOTHESES]]
    some = rng.integers(0, disparity.size, NUM_SCORED)
    residuals = _residuals(disparity[some], depth[some], scales[:, None], shifts[:, None])
    # Far behind costs little (glass does that), far in front much (nothing does that).
    costs = np.log1p((np.clip(residuals, -0.5, 4 * noise) / noise) ** 2).mean(axis=1)
    best = int(np.argmin(costs))
    return float(scales[best]), float(shifts[best])


def _refine(disparity: np.ndarray, depth: np.ndarray, start: tuple[float, float],
            tolerance: float, quality: _Quality) -> tuple[float, float]:
    scale, shift = start
    for _ in range(15):
        residuals = _residuals(disparity, depth, scale, shift)
        near = float(np.quantile(np.abs(residuals), quality.quantile))
        sigma = max(near / quality.sigmas, NOISE_FLOOR)
        cut = np.where(residuals > 0, min(3.0 * sigma, tolerance), min(4.7 * sigma, tolerance))
        weights = np.maximum(1.0 - (residuals / cut) ** 2, 0.0) ** 2
        if np.count_nonzero(weights) < 10:
            break
        # Weighted by depth squared, the errors of inverse depth are relative ones.
        update = fit_least_squares(disparity, 1.0 / depth, weights * depth * depth)
        done = np.allclose(update, (scale, shift), rtol=1e-5, atol=1e-7)
        scale, shift = update
        if done:
            break
    return scale, shift


def _best_constant(depth: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    candidates = np.quantile(depth, np.linspace(0.02, 0.98, 25))
    residuals = np.abs(depth / candidates[:, None] - 1.0)
    errors = np.minimum(residuals / tolerance, 1.0) ** 2
    best = int(np.argmin(errors.sum(axis=1)))
    return residuals[best] < tolerance, errors[best]
