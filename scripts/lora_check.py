#!/usr/bin/env python3
"""
Run the LoRA recipe at the true width of the 1.3B, without its weights, and check what comes out.

    scripts/lora_check.py --data scenes/orbits --out lora_check

Writes a base in the published layout with random weights, cut to two layers (width 1536, 12 heads,
feed-forward 8960), makes it a model folder (`dkt prepare`), trains a LoRA of rank 128 on latents
of small clips (`dkt train`), kills that run on the way and resumes it. Then: did the loss fall,
did the steps made twice agree to the last digit, has the LoRA the released keys and shapes, does
it load in `DKTPipeline` and in `dkt prepare`? Leaves report.json and loss.png.
"""
from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import rich
import torch
import yaml
from safetensors.torch import load_file, save_file

from dkt_ros.model.lora import PARTS, merge_lora_file
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.model.random_weights import random_pipeline
from dkt_ros.model.released import (
    BLOCK_NAMES,
    RESIDUAL_NAMES,
    TRANSFORMER_NAMES,
    VAE_MIDDLE,
    VAE_NAMES,
    convert_vae,
    transformer_key,
)
from dkt_ros.provenance import write_json

LAYERS, RANK, WIDTH, WIDE = 2, 128, 1536, 8960
HEAD = 20
"""Steps averaged at the beginning and at the end of the curve."""


def main() -> None:
    """Do it all; exit with 1 if a check fails."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--data', type=Path, required=True, help='scenes to learn from')
    parser.add_argument('--out', type=Path, default=Path('lora_check'))
    parser.add_argument('--steps', type=int, default=200)
    parser.add_argument('--batch-size', type=int, default=2)
    parser.add_argument('--size', default='96x64', help='WxH of the clips')
    parser.add_argument('--learning-rate', type=float, default=3e-4)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = write_base(options.out / 'base')
    dkt('prepare', '--base', options.out / 'base', '--prompt-rows', rows, '--tasks', 'depth',
        '--dtype', 'float32', '--out', options.out / 'model')
    report = train(options)
    report |= check_lora(options.out, rows)
    write_json(options.out / 'report.json', report)
    rich.print_json(data=report)
    sys.exit(not all(value for key, value in report.items() if key.startswith('is_')))


def dkt(*arguments: object) -> None:
    """Run one command of the command line."""
    subprocess.run([sys.executable, '-m', 'dkt_ros.cli', *map(str, arguments)], check=True)


def write_base(folder: Path) -> Path:
    """Write the published files with random weights; return the file of the prompt rows."""
    folder.mkdir(parents=True, exist_ok=True)
    pipeline = random_pipeline('1.3b', LAYERS)
    names = {new: old for old, new in TRANSFORMER_NAMES.items()}
    blocks = {new: old for old, new in BLOCK_NAMES.items()}
    state = {published_key(key, names, blocks): value
             for key, value in pipeline.transformer.state_dict().items()}
    save_file(state, folder / 'diffusion_pytorch_model.safetensors')
    save_file(published_vae(pipeline.vae.state_dict()), folder / 'Wan2.1_VAE.safetensors')
    rows = folder / 'rows.safetensors'
    save_file({'depth': pipeline.prompt_rows.rows['depth'].detach()}, rows)
    return rows


def published_key(key: str, names: dict[str, str], blocks: dict[str, str]) -> str:
    """Return the published name of one of diffusers'; `transformer_key` is its inverse."""
    if key == 'scale_shift_table':
        return 'head.modulation'
    name, _, kind = key.rpartition('.')
    if not key.startswith('blocks.'):
        return f'{names[name]}.{kind}'
    _, index, rest = key.split('.', 2)
    part, _, kind = rest.rpartition('.')
    old = f'blocks.{index}.' + (f'{blocks[part]}.{kind}' if part else 'modulation')
    assert transformer_key(old) == key
    return old


