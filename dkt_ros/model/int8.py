"""
Convolutions of the VAE in whole numbers of 8 bits, for processors that multiply those fastest.

Those of the residual blocks, where nearly all products are. What they convolve has just been
normalised and activated: it has the size of the norm's weights whatever the stream shows, so that
one step serves all streams and nothing need be measured beforehand.
"""
from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan
from torch import nn

from dkt_ros.errors import UserError
from dkt_ros.model.wan_layers import FastCausalConv3d, FastResidualBlock, FastRMSNorm

# The least that SiLU gives.
LOWEST = -0.2785
# Larger values than so many times the weight of their norm are cut off.
SPAN = 4.5


class Int8Weights:
    """
    The weights of a convolution, and how its input is rounded.

    A row of the weights has a step of its own, all inputs have one; sums are exact.

    Parameters
    ----------
    convolution : FastCausalConv3d
        Not changed.
    norm : FastRMSNorm
        What it convolves is SiLU of what this gives.

    Attributes
    ----------
    step : float
        Of the input.
    zero : int
        Which number is 0.0.

    """

    def __init__(self, convolution: FastCausalConv3d, norm: FastRMSNorm) -> None:
        highest = SPAN * norm.gamma.abs().max().item()
        if isinstance(norm.bias, torch.Tensor):
            highest += norm.bias.abs().max().item()
        self.step = (highest - LOWEST) / 255
        self.zero = round(-LOWEST / self.step)
        weight = convolution.weight.detach().float()
        self._steps = weight.abs().amax((1, 2, 3, 4)).clamp_min(1e-12) / 127
        self._weight = (weight / self._steps.view(-1, 1, 1, 1, 1)).round().to(torch.int8)
        self._bias = convolution.bias.detach().float()
        self._zeros = torch.zeros(len(weight), dtype=torch.int64)
        pad_w, _, pad_h, *_ = convolution._padding
        self._geometry = (list(convolution.stride), [0, pad_h, pad_w], list(convolution.dilation),
                          convolution.groups)
        self._packed: dict[tuple[int, ...], torch.Tensor] = {}

    def write(self, target: torch.Tensor, values: torch.Tensor) -> None:
        """Round float32 values, which are lost, to a target uint8 of their shape."""
        # the conversion cuts off what is behind the point
        values.div_(self.step).add_(self.zero + 0.5).clamp_(0, 255)
        target.copy_(values)

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve rounded (B, C, T, H, W), the frames before among them; gives bfloat16."""
        shape = tuple(x.shape)
        if shape not in self._packed:
            self._packed[shape] = torch.ops.onednn.qconv_prepack(
                self._weight, self._steps, self.step, self.zero, *self._geometry, list(shape))
        return torch.ops.onednn.qconv_pointwise(
            x, self.step, self.zero, self._packed[shape], self._steps, self._zeros, self._bias,
            *self._geometry, 1.0, 0, torch.bfloat16, 'none', [], 'none')


def cpu_has_int8() -> bool:
    """Return whether this processor multiplies whole numbers of 8 bits faster than others."""
    return getattr(torch.cpu, '_is_vnni_supported', bool)()


@torch.no_grad()
def check_int8() -> None:
    """Raise UserError unless torch convolves whole numbers here, and rightly."""
    norm = FastRMSNorm(16, images=False)
    with torch.random.fork_rng(devices=()):
        convolution = FastCausalConv3d(16, 16, 3, padding=1)
    x = torch.linspace(-1, 1, 16 * 3 * 5 * 7).sin_().view(1, 16, 3, 5, 7)
    try:
        weights, rounded = Int8Weights(convolution, norm), torch.empty(x.shape, dtype=torch.uint8)
        weights.write(rounded, x.clone().clamp_(min=LOWEST))
        found = weights.multiply(rounded).float()
    except (RuntimeError, AttributeError, NotImplementedError, TypeError) as error:
        reason = ' '.join(str(error).split())[:200]
        raise UserError(f'precision is int8, which torch {torch.__version__} cannot compute on '
                        f'this processor ({reason}); set precision to bfloat16 or float32') \
            from error
    expected = nn.functional.conv3d(x.clamp(min=LOWEST), convolution.weight, convolution.bias,
                                    padding=(0, 1, 1))
    if (found - expected).abs().max() > 0.05 * expected.abs().max():
        raise UserError(f'precision is int8, and torch {torch.__version__} convolves in it '
                        'wrongly on this processor; set precision to bfloat16 or float32')


def multiply_in_int8(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Let residual blocks round to 8 bits instead of bfloat16, in place."""
    for block in vae.modules():
        if isinstance(block, FastResidualBlock):
            for norm, convolution in block.pairs:
                convolution.coarse = Int8Weights(convolution, norm)
    return vae
