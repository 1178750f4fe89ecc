"""
Drive the renderer: Blender workers draw raw passes, this process turns them into scene folders.

A scene is written whole or not at all, depends on its seed alone, and is skipped when it exists,
so a run that was killed goes on where it stopped.
"""
from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import psutil
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dkt_ros.config import RenderConfig
from dkt_ros.data.scenes import is_scene
from dkt_ros.errors import RunError, UserError
from dkt_ros.material import Material
from dkt_ros.resources import cache_dir
from dkt_ros.tools.processes import end_with_parent
from dkt_ros.tools.render.assemble import accept_scene, infrared_spec, scene_name
from dkt_ros.tools.render.cameras import intrinsics
from dkt_ros.tools.render.media import media_files
from dkt_ros.tools.render.setup import find_interpreter
from dkt_ros.tools.render.worker.choose import spread
from dkt_ros.tools.render.worker.material_table import LIBRARY
from dkt_ros.tools.render.worker.shapes import GROUPS

LOG = logging.getLogger(__name__)
WORKER = Path(__file__).parent / 'worker' / 'main.py'
MAX_ATTEMPTS = 6
ATTEMPT_SEED = 1 << 32
"""Attempt k of scene i draws from seed i + k * ATTEMPT_SEED: apart from every other scene."""
WORK_PREFIX = '.render-'
REMOVAL_ATTEMPTS = 25
SCENE_BYTES_A_PIXEL, RAW_BYTES_A_PIXEL = 16, 44
FULL_BYTES = 1 << 20
"""A worker that stops on a disk with less room than this has found it full."""


def run_render(out: str | Path, num_scenes: int, seed: int = 0,
               config: RenderConfig | None = None, shard: tuple[int, int] = (0, 1)) -> dict:
    """
    Render scenes `seed` to `seed + num_scenes - 1` into `out`.

    Parameters
    ----------
    shard : (i, n)
        Render every n-th scene only, from the i-th on (i from 0).

    Returns
    -------
    dict
        Counts: rendered, skipped (existed already), rejected attempts.

    """
    config = config or RenderConfig()
    index, count = shard
    if num_scenes < 1 or not 0 <= index < count:
        raise UserError(f'{num_scenes} scenes in shard {index}/{count}; give at least one scene '
                        'and a shard i/n with 0 <= i < n')
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UserError(f'{out} is a file; name a folder with --out')
    out.mkdir(parents=True, exist_ok=True)
    clear_remains(out)
    seeds = [seed + i for i in range(num_scenes) if i % count == index]
    pending = [s for s in seeds if not is_scene(out / scene_name(s))]
    done = {'rendered': 0, 'skipped': len(seeds) - len(pending), 'rejected': 0}
    if pending:
        require_known(config)
        interpreter = find_interpreter(config.interpreter)
        require_space(out, len(pending), config)
        with tempfile.TemporaryDirectory(prefix=work_prefix(os.getpid()), dir=out) as work:
            _render_pending(pending, out, Path(work), interpreter, config, done)
    write_manifest(out, config)
    return done


def work_prefix(pid: int) -> str:
    """Return how the names of this process's temporary folders begin."""
    return f'{WORK_PREFIX}{socket.gethostname()}-{pid}-'


def clear_remains(out: Path) -> None:
    """Remove what killed runs on this machine left behind; another machine's may be alive."""
    own = f'{WORK_PREFIX}{socket.gethostname()}-'
    for path in out.glob('.*'):
        if path.name.startswith(own):
            pid = path.name.removeprefix(own).partition('-')[0]
        elif path.name.startswith('.scene_') and '.partial-' in path.name:
            pid = path.name.rpartition('-')[2]
        else:
            continue
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            _remove(path)


def _remove(folder: Path) -> None:
    """Remove a dead run's folder; a worker of it that is ending may still write there."""
    for _ in range(REMOVAL_ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.2)
    LOG.warning('%s is left of a run that was killed and cannot be removed', folder)


