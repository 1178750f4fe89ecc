"""Options of `dkt train` for the published recipe: a LoRA on a pretrained video model."""
from __future__ import annotations

from dataclasses import dataclass

from dkt_ros.errors import UserError
from dkt_ros.options import Config, option
from dkt_ros.train_config import TransformerConfig

TRACKERS = ('tensorboard', 'wandb')


@dataclass(frozen=True)
class LoraTrainConfig(Config):
    """
    What `dkt train` does with `recipe: lora`; written into the run, it rebuilds the run.

    The defaults are the published ones for the 1.3B (AdamW 1e-5, batch 8, 70 000 iterations, rank
    128, clips of 4 N + 1 frames with N uniform from 0 to 5, schedule shift 5).
    """

    recipe: str = option('lora', 'Names this recipe in the file.', choices=('lora',))
    base: str = option('', 'Model folder that is trained on; `dkt prepare` makes one of published '
                       'files.')
    data: list = option([], 'Sources, each a mapping of SourceConfig options: path, weight, '
                        'stride.')
    validation: list = option([], 'Sources that are only looked at, like `data`.')
    run: str = option('', 'Folder of the run; empty makes runs/<name> in the cache.')
    cache: str = option('', 'Folder of the latents; empty makes latents in the cache.')
    name: str = option('dkt-lora', 'Name of the run.')
    seed: int = option(0, 'Seed of weights, data and noise.', minimum=0, maximum=2**31 - 1)
    task: str = option('depth', 'What is learnt; the released models have one LoRA a task.',
                       choices=('depth', 'normal'))
    method: str = option('lora', '`full` trains every weight of the transformer instead.',
                         choices=('lora', 'full'))
    initial_weights: str = option(
        'base', '`random` begins with drawn weights of the shape `transformer`; the base then '
        'gives the VAE and the prompt rows alone.', choices=('base', 'random'))
    transformer: TransformerConfig = option(TransformerConfig(), 'For initial_weights `random`: '
                                            'shape of the DiT; text_dim is that of the base.')
    target: str = option('task', '`rgb` learns to make the colour frames from noise alone, which '
                         'is how a video model is pretrained.', choices=('task', 'rgb'))
    rank: int = option(128, 'Rank of the LoRA.', minimum=1, maximum=4096)
    height: int = option(480, 'Image height [px].', minimum=16, maximum=2160)
    width: int = option(832, 'Image width [px].', minimum=16, maximum=3840)
    max_clip_latents: int = option(6, 'Clips have 1 to this many latents, uniformly.', minimum=1,
                                   maximum=64)
    normalization: str = option(
        'minmax', 'Disparity is scaled to [-1, 1] by the valid minimum and maximum of the clip, '
        'or by its 2nd and 98th percentile.', choices=('minmax', 'percentile'))
    steps: int = option(70_000, 'Optimiser steps.', minimum=1, maximum=100_000_000)
    batch_size: int = option(8, 'Clips a step, over all processes.', minimum=1, maximum=65536)
    accumulate: int = option(1, 'Parts that the clips of a process are cut into, to save memory.',
                             minimum=1, maximum=4096)
    learning_rate: float = option(1e-5, 'Learning rate.', minimum=0.0, maximum=1.0)
    warmup_steps: int = option(0, 'Steps of linear warm-up.', minimum=0, maximum=1_000_000)
    weight_decay: float = option(0.01, 'Weight decay of AdamW.', minimum=0.0, maximum=10.0)
    max_grad_norm: float = option(1.0, 'Gradients are scaled down to this norm.', minimum=0.0,
                                  maximum=1e6)
    schedule_shift: float = option(5.0, 'Shift of the flow-matching schedule.', minimum=0.1,
                                   maximum=100.0)
    num_train_timesteps: int = option(1000, 'Noise levels of the schedule.', minimum=2,
                                      maximum=100_000)
    mixed_precision: str = option('bf16', 'Precision of the networks.', choices=('no', 'bf16'))
    fsdp: bool = option(False, 'Split weights, gradients and optimiser state among the '
                        'processes (FSDP2), for models that one GPU cannot hold; one process '
                        'holds everything.')
    gradient_checkpointing: bool = option(True, 'Compute activations twice to save memory.')
    ema_decay: float = option(0.999, 'Decay of the averaged weights; 0 keeps none.', minimum=0.0,
                              maximum=0.999999)
    log_every: int = option(10, 'Steps between lines of the log.', minimum=1, maximum=1_000_000)
    checkpoint_every: int = option(1000, 'Steps between checkpoints.', minimum=1,
                                   maximum=1_000_000)
    validate_every: int = option(1000, 'Steps between validations.', minimum=1,
                                 maximum=1_000_000)
    validation_clips: int = option(4, 'Clips a validation.', minimum=1, maximum=1000)
    validation_latents: int = option(3, 'Latents of a validation clip.', minimum=1, maximum=64)
    num_inference_steps: int = option(5, 'Denoising steps of a validation.', minimum=1,
                                      maximum=100)
    trackers: tuple[str, ...] = option(('tensorboard',), 'Where curves and pictures go besides '
                                       f'log.jsonl: {", ".join(TRACKERS)}.')

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.initial_weights == 'random' and self.method == 'lora':
            raise UserError("LoraTrainConfig.initial_weights is 'random' and method 'lora', which "
                            'would leave noise as it is; set method: full')
        if self.target == 'rgb' and self.validation:
            raise UserError("LoraTrainConfig.target is 'rgb', which has no truth to be compared "
                            'with; leave validation empty')
        for name in self.trackers:
            if name not in TRACKERS:
                raise UserError(f'LoraTrainConfig.trackers has {name!r}; allowed: '
                                f'{", ".join(TRACKERS)}')
