"""
Linear layers that multiply in 8-bit floating point: weights once, inputs as they come.

Each row of the weights and each token has a scale of its own; sums and results are not in 8 bits.
Whether that is faster depends on the card and the number of tokens: measure it.
"""
from __future__ import annotations

import torch
from torch import nn

from dkt_ros.errors import UserError

FLOAT8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FLOAT8).max
LAYERS = ('qkv', 'out', 'widen', 'narrow')


class Float8Linear(nn.Module):
    """
    A linear layer rounded to float8.

    Parameters
    ----------
    layer : nn.Linear
        Rows and columns are multiples of 16. Not changed.

    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        # what this layer takes and gives
        self.dtype = torch.bfloat16
        rounded, scale = _rounded(layer.weight.detach())
        self.register_buffer('rounded', rounded)
        self.register_buffer('scale', scale.T.contiguous())
        self.register_buffer('bias', layer.bias.detach().to(self.dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply (..., D) bfloat16."""
        tokens, scale = _rounded(x.flatten(0, -2))
        result = torch._scaled_mm(tokens, self.rounded.T, scale_a=scale, scale_b=self.scale,
                                  bias=self.bias, out_dtype=self.dtype)
        return result.unflatten(0, x.shape[:-1])


def _rounded(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (N, D) in float8, and the scale of each row, (N, 1) float32."""
    scale = x.abs().amax(-1, keepdim=True).float().clamp_min(1e-12) / LARGEST
    return (x / scale).to(FLOAT8), scale


def input_dtype(layer: nn.Module) -> torch.dtype:
    """Return the dtype that a linear layer wants its input in."""
    return layer.dtype if isinstance(layer, Float8Linear) else layer.weight.dtype


def check_float8(device: torch.device) -> None:
    """Raise UserError unless products in float8 can be computed on a device."""
    x = torch.eye(16, device=device, dtype=torch.bfloat16)
    layer = nn.Linear(16, 16, device=device, dtype=torch.bfloat16)
    try:
        Float8Linear(layer)(x)
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        reason = ' '.join(str(error).split())[:200]
        raise UserError(f'precision is float8, which cannot be computed on {device} with torch '
                        f'{torch.__version__} ({reason}); it needs a card of compute capability '
                        '8.9 or above: set precision to bfloat16') from error


def multiply_in_float8(blocks: nn.ModuleList) -> None:
    """Let the large products of transformer blocks round to float8, in place."""
    for block in blocks:
        for name in LAYERS:
            setattr(block, name, Float8Linear(getattr(block, name)))