def require_space(out: Path, num_scenes: int, config: RenderConfig) -> None:
    """Raise RunError if the disk has no room for `num_scenes` scenes and the raw passes."""
    pixels = config.width * config.height * config.num_frames
    workers = min(config.workers or os.cpu_count() or 1, num_scenes)
    needed = pixels * (num_scenes * SCENE_BYTES_A_PIXEL + workers * RAW_BYTES_A_PIXEL)
    free = shutil.disk_usage(out).free
    if free < needed:
        raise RunError(f'{out} has {free / 1e6:.1f} MB free, and {num_scenes} scenes of '
                       f'{config.num_frames} frames at {config.width}x{config.height} may take '
                       f'{needed / 1e6:.1f} MB; free some, or render fewer or smaller ones')


def _render_pending(pending, out, work, interpreter, config, done) -> None:
    attempt = {s: 0 for s in pending}
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn(), TimeRemainingColumn())
    media, infrared = media_files(config), infrared_spec(config, work)
    if config.objects.bank and config.preset != 'tabletop-v1':
        import_bank({**scene_spec(pending[0], 0, config), **media}, work, interpreter)
    with Progress(*columns) as progress:
        task = progress.add_task(f'rendering into {out}', total=len(pending))
        while attempt:
            specs = [{**scene_spec(s, k, config), 'infrared': infrared, **media}
                     for s, k in attempt.items()]
            for record in rendered_records(specs, work, interpreter, config.workers):
                scene_seed = record['scene_seed']
                require_space(out, 1, config)
                if 'failed' not in record and _accept(record, work, out, config):
                    attempt.pop(scene_seed)
                    done['rendered'] += 1
                    progress.advance(task)
                    continue
                done['rejected'] += 1
                attempt[scene_seed] += 1
                if attempt[scene_seed] >= MAX_ATTEMPTS:
                    raise UserError(_hopeless(scene_seed, record, config))


def _accept(record: dict, work: Path, out: Path, config: RenderConfig) -> bool:
    try:
        return accept_scene(record, work, out, config)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _full(out) from error


def _full(out: Path) -> RunError:
    return RunError(f'the disk of {out} is full; what is written so far is whole: free some space '
                    'and give the same command again')


def _hopeless(seed: int, record: dict, config: RenderConfig) -> str:
    if 'failed' in record:
        return (f'scene {seed} failed {MAX_ATTEMPTS} times ({record["failed"]}); lower '
                'min_objects or raise settle_s')
    return (f'scene {seed} shows less than {config.min_glass:.0%} glass in {MAX_ATTEMPTS} '
            'attempts; lower min_glass or move the camera nearer')


def scene_spec(seed: int, attempt: int, config: RenderConfig) -> dict:
    """Return what the worker needs to draw one attempt at one scene."""
    spec = {key: value for key, value in dataclasses.asdict(config).items()
            if key not in ('sensor', 'interpreter', 'workers', 'min_glass', 'exposure')}
    return {**spec, 'name': f'{scene_name(seed)}_{attempt}', 'scene_seed': seed,
            'seed': seed + attempt * ATTEMPT_SEED, 'threads': 1, 'infrared': None, 'thrifty': True,
            'intrinsics': intrinsics(config), 'hdri_files': [], 'texture_files': [],
            'bank_cache': str(cache_dir() / 'bank')}


def require_known(config: RenderConfig) -> None:
    """Raise UserError for a weight of a material or family that the preset does not know."""
    if config.preset == 'tabletop-v1':
        return
    materials = {Material(number).label: [name for name, made in LIBRARY.items()
                                          if made.material_class == number]
                 for number in Material if number}
    first = {config.first_material: 1.0} if config.first_material else {}
    for option, weights, groups in (
            ('RenderConfig.material_weights', config.material_weights, materials),
            ('RenderConfig.first_material', first, materials),
            ('ObjectsConfig.families', config.objects.families, GROUPS)):
        try:
            spread(weights, groups)
        except ValueError as error:
            raise UserError(f'{option}: {error}') from None


