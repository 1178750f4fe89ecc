"""
What stands for the cross-attention once the prompt is constant: a vector, or a few rows.

Letters as in `folded`: B rows of the batch, N tokens, D channels of a token, H heads, m text rows.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from dkt_ros.model.float8 import input_dtype


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
        query = self.query(norm_for(self.query, hidden, self.eps))
        logits = torch.bmm(query, keys).float() * inverse_rms(query, self.eps)
        logits = (logits + bias).unflatten(-1, (self.heads, -1))
        shares = logits.softmax(-1).flatten(-2).to(query.dtype)
        added = torch.bmm(shares, values).float() + self.constant
        return (hidden.float() + added).to(hidden.dtype)


def inverse_rms(x: torch.Tensor, eps: float) -> torch.Tensor:
    """Return 1 / sqrt(mean square + eps) over the last axis of x, float32, axis kept."""
    return torch.rsqrt(x.float().square().mean(-1, keepdim=True) + eps)


def norm_for(layer: nn.Module, hidden: torch.Tensor, eps: float,
             scale: torch.Tensor | None = None, shift: torch.Tensor | None = None) -> torch.Tensor:
    """Normalise and modulate (B, N, D) for `layer`."""
    normed = F.layer_norm(hidden.float(), hidden.shape[-1:], scale, shift, eps)
    return normed.to(input_dtype(layer))


def _of_tasks(table: torch.Tensor, tasks: Sequence[int]) -> torch.Tensor:
    """Return the rows of a table; a list as an index would make a GPU wait for the CPU."""
    rows = [table[task:task + 1] for task in tasks]
    return rows[0] if len(rows) == 1 else torch.cat(rows)
