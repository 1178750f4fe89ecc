"""Figures for people: the table on the screen and in Markdown."""
from __future__ import annotations

from rich import box
from rich.table import Table

from dkt_ros.tools.scoring import CLASSES

SHORT = (('mae_m', 'MAE mm', 1000.0, '.1f'), ('rel', 'REL', 1.0, '.3f'),
         ('rmse_m', 'RMSE mm', 1000.0, '.1f'), ('delta_105', 'd1.05', 1.0, '.3f'),
         ('delta_110', 'd1.10', 1.0, '.3f'), ('delta_125', 'd1.25', 1.0, '.3f'),
         ('coverage', 'cover', 1.0, '.3f'), ('median_bias_m', 'bias mm', 1000.0, '+.1f'),
         ('mae_seen_m', 'seen mm', 1000.0, '.1f'))
NORMAL_COLUMNS = (('mean_deg', 'mean deg', 1.0, '.1f'), ('median_deg', 'median deg', 1.0, '.1f'),
                  ('within_11', '< 11.25', 1.0, '.3f'), ('within_22', '< 22.5', 1.0, '.3f'),
                  ('within_30', '< 30', 1.0, '.3f'), ('coverage', 'cover', 1.0, '.3f'))
TEMPORAL_COLUMNS = (('opw_cm', 'OPW cm', 1.0, '.2f'), ('tae_percent', 'TAE %', 1.0, '.2f'),
                    ('scale_std', 'scale std', 1.0, '.4f'))
MISSING = '-'
HEADS = ['set', 'pixels', 'source']
SET_PIXELS = ('transparent', 'reflective', 'diffuse', 'background')
"""What is told of each set of an evaluation of several."""
SCREEN = ('mae_m', 'rel', 'delta_105', 'delta_125', 'coverage', 'median_bias_m',
          'mae_seen_m')
"""The metrics that fit beside each other in 80 columns."""


def table_rows(scores: dict[str, dict[str, dict[str, float]]],
               metrics: tuple[str, ...] | None = None) -> tuple[list[str], list[list[str]]]:
    """
    Return the header and the rows of a table of scores, as text.

    Parameters
    ----------
    scores : dict
        Figures by class, then by source, then by metric.
    metrics : tuple of str, optional
        Which metrics; all of them by default.

    """
    columns = [column for column in SHORT if metrics is None or column[0] in metrics]
    header = ['pixels', 'source', *(title for _, title, _, _ in columns)]
    rows = []
    for name in CLASSES:
        for source, row in scores.get(name, {}).items():
            rows.append([name, source, *(_number(row.get(key), factor, style)
                                         for key, _, factor, style in columns)])
    return header, rows


def rich_table(scores: dict, title: str, metrics: tuple[str, ...] | None = SCREEN) -> Table:
    """Return a table for the screen; a line under each class."""
    return _screen(*table_rows(scores, metrics), title)


def sets_rows(sets: dict, pixels: tuple[str, ...]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a table of sets, each figure with its interval."""
    header, rows = [*HEADS, 'MAE mm', 'd1.05'], []
    for title, scores in sets.items():
        for name in (name for name in pixels if name in scores):
            for source, row in scores[name].items():
                spread = scores['intervals'][name][source]
                rows.append([f'{title} ({scores["scenes"]})', name, source, *(
                    f'{_number(row[key], factor, style)} ({interval(spread[key], style, factor)})'
                    for key, factor, style in (('mae_m', 1000.0, '.1f'),
                                               ('delta_105', 1.0, '.3f')))])
    return header, rows


def interval(ends: list[float], style: str, factor: float = 1.0) -> str:
    """Return a 95 % interval as text; `unknown` where there was too little to resample."""
    if any(end != end for end in ends):
        return 'unknown'
    low, high = (format(end * factor, style) for end in ends)
    return f'{low} to {high}'


def sets_screen(sets: dict) -> Table:
    """Return what each set says of clear things, for the screen."""
    name, rows = SET_PIXELS[0], []
    columns = [column for column in SHORT if column[0] in SCREEN]
    for title, scores in sets.items():
        rows += [[title, source, *(_number(row[key], factor, style)
                                   for key, _, factor, style in columns)]
                 for source, row in scores.get(name, {}).items()]
    return _screen(['set', 'source', *(column[1] for column in columns)], rows,
                   f'each set alone, pixels {name}')


def sets_markdown(sets: dict) -> str:
    """Return what each set says in Markdown: depth, then normals of things, then steadiness."""
    normals = [([title, 'object', source], row) for title, scores in sets.items()
               for source, row in scores['normals'].get('object', {}).items()]
    temporal = [([title, '-', source], row) for title, scores in sets.items()
                for source, row in scores['temporal'].items()]
    parts = [markdown_lines(*sets_rows(sets, SET_PIXELS))]
    parts += [columns_table(rows, columns) for rows, columns in (
        (normals, NORMAL_COLUMNS), (temporal, TEMPORAL_COLUMNS)) if rows]
    return '\n'.join(parts)


def _screen(header: list[str], rows: list[list[str]], title: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, name in enumerate(header):
        table.add_column(name, justify='left' if index < 2 else 'right', no_wrap=True)
    for index, row in enumerate(rows):
        first = not index or rows[index - 1][0] != row[0]
        last = index + 1 == len(rows) or rows[index + 1][0] != row[0]
        table.add_row(row[0] if first else '', *row[1:], end_section=last)
    return table


def markdown_table(scores: dict, metrics: tuple[str, ...] | None = None) -> str:
    """Return the same table in Markdown."""
    return markdown_lines(*table_rows(scores, metrics))


def markdown_lines(header: list[str], rows: list[list[str]]) -> str:
    """Return a table of texts in Markdown."""
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines) + '\n'


def rows_of(table: dict) -> list[tuple[list[str], dict[str, float]]]:
    """Return the rows of a table by class and source: their two names and their figures."""
    return [([name, source], row) for name in CLASSES
            for source, row in table.get(name, {}).items()]


def columns_table(rows: list[tuple[list[str], dict[str, float]]],
                  columns: tuple[tuple[str, str, float, str], ...]) -> str:
    """Return rows (names, figures) in Markdown; `columns` as in `SHORT`."""
    names = HEADS[-len(rows[0][0]):]
    return markdown_lines([*names, *(title for _, title, _, _ in columns)], [
        [*head, *(_number(row.get(key), factor, style) for key, _, factor, style in columns)]
        for head, row in rows])


def _number(value: float | None, factor: float, style: str) -> str:
    if value is None or value != value:
        return MISSING
    return format(value * factor, style)
