"""
`dkt eval`: a model over a set of scenes, by material and by source.

Protocols, never to be compared with each other:

    affine-sensor   metres as MetricAnchor publishes them, from the sensor alone; no truth is used
    affine-gt       one scale and shift a sequence, fitted to the truth: the paper's, shape only
    metric          the published depth with the anchor as configured, the sensor not being it
"""
from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from dkt_ros.config import PerceptionConfig
from dkt_ros.data.clip import Clip
from dkt_ros.data.clips import open_clip
from dkt_ros.data.scenes import SceneFrame, list_scenes
from dkt_ros.errors import UserError
from dkt_ros.frame import DepthEstimate
from dkt_ros.metrics import affine_gt
from dkt_ros.provenance import provenance, write_json
from dkt_ros.resources import resolve_model
from dkt_ros.tools.baselines.filled import METHODS
from dkt_ros.tools.infer import load_perception, shrunk
from dkt_ros.tools.montage import panels, write_montage
from dkt_ros.tools.perceive import RunStats, perceive
from dkt_ros.tools.report import markdown_table, rich_table
from dkt_ros.tools.scoring import (
    ClipScore,
    bootstrap_interval,
    estimate_sources,
    mean_table,
    sensor_sources,
)

PROTOCOLS = ('affine-sensor', 'affine-gt', 'metric')
BASELINES = ('filled', *(method for method in METHODS if method != 'nearest'))
INTERVAL_METRICS = ('mae_m', 'delta_105')
SHOWN = 3


def run_evaluate(data: str | Path, *, model: str | Path = 'dkt-tiny',
                 protocol: str = 'affine-sensor', out: str | Path | None = None,
                 baselines: Sequence[str] = ('filled',), config: PerceptionConfig | None = None,
                 device: str = 'auto', max_scenes: int | None = None, repeat: int | None = None,
                 console: Console | None = None, perception: object | None = None) -> dict:
    """
    Evaluate a model on scenes.

    Parameters
    ----------
    data : str or Path
        A folder of scenes, one scene, or a folder in ClearGrasp's layout.
    model : str or Path
        A bundled model or a model folder.
    protocol : str
        One of `PROTOCOLS`.
    out : str or Path, optional
        Gets evaluation.json, evaluation.md, best.png and worst.png.
    baselines : sequence of str
        Classical repairs of the sensor's depth to score beside it.
    config : PerceptionConfig, optional
        Preset, working size, anchor.
    device : str
        'auto', 'cpu', 'cuda' or 'cuda:N'.
    max_scenes, repeat : int, optional
        Fewer scenes; how often a still is shown.
    console : rich.console.Console, optional
        Where progress and the table go.
    perception : Perception, optional
        Used instead of loading `model`.

    Returns
    -------
    dict
        Means over the scenes by class, then by source; `intervals` (95 %, bootstrap over scenes)
        and `per_scene`; version, model hash, machine, settings and seed.

    """
    console, config = console or Console(), _config_for(protocol, config or PerceptionConfig())
    _check_baselines(baselines)
    clips = _open_clips(Path(data), max_scenes, repeat)
    folder = None if perception is not None else resolve_model(model)
    perception = perception or load_perception(folder, config, device)
    stats, tables, rows = RunStats(), {}, {}
    for clip in track(clips, 'evaluating', console=console, transient=True):
        perception.reset('a new scene')
        pairs = perceive(perception, clip.items(), config.stream.max_gap_s, stats)
        tables[clip.name], rows[clip.name] = _score_clip(pairs, clip, protocol, tuple(baselines))
    settings = {'protocol': protocol, 'data': str(data), 'device': device,
                'baselines': list(baselines), **config.to_dict()}
    means = mean_table(list(tables.values()))
    result = {**provenance(folder, settings, config.stream.seed), 'protocol': protocol,
              'scenes': len(tables), **stats.summary(), **means,
              'intervals': _intervals(tables, config.stream.seed), 'per_scene': tables}
    _tell(console, result, means, clips)
    if out is not None:
        _write(Path(out), result, means, rows)
        console.print(f'results in {out}', highlight=False)
    return result


def _tell(console: Console, result: dict, means: dict, clips: list[Clip]) -> None:
    console.print(rich_table(means, _title(result)))
    for note in dict.fromkeys(note for clip in clips for note in clip.notes):
        console.print(f'note: {note}', style='yellow', highlight=False)


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
    return dataclasses.replace(config, normals=dataclasses.replace(config.normals, source='none'))


