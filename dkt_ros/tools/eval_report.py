"""What an evaluation leaves: JSON, Markdown, plots, and a page of the best and worst pictures."""
from __future__ import annotations

import html
from pathlib import Path

import numpy as np

from dkt_ros.provenance import write_json
from dkt_ros.tools.montage import write_montage
from dkt_ros.tools.report import (
    NORMAL_COLUMNS,
    TEMPORAL_COLUMNS,
    columns_table,
    interval,
    markdown_table,
    rows_of,
    sets_markdown,
)

SHOWN = 3
PLOTTED = ('transparent', 'reflective', 'diffuse', 'background', 'all')
RANKED = ('object', 'all')


def write_report(out: Path, result: dict, rows: dict[str, dict[str, np.ndarray]]) -> None:
    """
    Write evaluation.json, evaluation.md, evaluation.html, plots.png, best.png and worst.png.

    Parameters
    ----------
    out : Path
        The folder.
    result : dict
        What `run_evaluate` returns.
    rows : dict
        A row of pictures by scene.

    """
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / 'evaluation.json', result)
    errors = {name: _ranking(table) for name, table in result['per_scene'].items()}
    ranked = sorted(errors, key=lambda name: (np.isnan(errors[name]), errors[name]))
    for name, chosen in (('best', ranked[:SHOWN]), ('worst', ranked[::-1][:SHOWN])):
        titles = [f'{scene}: MAE on glass {errors[scene] * 1000:.0f} mm' for scene in chosen]
        write_montage(out / f'{name}.png', [rows[scene] for scene in chosen], titles)
    write_plots(out / 'plots.png', result)
    text = markdown(result)
    (out / 'evaluation.md').write_text(text)
    (out / 'evaluation.html').write_text(page(result, ranked, errors))


def title(result: dict) -> str:
    """Return the line above everything."""
    return f'{result["scenes"]} scenes, protocol {result["protocol"]}'


def _ranking(table: dict) -> float:
    name = next((name for name in RANKED if name in table), 'all')
    return float(table.get(name, {}).get('dkt', {}).get('mae_m', np.nan))


def _about(result: dict) -> str:
    anchor = result['settings']['anchor']
    return (f'Model {result["model"]} ({(result["model_sha256"] or "not from a folder")[:12]}), '
            f'dkt_ros {result["version"]}, preset {result["settings"]["stream"]["preset"]}, '
            f'anchor {anchor["source"]} with refine {anchor["refine"]}. Means over frames, then '
            'over scenes; a missing pixel counts as wrong in the deltas. Intervals: 95 %, '
            f'bootstrap over {result["interval_unit"]}.')


def markdown(result: dict) -> str:
    """Return the whole evaluation as Markdown, pictures included."""
    lines = [f'# {title(result)}', '', _about(result), '', markdown_table(result)]
    if result['normals']:
        lines += ['## Normals', '', columns_table(rows_of(result['normals']), NORMAL_COLUMNS)]
    if result['temporal']:
        lines += ['## Over time', '', columns_table(
            [([source], row) for source, row in result['temporal'].items()], TEMPORAL_COLUMNS)]
    if np.isfinite(result['seam_ratio']):
        spread = interval(result['seam_ratio_interval'], '.2f')
        lines += ['Change of disparity at seams of windows over that inside: '
                  f'{result["seam_ratio"]:.2f} ({spread}).', '']
    if result['sets']:
        lines += ['## Each set alone', '', sets_markdown(result['sets'])]
    lines += ['## Intervals', '']
    for name, sources in result['intervals'].items():
        for source, row in sources.items():
            lines.append(f'- {name}, {source}: MAE {interval(row["mae_m"], ".1f", 1000)} mm, '
                         f'd1.05 {interval(row["delta_105"], ".3f")}')
    lines += ['', *(f'note: {note}' for note in result['notes']), '', '![plots](plots.png)', '',
              '## Best', '', '![best](best.png)', '', '## Worst', '', '![worst](worst.png)']
    return '\n'.join(lines) + '\n'


def page(result: dict, ranked: list[str], errors: dict[str, float]) -> str:
    """Return a page of the best and worst pictures and every scene's error, self-contained."""
    items = ''.join(f'<tr><td>{html.escape(name)}</td><td>{errors[name] * 1000:.1f}</td></tr>'
                    for name in ranked)
    return ('<!doctype html><meta charset="utf-8"><title>dkt eval</title>'
            '<style>body{font:15px sans-serif;margin:2em;max-width:90em}img{max-width:100%}'
            'td{padding:0 1em 0 0}</style>'
            f'<h1>{html.escape(title(result))}</h1><p>{html.escape(_about(result))}</p>'
            '<img src="plots.png"><h2>Best</h2><img src="best.png"><h2>Worst</h2>'
            '<img src="worst.png"><h2>Every scene</h2><table><tr><th>scene<th>MAE on glass [mm]'
            f'</tr>{items}</table>')


def write_plots(path: Path, result: dict) -> None:
    """Draw MAE and delta_1.05 by class and source with intervals, and the scenes' errors."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure(figsize=(20 if result['sets'] else 15, 5), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 4 if result['sets'] else 3)
    classes = {name: (result, name) for name in PLOTTED if name in result}
    _bars(axes[0], classes, 'mae_m', 1000, 'MAE [mm]')
    _bars(axes[1], classes, 'delta_105', 1, 'delta 1.05')
    _cumulative(axes[2], result)
    if result['sets']:
        name = PLOTTED[0]
        _bars(axes[3], {title: (part, name) for title, part in result['sets'].items()
                        if name in part}, 'mae_m', 1000, f'MAE, pixels {name} [mm]')
    figure.legend(*axes[0].get_legend_handles_labels(), loc='outside lower center', ncols=8)
    figure.suptitle(title(result))
    figure.savefig(path, dpi=110)


def _bars(axis, groups: dict[str, tuple[dict, str]], metric: str, factor: float,
          label: str) -> None:
    """Draw a group of bars, one a source, for each title: a summary and its class of pixels."""
    rows = {group: part[name] for group, (part, name) in groups.items()}
    sources = list(dict.fromkeys(source for row in rows.values() for source in row))
    width = 0.8 / max(len(sources), 1)
    for place, source in enumerate(sources):
        values, low, high = (np.full(len(groups), np.nan) for _ in range(3))
        for index, (group, (part, name)) in enumerate(groups.items()):
            if source in rows[group]:
                values[index] = rows[group][source][metric] * factor
                low[index], high[index] = np.multiply(
                    part['intervals'][name][source][metric], factor)
        around = np.clip([values - low, high - values], 0, None)
        axis.bar(np.arange(len(groups)) + (place - (len(sources) - 1) / 2) * width, values, width,
                 yerr=np.nan_to_num(around), capsize=2, label=source)
    axis.set_xticks(range(len(groups)), list(groups))
    axis.set_ylabel(label)


def _cumulative(axis, result: dict) -> None:
    name = next((name for name in RANKED if name in result), 'all')
    for source in result.get(name, {}):
        errors = [table[name][source]['mae_m'] * 1000 for table in result['per_scene'].values()
                  if source in table.get(name, {})]
        errors = np.sort([error for error in errors if np.isfinite(error)])
        if errors.size:
            axis.step(errors, np.arange(1, errors.size + 1) / errors.size, where='post',
                      label=source)
    axis.set_xlabel(f'MAE of a scene, pixels {name} [mm]')
    axis.set_ylabel('share of scenes below')
    axis.set_ylim(0, 1.02)
