"""What belongs beside every figure: version, model, machine, settings; and how it is written."""
from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

import dkt_ros


def provenance(model: str | Path | None = None, settings: dict | None = None,
               seed: int | None = None) -> dict[str, Any]:
    """
    Return what a figure depends on: version, model and its hash, machine, settings and seed.

    Parameters
    ----------
    model : path, optional
        The model folder.
    settings : dict, optional
        What the run was asked to do; plain values.
    seed : int, optional
        The seed of the run.

    """
    return {'version': dkt_ros.__version__,
            'model': None if model is None else Path(model).name,
            'model_sha256': None if model is None else model_hash(model),
            'machine': machine(), 'settings': settings or {}, 'seed': seed}


def machine() -> dict[str, Any]:
    """Describe the computer: processor, cores, system and Python."""
    return {'processor': _processor(), 'cores': os.cpu_count(), 'system': platform.platform(),
            'python': platform.python_version()}


def _processor() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.machine()


def model_hash(folder: str | Path) -> str:
    """Return the SHA-256 of a model folder: of the names and contents of its JSON and weights."""
    folder, digest = Path(folder), hashlib.sha256()
    for path in sorted(p for p in folder.rglob('*') if p.suffix in ('.json', '.safetensors')):
        digest.update(str(path.relative_to(folder)).encode() + b'\0')
        with path.open('rb') as file:
            digest.update(hashlib.file_digest(file, 'sha256').digest())
    return digest.hexdigest()


def write_json(path: str | Path, record: dict[str, Any]) -> None:
    """Write a record as JSON, whole or not at all; NaN and infinity become null."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    temporary.write_text(json.dumps(plain(record), indent=2, allow_nan=False) + '\n')
    os.replace(temporary, path)


def plain(value: Any) -> Any:
    """Return `value` with NumPy numbers, paths and tuples as JSON knows them, NaN as None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (bool, int, str, type(None))) else str(value)