def import_bank(spec: dict, work: Path, interpreter: Path) -> None:
    """
    Import the meshes of the bank into the cache, once for all workers; names what is left out.

    Raises
    ------
    UserError
        If there is no such folder or no usable mesh in it.

    """
    job = work / 'bank.json'
    job.write_text(json.dumps({'out': str(work), 'parent': os.getpid(), 'scenes': [spec],
                               'bank_only': True}))
    done = subprocess.run([str(interpreter), str(WORKER), str(job)], capture_output=True,
                          text=True, preexec_fn=end_with_parent())
    for line in map(json.loads, done.stdout.splitlines()):
        if 'error' in line:
            raise UserError(line['error'])
        LOG.warning('%s', line['problem'])
    if done.returncode != 0:
        raise RunError(f'the renderer stopped with code {done.returncode} while it read the bank '
                       f'{spec["objects"]["bank"]}: {done.stderr.strip()[-300:]}')


def rendered_records(specs: list[dict], work: Path, interpreter: Path,
                     workers: int) -> Iterator[dict]:
    """Start the workers and yield each scene's record as soon as it is drawn."""
    workers = min(workers or os.cpu_count() or 1, len(specs))
    queue: Queue = Queue()
    processes = []
    for number in range(workers):
        share = specs[number::workers]
        if workers == 1:
            share = [dict(spec, threads=0) for spec in share]
        job = work / f'job_{number}.json'
        job.write_text(json.dumps({'out': str(work), 'parent': os.getpid(), 'scenes': share,
                                   'bank_only': False}))
        log = open(work / f'worker_{number}.log', 'w')  # noqa: SIM115 - lives with the process
        process = subprocess.Popen([str(interpreter), str(WORKER), str(job)], text=True,
                                   stdout=subprocess.PIPE, stderr=log,
                                   preexec_fn=end_with_parent())
        processes.append((process, log))
        threading.Thread(target=_listen, args=(process, queue), daemon=True).start()
    try:
        alive, by_name = len(processes), {spec['name']: spec for spec in specs}
        while alive:
            name = queue.get()
            if name is None:
                alive -= 1
                continue
            record = json.loads((work / f'{name}.json').read_text())
            yield {**record, 'scene_seed': by_name[name]['scene_seed']}
        for process, log in processes:
            if process.wait() != 0:
                raise _stopped(process.returncode, work, Path(log.name))
    finally:
        for process, log in processes:
            process.kill()
            process.wait()
            log.close()


def _listen(process: subprocess.Popen, queue: Queue) -> None:
    for line in map(json.loads, process.stdout):
        if 'done' in line:  # what is wrong with the bank was told when it was imported
            queue.put(line['done'])
    queue.put(None)


def _stopped(code: int, work: Path, log: Path) -> RunError:
    """Return why a worker stopped; its log is empty where the disk is full."""
    if shutil.disk_usage(work).free < FULL_BYTES:
        return _full(work.parent)
    lines = log.read_text(errors='replace').strip().splitlines()[-3:]
    return RunError(f'the renderer stopped with code {code}: {" / ".join(lines) or "no message"}')


def write_manifest(out: Path, config: RenderConfig) -> None:
    """Write manifest.json: which scenes lie in the folder and how they were made."""
    scenes = sorted(path.parent.name for path in out.glob('scene_*/scene.json'))
    temporary = out / f'.manifest.json.{os.getpid()}.tmp'
    temporary.write_text(json.dumps({'format': 'dkt-scenes/1', 'num_scenes': len(scenes),
                                     'scenes': scenes, 'render': config.to_dict()}, indent=1))
    temporary.replace(out / 'manifest.json')
