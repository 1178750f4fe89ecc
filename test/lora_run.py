"""A tiny base, scenes and options for LoRA runs; as a program one run, for several processes."""
from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from scene_factory import make_scene
from toy_model import HEIGHT, WIDTH, randn, toy_vae

from dkt_ros.data.mixture import SourceConfig, open_mixture
from dkt_ros.lora_config import LoraTrainConfig
from dkt_ros.model.saving import save_model_folder
from dkt_ros.provenance import model_hash
from dkt_ros.tools.train.lora import LoraTrainer, run_lora


class Killed(RuntimeError):
    pass


class Mortal(LoraTrainer):
    def train_step(self):
        if self.step == 4:
            raise Killed
        return super().train_step()


def make_base(folder):
    """Write a model of the 1.3B's form, two layers thin: noise, RGB and zeros in, image branch."""
    torch.manual_seed(3)
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, text_dim=6,
        in_channels=12, out_channels=4, freq_dim=16, ffn_dim=32, num_layers=2,
        cross_attn_norm=True, qk_norm='rms_norm_across_heads', image_dim=16, added_kv_proj_dim=24,
        rope_max_seq_len=64)
    return save_model_folder(folder, transformer, toy_vae(), {'depth': randn(1, 2, 6),
                                                              'normal': randn(2, 3, 6)}, 512,
                             torch.float32, default_height=HEIGHT, default_width=WIDTH)


def make_data(root):
    for index in range(3):
        make_scene(root / 'scenes' / f's{index}', 9, seed=index)
    make_scene(root / 'held_out' / 'v', 5, seed=77)


def make_config(root, **changes):
    values = {'base': str(root / 'base'), 'data': [{'path': str(root / 'scenes')}],
              'run': str(root / 'run'), 'cache': str(root / 'latents'), 'rank': 4,
              'height': HEIGHT, 'width': WIDTH, 'max_clip_latents': 3, 'steps': 6,
              'batch_size': 4, 'learning_rate': 2e-3, 'mixed_precision': 'no', 'log_every': 1,
              'checkpoint_every': 3, 'validate_every': 1000, 'trackers': (), **changes}
    return LoraTrainConfig(**values)


def begin_and_die(root, config, base):
    """Train a base until between two checkpoints; return the trainer as it was killed."""
    mixture = open_mixture([SourceConfig(str(root / 'scenes'))])
    trainer = Mortal(config, base, mixture, None, model_hash(root / 'base' / 'vae'))
    with pytest.raises(Killed):
        trainer.fit()
    return trainer


def main():
    torch.set_num_threads(1)
    root = Path(sys.argv[1])
    run_lora(make_config(root, run=str(root / sys.argv[2]), steps=8))


if __name__ == '__main__':
    main()
