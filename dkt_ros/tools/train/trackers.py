"""Curves and pictures of a run, besides its log: TensorBoard, Weights & Biases."""
from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from dkt_ros.errors import UserError
from dkt_ros.lora_config import LoraTrainConfig
from dkt_ros.provenance import plain


class Trackers:
    """
    Sends figures and pictures wherever the configuration says; nowhere from other processes.

    Parameters
    ----------
    config : LoraTrainConfig
        Its `trackers`, and what is written down about the run.
    run : Path
        The folder of the run; TensorBoard's files go to run/tensorboard.
    is_main : bool
        True in one process only.

    """

    def __init__(self, config: LoraTrainConfig, run: Path, is_main: bool) -> None:
        self._writer = self._wandb = None
        for name in config.trackers:
            if find_spec(name) is None:
                raise UserError(f'tracker {name!r} is not installed; pip install {name}, or leave '
                                'it out of `trackers`')
        if is_main and 'tensorboard' in config.trackers:
            from torch.utils.tensorboard import SummaryWriter
            self._writer = SummaryWriter(str(run / 'tensorboard'))
        if is_main and 'wandb' in config.trackers:
            import wandb
            self._wandb = wandb.init(project='dkt_ros', name=config.name, dir=str(run),
                                     config=plain(config.to_dict()), resume='allow',
                                     id=config.name)

    def figures(self, figures: dict[str, float], step: int, group: str = 'train') -> None:
        """Add a point to each curve."""
        named = {f'{group}/{name}': value for name, value in figures.items()}
        if self._writer is not None:
            for name, value in named.items():
                self._writer.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(named, step=step)

    def picture(self, name: str, image: np.ndarray, step: int) -> None:
        """Add a picture (H, W, 3) uint8."""
        if self._writer is not None:
            self._writer.add_image(name, image, step, dataformats='HWC')
        if self._wandb is not None:
            import wandb
            self._wandb.log({name: wandb.Image(image)}, step=step)

    def close(self) -> None:
        """Write what waits."""
        if self._writer is not None:
            self._writer.close()
        if self._wandb is not None:
            self._wandb.finish()
