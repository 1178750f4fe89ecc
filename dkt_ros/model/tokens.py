"""From latents to tokens and back, and where a token stands: patches and rotary tables."""
from __future__ import annotations

import math
from collections.abc import Sequence

import torch


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
    return torch.cat([torch.addcmul(first * cos, second, sin, value=-1),
                      torch.addcmul(second * cos, first, sin)], dim=-1)
