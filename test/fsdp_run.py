"""What each of two processes does in test_train_fsdp.py: runs whose weights they share out."""
from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from lora_run import begin_and_die, make_config

from dkt_ros.tools.train.lora import run_lora
from dkt_ros.tools.train.sharding import open_base

STEPS = 6


def sharded(root, name, **changes):
    """Options of a run with averaging, checkpointing of gradients and two parts a step."""
    return make_config(root, **{'run': str(root / name), 'steps': STEPS, 'fsdp': True,
                                'ema_decay': 0.9, 'accumulate': 2, **changes})


def held_at_death(root, config):
    """Stop between two checkpoints; return what this process held meanwhile."""
    base = open_base(config)
    read = not any(p.is_meta for p in base.transformer.parameters())
    trainer = begin_and_die(root, config, base)
    weights = list(base.transformer.parameters())
    moments = [state['exp_avg'] for state in trainer.optimizer.state.values()]
    return {'read': read, 'total': sum(p.numel() for p in weights),
            'held': sum(p.to_local().numel() for p in weights),
            'in_memory': sum(p.to_local().untyped_storage().nbytes() // 4 for p in weights),
            'learnt': sum(p.numel() for p in trainer.parameters),
            'learnt_here': sum(p.to_local().numel() for p in trainer.parameters),
            'moments': sum(m.to_local().numel() for m in moments),
            'average': sum(p.numel() for p in trainer.average.shadow_params)}


def main():
    root = Path(sys.argv[1])
    torch.set_num_threads(1)
    run_lora(sharded(root, 'two'))
    held = held_at_death(root, sharded(root, 'broken'))
    (root / f'held-{os.environ["RANK"]}.json').write_text(json.dumps(held))
    run_lora(sharded(root, 'broken'), resume=True)
    run_lora(sharded(root, 'bf16', steps=1, mixed_precision='bf16', validation_clips=1,
                     validation=[{'path': str(root / 'held_out')}], validation_latents=2,
                     num_inference_steps=2))
    run_lora(sharded(root, 'full', steps=2, method='full'))


if __name__ == '__main__':
    main()
