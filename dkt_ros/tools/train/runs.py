"""The folder of a training run: where it is, what was asked for, its curves, its checkpoint."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
import yaml

from dkt_ros.errors import UserError
from dkt_ros.lora_config import LoraTrainConfig
from dkt_ros.provenance import plain
from dkt_ros.resources import cache_dir
from dkt_ros.train_config import TrainConfig

CHECKPOINT = 'checkpoint.pt'


def run_folder(config: TrainConfig | LoraTrainConfig) -> Path:
    """Return the folder of the run, by default below the cache."""
    return Path(config.run).expanduser() if config.run else cache_dir() / 'runs' / config.name


def check_free(folder: Path) -> None:
    """Raise UserError if a run lies in the folder."""
    if (folder / CHECKPOINT).exists():
        raise UserError(f'{folder} holds a run already; go on with --resume or give another `run`')


def write_config(folder: Path, config: TrainConfig | LoraTrainConfig) -> None:
    """Write config.yaml, which rebuilds the run."""
    (folder / 'config.yaml').write_text(yaml.safe_dump(plain(config.to_dict())))


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Append a line to a file of JSON lines."""
    with open(path, 'a') as file:
        file.write(json.dumps(record) + '\n')


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write checkpoint.pt, whole or not at all."""
    temporary = folder / f'{CHECKPOINT}.tmp'
    torch.save(state, temporary)
    os.replace(temporary, folder / CHECKPOINT)


def load_checkpoint(folder: Path, device: torch.device | str | None = None
                    ) -> dict[str, Any]:
    """Read checkpoint.pt; UserError if there is none."""
    path = folder / CHECKPOINT
    if not path.is_file():
        raise UserError(f'{path} does not exist; start the run without --resume')
    return torch.load(path, map_location=device, weights_only=True, mmap=True)
