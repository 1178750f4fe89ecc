"""
The steps of a stream as graphs of fixed shape with everything explicit: for ONNX and TensorRT.

The DiT's step takes the modulation of its timestep as input; the VAE's steps take their causal
caches and give them back. The first latents of a stream, whose caches are not full yet, run in
torch.
"""
from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from torch import nn

from dkt_ros.errors import UserError
from dkt_ros.model.causal_vae import CausalVAEDecoder, CausalVAEEncoder, temporal_ratio
from dkt_ros.model.float8 import input_dtype
from dkt_ros.model.folded import FoldedTransformer

OPSET = 20
CHUNKS_UNTIL_STEADY = 3


class Graph(nn.Module):
    """
    A step with all it depends on given and all it changes given back, at one shape.

    Attributes
    ----------
    kind : str
        `dit`, `encode` or `decode`.
    input_names, output_names : tuple of str
        In the order of `forward`.

    """

    kind: str
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        raise NotImplementedError

    @property
    def options(self) -> str:
        """What is baked in beside weights and shapes."""
        return ''

    def example(self) -> tuple[torch.Tensor, ...]:
        """Return inputs of the right shapes."""
        raise NotImplementedError


class StepGraph(Graph):
    """
    One evaluation of the network: latents, RGB tokens, modulation and past to velocity and past.

    Parameters
    ----------
    network : FoldedTransformer
        In float32, or in the dtype of an engine.
    size : tuple of int
        Latents k, rows h and columns w of what is given.
    tasks : sequence of int
        Of the rows of the batch.
    num_held : int
        Latents at the start without velocity.
    num_before, num_kept : int
        Latents whose keys and values come in as `past`, and of how many they go out as `kept`.

    """

    kind = 'dit'

    def __init__(self, network: FoldedTransformer, size: tuple[int, int, int],
                 tasks: Sequence[int], num_held: int = 0, num_before: int = 0,
                 num_kept: int = 0) -> None:
        super().__init__()
        self.network, self.size, self.tasks, self.num_held = network, size, tuple(tasks), num_held
        self.num_before, self.num_kept = num_before, num_kept
        self.register_buffer('rope', network.window_rope(
            torch.empty(size, device='meta'), num_before), persistent=False)
        past, kept = ('past',) if num_before else (), ('kept',) if num_kept else ()
        self.input_names = ('latents', 'rgb_tokens', 'blocks', 'head', *past)
        self.output_names = ('velocity', *kept)

    def forward(self, latents: torch.Tensor, rgb_tokens: torch.Tensor, blocks: torch.Tensor,
                head: torch.Tensor, past: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """Return the velocity and, where latents are kept, their keys and values."""
        found = self.network(latents, rgb_tokens, blocks, head, self.rope, self.tasks,
                             self.num_held, past, self.num_kept)
        return found if self.num_kept else found[:1]

    @property
    def dtype(self) -> torch.dtype:
        """Of the large weights."""
        return self.network.dtype

    @property
    def options(self) -> str:
        """Tasks, latents held and latents kept."""
        return f'tasks {self.tasks} held {self.num_held} kept {self.num_kept}'

    def example(self) -> tuple[torch.Tensor, ...]:
        """Return inputs of the right shapes."""
        network, config = self.network, self.network.config
        options = {'device': network.device, 'dtype': network.dtype}
        latents = torch.randn(len(self.tasks), config.out_channels, *self.size, **options)
        modulation = network.modulation(1000.0)
        condition = torch.randn(1, network.condition_channels, *self.size, **options)
        inputs = (latents, network.embed_rgb(condition), modulation.blocks, modulation.head)
        if not self.num_before:
            return inputs
        tokens = inputs[1].shape[1] // self.size[0] * self.num_before
        past = torch.randn(len(network.blocks), 2, len(self.tasks), tokens, inputs[1].shape[2],
                           device=network.device, dtype=input_dtype(network.blocks[0].qkv))
        return (*inputs, past)


class CoderGraph(Graph):
    """A coder of a stream with its caches as inputs and outputs; not all places hold one."""

    def __init__(self, vae: AutoencoderKLWan, coder: CausalVAEEncoder | CausalVAEDecoder,
                 given: str, found: str, inputs: torch.Tensor) -> None:
        super().__init__()
        self.vae, self._coder = vae, coder
        self._places = coder.cache_places
        self._example = (inputs, *(coder._cache[i] for i in self._places))
        numbers = [f'{i:02d}' for i in range(len(self._places))]
        self.input_names = (given, *(f'cache_{n}' for n in numbers))
        self.output_names = (found, *(f'new_cache_{n}' for n in numbers))

    @property
    def dtype(self) -> torch.dtype:
        """Of the VAE."""
        return self.vae.dtype

    def example(self) -> tuple[torch.Tensor, ...]:
        """Return inputs of the right shapes: an empty picture and its caches."""
        return self._example

    def _run(self, step: Callable, inputs: torch.Tensor,
             caches: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        cache = [None] * len(self._coder._cache)
        for place, entry in zip(self._places, caches, strict=True):
            cache[place] = entry
        self._coder._cache = cache
        return (step(inputs), *(cache[i] for i in self._places))


class EncodeGraph(CoderGraph):
    """The next frames of a stream and the caches to a latent and new caches."""

    kind = 'encode'

    def __init__(self, vae: AutoencoderKLWan, height: int, width: int) -> None:
        frames = torch.zeros(1, 3, temporal_ratio(vae), height, width, dtype=vae.dtype,
                             device=vae.device)
        stream = CausalVAEEncoder(vae)
        for _ in range(CHUNKS_UNTIL_STEADY):
            stream.encode(frames[:, :, :stream.num_frames])
        super().__init__(vae, stream, 'frames', 'latent', frames)

    def forward(self, frames: torch.Tensor, *caches: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the latent (1, z, 1, h, w) and the caches for the next call."""
        return self._run(self._coder.encode, frames, caches)


class DecodeGraph(CoderGraph):
    """The next latent of a stream and the caches to frames and new caches."""

    kind = 'decode'

    def __init__(self, vae: AutoencoderKLWan, batch: int, h: int, w: int) -> None:
        latent = torch.zeros(batch, vae.config.z_dim, 1, h, w, dtype=vae.dtype, device=vae.device)
        stream = CausalVAEDecoder(vae)
        for _ in range(CHUNKS_UNTIL_STEADY):
            stream.decode(latent)
        super().__init__(vae, stream, 'latent', 'frames', latent)

    def forward(self, latent: torch.Tensor, *caches: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the frames (B, 3, ratio, H, W) and the caches for the next call."""
        return self._run(self._coder.decode, latent, caches)


@torch.no_grad()
def export_onnx(graph: Graph, path: Path) -> Path:
    """
    Write a graph as ONNX.

    Parameters
    ----------
    graph : Graph
        With its weights.
    path : Path
        The file; weights beyond 2 GB go into one beside it.

    Raises
    ------
    UserError
        If the exporter is not installed.

    """
    try:
        import onnxscript  # noqa: F401, torch's exporter needs it
    except ImportError as error:
        raise UserError("onnxscript is not installed, and the export needs it: pip install "
                        "'dkt_ros[export]'") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    example = graph.example()
    size = sum(parameter.nbytes for parameter in graph.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            graph.eval(), example, path, input_names=list(graph.input_names),
            output_names=list(graph.output_names), opset_version=OPSET, dynamo=True,
            external_data=size > 1.5e9, verbose=False)
    return path


def open_onnx(path: Path, num_threads: int = 0) -> object:
    """Return an onnxruntime session on the CPU; a missing package is a UserError."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("onnxruntime is not installed; pip install 'dkt_ros[export]', or set "
                        'execution to auto') from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])


def run_onnx(session: object, graph: Graph,
             inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Run a session on the inputs of a graph, in float32."""
    feeds = {name: tensor.detach().float().contiguous().numpy()
             for name, tensor in zip(graph.input_names, inputs, strict=True)}
    needed = {entry.name for entry in session.get_inputs()}
    results = session.run(None, {name: array for name, array in feeds.items() if name in needed})
    return [torch.from_numpy(result) for result in results]
