"""What computes: the model folder of the parameters, and the perception chain around it."""
from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from dkt_ros.config import DepthNodeConfig
from dkt_ros.errors import UserError
from dkt_ros.frame import DepthEstimate, Frame
from dkt_ros.nodes.diagnostics import loaded_torch

WARM_UP_SIZE = (480, 640)
# These prepare a step at the first use of its shape; by the third window all have been used.
PREPARED = ('compile', 'onnxruntime', 'tensorrt')
WINDOWS_TO_PREPARE = 3


class PerceptionLike(Protocol):
    """The part of `dkt_ros.perception.Perception` that a node uses."""

    wanted: frozenset[str]
    pose_of: Callable[[Frame], np.ndarray | None] | None

    def advance(self, frame: Frame) -> list:
        """Take a frame; return one thing for each frame of full windows, for `denoise`."""

    def drain(self) -> list:
        """Return one thing for each frame that waits for the rest of its window."""

    def denoise(self, pending: list) -> list:
        """Do what comes before `decode`; runs in a thread of its own."""

    def decode(self, pending: Iterable) -> list[DepthEstimate]:
        """Return the estimates, their maps not yet made; runs in a thread of its own."""

    def complete(self, estimates: Iterable[DepthEstimate]) -> Iterable[DepthEstimate]:
        """Give the estimates their maps, one by one; runs in a thread of its own."""

    def reset(self, reason: str) -> None:
        """Start a new stream."""


class Backend(Protocol):
    """Weights that stay, and perception chains built around them."""

    def load(self, config: DepthNodeConfig) -> None:
        """Load the weights; raise ValueError or OSError with a sentence if that fails."""

    def perception(self, config: DepthNodeConfig, normals: bool) -> PerceptionLike:
        """Return a new chain with these options."""

    def release(self) -> None:
        """Free the weights."""


class ModelBackend:
    """The real thing: `DKTPipeline` inside `Perception`."""

    def __init__(self) -> None:
        self._pipeline: Any = None

    def load(self, config: DepthNodeConfig) -> None:
        """Load the model folder onto the device."""
        if find_spec('torch') is None:
            raise UserError('torch is not installed, and the model needs it: pip install torch')
        from dkt_ros.model.loading import load_pipeline
        from dkt_ros.perception import share_torch
        from dkt_ros.stream import DKTStream
        share_torch(config.threads)
        normals = config.normals.model if config.normals.source == 'model' else ''
        self._pipeline = load_pipeline(config.model, config.device, config.execution,
                                       config.precision, config.stream.decoder, normals,
                                       config.attention)
        if config.normals.source == 'model' and 'normal' not in self._pipeline.tasks:
            raise UserError(f'normals.source is model, but {config.model} has no task for '
                            f'normals, only {", ".join(self._pipeline.tasks)}; set '
                            'normals.source to depth or none, or normals.model to a model that '
                            'has it')
        # The first window pays for what is done once, and shows here if memory is too small.
        DKTStream(self._pipeline, config.stream, config.normals.source == 'model').measure(
            *WARM_UP_SIZE, WINDOWS_TO_PREPARE if config.execution in PREPARED else 1)

    def perception(self, config: DepthNodeConfig, normals: bool) -> PerceptionLike:
        """Return a new chain; without normals it never runs their task."""
        from dkt_ros.perception import Perception
        if not normals:
            config = dataclasses.replace(
                config, normals=dataclasses.replace(config.normals, source='none'))
        return Perception(self._pipeline, config)

    def release(self) -> None:
        """Free the weights and the CUDA cache."""
        self._pipeline = None
        free_memory()


def free_memory() -> None:
    """Return unused memory, of the GPU too if torch is loaded."""
    gc.collect()
    torch = loaded_torch()
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a device, or the machine, had too little memory."""
    torch = loaded_torch()
    kinds = (MemoryError,) if torch is None else (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds)
