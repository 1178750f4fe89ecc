"""Rates with their uncertainty, and whether two sources differ on the same scenes."""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
from scipy.stats import binomtest

from dkt_ros.grasp_sim_config import CLASSES, KINDS, SOURCES
from dkt_ros.tools.grasp_sim.protocol import CAUSES

Z_95 = 1.959964


def wilson(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Return the Wilson score interval of a rate; (0, 1) for no trial (Wilson 1927)."""
    if trials == 0:
        return 0.0, 1.0
    rate, square = successes / trials, z * z / trials
    middle = (rate + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(rate * (1 - rate) / trials + square / trials / 4)
    # Rounding must not put the rate itself outside.
    return min(rate, max(0.0, middle - half)), max(rate, min(1.0, middle + half))


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> dict:
    """
    Test whether two sources succeed equally often on the same scenes (McNemar, exact).

    Parameters
    ----------
    first, second : sequence of bool
        Success of each on scene after scene, in the same order.

    Returns
    -------
    dict
        `only_first`, `only_second`: scenes that one alone took; `p`: two-sided.

    """
    if len(first) != len(second):
        raise ValueError(f'{len(first)} and {len(second)} outcomes; pairs are expected')
    one = sum(a and not b for a, b in zip(first, second))
    two = sum(b and not a for a, b in zip(first, second))
    p = 1.0 if one + two == 0 else float(binomtest(one, one + two).pvalue)
    return {'only_first': one, 'only_second': two, 'p': p}


def rate(successes: int, trials: int) -> dict:
    """Return a rate as it is reported: value, interval and counts."""
    low, high = wilson(successes, trials)
    return {'rate': successes / trials if trials else None, 'low': low, 'high': high,
            'successes': successes, 'trials': trials}


def cell_figures(rounds: Sequence[dict]) -> dict:
    """
    Sum up the rounds of one kind, class and source.

    `success`: of attempts, a plan without a grasp counting as one that failed; `first_grasp`: of
    rounds; `cleared`: of things; `no_grasp`: of plans; `planning_ms`; `causes`.
    """
    tries = [record for item in rounds for record in item['attempts']]
    causes = Counter(record['cause'] for record in tries if not record['success'])
    times = [record['plan_ms'] for record in tries]
    return {
        'rounds': len(rounds), 'success': rate(sum(r['success'] for r in tries), len(tries)),
        'first_grasp': rate(sum(first_success(item) for item in rounds), len(rounds)),
        'cleared': rate(sum(item['cleared'] for item in rounds),
                        sum(item['num_things'] for item in rounds)),
        'no_grasp': rate(causes['no grasp'], len(tries)),
        'planning_ms': {'p50': float(np.median(times)), 'p95': float(np.percentile(times, 95))},
        'causes': {cause: causes[cause] for cause in CAUSES}}


def first_success(item: dict) -> bool:
    """Return True if the first attempt of a round succeeded."""
    return bool(item['attempts'] and item['attempts'][0]['success'])


def cells(rounds: Iterable[dict]) -> dict[tuple[str, str], dict[str, list[dict]]]:
    """Sort rounds by (kind, class), then by source; each in the usual order, by seed."""
    found: dict = {}
    for item in sorted(rounds, key=lambda item: item['seed']):
        found.setdefault((item['kind'], item['label']), {}).setdefault(
            item['source'], []).append(item)
    return {(kind, label): {source: found[kind, label][source] for source in SOURCES
                            if source in found[kind, label]}
            for kind in KINDS for label in CLASSES if (kind, label) in found}


def paired_tests(by_source: dict[str, list[dict]]) -> list[dict]:
    """Compare the first grasps of each two sources on the scenes that both have."""
    outcomes = {source: {item['seed']: first_success(item) for item in rounds}
                for source, rounds in by_source.items()}
    tests = []
    for one, two in combinations(outcomes, 2):
        seeds = sorted(outcomes[one].keys() & outcomes[two].keys())
        tests.append({'first': one, 'second': two, 'scenes': len(seeds), **mcnemar(
            [outcomes[one][seed] for seed in seeds], [outcomes[two][seed] for seed in seeds])})
    return tests


def summary(rounds: Iterable[dict]) -> dict:
    """Return the figures of all rounds: `cells` by kind, class and source, and `tests`."""
    figures: dict = {'cells': {}, 'tests': {}}
    for (kind, label), by_source in cells(rounds).items():
        key = f'{kind} {label}'
        figures['cells'][key] = {source: cell_figures(items)
                                 for source, items in by_source.items()}
        figures['tests'][key] = paired_tests(by_source)
    return figures
