"""`dkt eval`: a model and others over a set of clips, by material and by source."""
from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from dkt_ros.config import NormalsConfig, PerceptionConfig
from dkt_ros.data.clip import Clip
from dkt_ros.data.clips import open_clips
from dkt_ros.data.datasets.registry import find_sequences
from dkt_ros.data.datasets.sanity import ensure_sane
from dkt_ros.errors import UserError
from dkt_ros.provenance import provenance
from dkt_ros.resources import resolve_model
from dkt_ros.tools.baselines.filled import METHODS as FILLERS
from dkt_ros.tools.baselines.learned import METHODS, load_method
from dkt_ros.tools.clip_eval import ClipResult, Task, evaluate_clip
from dkt_ros.tools.eval_report import title, write_report
from dkt_ros.tools.infer import load_perception
from dkt_ros.tools.perceive import RunStats
from dkt_ros.tools.protocols import PROTOCOLS
from dkt_ros.tools.report import rich_table, sets_screen
from dkt_ros.tools.scoring import (
    METRICS,
    NORMAL_METRICS,
    bootstrap_interval,
    interval_table,
    mean_table,
)
from dkt_ros.tools.temporal_score import TEMPORAL_METRICS

CLASSICAL = ('filled', *FILLERS)
BASELINES = (*CLASSICAL, *METHODS)


def run_evaluate(data: str | Path | Sequence[Path], *, model: str | Path = 'dkt-tiny',
                 protocol: str = 'affine-sensor', out: str | Path | None = None,
                 baselines: Sequence[str] = ('filled',), config: PerceptionConfig | None = None,
                 device: str = 'auto', max_scenes: int | None = None, repeat: int | None = None,
                 max_frames: int | None = None, baseline_models: str | Path | None = None,
                 poses: bool = False, console: Console | None = None,
                 perception: object | None = None) -> dict:
    """
    Evaluate a model on scenes.

    Parameters
    ----------
    data : str, Path or sequence of Path
        A folder of scenes, one scene, or a known data set or a part of it; several are told apart.
    model : str or Path
        A bundled model or a model folder.
    protocol : str
        One of `PROTOCOLS`.
    out : str or Path, optional
        Gets evaluation.json, .md and .html, plots.png, best.png and worst.png.
    baselines : sequence of str
        Names out of `BASELINES`: classical repairs of the sensor's depth, other methods.
    config, device : PerceptionConfig, str
        Preset, working size, anchor, source of normals; 'auto', 'cpu', 'cuda' or 'cuda:N'.
    max_scenes, max_frames, repeat : int, optional
        Fewer scenes of each folder; fewer frames of each; how often a still is shown.
    baseline_models : str or Path, optional
        Folder with a folder of weights for each method.
    poses : bool
        Tell our chain the poses of the camera, as an arm would (`dkt_ros.parallax`).
    console : rich.console.Console, optional
        Where progress and the table go.
    perception : Perception, optional
        Used instead of loading `model`.

    Returns
    -------
    dict
        Means over the scenes by class, then by source; `normals` likewise; `temporal` by source;
        `seam_ratio`; the 95 % intervals of all of these (bootstrap over `interval_unit`);
        `per_scene`; `sets`, the same for each folder if there are several; version, model hash,
        machine, settings and seed.

    """
    console, config = console or Console(), _config_for(protocol, config or PerceptionConfig())
    _check_baselines(baselines)
    folders = [Path(data)] if isinstance(data, (str, Path)) else list(data)
    sets = _open_sets(folders, max_scenes, repeat)
    clips = [clip for members in sets.values() for clip in members]
    folder = None if perception is not None else resolve_model(model)
    methods = _load_methods(baselines, baseline_models, device)
    if perception is None:
        config = with_normals(folder, config)
        perception = load_perception(folder, config, device)
    fillers = tuple(name for name in baselines if name in CLASSICAL)
    task, stats = Task(protocol, fillers, methods, config, max_frames, poses), RunStats()
    results = _evaluated(clips, perception, task, stats, console)
    settings = {'protocol': protocol, 'data': ', '.join(map(str, folders)), 'device': device,
                'baselines': list(baselines), 'poses': poses, **config.to_dict()}
    result = {**provenance(folder, settings, config.stream.seed), 'protocol': protocol,
              'scenes': len(results), **stats.summary(),
              **summarise(results, config.stream.seed),
              'sets': _by_set(results, sets, config.stream.seed), 'notes': _notes(clips)}
    _tell(console, result, results, out)
    return result


def _evaluated(clips: Sequence[Clip], perception: object, task: Task, stats: RunStats,
               console: Console) -> dict[str, ClipResult]:
    """Return what was measured, by names that are all different, in the order of the clips."""
    results: dict[str, ClipResult] = {}
    for clip in track(clips, 'evaluating', console=console, transient=True):
        perception.reset('a new scene')
        results[_new_name(clip.name, results)] = evaluate_clip(clip, perception, task, stats)
    return results


