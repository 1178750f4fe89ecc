"""
The layers of the Wan VAE that dominate its cost, computed faster on a CPU.

PyTorch sends a 3-D convolution of batch 1 through `slow_conv3d`, five to seven times slower than
oneDNN on the same machine. The classes here call oneDNN directly, let it pad in space instead of
copying, and normalise without a strided norm. Results agree to float32 rounding. With gradients,
on a GPU or in another dtype they do what diffusers does.

After `multiply_in_bfloat16` a convolution rounds its inputs and weights to bfloat16, for which
some processors have instructions; what is between convolutions stays in float32.
"""
from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanRMS_norm
from torch import nn


def _is_fast(x: torch.Tensor) -> bool:
    return (x.device.type == 'cpu' and x.dtype == torch.float32 and not torch.is_grad_enabled()
            and not torch.compiler.is_compiling()
            and torch.backends.mkldnn.is_available())


class FastCausalConv3d(WanCausalConv3d):
    """`WanCausalConv3d` on oneDNN."""

    rounded: tuple[torch.Tensor, torch.Tensor] | None = None

    def forward(self, x: torch.Tensor, cache_x: torch.Tensor | None = None) -> torch.Tensor:
        """Convolve (B, C, T, H, W), causal in time; `cache_x` holds the frames before."""
        if not _is_fast(x):
            return super().forward(x, cache_x)
        pad_w, _, pad_h, _, pad_t, _ = self._padding
        if pad_t == 0:
            cache_x = None
        missing = max(pad_t - (0 if cache_x is None else cache_x.shape[2]), 0)
        weight, bias = self.rounded or (self.weight, self.bias)
        x = _joined(x, cache_x, missing, weight.dtype)
        return torch.mkldnn_convolution(x, weight, bias, (0, pad_h, pad_w), self.stride,
                                        self.dilation, self.groups).float()


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


class FastConv2d(nn.Conv2d):
    """`Conv2d` of a resampler, with rounded weights if it has them."""

    rounded: tuple[torch.Tensor, torch.Tensor] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve (B, C, H, W)."""
        if self.rounded is None or not _is_fast(x):
            return super().forward(x)
        return self._conv_forward(x.to(torch.bfloat16), *self.rounded).float()


class FastRMSNorm(WanRMS_norm):
    """`WanRMS_norm` over the channel dimension as one sum of squares."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (B, C, ...) over C."""
        if not (self.channel_first and _is_fast(x)):
            return super().forward(x)
        # F.normalize divides by max(norm, 1e-12)
        inverse = (x * x).sum(1, keepdim=True).clamp_min_(1e-24).rsqrt_().mul_(self.scale)
        return (x * inverse).mul_(self.gamma) + self.bias


def use_fast_layers(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Let the layers of `vae` take the faster path; its weights and its config stay."""
    faster = {WanCausalConv3d: FastCausalConv3d, WanRMS_norm: FastRMSNorm, nn.Conv2d: FastConv2d}
    for module in vae.modules():
        if type(module) in faster:
            module.__class__ = faster[type(module)]
    return vae


def multiply_in_bfloat16(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """
    Let the convolutions of `vae` round to bfloat16, in place, all but the very last.

    The last one gives disparity: rounded, it would show steps of 1/256. The weights themselves
    stay as they are.
    """
    for name, module in vae.named_modules():
        is_last = name == 'decoder.conv_out'
        if isinstance(module, (FastCausalConv3d, FastConv2d)) and not is_last:
            module.rounded = (module.weight.detach().to(torch.bfloat16),
                              module.bias.detach().to(torch.bfloat16))
    return vae
