"""The report of the grasp benchmark: Markdown, and a plot of the rates with their intervals."""
from __future__ import annotations

import os
from pathlib import Path

from dkt_ros.grasp_sim_config import CLASSES, SOURCES

PAPER = {'transparent': 0.80, 'reflective': 0.59, 'diffuse': 0.81}
"""Success of DKT on a real arm, by class of material (arXiv 2512.23705); mean 0.73."""
PAPER_SCENES = 'single'
LOOKS = {'truth': '#555555', 'sensor': '#c44e52', 'filled': '#dd8452', 'dkt': '#4c72b0',
         'fused': '#55a868'}


def write_report(out: Path, figures: dict) -> None:
    """Write grasp_sim.md and grasp_sim.png beside the figures; nothing where there are none."""
    if not figures['cells']:
        return
    text = markdown(figures)
    temporary = out / f'.grasp_sim.md.{os.getpid()}.tmp'
    temporary.write_text(text)
    os.replace(temporary, out / 'grasp_sim.md')
    write_plot(out / 'grasp_sim.png', figures)


def markdown(figures: dict) -> str:
    """Return the report as Markdown."""
    parts = ['# Simulated grasps\n', _settings(figures)]
    parts += [_paper(figures)] if any(key.startswith(PAPER_SCENES) for key in figures['cells']) \
        else []
    for key, by_source in figures['cells'].items():
        parts.append(f'## {key}\n')
        parts.append(_rates(by_source))
        parts.append('Why attempts failed:\n')
        parts.append(_causes(by_source))
        if figures['tests'][key]:
            parts.append('First grasps of two sources on the same scenes (McNemar, exact):\n')
            parts.append(_tests(figures['tests'][key]))
    return '\n'.join(parts)


def _settings(figures: dict) -> str:
    settings = figures['settings']
    return (f'Gripper {settings["gripper"]}, seeds from {settings["seed"]}; depth by '
            f'{figures["depth"]}; version {figures["version"]}. Rates with Wilson 95 % '
            'intervals. A plan without a grasp counts as a failed attempt.\n')


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines) + '\n'


def rate_text(rate: dict) -> str:
    """Return a rate with its interval and counts."""
    if rate['rate'] is None:
        return '-'
    return (f'{rate["rate"]:.2f} [{rate["low"]:.2f}, {rate["high"]:.2f}] '
            f'({rate["successes"]}/{rate["trials"]})')


def _rates(by_source: dict) -> str:
    header = ['depth', 'success', 'first grasp', 'cleared', 'no grasp', 'planning ms (p50, p95)']
    rows = [[source, *(rate_text(cell[key]) for key in ('success', 'first_grasp', 'cleared',
                                                        'no_grasp')),
             f'{cell["planning_ms"]["p50"]:.0f}, {cell["planning_ms"]["p95"]:.0f}']
            for source, cell in by_source.items()]
    return _table(header, rows)


def _causes(by_source: dict) -> str:
    causes = list(next(iter(by_source.values()))['causes'])
    return _table(['depth', *causes], [[source, *(str(cell['causes'][cause]) for cause in causes)]
                                       for source, cell in by_source.items()])


def _tests(tests: list[dict]) -> str:
    return _table(['pair', 'scenes', 'only the first', 'only the second', 'p'], [
        [f'{test["first"]}, {test["second"]}', str(test['scenes']), str(test['only_first']),
         str(test['only_second']), f'{test["p"]:.3g}'] for test in tests])


def _paper(figures: dict) -> str:
    """Return success by class in the shape of the paper's table, its own row last."""
    cells = {label: figures['cells'].get(f'{PAPER_SCENES} {label}', {}) for label in CLASSES}
    rows = []
    for source in SOURCES:
        rates = [cells[label].get(source, {}).get('success', {}).get('rate') for label in CLASSES]
        if any(rate is not None for rate in rates):
            rows.append([source, *map(_number, rates), _number(_mean(rates))])
    rows.append(['paper, on a real arm', *map(_number, PAPER.values()),
                 _number(_mean(list(PAPER.values())))])
    return ('Success on single things beside the figures of the DKT paper, whose things, arm and '
            'scenes are others:\n\n' + _table(['depth', *CLASSES, 'mean'], rows))


def _mean(rates: list[float | None]) -> float | None:
    return None if any(rate is None for rate in rates) else sum(rates) / len(rates)


def _number(rate: float | None) -> str:
    return '-' if rate is None else f'{rate:.2f}'


def write_plot(path: Path, figures: dict) -> None:
    """Draw the success of each source in each cell, with its interval."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    names = list(figures['cells'])
    figure, axis = pyplot.subplots(figsize=(max(4.5, 2.2 * len(names)), 3.4))
    present = [source for source in SOURCES if any(source in cell
                                                   for cell in figures['cells'].values())]
    width = 0.8 / len(present)
    for index, source in enumerate(present):
        here = [(place, figures['cells'][name][source]['success'])
                for place, name in enumerate(names) if source in figures['cells'][name]]
        here = [(place, rate) for place, rate in here if rate['rate'] is not None]
        if not here:
            continue
        places = [place + (index - (len(present) - 1) / 2) * width for place, _ in here]
        values = [rate['rate'] for _, rate in here]
        errors = [[rate['rate'] - rate['low'] for _, rate in here],
                  [rate['high'] - rate['rate'] for _, rate in here]]
        axis.bar(places, values, 0.92 * width, yerr=errors, capsize=2, label=source,
                 color=LOOKS[source], ecolor='#222222', error_kw={'linewidth': 0.8})
    axis.set_xticks(range(len(names)), [name.replace(' ', '\n') for name in names])
    axis.set_ylim(0, 1.05)
    axis.set_xlim(-0.6, len(names) - 0.4)
    axis.set_ylabel('success of attempts')
    axis.legend(frameon=False, fontsize=8, ncols=len(SOURCES), loc='lower center',
                bbox_to_anchor=(0.5, 1.0))
    for side in ('top', 'right'):
        axis.spines[side].set_visible(False)
    figure.tight_layout()
    temporary = path.with_name(f'.{os.getpid()}.{path.name}')
    figure.savefig(temporary, dpi=150)
    pyplot.close(figure)
    os.replace(temporary, path)
