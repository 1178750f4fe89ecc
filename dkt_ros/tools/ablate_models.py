"""The models of an ablation: each is trained once for its options and its seed."""
from __future__ import annotations

import hashlib
import json
from pathlib import Path

import yaml

from dkt_ros.ablate_config import TRAIN, AblateConfig
from dkt_ros.lora_config import LoraTrainConfig
from dkt_ros.options import Config, nest
from dkt_ros.provenance import plain


def trained_values(changes: dict, config: AblateConfig, seed: int) -> dict:
    """
    Return the values of the training file with a cell's changes and its seed.

    A base that is one of the study's own models is given by the values that it is trained with.
    """
    own = {key.removeprefix(TRAIN): value for key, value in changes.items()
           if key.startswith(TRAIN)}
    values = {**_merged(Config.read_yaml(config.train), nest(own)), 'seed': seed}
    base = values.get('base')
    if base in config.models:
        values['base'] = trained_values(config.models[base], config, seed)
    return plain(values)


def train_model(values: dict, out: Path) -> Path:
    """
    Return the folder of a model, trained now unless it lies below `out` already.

    Parameters
    ----------
    values : dict
        Result of `trained_values`; equal values share one run.
    out : Path
        Gets runs/*/, each with asked.yaml, what a training leaves, and model/.

    """
    from dkt_ros.tools.train.recipes import run_recipe
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    run = (out / 'runs' / digest[:12]).resolve()
    model = run / 'model'
    if model.is_dir():
        return model
    if isinstance(values.get('base'), dict):
        values = {**values, 'base': str(train_model(values['base'], out))}
    values = {**values, 'run': str(run)}
    run.mkdir(parents=True, exist_ok=True)
    (run / 'asked.yaml').write_text(yaml.safe_dump(values))
    trained = run_recipe(run / 'asked.yaml', resume=(run / 'checkpoint.pt').is_file())
    if trained.is_file():
        _write_merged(values, trained, model)
    return model


def _write_merged(values: dict, lora: Path, folder: Path) -> None:
    from dkt_ros.model.lora import merge_lora_file
    from dkt_ros.model.pipeline import DKTPipeline
    from dkt_ros.tools.train.lora import save_whole
    pipeline = DKTPipeline.from_pretrained(values['base'])
    merge_lora_file(pipeline.transformer, lora)
    save_whole(folder, pipeline, LoraTrainConfig.from_dict(values))


def _merged(values: dict, changes: dict) -> dict:
    both = {key: _merged(values[key], change) if isinstance(change, dict)
            and isinstance(values.get(key), dict) else change for key, change in changes.items()}
    return {**values, **both}
