"""
The model folder on disk: what must be in it, and one sentence for each way it can be wrong.

Only safetensors are read; a pickle can run code and is refused.
"""
from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from diffusers.utils import logging
from safetensors import SafetensorError, safe_open

from dkt_ros.errors import UserError

PICKLE_SUFFIXES = ('.bin', '.pt', '.pth', '.ckpt', '.pkl', '.pickle')
WEIGHTED_COMPONENTS = ('transformer', 'vae', 'prompt_rows')
OPTIONAL_COMPONENTS = ('sensor_encoder',)
WEIGHTS_NAME = 'diffusion_pytorch_model.safetensors'
MANIFEST = 'manifest.json'
REMEDY = 'copy the model folder again, or train or prepare it anew'


def check_model_folder(folder: str | Path, class_name: str) -> Path:
    """
    Return the folder as a path if a `class_name` can be loaded from it.

    Raises
    ------
    UserError
        If it does not exist, is no such model, holds a pickle instead of safetensors, or if a
        weight file is missing or truncated; the sentence names the path and the remedy.

    """
    folder = Path(folder)
    if folder.suffix.lower() in PICKLE_SUFFIXES and folder.is_file():
        raise _pickle_error(folder)
    if not folder.is_dir():
        raise UserError(f'model folder {folder} does not exist; give a folder that holds '
                        'model_index.json')
    index = _read_json(folder / 'model_index.json',
                       f'{folder} is not a model folder: it has no model_index.json; '
                       f'give a folder that {class_name}.save_pretrained wrote')
    if index.get('_class_name') != class_name:
        raise UserError(f'{folder} holds a {index.get("_class_name")!r}, not a {class_name!r}; '
                        'give a DKT model folder (`dkt prepare` makes one of published files)')
    missing = 'is missing; ' + REMEDY
    for name in weighted_components(index):
        _read_json(folder / name / 'config.json', f'{folder / name / "config.json"} {missing}')
        for path in weight_files(folder / name):
            stored_keys(path)
    scheduler = folder / 'scheduler' / 'scheduler_config.json'
    _read_json(scheduler, f'{scheduler} {missing}')
    return folder


def weighted_components(index: dict) -> list[str]:
    """Return the components with weights of a model_index.json, the optional ones it names too."""
    named = [name for name in OPTIONAL_COMPONENTS if (index.get(name) or [None])[0]]
    return [*WEIGHTED_COMPONENTS, *named]


def is_bare_base(folder: Path) -> bool:
    """Return whether `dkt prepare` made this folder of a published base without a LoRA."""
    path = folder / MANIFEST
    manifest = _read_json(path, '') if path.is_file() else {}
    return 'base' in manifest and manifest.get('lora') is None


def weight_files(component: Path) -> list[Path]:
    """Return the safetensors files of one component, shards included, all of which exist."""
    index_path = component / f'{WEIGHTS_NAME}.index.json'
    if index_path.is_file():
        index = _read_json(index_path, '')
        names = sorted(set(index.get('weight_map', {}).values()))
    else:
        names = [WEIGHTS_NAME]
    pickles = sorted(p for p in component.glob('*') if p.suffix.lower() in PICKLE_SUFFIXES)
    for name in names:
        if not (component / name).is_file():
            if pickles:
                raise _pickle_error(pickles[0])
            raise UserError(f'weight file {component / name} is missing; {REMEDY}')
    return [component / name for name in names]


def stored_keys(path: Path) -> set[str]:
    """Return the names of the tensors in a safetensors file; a broken file is a UserError."""
    try:
        with safe_open(str(path), framework='np') as file:
            return set(file.keys())
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f'weight file {path} is truncated or not a safetensors file '
                        f'({error}); {REMEDY}') from error


def check_same_keys(component: Path, expected: set[str]) -> None:
    """Raise UserError unless the files of `component` hold exactly the tensors `expected`."""
    stored = set().union(*(stored_keys(path) for path in weight_files(component)))
    for what, names in (('lacks', expected - stored), ('has the unknown', stored - expected)):
        if names:
            raise UserError(f'{component} {what} tensor {sorted(names)[0]!r} ({len(names)} in '
                            f'all), its config.json does not fit its weights; {REMEDY}')


@contextlib.contextmanager
def no_loading_bar() -> Iterator[None]:
    """Keep diffusers' progress bar of loading off a robot's log."""
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def replace_folder(folder: Path, write: Callable[[Path], object]) -> None:
    """Let `write(temporary_folder)` fill a folder, then put it at `folder` at once."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f'.{folder.name}.') as scratch:
        new, old = Path(scratch) / 'new', Path(scratch) / 'old'
        new.mkdir()
        write(new)
        _share(new)
        if folder.is_dir():
            _keep_documents(folder, new)
            folder.rename(old)
        new.rename(folder)


def _share(folder: Path) -> None:
    """Let others read what the user's umask lets them: safetensors writes for its owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.rglob('*.safetensors'):
        path.chmod(0o666 & ~mask)


def _keep_documents(folder: Path, new: Path) -> None:
    for path in folder.iterdir():
        if path.is_file() and not (new / path.name).exists():
            shutil.copy2(path, new / path.name)


def _pickle_error(path: Path) -> UserError:
    return UserError(f'{path} is a pickle, which can run code when it is read; only safetensors '
                     'are loaded: convert it, or get the .safetensors file')


def _read_json(path: Path, missing: str) -> dict:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(missing) from error
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read as JSON ({error}); {REMEDY}') from error
