"""
Where the scale and shift of a figure come from.

    affine-sensor          metres as MetricAnchor publishes them, from the sensor alone; no truth
    affine-sensor-oracle   one robust fit a sequence to the sensor outside the true mask of glass
                           and metal: what a perfect mask would give
    affine-gt              one least-squares fit a sequence to the truth: the paper's, shape only
    metric                 the published depth with the anchor as configured, the sensor not being
                           it; for other methods, those that give metres

Figures of different protocols are never to be compared.
"""
from __future__ import annotations

import numpy as np

from dkt_ros.alignment import fit_least_squares
from dkt_ros.data.scenes import SceneFrame
from dkt_ros.errors import UserError
from dkt_ros.material import Material
from dkt_ros.metrics import disparity_to_depth

PROTOCOLS = ('affine-sensor', 'affine-sensor-oracle', 'affine-gt', 'metric')
FITTED = ('affine-gt', 'affine-sensor-oracle')
"""Protocols with one fit a sequence."""
SENSOR_BLIND = (Material.TRANSPARENT, Material.TRANSLUCENT, Material.REFLECTIVE)
SAMPLES_A_FRAME = 5000
MIN_PIXELS = 20
TUKEY, ITERATIONS = 4.685, 10
FLOORS = (0.03, 0.01, 0.003)
"""Least spread of the residuals that is believed, as a share of depth."""


class ClipFit:
    """
    One scale and shift for a whole sequence, gathered frame by frame.

    Parameters
    ----------
    kind : str
        'disparity': inverse depth = scale * value + shift; 'depth': depth = scale * value + shift.
    reference : str
        'truth' (least squares over every pixel), 'oracle' (robust, the sensor outside the true
        mask) or 'sensor' (robust, every pixel of the sensor).
    seed : int
        Draws the pixels of the robust fits.

    """

    def __init__(self, kind: str, reference: str, seed: int = 0) -> None:
        self.kind, self.reference = kind, reference
        self._rng = np.random.default_rng(seed)
        self._sums = np.zeros(5)  # n, x, y, xx, xy
        self._samples: list[np.ndarray] = []

    def add(self, values: np.ndarray, item: SceneFrame) -> None:
        """Take in the values (H, W) of one frame."""
        depth = reference_depth(item, self.reference)
        if depth is None:
            return
        chosen = np.isfinite(values) & np.isfinite(depth) & (depth > 0)
        x, z = values[chosen].astype(np.float64), depth[chosen].astype(np.float64)
        if self.reference == 'truth':
            y = self._target(z)
            self._sums += (x.size, x.sum(), y.sum(), (x * x).sum(), (x * y).sum())
        elif x.size:
            some = self._rng.integers(0, x.size, min(x.size, SAMPLES_A_FRAME))
            self._samples.append(np.stack([x[some], z[some]]))

    def solve(self) -> tuple[float, float]:
        """
        Return scale and shift.

        Raises
        ------
        UserError
            If too few pixels could be compared.

        """
        count = self._sums[0] if self.reference == 'truth' else sum(
            part.shape[1] for part in self._samples)
        if count < MIN_PIXELS:
            where = {'truth': 'true depth', 'oracle': "the sensor's depth outside the mask",
                     'sensor': "the sensor's depth"}[self.reference]
            raise UserError(f'{int(count)} pixels have both a prediction and {where}; a fit needs '
                            f'{MIN_PIXELS}: use another protocol for these data')
        if self.reference == 'truth':
            return _line(*self._sums)
        x, z = np.concatenate(self._samples, axis=1)
        return fit_tukey(x, self._target(z), relative_to=z if self.kind == 'disparity' else 1 / z)

    def apply(self, values: np.ndarray, scale: float, shift: float) -> np.ndarray:
        """Turn values into depth (H, W) float32 [m]; NaN where depth would not be positive."""
        if self.kind == 'disparity':
            return disparity_to_depth(values, scale, shift)
        depth = scale * np.asarray(values, np.float64) + shift
        return np.where(depth > 0, depth, np.nan).astype(np.float32)

    def _target(self, depth: np.ndarray) -> np.ndarray:
        return 1.0 / depth if self.kind == 'disparity' else depth


def reference_depth(item: SceneFrame, reference: str) -> np.ndarray | None:
    """Return what a fit may look at, (H, W) float32 [m] with NaN elsewhere, or None."""
    if reference == 'truth':
        return item.depth
    sensor = item.frame.sensor_depth
    if sensor is None or reference == 'sensor':
        return sensor
    if item.material is None:
        raise UserError('protocol affine-sensor-oracle needs the true mask, and a frame has none; '
                        'use affine-sensor')
    blind = np.isin(item.material, [int(kind) for kind in SENSOR_BLIND])
    return np.where(blind, np.float32(np.nan), sensor)


def fit_tukey(x: np.ndarray, y: np.ndarray, relative_to: np.ndarray) -> tuple[float, float]:
    """
    Fit y = scale * x + shift robustly: reweighted by Tukey's weights, from wide to narrow.

    Where most pixels lie on one plane, narrow weights at once would fit that plane alone.

    Parameters
    ----------
    x, y : (N,) float
        The pairs.
    relative_to : (N,) float
        A residual is multiplied by this to become a share of depth.

    Returns
    -------
    (float, float)
        Scale and shift.

    """
    weights = relative_to ** 2
    scale, shift = fit_least_squares(x, y, weights)
    for floor in FLOORS:
        for _ in range(ITERATIONS):
            residual = np.abs(scale * x + shift - y) * relative_to
            spread = max(1.4826 * float(np.median(residual)), floor)
            rho = np.maximum(1.0 - (residual / (TUKEY * spread)) ** 2, 0.0) ** 2
            update = fit_least_squares(x, y, weights * rho)
            done = np.allclose(update, (scale, shift), rtol=1e-6, atol=1e-9)
            scale, shift = update
            if done:
                break
    return scale, shift


def _line(n: float, x: float, y: float, xx: float, xy: float) -> tuple[float, float]:
    mean_x, mean_y = x / n, y / n
    variance = xx / n - mean_x ** 2
    if variance <= 1e-12 * max(1.0, mean_x ** 2):
        return 0.0, float(mean_y)
    scale = (xy / n - mean_x * mean_y) / variance
    return float(scale), float(mean_y - scale * mean_x)
