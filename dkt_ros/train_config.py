"""Options of `dkt train` for a small model of its own, as dkt-tiny: its shape, stages and data."""
from __future__ import annotations

from dataclasses import dataclass

from dkt_ros.options import Config, option


@dataclass(frozen=True)
class VaeConfig(Config):
    """Shape of dkt-tiny's VAE (`AutoencoderKLWan`, Wan 2.2's patchified form)."""

    patch_size: int = option(4, 'Pixels folded into channels before the first convolution.',
                             choices=(1, 2, 4))
    base_dim: int = option(48, 'Channels of the finest encoder level.', minimum=8, maximum=512)
    decoder_base_dim: int = option(40, 'Channels of the finest decoder level.', minimum=8,
                                   maximum=512)
    dim_mult: tuple[int, ...] = option((1, 2, 2), 'Channel multiplier of each level.', minimum=1)
    num_res_blocks: int = option(1, 'Residual blocks a level.', minimum=1, maximum=8)
    z_dim: int = option(48, 'Latent channels.', minimum=4, maximum=128)


@dataclass(frozen=True)
class TransformerConfig(Config):
    """Shape of dkt-tiny's DiT (`WanTransformer3DModel`)."""

    patch_size: int = option(1, 'Latent pixels a token, along each side.', choices=(1, 2))
    num_heads: int = option(4, 'Attention heads.', minimum=1, maximum=64)
    head_dim: int = option(64, 'Channels a head.', minimum=12, maximum=256)
    ffn_dim: int = option(768, 'Width of the feed-forward layers.', minimum=16, maximum=32768)
    num_layers: int = option(6, 'Transformer blocks.', minimum=1, maximum=64)
    text_dim: int = option(32, 'Channels of a prompt row.', minimum=2, maximum=8192)
    freq_dim: int = option(128, 'Channels of the timestep embedding.', minimum=8, maximum=1024)


@dataclass(frozen=True)
class StageConfig(Config):
    """One stage of training."""

    kind: str = option('flow', 'What is learnt: the VAE, flow matching on its latents, or one '
                       'step end to end through the VAE; `sensor`: its encoder alone.',
                       choices=('vae', 'flow', 'sensor', 'e2e'))
    steps: int = option(1000, 'Optimiser steps.', minimum=1, maximum=10_000_000)
    batch_size: int = option(8, 'Clips a step.', minimum=1, maximum=4096)
    num_frames: int = option(1, 'Frames a clip: 4 N + 1.', minimum=1, maximum=81)
    stills: int = option(0, 'Stills a step beside the clips, so that learning from few clips '
                         'forgets nothing.', minimum=0, maximum=4096)
    height: int = option(144, 'Image height [px].', minimum=16, maximum=2160)
    width: int = option(192, 'Image width [px].', minimum=16, maximum=3840)
    learning_rate: float = option(5e-4, 'Peak learning rate.', minimum=0.0, maximum=1.0)
    warmup_steps: int = option(100, 'Steps of linear warm-up.', minimum=0, maximum=100_000)
    decay: float = option(0.25, 'Last share of the steps over which the rate falls to zero.',
                          minimum=0.0, maximum=1.0)
    drift_share: float = option(0.0, 'Share of clips that are made of single views, through a '
                                'window that drifts over them.', minimum=0.0, maximum=1.0)
    crop: float = option(0.65, 'Smallest part of an image that a clip shows, as a share of its '
                         'width; 1 shows it whole, at its own focal length.', minimum=0.2,
                         maximum=1.0)
    object_weight: float = option(4.0, 'Weight of transparent pixels in the pixel losses; other '
                                  'things weigh half as much, the background 1.', minimum=1.0,
                                  maximum=100.0)
    sensor_share: float = option(0.8, 'Share of clips with which the network is told what the '
                                 'depth camera saw, with `sensor_prompt`.', minimum=0.0,
                                 maximum=1.0)
    weight_decay: float = option(0.01, 'Decay of the weights, as a multiple of the learning rate.',
                                 minimum=0.0, maximum=10.0)
    optimizer: str = option('adamw', 'AdamW for everything, or Muon for the matrices of the DiT.',
                            choices=('adamw', 'muon'))


@dataclass(frozen=True)
class TrainConfig(Config):
    """What `dkt train` does; written into the run, it rebuilds the run."""

    data: tuple[str, ...] = option((), 'Folders of scene folders.')
    run: str = option('', 'Folder of the run; empty makes runs/<name> in the cache.')
    name: str = option('dkt-tiny', 'Name of the model.')
    initial_model: str = option('', 'Model folder whose weights training starts from; its shape '
                                'must be that of `vae` and `transformer`. Empty starts afresh.')
    seed: int = option(0, 'Seed of weights, data and noise.', minimum=0, maximum=2**31 - 1)
    threads: int = option(0, 'Processor threads; 0 takes all.', minimum=0, maximum=1024)
    bf16: bool = option(True, 'Compute in bfloat16 where autocast allows it.')
    compile: bool = option(False, 'Compile the networks with torch.compile for stages of stills; '
                           'needs a C++ compiler.')
    held_out: int = option(12, 'Scenes kept for validation, the last in order of name.',
                           minimum=1, maximum=10000)
    depth_share: float = option(0.7, 'Share of clips that train depth; the rest train normals.',
                                minimum=0.0, maximum=1.0)
    ema_decay: float = option(0.998, 'Decay of the averaged weights.', minimum=0.0,
                              maximum=0.99999)
    kl_weight: float = option(1e-5, 'Weight of the KL term of the VAE.', minimum=0.0, maximum=1.0)
    schedule_shift: float = option(5.0, 'Shift of the flow-matching schedule.', minimum=0.1,
                                   maximum=100.0)
    checkpoint_every: int = option(200, 'Steps between checkpoints.', minimum=1, maximum=1_000_000)
    validate_every: int = option(400, 'Steps between validations.', minimum=1, maximum=1_000_000)
    validation_clips: int = option(24, 'Held-out stills a validation; clips are fewer.', minimum=6,
                                   maximum=10000)
    sensor_prompt: bool = option(False, 'Give the DiT as many input channels again for what a '
                                 'depth camera saw, and an encoder for it.')
    vae: VaeConfig = option(VaeConfig(), 'Shape of the VAE.')
    transformer: TransformerConfig = option(TransformerConfig(), 'Shape of the DiT.')
    stages: list = option([], 'Stages in order, each a mapping of StageConfig options.')
