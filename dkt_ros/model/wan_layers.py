"""
The layers of the Wan VAE that dominate its cost, computed faster on a CPU.

PyTorch sends a 3-D convolution of batch 1 through `slow_conv3d`, five to seven times slower than
oneDNN on the same machine. The classes here call oneDNN directly, let it pad in space instead of
copying, and normalise without a strided norm. Results agree to float32 rounding. With gradients,
on a GPU or in another dtype they do what diffusers does.

After `multiply_in_bfloat16` a convolution rounds its inputs and weights to bfloat16, for which
some processors have instructions; what is between convolutions stays in float32, and is computed
piece by piece: a piece fits the processor's cache, and no array of full size is asked of the
system for one operation. Enlarging by 2 and the convolution after it become one transposed
convolution, with 4 instead of 9 products for each result. A decoder may be told what the rows are
for (`FastDecoder`).
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    CACHE_T,
    WanCausalConv3d,
    WanDecoder3d,
    WanResidualBlock,
    WanRMS_norm,
    WanUpsample,
)
from torch import nn

if TYPE_CHECKING:
    from dkt_ros.model.int8 import Int8Weights

Weights = tuple[torch.Tensor, torch.Tensor]
Write = Callable[[torch.Tensor, torch.Tensor], object]
COLORS = 3
# Values of a piece: 1 MB.
PIECE = 2 ** 18


def _is_fast(x: torch.Tensor) -> bool:
    return (x.device.type == 'cpu' and x.dtype == torch.float32 and not torch.is_grad_enabled()
            and not torch.compiler.is_compiling()
            and torch.backends.mkldnn.is_available())


class FastCausalConv3d(WanCausalConv3d):
    """`WanCausalConv3d` on oneDNN."""

    rounded: Weights | None = None
    # what a residual block takes before those
    coarse: Int8Weights | None = None

    def forward(self, x: torch.Tensor, cache_x: torch.Tensor | None = None) -> torch.Tensor:
        """Convolve (B, C, T, H, W), causal in time; `cache_x` holds the frames before."""
        if not _is_fast(x):
            return super().forward(x, cache_x)
        return self._convolve(x, cache_x, self.rounded or (self.weight, self.bias))

    def _convolve(self, x: torch.Tensor, cache_x: torch.Tensor | None,
                  weights: Weights) -> torch.Tensor:
        if self.num_before == 0:
            cache_x = None
        missing = max(self.num_before - (0 if cache_x is None else cache_x.shape[2]), 0)
        return self.multiply(_joined(x, cache_x, missing, weights[0].dtype), weights).float()

    @property
    def num_before(self) -> int:
        """Frames before a frame that its result depends on."""
        return self._padding[4]

    def multiply(self, x: torch.Tensor, weights: Weights) -> torch.Tensor:
        """Convolve (B, C, T, H, W) in the dtype of the weights, the frames before among them."""
        pad_w, _, pad_h, *_ = self._padding
        return torch.mkldnn_convolution(x, *weights, (0, pad_h, pad_w), self.stride,
                                        self.dilation, self.groups)


def _joined(x: torch.Tensor, past: torch.Tensor | None, missing: int,
            dtype: torch.dtype) -> torch.Tensor:
    """Put zeros and the past before x, (B, C, T, H, W), in one pass and in `dtype`."""
    parts = [x] if past is None else [past, x]
    if dtype == x.dtype and not missing:
        return x if past is None else torch.cat(parts, dim=2)
    b, c, _, h, w = x.shape
    length = missing + sum(part.shape[2] for part in parts)
    joined = torch.empty((b, c, length, h, w), dtype=dtype, memory_format=torch.channels_last_3d)
    joined[:, :, :missing] = 0
    for part in parts:
        joined[:, :, missing:missing + part.shape[2]] = part
        missing += part.shape[2]
    return joined


class FastUpsampling(nn.Sequential):
    """Enlarging by 2 to the nearest and a 3x3 convolution, as one transposed 4x4 convolution."""

    def set_up(self) -> None:
        """Prepare the weights."""
        weight, bias = self[1].weight.detach(), self[1].bias.detach()
        # an input pixel reaches four enlarged ones, and each of those 3x3 results
        spread = F.conv2d(weight.flip(2, 3).flatten(0, 1)[:, None], weight.new_ones(1, 1, 2, 2),
                          padding=1)
        spread = spread.unflatten(0, weight.shape[:2])[:, :, 0].transpose(0, 1)
        self.spread = spread.contiguous().to(torch.bfloat16), bias.to(torch.bfloat16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (B, C, H, W) into (B, C', 2 H, 2 W)."""
        if not _is_fast(x):
            return super().forward(x)
        return F.conv_transpose2d(x.to(torch.bfloat16), *self.spread, stride=2, padding=1).float()


