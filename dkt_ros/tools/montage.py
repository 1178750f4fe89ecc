"""Pictures for people: labelled rows of what went in, what came out and how wrong it is."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from dkt_ros.colorize import (
    depth_to_rgb,
    disparity_to_rgb,
    error_to_rgb,
    mask_to_rgb,
    normals_to_rgb,
)
from dkt_ros.data.images import write_image
from dkt_ros.data.scenes import SceneFrame
from dkt_ros.frame import DepthEstimate
from dkt_ros.material import Material

TILE_WIDTH = 320
LABEL_HEIGHT = 24
GAP = 4
MAX_ERROR_M = 0.1
WHITE, INK = (255, 255, 255), (30, 30, 30)
MATERIAL_COLORS = {Material.BACKGROUND: (70, 70, 70), Material.TRANSPARENT: (80, 200, 255),
                   Material.TRANSLUCENT: (150, 120, 255), Material.REFLECTIVE: (255, 200, 60),
                   Material.DIFFUSE: (220, 90, 80)}


def material_to_rgb(material: np.ndarray) -> np.ndarray:
    """Colour a map (H, W) of `Material` values, (H, W, 3) uint8."""
    palette = np.zeros((256, 3), np.uint8)
    for kind, color in MATERIAL_COLORS.items():
        palette[int(kind)] = color
    return palette[material]


def depth_range(*depths: np.ndarray | None) -> tuple[float, float]:
    """Return near and far [m] that show the given depth images well, for all alike."""
    values = [d[np.isfinite(d)] for d in depths if d is not None]
    values = np.concatenate(values) if values else np.empty(0)
    if not values.size:
        return 0.3, 1.2
    near, far = np.percentile(values, [2, 98])
    margin = max(0.02, 0.05 * (far - near))
    return float(max(0.05, near - margin)), float(far + margin)


def _spread(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, [1, 99])
    return float(low), float(max(high, low + 1e-6))


def panels(estimate: DepthEstimate, truth: SceneFrame | None = None) -> dict[str, np.ndarray]:
    """
    Return the pictures of one frame by title, each (H, W, 3) uint8.

    RGB, sensor depth, our depth, normals, mask, and the error against the truth; what is not
    known is left out, our depth without metres is shown as disparity.
    """
    frame = estimate.frame
    true_depth = None if truth is None else truth.depth
    near, far = depth_range(frame.sensor_depth, true_depth)
    result = {'RGB': frame.rgb}
    if frame.sensor_depth is not None:
        result['sensor depth'] = depth_to_rgb(frame.sensor_depth, near, far)
    if estimate.depth is not None and np.isfinite(estimate.depth).any():
        result['our depth'] = depth_to_rgb(estimate.depth, near, far)
    else:
        result['our disparity (no metres)'] = disparity_to_rgb(
            estimate.disparity, *_spread(estimate.disparity))
    if true_depth is not None:
        result['true depth'] = depth_to_rgb(true_depth, near, far)
    if estimate.normals is not None:
        result['normals'] = normals_to_rgb(estimate.normals)
    if estimate.mask is not None:
        result['mask: sensor wrong or blind'] = mask_to_rgb(estimate.mask)
    if true_depth is not None and estimate.depth is not None:
        result[f'error of our depth, 0 to {MAX_ERROR_M * 100:g} cm'] = error_to_rgb(
            estimate.depth, true_depth, MAX_ERROR_M)
    return result


def scene_panels(item: SceneFrame) -> dict[str, np.ndarray]:
    """Return the pictures of a scene's frame by title: RGB, sensor, truth, normals, material."""
    near, far = depth_range(item.depth)
    result = {'RGB': item.frame.rgb}
    if item.frame.sensor_depth is not None:
        result['sensor depth'] = depth_to_rgb(item.frame.sensor_depth, near, far)
    if item.depth is not None:
        result['true depth'] = depth_to_rgb(item.depth, near, far)
    if item.normals is not None:
        result['normals'] = normals_to_rgb(item.normals)
    if item.material is not None:
        result['material'] = material_to_rgb(item.material)
    return result


