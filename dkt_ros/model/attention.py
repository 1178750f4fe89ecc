"""
Parts of the DiT: attention by a kernel of choice, and what is faster on a processor with bfloat16.

Queries and keys of Wan are normalised, so that logits are bounded by the norms' weights and the
exponential needs no maximum subtracted first. Two matrix products in bfloat16 and an exponential
are left.
"""
from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from dkt_ros.errors import UserError

log = logging.getLogger(__name__)
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
BACKENDS = {'math': SDPBackend.MATH, 'flash': SDPBackend.FLASH_ATTENTION,
            'efficient': SDPBackend.EFFICIENT_ATTENTION, 'cudnn': SDPBackend.CUDNN_ATTENTION}
# The matrix of logits of so many tokens would fill a card.
MAX_TOKENS_OF_MATH = 8192
ROUNDS = 5
# Without the mean key logits are twice as large at most; exp(80) times thousands of keys still
# fits bfloat16 and float32.
MAX_LOGIT = 40.0
# Of a head at a time.
QUERIES = 512


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
    attended = []
    # Head by head and in parts: the weights of all would not fit the processor's cache.
    for one_query, one_key, one_value in zip(query.flatten(0, 1), key.flatten(0, 1),
                                             value.flatten(0, 1)):
        for some in one_query.split(QUERIES):
            weights = (some @ one_key).exp_()
            attended.append(weights @ one_value / weights.sum(-1, keepdim=True))
    return torch.cat(attended).unflatten(0, (b, h, -1))


def gelu_linear(x: torch.Tensor, layer: torch.nn.Linear) -> torch.Tensor:
    """Apply a layer in bfloat16 and GELU (by tanh) in one pass of oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, 'gelu', [], 'tanh')


def check_gelu_linear() -> bool:
    """Return whether this torch has the operation `gelu_linear` needs, which is not public."""
    with torch.random.fork_rng(devices=()):
        layer = torch.nn.Linear(16, 16).to(torch.bfloat16)
    x = torch.linspace(-3, 3, 32).view(2, 16).to(torch.bfloat16)
    try:
        found = gelu_linear(x, layer)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.allclose(found, F.gelu(layer(x), approximate='tanh'), atol=0.02)


def attention_by(backend: str) -> Attention:
    """Return attention by one of torch's kernels, a key of `BACKENDS`."""
    kernel = BACKENDS[backend]

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        with sdpa_kernel(kernel):
            return F.scaled_dot_product_attention(query, key, value)

    return attend


def choose_attention(name: str, current: Attention, example: torch.Tensor) -> Attention:
    """
    Return what computes self-attention.

    Parameters
    ----------
    name : str
        `auto` for `current`; `measure` for the fastest here, `current` among them; or a kernel.
    current : callable
        What computes it now.
    example : (B, H, N, d) torch.Tensor
        Queries of the size to be measured.

    Raises
    ------
    UserError
        If the kernel cannot run here; the sentence names those that can.

    """
    if name == 'auto':
        return current
    usable = {kernel: attention_by(kernel) for kernel in BACKENDS
              if (kernel != 'math' or example.shape[2] <= MAX_TOKENS_OF_MATH)
              and _runs(attention_by(kernel), example)}
    if name != 'measure':
        if name not in usable:
            raise UserError(f'attention is {name}, which cannot run here for {example.dtype} on '
                            f'{example.device}; here: auto, measure, {", ".join(usable)}')
        return usable[name]
    candidates = {'as it is': current, **usable}
    seconds = {kernel: _seconds(attend, example) for kernel, attend in candidates.items()}
    fastest = min(seconds, key=seconds.get)
    log.info('attention over %d tokens: %s; %s is taken', example.shape[2], ', '.join(
        f'{kernel} {1e3 * value:.2f} ms' for kernel, value in seconds.items()), fastest)
    return candidates[fastest]


def _runs(attend: Attention, example: torch.Tensor) -> bool:
    small = example[:, :, :16]
    try:
        attend(small, small, small)
    except (RuntimeError, NotImplementedError):
        return False
    return True


def _seconds(attend: Attention, example: torch.Tensor) -> float:
    times = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        attend(example, example, example)
        if example.device.type == 'cuda':
            torch.cuda.synchronize(example.device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
