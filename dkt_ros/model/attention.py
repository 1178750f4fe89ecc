"""
Parts of the DiT on a processor that multiplies bfloat16, faster than torch's own.

Queries and keys of Wan are normalised, so that logits are bounded by the norms' weights and the
exponential needs no maximum subtracted first. Two matrix products in bfloat16 and an exponential
are left.
"""
from __future__ import annotations

import torch

# Without the mean key logits are twice as large at most; exp(80) times thousands of keys still
# fits bfloat16 and float32.
MAX_LOGIT = 40.0


def largest_logit(query_weight: torch.Tensor, key_weight: torch.Tensor, heads: int) -> float:
    """
    Return a bound of |query . key| / sqrt(d) for the weights (D,) of their norms.

    Before its weight a normalised vector of D channels has the length sqrt(D), in one head at
    most; rotation keeps lengths.
    """
    size = len(query_weight) // heads
    longest = [weight.float().abs().max().item() * len(weight) ** 0.5
               for weight in (query_weight, key_weight)]
    return longest[0] * longest[1] * size ** -0.5


def bounded_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """
    Return softmax(query key / sqrt(d)) value for logits below `MAX_LOGIT`.

    Parameters
    ----------
    query : (B, H, M, d) bfloat16
        Normalised.
    key, value : (B, H, N, d) bfloat16
        The keys normalised.

    Returns
    -------
    (B, H, M, d) bfloat16

    """
    b, h, _, d = query.shape
    # The mean key adds the same to all logits of a query; without it they round less.
    key = key.float()
    key = ((key - key.mean(2, keepdim=True)) * d ** -0.5).to(query.dtype).transpose(2, 3)
    # A column of ones sums the weights in the same product.
    value = torch.cat([value, value.new_ones(*value.shape[:3], 1)], -1)
    # Head by head: the weights of all of them would not fit the processor's cache.
    sums = torch.stack([(one_query @ one_key).exp_() @ one_value for one_query, one_key, one_value
                        in zip(query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1))])
    return (sums[..., :d] / sums[..., d:]).unflatten(0, (b, h))


def gelu_linear(x: torch.Tensor, layer: torch.nn.Linear) -> torch.Tensor:
    """Apply a layer in bfloat16 and GELU (by tanh) in one pass of oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, 'gelu', [], 'tanh')
