"""
The DiT as it runs, after `folding`: self-attention, feed-forward and a constant context.

One window goes through `FoldedTransformer.velocity`; what all its steps share, the patch embedding
of the RGB latents and the rotary table, is computed once, and modulation once for each timestep.

Letters: B rows of the batch, N tokens, L layers, D channels of a token, d channels of a head, H
heads, m distinct text rows.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
Activated = Callable[[torch.Tensor, nn.Linear], torch.Tensor]
MAX_ROPE_TABLES = 8


@dataclass(frozen=True)
class Modulation:
    """
    What the timestep does to the network.

    Attributes
    ----------
    blocks : (L, 6, D) float32
        Shift, 1 + scale and gate of the self-attention, then those of the feed-forward.
    head : (2, D) float32
        Shift and 1 + scale before the output.

    """

    blocks: torch.Tensor
    head: torch.Tensor


class ConstantContext(nn.Module):
    """Cross-attention to a single row: a vector for each task."""

    def __init__(self, vectors: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer('vectors', vectors)

    def forward(self, hidden: torch.Tensor, tasks: Sequence[int]) -> torch.Tensor:
        """Add it to (B, N, D)."""
        return (hidden.float() + _of_tasks(self.vectors, tasks)[:, None]).to(hidden.dtype)


class FewRowsContext(nn.Module):
    """
    Cross-attention to m rows, values and output projection in one matrix.

    Parameters
    ----------
    query : nn.Linear
        With the weights of the norm before it.
    keys : (tasks, D, H m) float
        Block-diagonal, with the weight of the query's norm and the softmax scale.
    values : (tasks, H m, D) float
        Output projection of each head's value.
    bias : (tasks, 1, H m) float32
        Logarithm of how often a row occurs; -inf for one that a task does not have.
    constant : (D,) float32
        Output bias and image branch.
    heads : int
        H.
    eps : float
        Of both norms.

    """

    def __init__(self, query: nn.Linear, keys: torch.Tensor, values: torch.Tensor,
                 bias: torch.Tensor, constant: torch.Tensor, heads: int, eps: float) -> None:
        super().__init__()
        self.query, self.heads, self.eps = query, heads, eps
        self.keys = nn.Parameter(keys, requires_grad=False)
        self.values = nn.Parameter(values, requires_grad=False)
        self.register_buffer('bias', bias.contiguous())
        self.register_buffer('constant', constant)

    def forward(self, hidden: torch.Tensor, tasks: Sequence[int]) -> torch.Tensor:
        """Add it to (B, N, D)."""
        keys, values, bias = (_of_tasks(table, tasks)
                              for table in (self.keys, self.values, self.bias))
        query = self.query(_norm(hidden, None, None, self.eps, self.query))
        logits = torch.bmm(query, keys).float() * inverse_rms(query, self.eps)
        logits = (logits + bias).unflatten(-1, (self.heads, -1))
        shares = logits.softmax(-1).flatten(-2).to(query.dtype)
        added = torch.bmm(shares, values).float() + self.constant
        return (hidden.float() + added).to(hidden.dtype)


class FoldedBlock(nn.Module):
    """
    A transformer block with a folded context; self-attention and feed-forward as they were.

    Parameters
    ----------
    qkv, out, widen, narrow : nn.Linear
        Channels of each head of q and k ordered in halves, as `rotate` wants them.
    qk_weight : (2, D) float
        Weights of the norms of q and k.
    context : nn.Module
        What stands for the cross-attention.
    heads : int
        H.
    eps : float
        Of the norms.

    """

    def __init__(self, qkv: nn.Linear, qk_weight: torch.Tensor, out: nn.Linear,
                 context: nn.Module, widen: nn.Linear, narrow: nn.Linear, heads: int,
                 eps: float) -> None:
        super().__init__()
        self.qkv, self.out, self.widen, self.narrow = qkv, out, widen, narrow
        self.context, self.heads, self.eps = context, heads, eps
        self.register_buffer('qk_weight', qk_weight)
        # what a processor may compute in a faster way
        self.attend: Attention = F.scaled_dot_product_attention
        self.activate: Activated = _gelu_linear

    def forward(self, hidden: torch.Tensor, modulation: torch.Tensor, rope: torch.Tensor,
                tasks: Sequence[int], num_held: int = 0) -> torch.Tensor:
        """
        Return (B, N - num_held, D).

        Parameters
        ----------
        hidden : (B, N, D) float
            Tokens.
        modulation : (6, D) float32
            A layer of `Modulation.blocks`.
        rope : (2, N, 1, d / 2) float32
            Cosines and sines.
        tasks : sequence of int
            Which task a row of the batch is.
        num_held : int
            So many tokens at the start are only looked at.

        """
        shift, scale, gate, ff_shift, ff_scale, ff_gate = modulation.unbind()
        attended = self._self_attention(_norm(hidden, scale, shift, self.eps, self.qkv), rope,
                                        num_held)
        hidden = self.context(_gated(hidden[:, num_held:], attended, gate), tasks)
        wide = self.activate(_norm(hidden, ff_scale, ff_shift, self.eps, self.widen), self.widen)
        return _gated(hidden, self.narrow(wide), ff_gate)

    def _self_attention(self, normed: torch.Tensor, rope: torch.Tensor,
                        num_held: int) -> torch.Tensor:
        mixed = self.qkv(normed).unflatten(-1, (3, -1))
        query_key = mixed[:, :, :2].float()
        query_key = query_key * inverse_rms(query_key, self.eps) * self.qk_weight
        query_key = rotate(query_key.unflatten(-1, (self.heads, -1)), rope).to(mixed.dtype)
        query, key = query_key.permute(2, 0, 3, 1, 4)
        value = mixed[:, :, 2].unflatten(-1, (self.heads, -1)).transpose(1, 2)
        attended = self.attend(query[:, :, num_held:], key, value)
        return self.out(attended.transpose(1, 2).flatten(2))


class FoldedTransformer(nn.Module):
    """
    A Wan DiT for the prompts of its tasks; `folding.fold` makes it.

    Parameters
    ----------
    config : mapping
        Of the network that was folded.
    tasks : sequence of str
        Whose prompts it was folded over.
    blocks : sequence of FoldedBlock
        The layers.
    target_embedding, rgb_embedding : nn.Linear
        Of the patches of the noisy target and of the RGB.
    embedder : nn.Module
        The original one; what it does to the timestep is kept.
    proj_out : nn.Linear
        Of the output.
    block_tables, head_table : (L, 6, D), (2, D) float32
        Modulation before the timestep's share.
    angles : (2, positions, d / 2) float32
        Cosines and sines, see `rope_table`.

    """

    def __init__(self, config: Mapping, tasks: Sequence[str], blocks: Sequence[FoldedBlock],
                 target_embedding: nn.Linear, rgb_embedding: nn.Linear, embedder: nn.Module,
                 proj_out: nn.Linear, block_tables: torch.Tensor, head_table: torch.Tensor,
                 angles: torch.Tensor) -> None:
        super().__init__()
        self.config, self.tasks = config, tuple(tasks)
        self.blocks = nn.ModuleList(blocks)
        self.target_embedding, self.rgb_embedding = target_embedding, rgb_embedding
        self.timesteps_proj, self.time_embedder = embedder.timesteps_proj, embedder.time_embedder
        self.time_proj, self.proj_out = embedder.time_proj, proj_out
        for name, table in (('block_tables', block_tables), ('head_table', head_table),
                            ('angles', angles)):
            self.register_buffer(name, table)
        # what computes a step instead of `forward`, with the same arguments
        self.runner: Callable[..., torch.Tensor] | None = None
        self._modulations: dict[float, Modulation] = {}
        self._ropes: dict[tuple[int, ...], torch.Tensor] = {}
        self.requires_grad_(False).eval()

    @property
    def dtype(self) -> torch.dtype:
        """Of the large weights."""
        return self.proj_out.weight.dtype

    @property
    def device(self) -> torch.device:
        """Of the weights."""
        return self.proj_out.weight.device

    def _apply(self, fn: Callable, recurse: bool = True) -> FoldedTransformer:
        """Constants follow the weights to a device, but stay in float32."""
        self._modulations.clear()
        self._ropes.clear()
        constants = {id(buffer) for buffer in self.buffers()}
        return super()._apply(lambda tensor: tensor.to(fn(tensor[:0]).device)
                              if id(tensor) in constants else fn(tensor), recurse)

    def save_pretrained(self, *args, **kwargs) -> None:
        """Refuse: a folded network is a part of what was loaded."""
        raise ValueError('a folded transformer cannot be saved; load the model folder with '
                         'DKTPipeline.from_pretrained and save that')

    def embed_rgb(self, rgb: torch.Tensor) -> torch.Tensor:
        """Turn RGB latents (1, z, k, h, w) into their share of the tokens, (1, N, D)."""
        return self.rgb_embedding(patches(rgb.to(self.dtype), self.config.patch_size))

    def modulation(self, timestep: float) -> Modulation:
        """Return what a timestep does; kept for the next time."""
        if timestep not in self._modulations:
            times = self.timesteps_proj(torch.tensor([timestep], device=self.device))
            time = self.time_embedder(times.to(self.time_embedder.linear_1.weight.dtype))
            time = time.to(self.time_proj.weight.dtype)
            shared = self.time_proj(F.silu(time)).float().unflatten(-1, (6, -1))
            blocks = self.block_tables + shared
            head = self.head_table + time.float()
            blocks[:, (1, 4)] += 1.0
            head[1] += 1.0
            self._modulations[timestep] = Modulation(blocks, head)
        return self._modulations[timestep]

    def rope(self, size: tuple[int, ...]) -> torch.Tensor:
        """Return cosines and sines of a window of k x h x w tokens, (2, N, 1, d / 2) float32."""
        if size not in self._ropes:
            if len(self._ropes) == MAX_ROPE_TABLES:
                self._ropes.clear()
            self._ropes[size] = rope_table(self.angles, size)
        return self._ropes[size]

    def forward(self, latents: torch.Tensor, rgb_tokens: torch.Tensor, blocks: torch.Tensor,
                head: torch.Tensor, rope: torch.Tensor, tasks: Sequence[int],
                num_held: int = 0) -> torch.Tensor:
        """
        Return the velocity of the latents after the first `num_held`.

        Parameters
        ----------
        latents : (B, z, k, h, w) float
            Noisy target.
        rgb_tokens : (1, N, D) float
            Result of `embed_rgb`.
        blocks, head : torch.Tensor
            The fields of a `Modulation`.
        rope : (2, N, 1, d / 2) float32
            Result of `rope`.
        tasks : sequence of int
            Which of `self.tasks` a row of the batch is.
        num_held : int
            Latents whose velocity nobody needs: the last layer leaves them out.

        Returns
        -------
        (B, z, k - num_held, h, w) float
            In the dtype of the weights.

        """
        patch = self.config.patch_size
        hidden = self.target_embedding(patches(latents.to(self.dtype), patch)) + rgb_tokens
        if hidden.device.type == 'cpu':
            hidden = hidden.float()
        skipped = num_held // patch[0] * (hidden.shape[1] * patch[0] // latents.shape[2])
        for index, block in enumerate(self.blocks):
            is_last = index == len(self.blocks) - 1
            hidden = block(hidden, blocks[index], rope, tasks, skipped if is_last else 0)
        hidden = _norm(hidden, head[1], head[0], self.config.eps, self.proj_out)
        k, h, w = latents.shape[2:]
        return unpatch(self.proj_out(hidden), (k - num_held, h, w), patch)

    def velocity(self, rgb: torch.Tensor, tasks: Sequence[str],
                 num_held: int = 0) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """
        Return the network as a function of (latents, timestep) for one window.

        Parameters
        ----------
        rgb : (1, z, k, h, w) float
            RGB latents of the window; embedded once for all steps.
        tasks : sequence of str
            Of the rows of the batch.
        num_held : int
            So many latents at the start get a velocity of zero, for nobody needs theirs.

        """
        tokens, rows = self.embed_rgb(rgb), [self.tasks.index(task) for task in tasks]
        patch = self.config.patch_size
        rope = self.rope(tuple(n // p for n, p in zip(rgb.shape[2:], patch, strict=True)))

        def velocity(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            modulation = self.modulation(float(timestep))
            result = (self.runner or self)(latents, tokens, modulation.blocks, modulation.head,
                                           rope, rows, num_held).to(latents)
            return F.pad(result, (0, 0, 0, 0, num_held, 0))

        return velocity


def patches(latents: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Turn (B, C, k, h, w) into the patches of a strided convolution, (B, N, C p_t p_h p_w)."""
    pt, ph, pw = size
    if (pt, ph, pw) == (1, 1, 1):
        return latents.flatten(2).transpose(1, 2)
    b, c, k, h, w = latents.shape
    cells = latents.reshape(b, c, k // pt, pt, h // ph, ph, w // pw, pw)
    return cells.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(b, -1, c * pt * ph * pw)


def unpatch(tokens: torch.Tensor, shape: Sequence[int], size: Sequence[int]) -> torch.Tensor:
    """Turn (B, N, p_t p_h p_w C) into (B, C, k, h, w) for `shape` (k, h, w)."""
    (pt, ph, pw), (k, h, w) = size, shape
    cells = tokens.reshape(len(tokens), k // pt, h // ph, w // pw, pt, ph, pw, -1)
    return cells.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(len(tokens), -1, k, h, w)


def rope_table(angles: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """
    Return the rotary table of k x h x w tokens, (2, N, 1, d / 2) float32.

    Parameters
    ----------
    angles : (2, positions, d / 2) float32
        Cosines and sines of each position; the channels of time, height and width in this order.
    size : tuple of int
        k, h, w.

    """
    half = angles.shape[-1]
    rows = half // 3
    parts = angles.split([half - 2 * rows, rows, rows], dim=-1)
    views = []
    for axis, (part, length) in enumerate(zip(parts, size, strict=True)):
        shape = [2, 1, 1, 1, part.shape[-1]]
        shape[1 + axis] = length
        views.append(part[:, :length].reshape(shape).expand(2, *size, -1))
    return torch.cat(views, dim=-1).reshape(2, math.prod(size), 1, half)


def rotate(x: torch.Tensor, rope: torch.Tensor) -> torch.Tensor:
    """Turn (B, N, 2, H, d), channels in halves, by the angles of `rope` (2, N, 1, d / 2)."""
    cos, sin = rope[:, :, None]
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def inverse_rms(x: torch.Tensor, eps: float) -> torch.Tensor:
    """Return 1 / sqrt(mean square + eps) over the last axis of x, float32, axis kept."""
    return torch.rsqrt(x.float().square().mean(-1, keepdim=True) + eps)


def _of_tasks(table: torch.Tensor, tasks: Sequence[int]) -> torch.Tensor:
    """Return the rows of a table; a list as an index would make a GPU wait for the CPU."""
    rows = [table[task:task + 1] for task in tasks]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def _norm(hidden: torch.Tensor, scale: torch.Tensor | None, shift: torch.Tensor | None,
          eps: float, layer: nn.Linear) -> torch.Tensor:
    """Normalise and modulate (B, N, D) for `layer`."""
    normed = F.layer_norm(hidden.float(), hidden.shape[-1:], scale, shift, eps)
    return normed.to(layer.weight.dtype)


def _gelu_linear(x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    return F.gelu(layer(x), approximate='tanh')


def _gated(hidden: torch.Tensor, update: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    return torch.addcmul(hidden.float(), update.float(), gate).to(hidden.dtype)