class FastConv2d(nn.Conv2d):
    """`Conv2d` of a resampler, with rounded weights if it has them."""

    rounded: Weights | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve (B, C, H, W)."""
        if self.rounded is None or not _is_fast(x):
            return super().forward(x)
        return self._conv_forward(x.to(torch.bfloat16), *self.rounded).float()


class FastRMSNorm(WanRMS_norm):
    """`WanRMS_norm` over the channel dimension as one sum of squares, piece by piece."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (B, C, ...) over C."""
        if not (self.channel_first and _is_fast(x)):
            return super().forward(x)
        x = x.movedim(1, -1)
        result = torch.empty(x.shape)
        self.write(x, result)
        return result.movedim(-1, 1)

    def write(self, x: torch.Tensor, result: torch.Tensor,
              write: Write = torch.Tensor.copy_) -> None:
        """Let `write` take x, normalised, to `result`; both (B, ..., C), its rows in one piece."""
        gamma, per_piece = self.gamma.flatten() * self.scale, max(PIECE // x.shape[-1], 1)
        for row, written in zip(x, result, strict=True):
            pieces = row.flatten(0, -2).split(per_piece)
            for piece, target in zip(pieces, written.view(-1, x.shape[-1]).split(per_piece),
                                     strict=True):
                piece = piece.float()
                # F.normalize divides by max(norm, 1e-12)
                inverse = (piece * piece).sum(1, keepdim=True).clamp_min_(1e-24).rsqrt_()
                normed = (piece * inverse).mul_(gamma)
                # a layer without a bias has 0.0
                if isinstance(self.bias, torch.Tensor):
                    normed += self.bias.flatten()
                write(target, normed)


class FastResidualBlock(WanResidualBlock):
    """`WanResidualBlock` that rounds what it has normalised; its input is lost to the result."""

    @property
    def pairs(self) -> tuple[tuple[FastRMSNorm, FastCausalConv3d], ...]:
        """Each convolution with the norm before it."""
        return (self.norm1, self.conv1), (self.norm2, self.conv2)

    def forward(self, x: torch.Tensor, feat_cache: list | None = None,
                feat_idx: Sequence[int] = (0,)) -> torch.Tensor:
        """Turn (B, C, T, H, W) into (B, C', T, H, W); caches hold what was rounded."""
        if feat_cache is None or not _is_fast(x) or self.conv1.rounded is None:
            return super().forward(x, feat_cache, feat_idx)
        total = x if isinstance(self.conv_shortcut, nn.Identity) else self.conv_shortcut(x)
        for norm, convolution in self.pairs:
            x, feat_cache[feat_idx[0]] = _convolved(norm, convolution, x, feat_cache[feat_idx[0]],
                                                    convolution.coarse or convolution.rounded)
            feat_idx[0] += 1
        return _add(total, x)


class FastDecoder(WanDecoder3d):
    """
    `WanDecoder3d` whose last convolution is in float32 where its result is disparity.

    In bfloat16 disparity would show steps of 1/256. It is the mean of the colours, so that for it
    the mean is computed alone and stands for all of them.
    """

    def set_up(self) -> None:
        """Prepare the weights for each task."""
        self.gray = tuple(tensor.detach().unflatten(0, (COLORS, -1)).mean(0)
                          for tensor in (self.conv_out.weight, self.conv_out.bias))
        self.colors = _rounded(self.conv_out)

    def forward(self, x: torch.Tensor, feat_cache: list | None = None,
                feat_idx: Sequence[int] = (0,), first_chunk: bool = False,
                tasks: Sequence[str] = ()) -> torch.Tensor | list[torch.Tensor]:
        """
        Decode (B, z, T, h, w), a row for each task.

        Returns
        -------
        (B, C, T, h, w) float32, or a list
            With tasks: for each row (C, T, h, w) bfloat16, or (C / 3, T, h, w) float32 for what
            stands for all three colours.

        """
        if feat_cache is None or not (tasks and _is_fast(x)):
            return super().forward(x, feat_cache, feat_idx, first_chunk)
        x = self.conv_in(x, _replace_past(x, feat_cache, feat_idx))
        x = self.mid_block(x, feat_cache=feat_cache, feat_idx=feat_idx)
        for up_block in self.up_blocks:
            x = up_block(x, feat_cache=feat_cache, feat_idx=feat_idx, first_chunk=first_chunk)
        place, found = feat_idx[0], []
        pasts, feat_cache[place] = feat_cache[place] or [None] * len(x), []
        for row, (task, past) in enumerate(zip(tasks, pasts, strict=True)):
            weights = self.gray if task == 'depth' else self.colors
            result, kept = _convolved(self.norm_out, self.conv_out, x[row:row + 1], past, weights)
            feat_cache[place].append(kept)
            found.append(result[0])
        return found


def _replace_past(x: torch.Tensor, feat_cache: list, feat_idx: list[int]) -> torch.Tensor | None:
    """Return the frames before x (B, C, T, H, W) and keep its last ones instead; go on."""
    past = feat_cache[feat_idx[0]]
    frames = x if past is None else torch.cat([past, x], dim=2)
    feat_cache[feat_idx[0]] = frames[:, :, -CACHE_T:].clone()
    feat_idx[0] += 1
    return past


def _convolved(norm: FastRMSNorm, convolution: FastCausalConv3d, x: torch.Tensor,
               past: torch.Tensor | None, weights: Weights | Int8Weights
               ) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x (B, C, T, H, W) normalised, activated and convolved; and the past of the next."""
    if isinstance(weights, tuple):
        joined = _activated(norm, x, past, convolution.num_before, weights[0].dtype)
        result = convolution.multiply(joined, weights)
    else:
        joined = _activated(norm, x, past, convolution.num_before, torch.uint8, weights.zero,
                            weights.write)
        result = weights.multiply(joined)
    return result, joined[:, :, -CACHE_T:]


def _activated(norm: FastRMSNorm, x: torch.Tensor, past: torch.Tensor | None,
               num_before: int, dtype: torch.dtype, zero: int = 0,
               write: Write = torch.Tensor.copy_) -> torch.Tensor:
    """Put zeros and the past before SiLU of the normalised x (B, C, T, H, W), in `dtype`."""
    x = x.movedim(1, -1)
    b, t, h, w, c = x.shape
    joined = torch.empty((b, num_before + t, h, w, c), dtype=dtype)
    missing = num_before - (0 if past is None else past.shape[2])
    joined[:, :missing] = zero
    if past is not None:
        joined[:, missing:num_before] = past.movedim(1, -1)
    norm.write(x, joined[:, num_before:],
               lambda target, values: write(target, F.silu(values, inplace=True)))
    return joined.movedim(-1, 1)


def _add(x: torch.Tensor, update: torch.Tensor) -> torch.Tensor:
    """Add `update` to x (B, C, T, H, W) float32 in place, if x lies in memory as it does."""
    rows = x.movedim(1, -1)
    if not rows.is_contiguous():
        return x + update
    pieces = (tensor.flatten(0, -2).split(max(PIECE // x.shape[1], 1))
              for tensor in (rows, update.movedim(1, -1)))
    for piece, added in zip(*pieces, strict=True):
        piece += added.float()
    return x


def use_fast_layers(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Let the layers of `vae` take the faster path; its weights and its config stay."""
    faster = {WanCausalConv3d: FastCausalConv3d, WanRMS_norm: FastRMSNorm, nn.Conv2d: FastConv2d,
              WanResidualBlock: FastResidualBlock}
    for module in vae.modules():
        if type(module) in faster:
            module.__class__ = faster[type(module)]
    return vae


def multiply_in_bfloat16(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """
    Let the convolutions of `vae` round to bfloat16, in place, but for the disparity of the last.

    The weights themselves stay as they are.
    """
    last = vae.decoder.conv_out
    for module in vae.modules():
        if isinstance(module, (FastCausalConv3d, FastConv2d)) and module is not last:
            module.rounded = _rounded(module)
        elif isinstance(module, nn.SiLU):
            # what it is given is always fresh from a norm
            module.inplace = True
        elif isinstance(module, nn.Sequential) and isinstance(module[0], WanUpsample):
            module.__class__ = FastUpsampling
            module.set_up()
    if type(vae.decoder) is WanDecoder3d and isinstance(last, FastCausalConv3d):
        vae.decoder.__class__ = FastDecoder
        vae.decoder.set_up()
    return vae


def _rounded(layer: nn.Module) -> Weights:
    return layer.weight.detach().to(torch.bfloat16), layer.bias.detach().to(torch.bfloat16)
