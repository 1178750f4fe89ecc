"""
The stages of a frame as calls: for timing, and on networks without memory for counting.

Everything is at the shapes of a window after the first one, with the VAE's caches full.
"""
from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKLWan

from dkt_ros.model import imaging
from dkt_ros.model.causal_vae import (
    CausalVAEDecoder,
    CausalVAEEncoder,
    spatial_ratio,
    temporal_ratio,
)
from dkt_ros.model.float8 import input_dtype
from dkt_ros.model.folded import FoldedTransformer
from dkt_ros.model.folding import fold
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.model.sensor_encoder import CHANNELS, SensorEncoder, with_sensor
from dkt_ros.model.tiny_decoder import TinyDecoderStream
from dkt_ros.model.windows import WindowShape
from dkt_ros.tools.bench_reference import (
    count_flops,
    on_meta,
    prompts_on_meta,
    seconds_in_turn,
    shapes_like,
)

WARM_UPS = 4
CAMERA_SIZE = (480, 640)

Call = Callable[[], object]


@dataclass(frozen=True)
class Plan:
    """
    What is asked of the stages.

    Attributes
    ----------
    window : WindowShape
        Latents of a window.
    height, width : int
        Working size [px].
    overlap : str
        One of `OVERLAPS`.
    is_joint : bool
        Whether every latent of a window needs its velocity, as in the reference's windows.

    """

    window: WindowShape
    height: int
    width: int
    overlap: str = 'recompute'
    is_joint: bool = False


@dataclass(frozen=True)
class Branch:
    """One VAE and the networks behind it, each with its tasks."""

    vae: AutoencoderKLWan
    encoder: CausalVAEEncoder
    decoder: CausalVAEDecoder | TinyDecoderStream
    networks: list[tuple[FoldedTransformer, list[str]]]
    sensor_encoders: list[SensorEncoder]

    @property
    def batch(self) -> int:
        """Rows that are decoded at once."""
        return sum(len(tasks) for _, tasks in self.networks)


def timed_tasks(pipeline: DKTPipeline) -> tuple[str, ...]:
    """Return the first task, and normals where a model beside has them."""
    beside = pipeline.normals_model is not None
    return ('depth', 'normal') if beside else pipeline.tasks[:1]


def branches(pipeline: DKTPipeline, without_memory: bool = False) -> list[Branch]:
    """Return the networks of the timed tasks, or networks of the same shapes without memory."""
    found: dict[int, Branch] = {}
    for task in timed_tasks(pipeline):
        model = pipeline.model_of(task)
        if id(model.vae) not in found:
            found[id(model.vae)] = _shapes_of(model) if without_memory else Branch(
                model.vae, model.open_encoder(), model.open_decoder(), [], [])
        network = fold(on_meta(model.transformer), prompts_on_meta(model.prompt_rows),
                       model.sensor_channels) if without_memory else model.folded()
        found[id(model.vae)].networks.append((network, [task]))
        told = model.sensor_encoder
        if told is not None:
            found[id(model.vae)].sensor_encoders.append(
                shapes_like(SensorEncoder, told) if without_memory else told)
    return list(found.values())


def _shapes_of(model: DKTPipeline) -> Branch:
    vae = shapes_like(AutoencoderKLWan, model.vae)
    decoder = CausalVAEDecoder(vae)
    if model.tiny_decoder is not None:
        decoder = TinyDecoderStream(copy.deepcopy(model.tiny_decoder).to('meta'))
    return Branch(vae, CausalVAEEncoder(vae), decoder, [], [])


def stage_calls(parts: list[Branch], plan: Plan) -> dict[str, Call]:
    """Return one latent encoded, one evaluation, one latent decoded and a frame's rest."""
    window, ratio = plan.window, spatial_ratio(parts[0].vae)
    device, count = parts[0].vae.device, temporal_ratio(parts[0].vae)
    h, w = plan.height // ratio, plan.width // ratio
    frames = torch.zeros(1, 3, count, plan.height, plan.width, device=device)
    seen = torch.ones(1, CHANNELS, count, plan.height, plan.width, device=device)
    latents = [torch.randn(part.batch, part.vae.config.z_dim, 1, h, w, device=device)
               for part in parts]

    def encode() -> None:
        for part in parts:
            if window.is_single:
                part.encoder.reset()
            new = slice(part.encoder.num_frames)
            rgb = part.encoder.encode(frames[:, :, new])
            for encoder in part.sensor_encoders:
                with_sensor(rgb, encoder, seen[:, :, new])

    def decode() -> None:
        for part, latent in zip(parts, latents, strict=True):
            if window.is_single:
                part.decoder.reset()
            part.decoder.decode(latent)

    for _ in range(0 if window.is_single else WARM_UPS):
        encode()
        decode()
    return {'encode': encode, 'dit': _network_call(parts, plan, (h, w)), 'decode': decode,
            'rest': _rest(plan, device)}


