"""Find models, configuration, launch files and clips: in a checkout, a wheel or a ROS install."""
from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dkt_ros.errors import UserError


def share_path(*parts: str) -> Path:
    """
    Return the path of a file or folder that comes with the package.

    Parameters
    ----------
    *parts : str
        Path below the share folder, for example `'models', 'dkt-tiny'`.

    Raises
    ------
    UserError
        If no share folder has it; the sentence lists the folders searched.

    """
    folders = list(_share_folders())
    for folder in folders:
        path = folder.joinpath(*parts)
        if path.exists():
            return path
    searched = ', '.join(map(str, folders)) or 'no share folder of dkt_ros found'
    raise UserError(f'{"/".join(parts)!r} does not come with this installation of dkt_ros '
                    f'(searched: {searched}); reinstall the package or give a path')


def _share_folders() -> Iterator[Path]:
    """Yield the share folder nearest to this file first, then those of sourced ROS workspaces."""
    package = Path(__file__).resolve().parent
    if (package.parent / 'package.xml').is_file():
        yield package.parent
    prefixes = [*package.parents, *map(Path, _ament_prefixes())]
    for folder in (prefix / 'share' / 'dkt_ros' for prefix in prefixes):
        if folder.is_dir():
            yield folder


def _ament_prefixes() -> list[str]:
    return [p for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]


def cache_dir() -> Path:
    """Return the folder for rendered scenes, checkpoints and engines; it may not exist yet."""
    if os.environ.get('DKT_CACHE'):
        return Path(os.environ['DKT_CACHE']).expanduser()
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(base).expanduser() / 'dkt_ros'


def resolve_model(name_or_path: str | Path) -> Path:
    """
    Return the model folder of a name such as `dkt-tiny`, or of a path.

    Raises
    ------
    UserError
        If there is neither such a folder nor such a model; the sentence lists the models.

    """
    given = str(name_or_path)
    if not given:
        raise UserError("model is ''; give the name of a bundled model or the path of a folder")
    folder = Path(given).expanduser()
    if folder.is_dir():
        return folder
    bundled = {model.name: model for share in _share_folders()
               for model in sorted((share / 'models').glob('*/')) if model.is_dir()}
    if given in bundled:
        return bundled[given]
    raise UserError(f'model {given!r} is neither a folder nor a bundled model; bundled: '
                    f'{", ".join(sorted(bundled)) or "none"}')
