"""Find or make the Python interpreter that has bpy (Blender as a module)."""
from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from dkt_ros.errors import UserError
from dkt_ros.resources import cache_dir

BPY_VERSION = '4.5.4'
BPY_PYTHON = '3.11'
SYSTEM_LIBRARIES = 'libxi6 libxkbcommon0 libsm6 libgl1 libxrender1 libxfixes3 libxxf86vm1'


def environment_path() -> Path:
    """Return the virtual environment that `dkt render --setup` makes."""
    return cache_dir() / 'venv-render'


def find_interpreter(given: str = '') -> Path:
    """
    Return a Python that can import bpy.

    Raises
    ------
    UserError
        If there is none, with the command that makes one.

    """
    interpreter = Path(given).expanduser() if given else environment_path() / 'bin' / 'python'
    if not interpreter.is_file():
        raise UserError(f'{interpreter} does not exist; run `dkt render --setup`, or name a '
                        'Python that has bpy as render.interpreter')
    check = subprocess.run([str(interpreter), '-c', 'import bpy'], capture_output=True, text=True)
    if check.returncode != 0:
        reason = (check.stderr.strip().splitlines() or ['no message'])[-1]
        raise UserError(f'{interpreter} cannot import bpy ({reason}); run `dkt render --setup`; '
                        f'Debian and Ubuntu need the packages {SYSTEM_LIBRARIES}')
    return interpreter


def set_up(python: str = '') -> Path:
    """
    Make the environment of the renderer: Python 3.11, numpy below 2 and the bpy wheel.

    Parameters
    ----------
    python : str
        A Python 3.11; empty looks for the running one, then for `python3.11`.

    """
    base = python or _python_for_bpy()
    target = environment_path()
    target.parent.mkdir(parents=True, exist_ok=True)
    for command in ([base, '-m', 'venv', str(target)],
                    [str(target / 'bin' / 'python'), '-m', 'pip', 'install', '--quiet',
                     f'bpy=={BPY_VERSION}', 'numpy<2']):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise UserError(f'`{" ".join(command)}` failed: {done.stderr.strip()[-400:]}')
    find_interpreter()
    return target


def _python_for_bpy() -> str:
    if '.'.join(map(str, sys.version_info[:2])) == BPY_PYTHON:
        return sys.executable
    found = shutil.which(f'python{BPY_PYTHON}')
    if found is None:
        raise UserError(f'bpy {BPY_VERSION} needs Python {BPY_PYTHON}, and no python{BPY_PYTHON} '
                        'is on the path; install it, or name an interpreter that has bpy as '
                        'render.interpreter')
    return found
