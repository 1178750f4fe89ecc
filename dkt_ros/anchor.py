"""
MetricAnchor: from affine-invariant disparity to metres, window by window.

inverse depth = scale * disparity + shift is fitted to a reference that is known in metres (the
camera's own depth, or a support plane), filtered over time, and believed only while it explains
that reference. No ROS, no files.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from dkt_ros.alignment import RobustFit, evaluate_fit, fit_robust, lowpass_correction
from dkt_ros.camera import PinholeCamera
from dkt_ros.config import AnchorConfig

NUM_SAMPLES = 6000
# Depth that changes by more than this share within 3x3 pixels is an edge.
EDGE = 0.06


@dataclass(frozen=True)
class AnchorState:
    """
    The fit that makes metres of disparity, and how far it is to be believed.

    Attributes
    ----------
    status : str
        `locked`: the newest window supports the fit; `coasting`: an older one did; `unlocked`:
        there are no metres.
    scale, shift : float
        inverse depth = scale * disparity + shift [1/m]; NaN when unlocked.
    residual_m : float
        Robust standard deviation at the supporting pixels [m]; NaN when unknown.
    residual : float
        The same as a share of depth.
    inlier_ratio : float
        Share of the usable reference pixels that support the fit.
    reason : str
        One sentence.

    """

    status: str
    scale: float = float('nan')
    shift: float = float('nan')
    residual_m: float = float('nan')
    inlier_ratio: float = 0.0
    reason: str = ''
    residual: float = float('nan')

    @property
    def is_metric(self) -> bool:
        """True if disparity can be turned into metres."""
        return self.status != 'unlocked'

    def inverse_depth(self, disparity: np.ndarray) -> np.ndarray:
        """Return scale * disparity + shift [1/m], float32; not positive means out of range."""
        return np.float32(self.scale) * disparity + np.float32(self.shift)


class MetricAnchor:
    """
    Keeps the metric scale of a stream.

    Parameters
    ----------
    config : AnchorConfig
        Source and thresholds. Source `sensor` fits to the camera's depth: glass pixels, holes and
        edges are outliers. Source `plane` fits to a support plane of known pose: what stands on it
        is the outlier. Source `fixed` takes numbers. Source `none` never gives metres.
        With `refine: lowpass`, `correction` gives a slowly varying factor on top, taken from
        sensor pixels that agree: metric anchoring by a camera that is right around the glass, not
        a property of the model. Figures that use it must say so.

    """

    def __init__(self, config: AnchorConfig) -> None:
        self.config = config
        self.reset()

    def reset(self) -> None:
        """Forget every fit: a new stream or a new camera."""
        self._fit: RobustFit | None = None
        self._pending: RobustFit | None = None
        self._pending_count = 0
        self._missed = 0
        self.state = self._initial_state()

    def update(self, disparity: np.ndarray, sensor_depth: np.ndarray | None = None,
               camera: PinholeCamera | None = None) -> AnchorState:
        """
        Take in one window.

        Parameters
        ----------
        disparity : (T, h, w) float32
            The model's output.
        sensor_depth : (T, h, w) float32, optional
            The camera's depth at the same pixels [m]; NaN, Inf, zero and negative are invalid.
        camera : PinholeCamera, optional
            Camera of the (h, w) pixels, for source `plane`.

        Returns
        -------
        AnchorState
            Also kept as `state`.

        """
        if self.config.source in ('fixed', 'none'):
            return self.state
        if disparity.ndim != 3:
            raise ValueError(f'disparity is {disparity.shape}; (T, h, w) is expected')
        if sensor_depth is not None and sensor_depth.shape != disparity.shape:
            raise ValueError(f'sensor depth is {sensor_depth.shape} but disparity is '
                             f'{disparity.shape}; resize the depth by nearest neighbour')
        reference = sensor_depth
        if self.config.source == 'plane':
            reference = self._plane_depth(disparity, camera)
        pixels, depths, reason = self._samples(disparity, reference)
        if reason:
            self.state = self._miss(reason)
        else:
            self.state = self._judge(pixels, depths)
        return self.state

    def correction(self, inverse_depth: np.ndarray, sensor_depth: np.ndarray | None,
                   doubtful: np.ndarray | None = None) -> tuple[np.ndarray | None, float]:
        """
        Return the slowly varying factor on depth for one frame, and the residual that it leaves.

        Parameters
        ----------
        inverse_depth : (h, w) float32
            From `AnchorState.inverse_depth` [1/m].
        sensor_depth : (h, w) float32 or None
            [m]; NaN invalid.
        doubtful : (h, w) bool, optional
            Pixels that may see glass; they are not used.

        Returns
        -------
        ((h, w) float32 or None, float)
            None if nothing is to be corrected (another source than the sensor has not declared
            it trustworthy); the residual is a share of depth.

        """
        config = self.config
        if config.refine == 'none' or config.source != 'sensor' or sensor_depth is None:
            return None, self.state.residual
        depth = valid_depth(sensor_depth, config.near_m, config.far_m)
        trusted = np.isfinite(depth) & ~depth_edges(depth)
        if doubtful is not None:
            sure = trusted & ~doubtful
            trusted = sure if 10 * sure.sum() > trusted.sum() else trusted
        return lowpass_correction(inverse_depth, depth, trusted, config.tolerance)

    def _initial_state(self) -> AnchorState:
        config = self.config
        if config.source == 'none':
            return AnchorState('unlocked', reason='The anchor source is none: only disparity is '
                                                  'known.')
        if config.source == 'fixed':
            return AnchorState('locked', config.scale, config.shift, inlier_ratio=1.0,
                               reason='Scale and shift are given by the configuration.')
        return AnchorState('unlocked', reason='No window has been fitted yet.')

    def _plane_depth(self, disparity: np.ndarray, camera: PinholeCamera | None) -> np.ndarray:
        if camera is None or (camera.height, camera.width) != disparity.shape[1:]:
            raise ValueError('anchor source plane needs the camera of the disparity, of size '
                             f'{disparity.shape[1:]} (height, width)')
        normal, distance = np.float32(self.config.plane[:3]), np.float32(self.config.plane[3])
        with np.errstate(divide='ignore', invalid='ignore'):
            depth = distance / (camera.rays() @ normal)
        return np.broadcast_to(depth, disparity.shape)

    def _samples(self, disparity: np.ndarray, reference: np.ndarray | None
                 ) -> tuple[np.ndarray, np.ndarray, str]:
        nothing = np.empty(0)
        if reference is None:
            return nothing, nothing, 'The camera gives no depth.'
        depth = valid_depth(reference, self.config.near_m, self.config.far_m)
        valid = np.isfinite(depth) & np.isfinite(disparity)
        count = int(valid.sum())
        if count < self.config.min_pixels:
            return nothing, nothing, (
                f'Only {count} pixels have both a disparity and a depth within '
                f'{self.config.near_m} to {self.config.far_m} m; {self.config.min_pixels} are '
                'needed.')
        clean = valid & ~np.stack([depth_edges(d) for d in depth])
        chosen = clean if 10 * int(clean.sum()) > count else valid
        index = np.flatnonzero(chosen)
        if index.size > NUM_SAMPLES:
            index = np.random.default_rng(0).choice(index, NUM_SAMPLES, replace=False)
        pixels = disparity.ravel()[index].astype(np.float64)
        low, middle, high = np.percentile(pixels, (2, 50, 98))
        if high - low <= 1e-4 * max(1.0, abs(middle)):
            return nothing, nothing, f'The disparity is constant ({middle:.4g}).'
        return pixels, depth.ravel()[index].astype(np.float64), ''

    def _judge(self, pixels: np.ndarray, depths: np.ndarray) -> AnchorState:
        fit = fit_robust(pixels, depths, self.config.tolerance, np.random.default_rng(0))
        reason = self._why_refused(fit)
        if reason:
            return self._miss(reason)
        if self._fit is None or self._change(fit, pixels) <= self.config.consistency:
            weight = 1.0 if self._fit is None else self.config.smoothing
            return self._lock(self._blend(fit, weight), pixels, depths)
        confirmed = (self._pending is not None and
                     self._change(fit, pixels, self._pending) <= self.config.consistency)
        self._pending, self._pending_count = fit, self._pending_count * confirmed + 1
        if self._pending_count >= self.config.confirm_windows:
            return self._lock(fit, pixels, depths)
        return self._doubt(pixels, depths)

    def _why_refused(self, fit: RobustFit | None) -> str:
        config = self.config
        if fit is None:
            return 'No line with a positive scale fits disparity to the reference depth.'
        if fit.inlier_ratio < config.min_inlier_ratio:
            return (f'Only {fit.inlier_ratio:.0%} of the reference pixels support the fit; '
                    f'{config.min_inlier_ratio:.0%} are needed.')
        if fit.gain < config.min_gain:
            return ('Disparity explains the reference depth hardly better than a constant '
                    f'(gain {fit.gain:.2f}; {config.min_gain} is needed).')
        return ''

    def _blend(self, fit: RobustFit, weight: float) -> RobustFit:
        old = self._fit or fit
        return replace(fit, scale=old.scale + weight * (fit.scale - old.scale),
                       shift=old.shift + weight * (fit.shift - old.shift))

    def _change(self, fit: RobustFit, pixels: np.ndarray, old: RobustFit | None = None) -> float:
        old = old or self._fit
        levels = np.percentile(pixels, (5, 50, 95))
        before = np.maximum(old.scale * levels + old.shift, 1e-6)
        now = np.maximum(fit.scale * levels + fit.shift, 1e-6)
        return float(np.abs(np.log(now / before)).max())

    def _lock(self, fit: RobustFit, pixels: np.ndarray, depths: np.ndarray) -> AnchorState:
        self._fit = evaluate_fit(pixels, depths, fit.scale, fit.shift, self.config.tolerance)
        self._pending, self._pending_count, self._missed = None, 0, 0
        return self._as_state('locked', f'{self._fit.inlier_ratio:.0%} of the reference pixels '
                                        f'support the fit within {self.config.tolerance:.0%}.')

    def _doubt(self, pixels: np.ndarray, depths: np.ndarray) -> AnchorState:
        held = evaluate_fit(pixels, depths, self._fit.scale, self._fit.shift,
                            self.config.tolerance)
        reason = (f'The fit jumped; seen on {self._pending_count} of '
                  f'{self.config.confirm_windows} windows that it takes.')
        if held.inlier_ratio < self.config.min_inlier_ratio:
            return AnchorState('unlocked', reason=f'{reason} The old fit explains nothing.')
        return self._as_state('coasting', reason)

    def _miss(self, reason: str) -> AnchorState:
        self._pending, self._pending_count = None, 0
        self._missed += 1
        if self._fit is None or self._missed > self.config.coast_windows:
            self._fit = None
            return AnchorState('unlocked', reason=reason)
        return self._as_state('coasting', f'{reason} The last good fit is {self._missed} windows '
                                          'old.')

    def _as_state(self, status: str, reason: str) -> AnchorState:
        fit = self._fit
        return AnchorState(status, fit.scale, fit.shift, fit.residual_m, fit.inlier_ratio, reason,
                           fit.residual)


def valid_depth(depth: np.ndarray, near_m: float, far_m: float) -> np.ndarray:
    """Return depth (...) float32 [m] with NaN for all that is not within near_m to far_m."""
    depth = np.asarray(depth, np.float32)
    return np.where((depth >= near_m) & (depth <= far_m), depth, np.float32(np.nan))


def depth_edges(depth: np.ndarray) -> np.ndarray:
    """Return True (h, w) where valid depth (h, w) [m] changes abruptly within 3x3 pixels."""
    valid = np.isfinite(depth)
    kernel = np.ones((3, 3), np.uint8)
    largest = cv2.dilate(np.where(valid, depth, np.float32(0)), kernel)
    smallest = cv2.erode(np.where(valid, depth, np.float32(1e9)), kernel)
    return largest > smallest * (1.0 + EDGE)


def near_holes(depth: np.ndarray) -> np.ndarray:
    """
    Return True (h, w) where holes crowd: the mark of glass for a depth camera.

    Measured against the share of holes in the image, so that evenly scattered ones do not count.
    """
    holes = np.isnan(depth).astype(np.float32)
    limit = min(0.7, max(0.25, 1.6 * float(holes.mean())))
    size = max(3, depth.shape[1] // 28) | 1
    return cv2.boxFilter(holes, -1, (size, size), borderType=cv2.BORDER_REFLECT_101) > limit
