#!/usr/bin/env python3
"""
Time the choices that depend on card and build, by themselves, at the shapes of the 1.3B.

    scripts/gpu_choices.py --device cuda --json choices.json

Layout of the VAE (channels first or last), attention backends, and a feed-forward product in
bfloat16 or in fp8 with its quantisation. `--toy` takes small shapes, for a CPU.
"""
from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from dkt_ros.model.causal_vae import CausalVAEDecoder
from dkt_ros.model.random_weights import random_pipeline
from dkt_ros.provenance import write_json
from dkt_ros.tools.bench_reference import seconds_in_turn

BACKENDS = {'math': SDPBackend.MATH, 'flash': SDPBackend.FLASH_ATTENTION,
            'efficient': SDPBackend.EFFICIENT_ATTENTION, 'cudnn': SDPBackend.CUDNN_ATTENTION}
HEADS, HEAD_DIM, WIDE = 12, 128, 8960
FP8_MAX = 448.0
REPEATS = 5


def milliseconds(call: Callable[[], object], device: str) -> float | str:
    """Return the median time of a call, or why it cannot be made here."""
    try:
        found = seconds_in_turn([call], torch.device(device), REPEATS)[0]
    except (RuntimeError, NotImplementedError) as error:
        return ' '.join(str(error).split())[:80]
    return 1e3 * statistics.median(found)


def time_layouts(device: str, size: tuple[int, int]) -> dict:
    """Time one latent decoded with the weights channels first and last."""
    found = {}
    for name, layout in (('channels_first', torch.contiguous_format),
                         ('channels_last', torch.channels_last_3d)):
        vae = random_pipeline('1.3b', 1, device, torch.bfloat16).vae
        for parameter in vae.parameters():
            if parameter.ndim == 5:
                parameter.data = parameter.data.contiguous(memory_format=layout)
        decoder = CausalVAEDecoder(vae)
        latent = torch.randn(1, 16, 1, size[1] // 8, size[0] // 8, device=device)
        latent = latent.to(torch.bfloat16)
        for _ in range(3):
            decoder.decode(latent)
        found[name] = milliseconds(lambda: decoder.decode(latent), device)  # noqa: B023
    return found


def time_attention(device: str, tokens: int) -> dict:
    """Time the self-attention of one layer by each backend."""
    query = torch.randn(1, HEADS, tokens, HEAD_DIM, device=device, dtype=torch.bfloat16)
    found = {}
    for name, backend in BACKENDS.items():
        if name == 'math' and tokens > 8192:
            continue  # its matrix of logits would fill the card

        def attend(backend: SDPBackend = backend) -> torch.Tensor:
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(query, query, query)

        found[name] = milliseconds(attend, device)
    return found


def time_products(device: str, tokens: int) -> dict:
    """Time the first feed-forward product of a layer, in bfloat16 and in fp8."""
    width = HEADS * HEAD_DIM
    x = torch.randn(tokens, width, device=device, dtype=torch.bfloat16)
    weight = torch.randn(WIDE, width, device=device, dtype=torch.bfloat16) / width ** 0.5
    scale = (weight.abs().amax(1, keepdim=True) / FP8_MAX).float()
    small = (weight / scale).to(torch.float8_e4m3fn)

    def fp8() -> torch.Tensor:
        of_x = (x.abs().amax(1, keepdim=True) / FP8_MAX).float()
        return torch._scaled_mm((x / of_x).to(torch.float8_e4m3fn), small.T, scale_a=of_x,
                                scale_b=scale.T, out_dtype=torch.bfloat16)

    return {'bfloat16': milliseconds(lambda: F.linear(x, weight), device),
            'fp8': milliseconds(fp8, device)}


@torch.no_grad()
def main() -> None:
    """Time all choices, print and store them."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--toy', action='store_true')
    parser.add_argument('--json', type=Path)
    options = parser.parse_args()
    device, size = options.device, (32, 32) if options.toy else (640, 480)
    tokens = (24, 48) if options.toy else (3 * 1200, 21 * 1560)
    found = {f'decode {size[0]}x{size[1]}': time_layouts(device, size)}
    for count in tokens:
        found[f'attention, {count} tokens'] = time_attention(device, count)
        found[f'feed-forward, {count} tokens'] = time_products(device, count)
    for name, times in found.items():
        told = (f'{key} {value:.3f} ms' if isinstance(value, float) else
                f'{key} not here ({value})' for key, value in times.items())
        sys.stdout.write(f'{name}: {"; ".join(told)}\n')
    if options.json:
        write_json(options.json, {'torch': torch.__version__, 'device': device, 'choices': found})


if __name__ == '__main__':
    main()
