#!/usr/bin/env python3
"""
Read what `dkt bench model --json` wrote and say which goals are met, and what a miss is made of.

    scripts/gpu_report.py gpu_check_out
"""
from __future__ import annotations

import json
import sys
from pathlib import Path

# (width, height), preset, most ms a frame and MB of GPU memory, at five steps of the 1.3B
GOALS = (((832, 480), 'faithful', 60.0, None), ((640, 480), 'balanced', 28.0, 8000.0))
STEPS = 5
STAGES = ('encode', 'dit', 'decode')


def rows_of(folder: Path) -> list[dict]:
    """Return the rows of all runs in a folder, each with the `run` it is of."""
    rows = []
    for path in sorted(folder.glob('*.json')):
        record = json.loads(path.read_text())
        rows += [row | {'run': path.stem, 'device': record['device_name'],
                        'is_exact': is_exact(record.get('settings', {}))}
                 for row in record.get('rows', ()) if row['steps'] == STEPS]
    return rows


def is_exact(settings: dict) -> bool:
    """Return whether a run computed what the model says: no cache, no float8, its own decoder."""
    return (settings.get('overlap', 'auto') in ('auto', 'recompute')
            and not settings.get('decoder') and settings.get('precision') != 'float8')


def explanation(row: dict) -> str:
    """Return where the time of a row goes, against the work counted at this device's speed."""
    parts = []
    for stage in STAGES:
        spent, floor = row['stage_ms'][stage], row['floor_stage_ms'][stage]
        parts.append(f'{stage} {spent:.1f} ms, floor {floor:.1f} ({floor / spent:.0%} of peak)')
    worst = max(STAGES, key=lambda s: row['stage_ms'][s] - row['floor_stage_ms'][s])
    return (f'{"; ".join(parts)}; rest {row["stage_ms"]["rest"]:.1f} ms; most is lost in '
            f'{worst}')


def verdict(rows: list[dict], size: tuple[int, int], preset: str, most_ms: float,
            most_mb: float | None) -> str:
    """Return one goal and whether the fastest exact run meets it."""
    name = f'{preset} {size[0]}x{size[1]}, {STEPS} steps: at most {most_ms:g} ms/frame'
    name += f' and {most_mb:g} MB' if most_mb else ''
    found = [row for row in rows if tuple(row['size']) == size and row['preset'] == preset
             and row['device'] != 'cpu' and row['is_exact']]
    if not found:
        return f'{name}: not measured on a GPU'
    row = min(found, key=lambda row: row['ms_per_frame'])
    is_met = row['ms_per_frame'] <= most_ms and (not most_mb or row['peak_gpu_mb'] <= most_mb)
    return (f'{name}: {"met" if is_met else "MISSED"}, {row["ms_per_frame"]:.1f} ms and '
            f'{row["peak_gpu_mb"]:.0f} MB by {row["run"]} on {row["device"]}')


def report(folder: Path) -> list[str]:
    """Return the lines of the report."""
    rows = rows_of(folder)
    lines = [verdict(rows, *goal) for goal in GOALS]
    for row in rows:
        size = 'x'.join(map(str, row['size']))
        kind = '' if row['is_exact'] else ' (not exact)'
        lines.append(f'{row["run"]}{kind}, {row["preset"]} {size}: {row["ms_per_frame"]:.1f} '
                     f'ms/frame, floor {row["floor_ms"]:.1f}; {explanation(row)}')
    return lines


if __name__ == '__main__':
    sys.stdout.write('\n'.join(report(Path(sys.argv[1]))) + '\n')