def _network_call(parts: list[Branch], plan: Plan, size: tuple[int, int]) -> Call:
    """Return one evaluation of each transformer for a window."""
    window, timestep = plan.window, torch.tensor(1000.0)
    evaluate = []
    for part in parts:
        shape = (window.window_latents, *size)
        for network, tasks in part.networks:
            latents = torch.randn(1, part.vae.config.z_dim, *shape, device=part.vae.device)
            told = torch.randn(1, network.condition_channels, *shape, device=part.vae.device)
            if plan.overlap != 'cache' or not window.overlap_latents:
                is_whole = plan.is_joint or plan.overlap == 'align'
                held = 0 if is_whole else window.overlap_latents
                evaluate.append(_bound(network.velocity(told, tasks, held), latents, timestep))
                continue
            counts = window.overlap_latents, window.new_latents
            (old, new), before = latents.split(counts, dim=2), counts[0]
            old_told, new_told = told.split(counts, dim=2)
            _, past = network.velocity_after(old_told, tasks, 0, before)(old, timestep, None)
            velocity = network.velocity_after(new_told, tasks, before, before)
            evaluate.append(_bound(velocity, new, timestep, past))
    return _all(evaluate)


def _bound(function: Callable, *arguments: object) -> Call:
    return lambda: function(*arguments)


def _all(calls: list[Call]) -> Call:
    def call() -> None:
        for part in calls:
            part()
    return call


def _rest(plan: Plan, device: torch.device) -> Call:
    picture = np.random.default_rng(0).integers(0, 256, (1, *CAMERA_SIZE, 3), dtype=np.uint8)
    video = torch.zeros(3, 1, plan.height, plan.width, device=device)

    def rest() -> None:
        imaging.to_maps(video, 'depth')
        imaging.to_video(imaging.resize_rgb(picture, plan.height, plan.width)).to(device)

    return rest


@torch.no_grad()
def count_work(pipeline: DKTPipeline, plan: Plan) -> dict[str, float]:
    """Return the FLOPs of the networks' stages, as `stage_calls` names them."""
    calls = stage_calls(branches(pipeline, without_memory=True), plan)
    del calls['rest']
    for call in calls.values():
        call()
    return {name: count_flops(call) for name, call in calls.items()}


@torch.no_grad()
def compare_overlap(pipeline: DKTPipeline, size: tuple[int, int], window: WindowShape,
                    repeats: int) -> dict:
    """
    Count and time one step of a live window with its overlap recomputed and in a cache.

    Parameters
    ----------
    pipeline : DKTPipeline
        Folded or not.
    size : tuple of int
        Width and height [px].
    window : WindowShape
        With an overlap.
    repeats : int
        Rounds that are timed.

    Returns
    -------
    dict
        `tflop` and `step_ms`, each (recompute, cache). `ratio`, cache over recompute: the median
        over the rounds.

    """
    plans = [Plan(window, size[1], size[0], overlap) for overlap in ('recompute', 'cache')]
    latent = tuple(n // spatial_ratio(pipeline.vae) for n in size[::-1])

    def calls_of(without_memory: bool) -> list[Call]:
        parts = branches(pipeline, without_memory)
        return [_network_call(parts, plan, latent) for plan in plans]

    counted = calls_of(without_memory=True)
    for call in counted:
        call()
    work = [count_flops(call) for call in counted]
    times = seconds_in_turn(calls_of(without_memory=False), pipeline.vae.device, repeats)
    return {'size': list(size), 'tflop': [flops / 1e12 for flops in work],
            'step_ms': [1e3 * statistics.median(found) for found in times],
            'ratio': statistics.median(b / a for a, b in zip(*times, strict=True))}


def past_bytes(pipeline: DKTPipeline, plan: Plan) -> int:
    """Return what the keys and values of the overlap take, for one step."""
    if plan.overlap != 'cache':
        return 0
    total, ratio = 0, spatial_ratio(pipeline.vae)
    for task in timed_tasks(pipeline):
        network = pipeline.model_of(task).folded()
        tokens = plan.window.overlap_latents * (plan.height // ratio) * (plan.width // ratio)
        patch, dtype = network.config.patch_size, input_dtype(network.blocks[0].qkv)
        tokens //= patch[0] * patch[1] * patch[2]
        total += 2 * len(network.blocks) * tokens * network.proj_out.in_features * dtype.itemsize
    return total
