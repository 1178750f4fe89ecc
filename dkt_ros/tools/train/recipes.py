"""Which recipe a configuration file asks for: dkt-tiny from scratch, or a LoRA."""
from __future__ import annotations

from pathlib import Path

from dkt_ros.errors import UserError
from dkt_ros.lora_config import LoraTrainConfig
from dkt_ros.train_config import TrainConfig


def run_recipe(path: str | Path, resume: bool = False) -> Path:
    """
    Train as a YAML file says; `recipe: lora` is the published recipe, without it dkt-tiny's.

    Returns
    -------
    Path
        The model folder, or the LoRA's file.

    """
    values = TrainConfig.read_yaml(path)
    recipe = values.get('recipe', 'tiny') if isinstance(values, dict) else 'tiny'
    if recipe == 'tiny':
        config = TrainConfig.from_yaml(path)
        from dkt_ros.tools.train.loop import run_train
        return run_train(config, resume)
    if recipe != 'lora':
        raise UserError(f"{path}: recipe is {recipe!r}; allowed: 'lora', or none for dkt-tiny")
    config = LoraTrainConfig.from_dict(values, str(path))
    from dkt_ros.tools.train.lora import run_lora
    return run_lora(config, resume)
