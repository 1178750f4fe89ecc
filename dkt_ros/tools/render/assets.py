"""
What the renderer can draw: families, materials, and banks of meshes that a model has looked at.

`dkt assets list | show | filter`.
"""
from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.progress import track
from rich.table import Table

from dkt_ros.config import AssetsConfig
from dkt_ros.data.images import read_rgb
from dkt_ros.errors import RunError, UserError
from dkt_ros.material import Material
from dkt_ros.resources import cache_dir
from dkt_ros.tools.montage import write_montage
from dkt_ros.tools.processes import end_with_parent
from dkt_ros.tools.render.judge import QUESTION, Judge, Verdict, read_verdict
from dkt_ros.tools.render.setup import find_interpreter
from dkt_ros.tools.render.worker import shapes
from dkt_ros.tools.render.worker.bank_index import digest, mesh_files
from dkt_ros.tools.render.worker.material_table import LIBRARY, LIQUIDS

SHEET = Path(__file__).parent / 'worker' / 'sheet.py'
TILES_A_ROW = 10
GLASS, SHOWN_ON, FILLED = 'clear_glass', 'jug', 'tumbler'
GREY = 'bank_grey'
ANSWERS = 'assets.json'


def run_list() -> dict:
    """Return the families by kind, and the materials and liquids with their classes."""
    def classes(library: dict) -> dict:
        return {name: Material(spec.material_class).label for name, spec in library.items()}

    return {'families': {name: list(group) for name, group in shapes.GROUPS.items()},
            'materials': classes(LIBRARY), 'liquids': classes(LIQUIDS)}


def assets_table(listed: dict) -> Table:
    """Return what `run_list` gives as a table."""
    table = Table('', 'number', 'names')
    for kind, names in listed['families'].items():
        table.add_row(f'families: {kind}', str(len(names)), ', '.join(names))
    for group in ('materials', 'liquids'):
        for label in dict.fromkeys(listed[group].values()):
            names = [name for name, found in listed[group].items() if found == label]
            table.add_row(f'{group}: {label}', str(len(names)), ', '.join(names))
    return table


def run_show(out: str | Path, config: AssetsConfig | None = None) -> Path:
    """
    Draw every family in glass, every material on one shape and every liquid in one glass.

    Parameters
    ----------
    out : path
        The picture to write, .png or .jpg.

    """
    config, out = config or AssetsConfig(), Path(out)
    if out.suffix.lower() not in ('.png', '.jpg'):
        raise UserError(f'--out is {str(out)!r}; give the name of a .png or .jpg file')
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.assets-', dir=out.parent) as work:
        groups = {title: [{**tile, 'path': f'{work}/{title}/{tile["label"]}.png'}
                          for tile in tiles] for title, tiles in sheet_tiles().items()}
        every = [tile for tiles in groups.values() for tile in tiles]
        done = draw_tiles(every, config)
        for _ in track(done, 'drawing', total=len(every)):
            pass
        write_sheet(out, groups, config.tile_px)
    return out


def sheet_tiles() -> dict[str, list[dict]]:
    """Return the tiles of the contact sheet by title."""
    groups = {'families in clear glass': [
        {'label': name, 'family': name, 'material': GLASS, 'seed': 4} for name in shapes.LIBRARY]}
    for kind in Material:
        names = [n for n, spec in LIBRARY.items() if spec.material_class == kind]
        if names:
            groups[f'{kind.label} materials'] = [
                {'label': name, 'family': SHOWN_ON, 'material': name, 'seed': 7,
                 'material_seed': index} for index, name in enumerate(names)]
    groups['liquids'] = [
        {'label': name, 'family': FILLED, 'material': GLASS, 'liquid': name, 'seed': 3,
         'material_seed': index} for index, name in enumerate(LIQUIDS)]
    return groups


def write_sheet(out: Path, groups: dict[str, list[dict]], tile_px: int) -> None:
    """Lay out drawn tiles, a title above each group."""
    rows, titles = [], []
    for title, tiles in groups.items():
        for start in range(0, len(tiles), TILES_A_ROW):
            rows.append({tile['label']: read_rgb(tile['path'])
                         for tile in tiles[start:start + TILES_A_ROW]})
            titles.append(title if start == 0 else '')
    write_montage(out, rows, titles, tile_px)


def draw_tiles(tiles: list[dict], config: AssetsConfig, bank: Path | None = None,
               problems: list[str] | None = None) -> Iterator[str]:
    """
    Have Blender draw tiles and yield the path of each.

    Parameters
    ----------
    tiles : list of dict
        `family`, `material`, `seed`, `path`, and what else `worker/sheet.py` takes.
    bank : path, optional
        Families are the meshes of this bank then.
    problems : list of str, optional
        Sentences about meshes that cannot be used are added to it.

    """
    job = {'tiles': tiles, 'samples': config.samples, 'size_px': config.tile_px,
           'threads': config.threads, 'longest_m': list(config.longest_m),
           'bank': None if bank is None else str(bank), 'cache': str(cache_dir() / 'bank')}
    interpreter = find_interpreter(config.interpreter)
    with tempfile.TemporaryDirectory(prefix='dkt-assets-') as work:
        path, log = Path(work) / 'job.json', Path(work) / 'stderr.txt'
        path.write_text(json.dumps(job))
        with open(log, 'w') as stderr, subprocess.Popen(
                [str(interpreter), str(SHEET), str(path)], stdout=subprocess.PIPE, text=True,
                stderr=stderr, preexec_fn=end_with_parent()) as process:
            try:
                yield from _told(process, problems if problems is not None else [])
            finally:
                process.kill()
        if process.returncode != 0:
            last = (log.read_text(errors='replace').strip().splitlines() or ['no message'])[-1]
            raise RunError(f'the renderer stopped with code {process.returncode}: {last}')