def _check_baselines(baselines: Sequence[str]) -> None:
    for name in baselines:
        if name not in BASELINES:
            raise UserError(f'baseline is {name!r}; allowed: {", ".join(BASELINES)}')


def _open_clips(data: Path, max_scenes: int | None, repeat: int | None) -> list[Clip]:
    if not data.exists():
        raise UserError(f'{data} does not exist; give a folder of scenes (`dkt render` makes '
                        "them) or a folder in ClearGrasp's layout")
    if any(data.glob('*/scene.json')) or (data / 'scene.json').is_file():
        clips = [open_clip(path) for path in list_scenes(data)]
    else:
        clips = [open_clip(data, repeat=repeat)]
    clips = clips[:max_scenes]
    for clip in clips:
        if not clip.has_truth:
            raise UserError(f'{clip.path} has no true depth; evaluation needs scenes or a data '
                            'set with truth')
    return clips


def _score_clip(pairs: Iterable[tuple[SceneFrame, DepthEstimate]], clip: Clip, protocol: str,
                baselines: tuple[str, ...]) -> tuple[dict, dict]:
    kept = [(item, estimate) for item, estimate in pairs if item.depth is not None]
    if not kept:
        raise UserError(f'{clip.path} gave no estimate of a frame with truth')
    if protocol == 'affine-gt':
        kept = _aligned(kept)
    score = ClipScore()
    for item, estimate in kept:
        score.add(item, {**sensor_sources(item.frame.sensor_depth, baselines),
                         **estimate_sources(estimate)})
    item, estimate = kept[len(kept) // 2]
    return score.table(), shrunk(panels(estimate, item))


def _aligned(kept: list[tuple[SceneFrame, DepthEstimate]]) \
        -> list[tuple[SceneFrame, DepthEstimate]]:
    depth = affine_gt(np.stack([estimate.disparity for _, estimate in kept]),
                      np.stack([item.depth for item, _ in kept]))
    return [(item, estimate.filled(depth=d, depth_fused=None))
            for (item, estimate), d in zip(kept, depth)]


def _intervals(tables: dict[str, dict], seed: int) -> dict:
    result: dict[str, dict] = {}
    for name, sources in mean_table(list(tables.values())).items():
        for source in sources:
            rows = [t[name][source] for t in tables.values() if source in t.get(name, {})]
            result.setdefault(name, {})[source] = {
                metric: bootstrap_interval([row[metric] for row in rows], seed)
                for metric in INTERVAL_METRICS}
    return result


def _title(result: dict) -> str:
    return f'{result["scenes"]} scenes, protocol {result["protocol"]}'


def _write(out: Path, result: dict, means: dict, rows: dict[str, dict]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / 'evaluation.json', result)
    errors = {name: _object_error(table) for name, table in result['per_scene'].items()}
    ranked = sorted(errors, key=lambda name: (np.isnan(errors[name]), errors[name]))
    for name, chosen in (('best', ranked[:SHOWN]), ('worst', ranked[::-1][:SHOWN])):
        titles = [f'{scene}: MAE on glass {errors[scene] * 1000:.0f} mm' for scene in chosen]
        write_montage(out / f'{name}.png', [rows[scene] for scene in chosen], titles)
    (out / 'evaluation.md').write_text(_markdown(result, means))


def _object_error(table: dict) -> float:
    name = 'object' if 'object' in table else 'all'
    return float(table.get(name, {}).get('dkt', {}).get('mae_m', np.nan))


def _markdown(result: dict, means: dict) -> str:
    anchor = result['settings']['anchor']
    lines = [f'# {_title(result)}', '',
             f'Model {result["model"]} ({(result["model_sha256"] or "not from a folder")[:12]}), '
             f'dkt_ros {result["version"]}, preset {result["settings"]["stream"]["preset"]}, '
             f'anchor {anchor["source"]} with refine {anchor["refine"]}. Means over frames, then '
             'over scenes; a missing pixel counts as wrong in the deltas.', '',
             markdown_table(means)]
    lines += ['95 % intervals of the mean over scenes:', '']
    for name, sources in result['intervals'].items():
        for source, row in sources.items():
            (low, high), (worst, best) = row['mae_m'], row['delta_105']
            lines.append(f'- {name}, {source}: MAE {low * 1000:.1f} to {high * 1000:.1f} mm, '
                         f'd1.05 {worst:.3f} to {best:.3f}')
    return '\n'.join(lines) + '\n'
