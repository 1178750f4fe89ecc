"""`dkt infer`: depth of any clip, as files, pictures and, where truth exists, a table."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import Progress

from dkt_ros.config import PerceptionConfig
from dkt_ros.data.clip import STILL_GAP_S, Clip
from dkt_ros.data.clips import open_clip
from dkt_ros.data.exr import write_depth_exr, write_normals_exr
from dkt_ros.data.scenes import SceneFrame
from dkt_ros.errors import UserError
from dkt_ros.frame import DepthEstimate
from dkt_ros.provenance import provenance, write_json
from dkt_ros.resources import resolve_model
from dkt_ros.tools.montage import MontageVideo, panels, write_montage
from dkt_ros.tools.perceive import OfflineStream, RunStats, perceive
from dkt_ros.tools.report import rich_table
from dkt_ros.tools.scoring import ClipScore, estimate_sources, sensor_sources

MODES = ('stream', 'offline')
MAX_ROWS = 6
STORED_WIDTH = 480


def run_infer(source: str | Path, out: str | Path, *, model: str | Path = 'dkt-tiny',
              mode: str = 'stream', config: PerceptionConfig | None = None, device: str = 'auto',
              max_frames: int | None = None, console: Console | None = None,
              **clip_options) -> dict:
    """
    Run a model over a clip and write what it sees.

    Parameters
    ----------
    source : str or Path
        Anything that `open_clip` opens.
    out : str or Path
        Gets depth/, depth_fused/ [m], disparity/, normals/ as float EXR, montage.png,
        montage.mp4 for a clip that moves, summary.json.
    model : str or Path
        A bundled model or a model folder.
    mode : str
        'stream' is what a robot gets; 'offline' takes the whole clip at once.
    config : PerceptionConfig, optional
        Preset, working size, anchor, normals.
    device : str
        'auto', 'cpu', 'cuda' or 'cuda:N'.
    max_frames : int, optional
        Stop after so many.
    console : rich.console.Console, optional
        Where notes, progress and the table go.
    **clip_options
        Fields of `dkt_ros.data.clips.ClipOptions`: repeat, camera, fov_deg, fps, topics.

    Returns
    -------
    dict
        What summary.json holds.

    """
    if mode not in MODES:
        raise UserError(f'mode is {mode!r}; allowed: {", ".join(MODES)}')
    console, config = console or Console(), config or PerceptionConfig()
    folder, clip = resolve_model(model), open_clip(source, **clip_options)
    for note in clip.notes:
        console.print(f'note: {note}', style='yellow', highlight=False)
    perception = load_perception(folder, config, device, mode)
    stats, score = RunStats(), ClipScore()
    items = _limited(clip.items(), max_frames)
    pairs = perceive(perception, items, config.stream.max_gap_s, stats)
    _write_outputs(pairs, clip, Path(out), score, max_frames, console)
    scores = score.table()
    summary = {
        **provenance(folder, {'mode': mode, 'device': device, **config.to_dict()},
                     config.stream.seed),
        'input': {'path': str(source), 'kind': clip.kind, 'notes': list(clip.notes),
                  'fps': clip.fps, 'size': [clip.camera.width, clip.camera.height]},
        **stats.summary(), 'frames_with_truth': len(score), **scores}
    write_json(Path(out) / 'summary.json', summary)
    _tell(console, summary, scores, clip, Path(out))
    return summary


def load_perception(folder: Path, config: PerceptionConfig, device: str, mode: str = 'stream'):
    """Return the perception chain around a model folder; torch is imported here."""
    from dkt_ros.model.loading import load_pipeline
    from dkt_ros.perception import Perception
    normals = config.normals.model if config.normals.source == 'model' else ''
    pipeline = load_pipeline(folder, device, decoder=config.stream.decoder, normals_model=normals)
    if mode == 'stream':
        return Perception(pipeline, config)
    tasks = ('depth', 'normal') if config.normals.source == 'model' else ('depth',)
    return Perception(OfflineStream(pipeline, config.stream, tasks), config)


def _limited(items: Iterable[SceneFrame], max_frames: int | None) -> Iterator[SceneFrame]:
    for count, item in enumerate(items):
        if max_frames is not None and count >= max_frames:
            return
        yield item


def _write_outputs(pairs: Iterable[tuple[SceneFrame, DepthEstimate]], clip: Clip, out: Path,
                   score: ClipScore, max_frames: int | None, console: Console) -> None:
    rows = RowKeeper()
    total = clip.num_frames if max_frames is None or clip.num_frames is None else min(
        clip.num_frames, max_frames)
    with ExitStack() as stack:
        video = stack.enter_context(MontageVideo(_made(out) / 'montage.mp4', clip.fps))
        progress = stack.enter_context(Progress(console=console, transient=True))
        task = progress.add_task('inferring', total=total)
        for item, estimate in pairs:
            write_maps(out, item.index, estimate)
            score.add(item, {**sensor_sources(item.frame),
                             **estimate_sources(estimate)})
            row = shrunk(panels(estimate, item))
            rows.add(item, row)
            if total != 1 and clip.is_video:
                video.add(row)
            progress.advance(task)
    if not rows.rows:
        raise UserError(f'{clip.path} gave no estimate; it needs at least one frame')
    write_montage(out / 'montage.png', rows.rows, rows.titles)


def write_maps(out: Path, index: int, estimate: DepthEstimate) -> None:
    """Write the maps of one frame as float EXR; metric depth only where there are metres."""
    maps = {'disparity': estimate.disparity, 'depth': estimate.depth,
            'depth_fused': estimate.depth_fused}
    for name, values in maps.items():
        if values is not None and (name == 'disparity' or np.isfinite(values).any()):
            write_depth_exr(_made(out / name) / f'{index:06d}.exr', values)
    if estimate.normals is not None:
        write_normals_exr(_made(out / 'normals') / f'{index:06d}.exr', estimate.normals)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def shrunk(row: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the pictures no wider than a montage shows them."""
    def shrink(image: np.ndarray) -> np.ndarray:
        if image.shape[1] <= STORED_WIDTH:
            return image
        height = round(image.shape[0] * STORED_WIDTH / image.shape[1])
        return cv2.resize(image, (STORED_WIDTH, height), interpolation=cv2.INTER_AREA)
    return {label: shrink(image) for label, image in row.items()}