def _told(process: subprocess.Popen, problems: list[str]) -> Iterator[str]:
    for line in process.stdout:
        message = json.loads(line)
        if 'error' in message:
            raise UserError(message['error'])
        if 'problem' in message:
            problems.append(message['problem'])
        if 'done' in message:
            yield message['done']
    process.wait()


def run_filter(bank: str | Path, make_judge: Callable[[], Judge], model: str,
               out: str | Path | None = None, config: AssetsConfig | None = None) -> dict:
    """
    Ask a vision-language model of each mesh of a bank if it is transparent or reflective.

    The answers go to `assets.json`, the pictures that were shown to `thumbnails/`. A mesh that
    has an answer of this model to this question is not asked about again.

    Parameters
    ----------
    bank : path
        A folder of meshes.
    make_judge : callable
        Returns the model; called only if there is something to ask.
    model : str
        Name of the model, kept beside each answer.
    out : path, optional
        Where assets.json goes; the bank itself if not given.

    Returns
    -------
    dict
        Counts: meshes, asked, transparent, reflective, neither, unclear; and `problems`.

    """
    bank = Path(bank).expanduser()
    out = bank if out is None else Path(out)
    try:
        hashes = {path.relative_to(bank).as_posix(): digest(path) for path in mesh_files(bank)}
    except ValueError as error:
        raise UserError(str(error)) from None
    answers = {name: item for name, item in _known(out / ANSWERS, model).items()
               if hashes.get(name) == item['sha256']}
    pictures = {name: out / 'thumbnails' / f'{sha256[:16]}.png'
                for name, sha256 in hashes.items() if name not in answers}
    problems: list[str] = []
    draw_thumbnails(bank, pictures, config or AssetsConfig(), problems)
    shown = [name for name, picture in pictures.items() if picture.is_file()]
    judge = make_judge() if shown else None
    for name in track(shown, 'asking', disable=not shown):
        verdict = read_verdict(judge(pictures[name]))
        answers[name] = _entry(name, hashes[name], pictures[name].relative_to(out), verdict)
        write_answers(out / ANSWERS, model, answers)
    return {'meshes': len(hashes), 'asked': len(shown), **_counts(answers.values()),
            'problems': problems}


def draw_thumbnails(bank: Path, pictures: dict[str, Path], config: AssetsConfig,
                    problems: list[str]) -> None:
    """Draw those meshes of a bank, in grey, whose picture does not exist yet."""
    tiles = [{'family': name, 'material': GREY, 'seed': 0, 'path': str(picture)}
             for name, picture in pictures.items() if not picture.is_file()]
    if not tiles:
        return
    for _ in track(draw_tiles(tiles, config, bank, problems), 'drawing', total=len(tiles)):
        pass


def _entry(name: str, sha256: str, picture: Path, verdict: Verdict) -> dict:
    return {'file': name, 'sha256': sha256, 'thumbnail': picture.as_posix(),
            'thing': verdict.thing, 'transparent': verdict.transparent,
            'reflective': verdict.reflective, 'answer': verdict.answer}


def _known(path: Path, model: str) -> dict[str, dict]:
    """Return the clear answers that this model gave to this question before, by file."""
    if not path.is_file():
        return {}
    try:
        stored = json.loads(path.read_text())
        if (stored['model'], stored['question']) != (model, QUESTION):
            return {}
        return {item['file']: item for item in stored['assets']
                if item['transparent'] is not None}
    except (ValueError, KeyError, TypeError):
        raise UserError(f'{path} is not what `dkt assets filter` writes; move it away') from None


def write_answers(path: Path, model: str, answers: dict[str, dict]) -> None:
    """Write assets.json, whole or not at all."""
    temporary = path.with_name(f'.{path.name}.tmp')
    temporary.write_text(json.dumps(
        {'format': 'dkt-assets/1', 'model': model, 'question': QUESTION,
         'assets': [answers[name] for name in sorted(answers)]}, indent=1))
    os.replace(temporary, path)


def _counts(answers) -> dict[str, int]:
    answers = list(answers)
    clear = [a for a in answers if a['transparent'] is not None]
    return {'transparent': sum(a['transparent'] for a in clear),
            'reflective': sum(a['reflective'] for a in clear),
            'neither': sum(not (a['transparent'] or a['reflective']) for a in clear),
            'unclear': len(answers) - len(clear)}
