"""
How far off a thing stands, by how it moves in the image while the camera moves.

What a model says of a thing that no sensor sees is right in shape more often than in distance. A
camera on a wrist, whose pose is known, sees it from several places: at the right distance its
outlines of now and of before fall onto each other. What is seen through it must not count, or it
would be put where its background is; so each pixel counts as far as the background's distance does
not explain it, and outlines more than what lies inside. Plane sweeping (Collins, CVPR 1996) with
the model's relief in the place of planes. Arrays in, arrays out; no ROS, no files.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import cached_property

import cv2
import numpy as np

from dkt_ros.averaging import as_bytes
from dkt_ros.frame import Frame
from dkt_ros.pose_config import ParallaxConfig
from dkt_ros.relief import surroundings

VIEWS_KEPT = 16
ROW = 1024
# Views nearer to each other than this, as a share of the least baseline, say the same.
SPACING = 0.5
# Model and sensor agree within this share; what is this much nearer than its surroundings stands
# out; neighbours that differ by this share lie on two surfaces.
AGREE, STANDS_OUT, EDGE = 0.03, 0.015, 1.03
# A thing covers this share of the image, and at most this share of it agrees with the sensor.
MIN_AREA, MAX_SEEN = 0.0015, 0.5
# Pixels compared, of those with the strongest gradients.
STRONGEST, FEWEST, MOST = 0.5, 300, 1500
# Gradients below this are noise [gray levels a pixel, times Sobel's 8].
NOISE = 8.0
# A pixel that its background explains but for this share of its gradient does not count.
EXPLAINED = 0.35
# What is seen farther inside a thing than this [px of 384] may be bent on its way, or be its far
# side: it counts less than the outline.
OUTLINE, INSIDE = 4, 0.25
# Corrections tried: to all of a thing, and to its lower and its right half, as shares of depth.
FURTHEST, TILT, STEPS = 0.15, 0.12, (0.04, 0.02, 0.01, 0.005)
SOFT = np.array([0.06, 0.05, 0.05])


class View:
    """
    A frame with a pose, and the gradients of its image.

    Parameters
    ----------
    frame : Frame

    """

    def __init__(self, frame: Frame) -> None:
        self.camera, self.T_world_camera = frame.camera, frame.T_world_camera
        self.stamp_ns, self._rgb = frame.stamp_ns, frame.rgb

    @cached_property
    def gradients(self) -> np.ndarray:
        """Along x and y (H, W, 2), of gray levels; taken when first asked for."""
        return _gradients(self._rgb)

    @cached_property
    def _T_camera_world(self) -> np.ndarray:
        return np.linalg.inv(self.T_world_camera)

    def sample(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return gradients (N, 2) at world points (N, 3), and which of them are in the image."""
        T = self._T_camera_world
        # Transposed, so that each coordinate lies in one piece, as `project` likes it.
        u, v = np.float32(self.camera.project((T[:3, :3] @ points.T + T[:3, 3:]).T)).T
        inside = (u >= 0) & (u <= self.camera.width - 1) & (v >= 0) & (v <= self.camera.height - 1)
        u, v = u[None], v[None]
        if u.size > ROW:  # cv2 takes no more than 32 767 pixels in one
            shape = (-(-u.size // ROW), ROW)
            u, v = np.resize(u, shape), np.resize(v, shape)
        found = cv2.remap(self.gradients, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return found.reshape(-1, 2)[:len(points)], inside


class Parallax:
    """
    Earlier views of a scene that stands still, and what they say about the distance of things.

    Parameters
    ----------
    config : ParallaxConfig

    """

    def __init__(self, config: ParallaxConfig) -> None:
        self._config = config
        self._views: deque[View] = deque(maxlen=VIEWS_KEPT)

    def reset(self) -> None:
        """Forget all views."""
        self._views.clear()

    def correct(self, frame: Frame, inverse_depth: np.ndarray, sensor: np.ndarray | None
                ) -> np.ndarray | None:
        """
        Say how the depth of a frame is to be changed, and keep the frame for those that follow.

        Parameters
        ----------
        frame : Frame
            Without a pose nothing is done.
        inverse_depth : (h, w) float32
            The model's, at any size [1/m]; not positive where it has none.
        sensor : (h, w) float32 or None
            The sensor's depth at the same size [m]; NaN where invalid. Without it nothing is
            known of the background, and nothing is done.

        Returns
        -------
        (h, w) float32 or None
            What to multiply depth with; None to leave it.

        """
        if not self._config.enabled or frame.T_world_camera is None:
            return None
        view = View(frame)
        self._forget_before(frame.stamp_ns)
        others = self._others(view)
        self._keep(view)
        if not others or sensor is None:
            return None
        with np.errstate(invalid='ignore'):
            seen = np.abs(sensor * inverse_depth - 1) < AGREE
        if not seen.any():
            return None
        behind, factor = surroundings(sensor, seen), None
        # A sensor that measures something before the background sees the thing itself.
        with np.errstate(invalid='ignore'):
            seen |= sensor * behind < 1 / (1 + STANDS_OUT)
        for region in _things(inverse_depth, behind, seen):
            plane = _Thing(region, inverse_depth, behind, view, others).fit(self._config.stiffness)
            if plane is not None:
                factor = np.ones_like(inverse_depth) if factor is None else factor
                factor[region] = plane
        return factor

    def _forget_before(self, stamp_ns: int) -> None:
        """Drop views in which things may have stood elsewhere."""
        age_ns = self._config.max_age_s * 1e9
        while self._views and stamp_ns - self._views[0].stamp_ns > age_ns:
            self._views.popleft()

    def _others(self, view: View) -> list[View]:
        """Return the views from the farthest places that are near enough."""
        config = self._config
        near = [(_distance(view, other), other) for other in self._views]
        usable = [pair for pair in near
                  if config.min_baseline_m <= pair[0] <= config.max_baseline_m]
        usable.sort(key=lambda pair: -pair[0])
        return [other for _, other in usable[:config.max_views]]

    def _keep(self, view: View) -> None:
        least = SPACING * self._config.min_baseline_m
        if all(_distance(view, other) >= least for other in self._views):
            self._views.append(view)


class _Thing:
    """A region of the image whose distance may be wrong."""

    def __init__(self, region: np.ndarray, inverse_depth: np.ndarray, behind: np.ndarray,
                 view: View, others: list[View]) -> None:
        self._others, self._pose = others, view.T_world_camera
        height, width = region.shape
        camera = view.camera.resized(width, height)
        # What lies just outside has the outline too; it takes the depth of the nearest inside.
        widened = cv2.dilate(np.where(region, inverse_depth, np.float32(0)), np.ones((5, 5)))
        rows, columns = np.nonzero((widened > 0) & (behind > 0) & np.isfinite(behind))
        rays = camera.rays()[rows, columns].astype(np.float64)
        gradients, _ = view.sample(self._world(rays))
        kept = _strongest(_lengths(gradients))
        rows, columns = rows[kept], columns[kept]
        inside = np.nonzero(region)
        self._low, self._high = (np.array([fun(axis) for axis in inside], float)
                                 for fun in (np.min, np.max))
        self._inside = self._within(np.stack(inside, axis=1))
        self._place = self._within(np.stack([rows, columns], axis=1))
        self._rays, self._gradients = rays[kept], gradients[kept]
        self._strength = _lengths(self._gradients)
        self._depth = 1 / widened[rows, columns].astype(np.float64)
        trust = np.where(_core(region)[rows, columns], INSIDE, 1.0)
        self._weights = [trust * self._unexplained(other, 1 / behind[rows, columns])
                         for other in others]
        self._total = sum(float(weights.sum()) for weights in self._weights)

    def fit(self, stiffness: float) -> np.ndarray | None:
        """Return what to multiply the depth of the region's pixels (N,) with; None for 1."""
        if self._total <= 0:
            return None

        def cost(plane: np.ndarray) -> float:
            return self._difference(plane) + stiffness * float(((plane / SOFT) ** 2).sum())

        tries = np.linspace(-FURTHEST, FURTHEST, 41)
        costs = [cost(np.array([each, 0.0, 0.0])) for each in tries]
        plane, best = np.array([tries[np.argmin(costs)], 0.0, 0.0]), min(costs)
        # A few numbers, a cost with corners: a pattern search (Hooke and Jeeves, 1961).
        moves = [sign * axis for axis in np.eye(3) for sign in (-1, 1)]
        for step in STEPS:
            better = True
            while better:
                near = [plane + step * move for move in moves]
                near = [each for each in near if (np.abs(each) <= (FURTHEST, TILT, TILT)).all()]
                found = [cost(each) for each in near]
                better = min(found) < best - 1e-6
                if better:
                    plane, best = near[int(np.argmin(found))], min(found)
        return np.float32(self._scale(plane, self._inside)) if plane.any() else None

    def _within(self, pixels: np.ndarray) -> np.ndarray:
        """Return row and column (N, 2) in [-1, 1] over the extent of the region."""
        middle, half = (self._low + self._high) / 2, (self._high - self._low) / 2
        return (pixels - middle) / np.maximum(half, 1.0)

    def _world(self, points: np.ndarray) -> np.ndarray:
        return points @ self._pose[:3, :3].T + self._pose[:3, 3]

    def _unexplained(self, other: View, behind: np.ndarray) -> np.ndarray:
        """Return the weights (N,) of pixels: what they show that the background does not."""
        there, inside = other.sample(self._world(self._rays * behind[:, None]))
        rest = _lengths(there - self._gradients) / (self._strength + NOISE)
        return np.clip(rest - EXPLAINED, 0, 1) * np.sqrt(self._strength) * inside

    def _scale(self, plane: np.ndarray, place: np.ndarray) -> np.ndarray:
        return 1 + plane[0] + place @ plane[1:]

    def _difference(self, plane: np.ndarray) -> float:
        """Return the mean difference of gradients, 0 to 1."""
        points = self._world(self._rays * (self._depth * self._scale(plane, self._place))[:, None])
        total = 0.0
        for other, weights in zip(self._others, self._weights):
            there, inside = other.sample(points)
            size = _lengths(there) + self._strength + NOISE
            off = _lengths(there - self._gradients) / size
            total += float((np.where(inside, off, 1.0) * weights).sum())
        return total / self._total


def _gradients(rgb: np.ndarray) -> np.ndarray:
    sigma = max(0.7, rgb.shape[1] / 640)
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    gray = cv2.GaussianBlur(gray, (0, 0), sigma)
    return np.dstack([cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)])


def _lengths(vectors: np.ndarray) -> np.ndarray:
    return np.hypot(vectors[:, 0], vectors[:, 1])


def _distance(one: View, other: View) -> float:
    return float(np.linalg.norm(one.T_world_camera[:3, 3] - other.T_world_camera[:3, 3]))


def _core(region: np.ndarray) -> np.ndarray:
    side = 2 * max(1, round(OUTLINE * region.shape[1] / 384)) + 1
    return cv2.erode(as_bytes(region), np.ones((side, side), np.uint8)) > 0


def _strongest(strength: np.ndarray) -> np.ndarray:
    """Return the indices of the pixels that are compared."""
    number = int(max(STRONGEST * len(strength), min(len(strength), FEWEST)))
    order = np.argsort(-strength)[:number]
    return order[::max(1, -(-number // MOST))]


def _things(inverse_depth: np.ndarray, behind: np.ndarray, seen: np.ndarray
            ) -> Iterator[np.ndarray]:
    """Yield the regions (h, w) that stand before the surroundings and that were not seen."""
    with np.errstate(divide='ignore', invalid='ignore'):
        stands = (inverse_depth > 0) & (behind > 0) & (inverse_depth / behind > 1 + STANDS_OUT)
    square = np.ones((3, 3), np.uint8)
    positive = np.maximum(inverse_depth, 0)
    smooth = stands & (cv2.dilate(positive, square) < EDGE * cv2.erode(positive, square))
    parts = cv2.morphologyEx(as_bytes(smooth), cv2.MORPH_OPEN, square)
    _, labels = cv2.connectedComponents(parts, ltype=cv2.CV_16U)
    # What the edges took comes back to the part beside it.
    for _ in range(2):
        grown = cv2.dilate(labels, square)
        labels = np.where((labels == 0) & stands, grown, labels)
    areas = np.bincount(labels.ravel())
    known = np.bincount(labels.ravel(), weights=seen.ravel())
    for label in np.nonzero((areas > MIN_AREA * labels.size) & (known <= MAX_SEEN * areas))[0]:
        if label:
            yield labels == label