def montage(rows: Sequence[dict[str, np.ndarray]], titles: Sequence[str] | None = None,
            tile_width: int = TILE_WIDTH) -> np.ndarray:
    """
    Lay out rows of labelled pictures on white.

    Parameters
    ----------
    rows : sequence of dict
        Pictures (H, W, 3) uint8 by label, left to right.
    titles : sequence of str, optional
        A line above each row.
    tile_width : int
        Width of each picture [px]; the height follows.

    Returns
    -------
    (H, W, 3) uint8

    """
    if not rows:
        raise ValueError('a montage needs at least one row; none was given')
    strips = []
    for index, row in enumerate(rows):
        strip = np.hstack([_tile(image, label, tile_width) for label, image in row.items()])
        if titles is not None:
            strip = np.vstack([_text_line(titles[index], strip.shape[1], bold=True), strip])
        strips.append(strip)
    width = max(strip.shape[1] for strip in strips)
    padded = [np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), constant_values=255)
              for strip in strips]
    return np.vstack(padded)


def write_montage(path: str | Path, rows: Sequence[dict[str, np.ndarray]],
                  titles: Sequence[str] | None = None, tile_width: int = TILE_WIDTH) -> None:
    """Write a montage as an image file."""
    write_image(path, montage(rows, titles, tile_width))


class MontageVideo:
    """An mp4 with one montage row a frame, written frame by frame; use it in a `with`."""

    def __init__(self, path: str | Path, fps: float, tile_width: int = 240) -> None:
        self._path, self._fps, self._tile_width = Path(path), fps, tile_width
        self._partial = self._path.with_name(f'.{self._path.stem}.partial.mp4')
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def __enter__(self) -> MontageVideo:
        return self

    def add(self, row: dict[str, np.ndarray]) -> None:
        """Append one frame; its size is that of the first one."""
        rows = [row] if len(row) < 5 else list(_halves(row))
        image = montage(rows, tile_width=self._tile_width)
        if self._writer is None:
            self._size = (image.shape[1] // 2 * 2, image.shape[0] // 2 * 2)
            self._writer = cv2.VideoWriter(str(self._partial), cv2.VideoWriter_fourcc(*'mp4v'),
                                           self._fps, self._size)
            if not self._writer.isOpened():
                raise OSError(f'{self._path} cannot be written as mp4; check the folder and disk')
        canvas = np.full((self._size[1], self._size[0], 3), 255, np.uint8)
        height, width = min(canvas.shape[0], image.shape[0]), min(canvas.shape[1], image.shape[1])
        canvas[:height, :width] = image[:height, :width]
        self._writer.write(canvas[..., ::-1])

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self._writer is None:
            return
        self._writer.release()
        if kind is None:
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)


def _halves(row: dict[str, np.ndarray]) -> tuple[dict, dict]:
    items, half = list(row.items()), (len(row) + 1) // 2
    return dict(items[:half]), dict(items[half:])


def _tile(image: np.ndarray, label: str, width: int) -> np.ndarray:
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    method = cv2.INTER_AREA if width <= image.shape[1] else cv2.INTER_NEAREST
    small = cv2.resize(image, (width, height), interpolation=method)
    tile = np.vstack([_text_line(label, width), small])
    return np.pad(tile, ((0, GAP), (0, GAP), (0, 0)), constant_values=255)


def _text_line(text: str, width: int, bold: bool = False) -> np.ndarray:
    line = np.full((LABEL_HEIGHT, width, 3), WHITE, np.uint8)
    plain = text.encode('ascii', 'replace').decode()
    scale = 0.5
    (length, _), _ = cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    scale *= min(1.0, (width - 8) / max(length, 1))
    cv2.putText(line, plain, (4, LABEL_HEIGHT - 7), cv2.FONT_HERSHEY_SIMPLEX, scale, INK,
                2 if bold else 1, cv2.LINE_AA)
    return line
