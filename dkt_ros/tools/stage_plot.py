"""Stacked bars: what the stages of a frame cost, one bar a row."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

WIDTH, BAR, GAP, LEFT, TOP = 900, 22, 10, 250, 50
COLORS = ((200, 150, 60), (70, 90, 210), (90, 170, 90), (150, 150, 150))  # blue, green, red
INK = (40, 40, 40)


def write_stage_plot(path: Path, rows: Sequence[dict], stages: Sequence[str]) -> Path:
    """
    Draw `stage_ms` of each row.

    Parameters
    ----------
    path : Path
        A PNG.
    rows : sequence of dict
        With `size`, `preset`, `steps`, `stage_ms` and `ms_per_frame`.
    stages : sequence of str
        In the order they are stacked.

    """
    height = TOP + len(rows) * (BAR + GAP) + GAP
    image = np.full((height, WIDTH, 3), 255, np.uint8)
    _legend(image, stages)
    scale = (WIDTH - LEFT - 90) / max(max(row['ms_per_frame'] for row in rows), 1e-9)
    for i, row in enumerate(rows):
        top, left = TOP + i * (BAR + GAP), float(LEFT)
        size = 'x'.join(map(str, row['size']))
        _write(image, f'{size} {row["preset"]} {row["steps"]}', 8, top)
        for color, name in zip(COLORS, stages, strict=True):
            right = left + scale * row['stage_ms'][name]
            cv2.rectangle(image, (round(left), top), (round(right), top + BAR), color, cv2.FILLED)
            left = right
        _write(image, f'{row["ms_per_frame"]:.1f} ms', round(left) + 6, top)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.stem}.tmp.png')
    cv2.imwrite(str(temporary), image)
    temporary.replace(path)
    return path


def _legend(image: np.ndarray, stages: Sequence[str]) -> None:
    for i, (color, name) in enumerate(zip(COLORS, stages, strict=True)):
        left = LEFT + 130 * i
        cv2.rectangle(image, (left, 14), (left + 18, 32), color, cv2.FILLED)
        _write(image, name, left + 26, 12)
    _write(image, 'ms a frame by stage', 8, 12)


def _write(image: np.ndarray, text: str, left: int, top: int) -> None:
    cv2.putText(image, text, (left, top + BAR - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.5, INK, 1,
                cv2.LINE_AA)