class RowKeeper:
    """
    Keeps a few rows of pictures of a run of unknown length.

    Rows are evenly spaced in a clip; of stills, which are far apart in time, the last estimate of
    each is kept. Where truth is known in some frames, only those are shown.
    """

    def __init__(self, max_rows: int = MAX_ROWS) -> None:
        self._max_rows = max_rows
        self._kept: list[tuple[int, np.ndarray, dict]] = []
        self._stride, self._seen, self._truth, self._last_ns = 1, 0, False, None

    @property
    def rows(self) -> list[dict[str, np.ndarray]]:
        """The rows kept."""
        return [row for _, _, row in self._kept]

    @property
    def titles(self) -> list[str]:
        """A title for each row."""
        return [f'frame {index}' for index, _, _ in self._kept]

    def add(self, item: SceneFrame, row: dict[str, np.ndarray]) -> None:
        """Offer a row."""
        stamp, last = item.frame.stamp_ns, self._last_ns
        still = last is None or abs(stamp - last) >= STILL_GAP_S * 1e9
        self._last_ns = stamp
        if item.depth is not None and not self._truth:
            self._truth, self._kept, self._stride, self._seen = True, [], 1, 0
        if self._truth and item.depth is None:
            return
        number, self._seen = self._seen, self._seen + 1
        if self._kept and not still and self._is_repeat(item):
            self._kept[-1] = (item.index, _thumbnail(item), row)
        elif number % self._stride == 0:
            self._kept.append((item.index, _thumbnail(item), row))
        if len(self._kept) > self._max_rows:
            self._kept, self._stride = self._kept[::2], self._stride * 2

    def _is_repeat(self, item: SceneFrame) -> bool:
        return np.array_equal(self._kept[-1][1], _thumbnail(item))


def _thumbnail(item: SceneFrame) -> np.ndarray:
    return item.frame.rgb[::16, ::16].copy()


def _tell(console: Console, summary: dict, scores: dict, clip: Clip, out: Path) -> None:
    if scores:
        count = summary['frames_with_truth']
        console.print(rich_table(scores, f'{clip.name}: {count} frames with truth'))
    if summary['frames_out'] and 'refine' in summary['settings'].get('anchor', {}):
        anchor = summary['settings']['anchor']
        console.print(f'metres: anchor.source {anchor["source"]}, anchor.refine '
                      f'{anchor["refine"]}', highlight=False)
    age = summary['age_ms']
    console.print(f'{summary["frames_in"]} frames in, {summary["frames_out"]} out, '
                  f'{summary["fps"]:.1f} a second of computing, age p50 {age["p50"]:.0f} ms, '
                  f'p95 {age["p95"]:.0f} ms; results in {out}', highlight=False)