def summarise(results: dict[str, ClipResult], seed: int) -> dict:
    """Return means over the clips, their intervals, and the table of each clip."""
    items = list(results.values())
    tables = {name: item.score.table() for name, item in results.items()}
    # One clip alone is resampled frame by frame, which says less than several clips would.
    few = len(items) == 1
    depth_parts = items[0].score.frames() if few else list(tables.values())
    normal_tables = [item.normals.table() for item in items]
    normal_parts = items[0].normals.frames() if few else normal_tables
    rows = [item.temporal.rows() for item in items]
    seams = [item.temporal.seam_ratio() for item in items]
    temporal = _by_source(rows)
    return {
        **mean_table(list(tables.values())),
        'normals': mean_table(normal_tables, NORMAL_METRICS),
        'temporal': {source: {metric: _mean(values) for metric, values in figures.items()}
                     for source, figures in temporal.items()},
        'seam_ratio': _mean(seams), 'interval_unit': 'frames' if few else 'scenes',
        'intervals': interval_table(depth_parts, METRICS, seed),
        'normals_intervals': interval_table(normal_parts, NORMAL_METRICS, seed),
        'temporal_intervals': {
            source: {metric: bootstrap_interval(values, seed)
                     for metric, values in figures.items()}
            for source, figures in temporal.items()},
        'seam_ratio_interval': bootstrap_interval(seams, seed), 'per_scene': tables}


def _by_set(results: dict[str, ClipResult], sets: dict[str, list[Clip]], seed: int) -> dict:
    """Return what `summarise` says of each folder; nothing where there is one only."""
    if len(sets) == 1:
        return {}
    items, found = iter(results.items()), {}
    for name, clips in sets.items():  # results stand in the order of the clips
        members = dict(itertools.islice(items, len(clips)))
        found[name] = {'scenes': len(members), **summarise(members, seed)}
        del found[name]['per_scene']
    return found


def _by_source(rows: list[dict]) -> dict[str, dict[str, list[float]]]:
    sources = dict.fromkeys(source for row in rows for source in row)
    return {source: {metric: [row[source][metric] for row in rows if source in row]
                     for metric in TEMPORAL_METRICS} for source in sources}


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float('nan')


def _notes(clips: list[Clip]) -> list[str]:
    notes = [note for clip in clips for note in clip.notes]
    return list(dict.fromkeys(notes + [problem for clip in clips for problem in clip.problems]))


def _new_name(name: str, taken: dict) -> str:
    names = itertools.chain([name], (f'{name}-{number}' for number in itertools.count(2)))
    return next(candidate for candidate in names if candidate not in taken)


def _tell(console: Console, result: dict, results: dict[str, ClipResult],
          out: str | Path | None) -> None:
    console.print(rich_table(result, title(result)))
    if result['sets']:
        console.print(sets_screen(result['sets']))
    for note in result['notes']:
        console.print(f'note: {note}', style='yellow', highlight=False)
    if out is not None:
        write_report(Path(out), result, {name: item.row for name, item in results.items()})
        console.print(f'results in {out}', highlight=False)


def _load_methods(baselines: Sequence[str], folder: str | Path | None, device: str) -> dict:
    wanted = [name for name in baselines if name in METHODS]
    if wanted and device == 'auto':
        import torch
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    return {name: load_method(name, folder, device) for name in wanted}


def _config_for(protocol: str, config: PerceptionConfig) -> PerceptionConfig:
    if protocol not in PROTOCOLS:
        raise UserError(f'protocol is {protocol!r}; allowed: {", ".join(PROTOCOLS)}')
    source = config.anchor.source
    if protocol == 'metric' and source == 'sensor':
        raise UserError('protocol metric fits nothing to the sensor, but anchor.source is '
                        "'sensor'; set it to plane or fixed, or use protocol affine-sensor")
    if protocol == 'affine-sensor' and source != 'sensor':
        raise UserError(f'protocol affine-sensor needs anchor.source sensor, it is {source!r}; '
                        'set it, or use protocol metric')
    return config


def with_normals(folder: Path, config: PerceptionConfig) -> PerceptionConfig:
    """Return options under which normals come from depth if the model has no task for them."""
    path = folder / 'prompt_rows' / 'config.json'
    tasks = json.loads(path.read_text()).get('tasks', []) if path.is_file() else []
    if config.normals.source != 'model' or config.normals.model or 'normal' in tasks:
        return config
    return dataclasses.replace(config, normals=NormalsConfig(source='depth'))


def _check_baselines(baselines: Sequence[str]) -> None:
    for name in baselines:
        if name not in BASELINES:
            raise UserError(f'baseline is {name!r}; allowed: {", ".join(BASELINES)}')


def _open_sets(folders: Sequence[Path], max_scenes: int | None,
               repeat: int | None) -> dict[str, list[Clip]]:
    sets: dict[str, list[Clip]] = {}
    for folder in folders:
        name = _new_name(folder.resolve().name, sets)
        sets[name] = _open_clips(folder, max_scenes, repeat)
    return sets


def _open_clips(data: Path, max_scenes: int | None, repeat: int | None) -> list[Clip]:
    if not data.exists():
        raise UserError(f'{data} does not exist; give a folder of scenes (`dkt render` makes '
                        'them) or of a data set (`dkt data list` names those that are known)')
    clips = open_clips(data, repeat)[:max_scenes]
    for clip in clips:
        if not clip.has_truth:
            raise UserError(f'{clip.path} has no true depth; evaluation needs scenes or a data '
                            'set with truth')
    if clips[0].kind not in ('scene', 'packed', 'images', 'video', 'bag'):
        ensure_sane(find_sequences(clips[0].path)[:1])
    return clips
