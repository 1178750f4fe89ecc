"""
The VAE of a stream by TensorRT: its caches go into an engine and come out of it.

The first latents of a stream, whose caches are not full yet, and whatever no engine can be had
for, run in torch.
"""
from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan

from dkt_ros.model.causal_vae import CausalVAEDecoder, CausalVAEEncoder
from dkt_ros.model.graphs import CHUNKS_UNTIL_STEADY, CoderGraph, DecodeGraph, EncodeGraph
from dkt_ros.model.runners import EngineSteps, Step


class VaeEngines:
    """
    Engines of the streaming steps of a VAE, one for each shape; the first use of one opens it.

    Parameters
    ----------
    vae : AutoencoderKLWan
        On its GPU.
    engines : EngineSteps
        For its device and model.

    """

    def __init__(self, vae: AutoencoderKLWan, engines: EngineSteps) -> None:
        self._vae, self._engines = vae, engines
        self._steps: dict[tuple, Step | None] = {}

    def open_encoder(self) -> CausalVAEEncoder:
        """Return a stream's encoder."""
        return _EngineEncoder(self._vae, self)

    def open_decoder(self) -> CausalVAEDecoder:
        """Return a stream's decoder."""
        return _EngineDecoder(self._vae, self)

    def step(self, kind: str, inputs: torch.Tensor) -> Step | None:
        """Return the step for inputs of this shape: frames to encode or a latent to decode."""
        key = (kind, tuple(inputs.shape))
        if key not in self._steps:
            # the example of a graph holds caches of its own: it goes before the stream goes on
            self._steps[key] = self._engines.open(self._graph(kind, inputs))
        return self._steps[key]

    def _graph(self, kind: str, inputs: torch.Tensor) -> CoderGraph:
        height, width = inputs.shape[3:]
        if kind == 'encode':
            return EncodeGraph(self._vae, height, width)
        return DecodeGraph(self._vae, len(inputs), height, width)


class _Steady:
    """What encoder and decoder share: in torch until the caches are full, then by the engine."""

    kind: str

    def __init__(self, vae: AutoencoderKLWan, engines: VaeEngines) -> None:
        self._engines = engines
        super().__init__(vae)

    def reset(self) -> None:
        super().reset()
        self._num_chunks = 0

    def _by_engine(self, inputs: torch.Tensor) -> torch.Tensor | None:
        """Return the result and move the caches on, or None if torch is to do it."""
        self._num_chunks += 1
        if self._num_chunks <= CHUNKS_UNTIL_STEADY:
            return None
        step = self._engines.step(self.kind, inputs)
        if step is None:
            return None
        places = self.cache_places
        result, *caches = step(inputs.to(self._vae.dtype), *(self._cache[i] for i in places))
        for place, entry in zip(places, caches, strict=True):
            self._cache[place] = entry
        return result


class _EngineEncoder(_Steady, CausalVAEEncoder):
    kind = 'encode'

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        self.check(frames)
        latent = self._by_engine(frames)
        return super().encode(frames) if latent is None else latent


class _EngineDecoder(_Steady, CausalVAEDecoder):
    kind = 'decode'

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        self.check(latent)
        video = self._by_engine(latent)
        return super().decode(latent) if video is None else video
