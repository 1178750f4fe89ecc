"""
What folding is worth, and what the network costs as the reference runs it.

Both sides of a comparison are timed in turn, call by call: what else a machine does meanwhile
slows both, and the median of the ratios stays.
"""
from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from diffusers import WanTransformer3DModel
from torch.utils.flop_counter import FlopCounterMode

from dkt_ros.model.causal_vae import spatial_ratio
from dkt_ros.model.faithful import FAITHFUL_WINDOW
from dkt_ros.model.folded import FoldedTransformer
from dkt_ros.model.folding import fold
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.model.prompt import PromptRows

NUM_IMAGE_TOKENS = 257
TEXT_ENCODER_BYTES = 11_400_000_000

Call = Callable[[], object]


def seconds_in_turn(calls: Sequence[Call], device: torch.device,
                    repeats: int) -> list[list[float]]:
    """Time calls one after the other, `repeats` rounds after one that is not counted [s]."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats + 1):
        for call, found in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            if torch.device(device).type == 'cuda':
                torch.cuda.synchronize(device)
            found.append(time.perf_counter() - start)
    return [found[1:] for found in times]


def count_flops(call: Call) -> float:
    """Return the floating-point operations of a call: matrix products, attention, convolutions."""
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def on_meta(transformer: WanTransformer3DModel | FoldedTransformer) -> WanTransformer3DModel:
    """Return the network as it is or was before it was folded, without memory."""
    return shapes_like(WanTransformer3DModel, transformer, num_layers=len(transformer.blocks))


def shapes_like(kind: type, module: torch.nn.Module, **changes) -> torch.nn.Module:
    """Return a network of the same configuration, but for `changes`, without memory."""
    with torch.device('meta'):
        network = kind.from_config(module.config, **changes)
    return network.to('meta')


def prompts_on_meta(prompts: PromptRows) -> PromptRows:
    """Return prompt rows of the same shapes, without memory."""
    config = prompts.config
    with torch.device('meta'):
        return PromptRows(config.tasks, config.num_rows, config.text_dim,
                          config.num_text_tokens).to('meta')


def unfolded_call(network: WanTransformer3DModel, prompts: PromptRows,
                  size: tuple[int, int, int]) -> Call:
    """
    Return one evaluation as the reference makes it: all text and image tokens, zero channels.

    Parameters
    ----------
    network : WanTransformer3DModel
        Not folded.
    prompts : PromptRows
        The first task is taken.
    size : tuple of int
        Latents, rows and columns of a window.

    """
    config, device, dtype = network.config, network.device, network.dtype
    inputs = torch.randn(1, config.in_channels, *size, device=device, dtype=dtype)
    text = prompts(prompts.tasks[:1]).to(device, dtype)
    image = None if config.image_dim is None else \
        inputs.new_zeros(1, NUM_IMAGE_TOKENS, config.image_dim)
    timestep = torch.full((1,), 1000.0, device=device, dtype=dtype)
    return lambda: network(inputs, timestep, text, image, return_dict=False)


def folded_call(network: FoldedTransformer, z: int, size: tuple[int, int, int]) -> Call:
    """Return one evaluation of a folded network; what steps of a window share is made before."""
    latents = torch.randn(1, z, *size, device=network.device)
    condition = torch.randn(1, network.condition_channels, *size, device=network.device)
    velocity = network.velocity(condition, network.tasks[:1])
    timestep = torch.tensor(1000.0)
    return lambda: velocity(latents, timestep)


@torch.no_grad()
def compare_folded(pipeline: DKTPipeline, size: tuple[int, int], window_latents: int,
                   repeats: int) -> dict:
    """
    Count and time one step before and after folding, both eager and in the same arithmetic.

    Parameters
    ----------
    pipeline : DKTPipeline
        With its transformer as it was loaded.
    size : tuple of int
        Width and height [px].
    window_latents : int
        Latents of a window.
    repeats : int
        Pairs that are timed.

    Returns
    -------
    dict
        `tflop` and `step_ms`, each (before, after), and `ratio`, after over before: the median
        over the pairs.

    """
    ratio, z = spatial_ratio(pipeline.vae), pipeline.vae.config.z_dim
    latents = (window_latents, size[1] // ratio, size[0] // ratio)
    network, prompts = pipeline.transformer, pipeline.prompt_rows
    bare, rows = on_meta(network), prompts_on_meta(prompts)
    told = pipeline.sensor_channels
    after = folded_call(fold(bare, rows, told), z, latents)
    after()
    work = [count_flops(call) for call in (unfolded_call(bare, rows, latents), after)]
    calls = (unfolded_call(network, prompts, latents),
             folded_call(fold(network, prompts, told), z, latents))
    times = seconds_in_turn(calls, network.device, repeats)
    return {'size': list(size), 'window_latents': window_latents,
            'tflop': [flops / 1e12 for flops in work],
            'step_ms': [1e3 * statistics.median(found) for found in times],
            'ratio': statistics.median(b / a for a, b in zip(*times, strict=True))}


@torch.no_grad()
def reference_step(pipeline: DKTPipeline, size: tuple[int, int], repeats: int) -> float:
    """
    Time one evaluation as the reference runs it [s]: nothing folded, rotary tables in float64.

    On a GPU with room for it the bytes of the text encoder, which the reference keeps, are held.
    The VAE and the rest are not timed again: the ratio is that of the network.
    """
    network, ratio = pipeline.transformer, spatial_ratio(pipeline.vae)
    tables = network.rope.freqs_cos, network.rope.freqs_sin
    network.rope.freqs_cos, network.rope.freqs_sin = (table.double() for table in tables)
    call = unfolded_call(network, pipeline.prompt_rows,
                         (FAITHFUL_WINDOW[0], size[1] // ratio, size[0] // ratio))
    resident = _hold_text_encoder(network.device)
    seconds = statistics.median(seconds_in_turn([call], network.device, repeats)[0])
    del resident
    network.rope.freqs_cos, network.rope.freqs_sin = tables
    return seconds


def _hold_text_encoder(device: torch.device) -> torch.Tensor | None:
    if device.type != 'cuda' or torch.cuda.mem_get_info(device)[0] < 2 * TEXT_ENCODER_BYTES:
        return None
    return torch.empty(TEXT_ENCODER_BYTES, dtype=torch.uint8, device=device)
