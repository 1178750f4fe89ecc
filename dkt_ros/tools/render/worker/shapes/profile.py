"""
Profiles of revolution: smooth curves, a wall of constant thickness inside, a rounded rim.

A profile is an (N, 2) array of (radius, z) [m] that runs from the axis below, along the outside,
to the rim. Pure numpy; no bpy.
"""
from __future__ import annotations

import numpy as np

DENSE_M = 0.0005


def smooth(points: list[tuple[float, float]]) -> np.ndarray:
    """
    Lay a curve without overshoot through control points.

    Parameters
    ----------
    points : list of (radius, z)
        Control points [m].

    Returns
    -------
    (N, 2) float
        Dense samples of it [m], ends included.

    """
    points = np.asarray(points, float)
    knots = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    t = np.linspace(0.0, knots[-1], max(3, int(knots[-1] / DENSE_M) + 1))
    return np.stack([_monotone_cubic(knots, points[:, axis], t) for axis in (0, 1)], axis=1)


def _monotone_cubic(knots: np.ndarray, values: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Interpolate with the slopes of Fritsch and Butland: no new extrema between the knots."""
    width, rise = np.diff(knots), np.diff(values) / np.diff(knots)
    slope = np.concatenate([rise[:1], np.zeros(len(rise) - 1), rise[-1:]])
    turning = rise[:-1] * rise[1:] > 0
    w1, w2 = 2 * width[1:] + width[:-1], width[1:] + 2 * width[:-1]
    inner = slope[1:-1]
    inner[turning] = ((w1 + w2)[turning]
                      / (w1[turning] / rise[:-1][turning] + w2[turning] / rise[1:][turning]))
    k = np.clip(np.searchsorted(knots, t, side='right') - 1, 0, len(width) - 1)
    u, h = (t - knots[k]) / width[k], width[k]
    return ((1 + 2 * u) * (1 - u) ** 2 * values[k] + u * (1 - u) ** 2 * h * slope[k]
            + u ** 2 * (3 - 2 * u) * values[k + 1] + u ** 2 * (u - 1) * h * slope[k + 1])


def join(*pieces: np.ndarray) -> np.ndarray:
    """Put curves end to end; a corner remains where their directions differ."""
    path = np.concatenate([np.asarray(piece, float).reshape(-1, 2) for piece in pieces])
    fresh = np.hypot(*np.diff(path, axis=0).T) > 1e-7
    return path[np.concatenate([[True], fresh])]


def dense(path: np.ndarray, step: float = DENSE_M) -> np.ndarray:
    """Resample a polyline evenly along its length."""
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    t = np.linspace(0.0, length[-1], max(3, int(length[-1] / step) + 1))
    return np.stack([np.interp(t, length, path[:, axis]) for axis in (0, 1)], axis=1)


def rounded(path: np.ndarray, window_m: float) -> np.ndarray:
    """Round the corners of a polyline by a moving average over `window_m`; its ends stay."""
    path = dense(path)
    half = max(1, int(window_m / DENSE_M / 2))
    ahead = 2 * path[0] - path[half:0:-1]
    behind = 2 * path[-1] - path[-2:-half - 2:-1]
    padded = np.concatenate([ahead, path, behind])
    kernel = np.full(2 * half + 1, 1.0 / (2 * half + 1))
    return np.stack([np.convolve(padded[:, axis], kernel, 'valid') for axis in (0, 1)], axis=1)


def thinned(path: np.ndarray, step: float = 0.005, turn_rad: float = 0.13) -> np.ndarray:
    """
    Sample a dense polyline with as few points as its bends allow; both ends stay.

    Parameters
    ----------
    step : float
        Largest distance of two points on a straight stretch [m].
    turn_rad : float
        Largest turn from point to point in a bend [rad].

    """
    edges = np.diff(path, axis=0)
    length, heading = np.hypot(*edges.T), np.unwrap(np.arctan2(edges[:, 1], edges[:, 0]))
    turn = np.abs(np.gradient(heading)) if len(heading) > 1 else np.zeros(1)
    cost = np.concatenate([[0.0], np.cumsum(length / step + turn / turn_rad)])
    t = np.linspace(0.0, cost[-1], max(3, int(np.ceil(cost[-1])) + 1))
    return np.stack([np.interp(t, cost, path[:, axis]) for axis in (0, 1)], axis=1)


def inside(outer: np.ndarray, wall: float, floor: float) -> np.ndarray:
    """
    Return the inner surface of a vessel.

    Parameters
    ----------
    outer : (N, 2) float
        Outer profile from the axis to the rim [m].
    wall : float
        Thickness of the wall, measured across it [m].
    floor : float
        Height of the inner floor above the lowest point, where that is more than the wall [m].

    Returns
    -------
    (M, 2) float
        Inner profile from the axis to the rim, dense [m].

    """
    path = dense(outer)
    tangent = np.gradient(path, axis=0)
    tangent /= np.hypot(*tangent.T)[:, None]
    inner = path + wall * np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    gap = np.hypot(*(inner[:, None] - path[None]).transpose(2, 0, 1)).min(axis=1)
    # Where the outside bends more sharply than the wall is thick, offset points fall too near it.
    inner = inner[(gap > 0.985 * wall) & (inner[:, 0] > 0.0008)]
    inner[:, 1] = np.maximum(inner[:, 1], path[:, 1].min() + floor)
    inner = join([(0.0, inner[0, 1])], inner)
    return rounded(inner, min(0.006, 2.0 * wall + 0.002))


def rim(outer_end: np.ndarray, inner_end: np.ndarray, count: int = 5) -> np.ndarray:
    """Return the points of the half circle that joins the outer to the inner wall."""
    middle, across = (outer_end + inner_end) / 2, (outer_end - inner_end) / 2
    along = np.array([-across[1], across[0]])
    angles = np.linspace(0.0, np.pi, count + 2)[1:-1, None]
    return middle + np.cos(angles) * across + np.sin(angles) * along
