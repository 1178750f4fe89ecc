"""
The DiT as it runs, after `folding`: self-attention, feed-forward and a constant context.

One window goes through `FoldedTransformer.velocity`; what all its steps share, the patch embedding
of the RGB latents and the rotary table, is computed once, and modulation once for each timestep.

A window may also meet the keys and values of tokens before it instead of those tokens: its `past`.

Letters: B rows of the batch, N tokens, P tokens of the past, L layers, D channels of a token, d
channels of a head, H heads, m distinct text rows.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from dkt_ros.model.context import inverse_rms, norm_for
from dkt_ros.model.tokens import patches, rope_table, rotate, unpatch

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
                tasks: Sequence[int], num_held: int = 0, past: torch.Tensor | None = None,
                num_kept: int = 0) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Return (B, N - num_held, D), and what the next window is to know.

        Parameters
        ----------
        hidden : (B, N, D) float
            Tokens.
        modulation : (6, D) float32
            A layer of `Modulation.blocks`.
        rope : (2, P + N, 1, d / 2) float32
            Cosines and sines.
        tasks : sequence of int
            Which task a row of the batch is.
        num_held : int
            So many tokens at the start are only looked at.
        past : (2, B, P, D) float, optional
            Keys, not yet rotated, and values of the tokens before these.
        num_kept : int
            Of so many tokens at the end the keys and values are given back, those of the past
            among them.

        """
        shift, scale, gate, ff_shift, ff_scale, ff_gate = modulation.unbind()
        attended, kept = self._self_attention(norm_for(self.qkv, hidden, self.eps, scale, shift),
                                              rope, num_held, past, num_kept)
        hidden = self.context(_gated(hidden[:, num_held:], attended, gate), tasks)
        normed = norm_for(self.widen, hidden, self.eps, ff_scale, ff_shift)
        wide = self.activate(normed, self.widen)
        return _gated(hidden, self.narrow(wide), ff_gate), kept

    def _self_attention(self, normed: torch.Tensor, rope: torch.Tensor, num_held: int,
                        past: torch.Tensor | None, num_kept: int) \
            -> tuple[torch.Tensor, torch.Tensor | None]:
        query_key, value = self._query_key_value(normed)
        if past is not None:
            # the old keys stand in for queries too, which are cut off again
            old = past[0][:, :, None].expand(-1, -1, 2, -1).float()
            query_key = torch.cat([old, query_key], 1)
            value, num_held = torch.cat([past[1], value], 1), num_held + past.shape[2]
        kept = _kept(query_key, value, num_kept) if num_kept else None
        query_key = rotate(query_key.unflatten(-1, (self.heads, -1)), rope).to(value.dtype)
        query, key = query_key.permute(2, 0, 3, 1, 4)
        value = value.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        attended = self.attend(query[:, :, num_held:], key, value)
        return self.out(attended.transpose(1, 2).flatten(2)), kept

    def _query_key_value(self, normed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return query and key, normalised in float32, and value: (B, N, 2, D), (B, N, D)."""
        mixed = self.qkv(normed).unflatten(-1, (3, -1))
        query_key = mixed[:, :, :2].float()
        query_key = query_key * inverse_rms(query_key, self.eps) * self.qk_weight
        return query_key, mixed[:, :, 2]


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
        Of the patches of the noisy target and of the condition: RGB, sensor.
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
        # what computes a step instead of `forward`, with the same arguments and results
        self.runner: Callable[..., tuple[torch.Tensor, torch.Tensor | None]] | None = None
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

    @property
    def condition_channels(self) -> int:
        """Channels of the RGB latents and of what the sensor says beside them."""
        return self.rgb_embedding.in_features // math.prod(self.config.patch_size)

    def embed_rgb(self, rgb: torch.Tensor) -> torch.Tensor:
        """Turn the condition (1, condition_channels, k, h, w) into tokens, (1, N, D)."""
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
                num_held: int = 0, past: torch.Tensor | None = None,
                num_kept: int = 0) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Return the velocity of the latents after the first `num_held`, and the keys kept.

        Parameters
        ----------
        latents : (B, z, k, h, w) float
            Noisy target.
        rgb_tokens : (1, N, D) float
            Result of `embed_rgb`.
        blocks, head : torch.Tensor
            The fields of a `Modulation`.
        rope : (2, P + N, 1, d / 2) float32
            Result of `rope` for the past and the latents.
        tasks : sequence of int
            Which of `self.tasks` a row of the batch is.
        num_held : int
            Latents whose velocity nobody needs: the last layer leaves them out.
        past : (L, 2, B, P, D) float, optional
            Keys and values of the latents before these, as given back at the same timestep.
        num_kept : int
            Latents at the end, the past among them, whose keys and values are given back.

        Returns
        -------
        velocity : (B, z, k - num_held, h, w) float
            In the dtype of the weights.
        kept : (L, 2, B, P', D) float or None
            The past of the next window.

        """
        hidden = self._tokens(latents, rgb_tokens)
        per_latent = hidden.shape[1] // latents.shape[2]
        kept = []
        for index, block in enumerate(self.blocks):
            is_last = index == len(self.blocks) - 1
            hidden, found = block(
                hidden, blocks[index], rope, tasks, num_held * per_latent if is_last else 0,
                None if past is None else past[index], num_kept * per_latent)
            kept.append(found)
        hidden = norm_for(self.proj_out, hidden, self.config.eps, head[1], head[0])
        k, h, w = latents.shape[2:]
        velocity = unpatch(self.proj_out(hidden), (k - num_held, h, w), self.config.patch_size)
        return velocity, torch.stack(kept) if num_kept else None

    def _tokens(self, latents: torch.Tensor, rgb_tokens: torch.Tensor) -> torch.Tensor:
        target = patches(latents.to(self.dtype), self.config.patch_size)
        hidden = self.target_embedding(target) + rgb_tokens
        return hidden.float() if hidden.device.type == 'cpu' else hidden

    def window_rope(self, latents: torch.Tensor, num_before: int = 0) -> torch.Tensor:
        """Return the table of latents (..., k, h, w) after `num_before` others."""
        k, h, w = latents.shape[-3:]
        return self.rope(tuple(n // p for n, p in zip((num_before + k, h, w),
                                                      self.config.patch_size, strict=True)))

    def velocity(self, rgb: torch.Tensor, tasks: Sequence[str],
                 num_held: int = 0) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """
        Return the network as a function of (latents, timestep) for one window.

        Parameters
        ----------
        rgb : (1, condition_channels, k, h, w) float
            RGB latents of the window, and the sensor's; embedded once for all steps.
        tasks : sequence of str
            Of the rows of the batch.
        num_held : int
            So many latents at the start get a velocity of zero, for nobody needs theirs.

        """
        tokens, rows = self.embed_rgb(rgb), [self.tasks.index(task) for task in tasks]
        rope = self.window_rope(rgb)

        def velocity(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            modulation = self.modulation(float(timestep))
            result, _ = (self.runner or self)(latents, tokens, modulation.blocks,
                                              modulation.head, rope, rows, num_held)
            return F.pad(result.to(latents), (0, 0, 0, 0, num_held, 0))

        return velocity

    def velocity_after(self, rgb: torch.Tensor, tasks: Sequence[str], num_before: int,
                       num_kept: int) -> Callable[..., tuple[torch.Tensor, torch.Tensor | None]]:
        """
        Return the network as a function of (latents, timestep, past) for latents after others.

        Parameters
        ----------
        rgb : (1, condition_channels, k, h, w) float
            RGB latents of the new latents only, and the sensor's.
        tasks : sequence of str
            Of the rows of the batch.
        num_before : int
            Latents of the past.
        num_kept : int
            So many latents at the end, the past among them, are given back as the next past.

        """
        tokens, rows = self.embed_rgb(rgb), [self.tasks.index(task) for task in tasks]
        rope = self.window_rope(rgb, num_before)

        def velocity(latents: torch.Tensor, timestep: torch.Tensor,
                     past: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
            modulation = self.modulation(float(timestep))
            result, kept = (self.runner or self)(latents, tokens, modulation.blocks,
                                                 modulation.head, rope, rows, 0, past, num_kept)
            return result.to(latents), kept

        return velocity


def _kept(query_key: torch.Tensor, value: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """Return keys and values of the last tokens, (2, B, num_tokens, D), in the values' dtype."""
    return torch.stack([query_key[:, -num_tokens:, 1].to(value.dtype), value[:, -num_tokens:]])


def _gelu_linear(x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    return F.gelu(layer(x), approximate='tanh')


def _gated(hidden: torch.Tensor, update: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    return torch.addcmul(hidden.float(), update.float(), gate).to(hidden.dtype)