def published_vae(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Name the tensors of a VAE as Wan 2.1's are; `convert_vae` is its inverse."""
    blocks = {key.split('.')[4] for key in state if key.startswith('decoder.up_blocks.0.resnets')}
    renamed = {published_vae_key(key, len(blocks) + 1): value for key, value in state.items()}
    assert convert_vae(renamed).keys() == state.keys()
    return renamed


def published_vae_key(key: str, blocks_per_level: int) -> str:
    """Return the published name of a tensor of diffusers' VAE."""
    for names in (RESIDUAL_NAMES, VAE_NAMES, {f'middle.{k}': f'mid_block.{v}'
                                             for k, v in VAE_MIDDLE.items()}):
        for old, new in names.items():
            if f'.{new}.' in f'.{key}':
                key = f'.{key}'.replace(f'.{new}.', f'.{old}.', 1)[1:]
    key = key.replace('.down_blocks.', '.downsamples.')
    if '.up_blocks.' not in key:
        return key
    part, _, level, kind, place, rest = key.split('.', 5)
    place = int(place) if kind == 'resnets' else blocks_per_level - 1
    return f'{part}.upsamples.{int(level) * blocks_per_level + place}.{rest}'


def train(options: argparse.Namespace) -> dict:
    """Train, kill the run a few steps after its checkpoint, resume it; return what was seen."""
    width, height = map(int, options.size.split('x'))
    run = options.out / 'run'
    config = options.out / 'lora.yaml'
    config.write_text(yaml.safe_dump({
        'recipe': 'lora', 'base': str(options.out / 'model'), 'run': str(run),
        'cache': str(options.out / 'latents'), 'data': [{'path': str(options.data)}],
        'rank': RANK, 'width': width, 'height': height, 'max_clip_latents': 2,
        'steps': options.steps, 'batch_size': options.batch_size, 'log_every': 1,
        'learning_rate': options.learning_rate, 'warmup_steps': 10,
        'checkpoint_every': options.steps // 2, 'trackers': []}))
    memory = watch(config, run, until=options.steps // 2 + 4)
    memory += watch(config, run, '--resume')
    records = [json.loads(line) for line in (run / 'log.jsonl').read_text().splitlines()]
    losses: dict[int, list[float]] = {}
    for record in records:
        losses.setdefault(record['step'], []).append(record['loss'])
    twice = [values for values in losses.values() if len(values) > 1]
    curve = [values[-1] for _, values in sorted(losses.items())]
    draw(options.out / 'loss.png', curve)
    first, last = float(np.mean(curve[:HEAD])), float(np.mean(curve[-HEAD:]))
    half = len(memory) // 2
    return {'steps': len(curve), 'loss_first': first, 'loss_last': last,
            'is_falling': last < first, 'steps_made_twice': len(twice),
            'is_resume_exact': bool(twice) and all(len(set(values)) == 1 for values in twice),
            'seconds_a_step': records[-1]['seconds_a_step'],
            'peak_mb': max(memory), 'peak_first_half_mb': max(memory[:half])}


def watch(config: Path, run: Path, *arguments: str, until: int | None = None) -> list[float]:
    """Run `dkt train`, to its end or killed after a step; return its memory [MB] each second."""
    log, memory = run / 'log.jsonl', []
    process = subprocess.Popen([sys.executable, '-m', 'dkt_ros.cli', 'train', str(config),
                                *arguments])
    while process.poll() is None:
        memory.append(psutil.Process(process.pid).memory_info().rss / 1e6)
        time.sleep(1.0)
        if until is not None and log.is_file() and len(log.read_text().splitlines()) >= until:
            process.kill()
    if process.returncode and until is None:
        raise SystemExit(f'dkt train ended with {process.returncode}')
    return memory


def check_lora(out: Path, rows: Path) -> dict:
    """Load what was saved in the released layout: in the pipeline, and in `dkt prepare`."""
    path = out / 'run' / 'lora.safetensors'
    sizes = {'ffn.0': (WIDE, WIDTH), 'ffn.2': (WIDTH, WIDE)}
    expected = {}
    for block in range(LAYERS):
        for part in PARTS:
            up, down = sizes.get(part, (WIDTH, WIDTH))
            expected[f'blocks.{block}.{part}.lora_A.default.weight'] = (RANK, down)
            expected[f'blocks.{block}.{part}.lora_B.default.weight'] = (up, RANK)
    found = {key: tuple(value.shape) for key, value in load_file(path).items()}
    pipeline = DKTPipeline.from_pretrained(out / 'model')
    merged = merge_lora_file(pipeline.transformer, path)
    dkt('prepare', '--base', out / 'base', '--lora', path, '--prompt-rows', rows, '--tasks',
        'depth', '--dtype', 'float32', '--out', out / 'merged')
    prepared = DKTPipeline.from_pretrained(out / 'merged').transformer.state_dict()
    same = all(torch.allclose(value, prepared[key], atol=1e-6)
               for key, value in pipeline.transformer.state_dict().items())
    return {'is_layout_released': found == expected, 'weights_changed': merged,
            'is_merged_alike': same, 'lora_mb': path.stat().st_size / 1e6}


def draw(path: Path, curve: list[float]) -> None:
    """Draw the loss of each step and its running mean."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure(figsize=(7, 3.5), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(range(1, len(curve) + 1), curve, linewidth=0.6, label='a step')
    if len(curve) >= HEAD:
        mean = np.convolve(curve, np.full(HEAD, 1 / HEAD), 'valid')
        axes.plot(np.arange(len(mean)) + HEAD, mean, label=f'mean of {HEAD}')
    axes.set_xlabel('step')
    axes.set_ylabel('weighted loss')
    axes.legend()
    figure.savefig(path, dpi=110)


if __name__ == '__main__':
    main()
