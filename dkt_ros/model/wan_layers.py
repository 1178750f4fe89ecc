"""
The layers of the Wan VAE that dominate its cost, computed faster on a CPU.

PyTorch sends a 3-D convolution of batch 1 through `slow_conv3d`, five to seven times slower than
oneDNN on the same machine. The classes here call oneDNN directly, let it pad in space instead of
copying, and normalise without a strided norm. Results agree to float32 rounding. With gradients,
on a GPU or in another dtype they do what diffusers does.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanRMS_norm


def _is_fast(x: torch.Tensor) -> bool:
    return (x.device.type == 'cpu' and x.dtype == torch.float32 and not torch.is_grad_enabled()
            and torch.backends.mkldnn.is_available())


class FastCausalConv3d(WanCausalConv3d):
    """`WanCausalConv3d` on oneDNN."""

    def forward(self, x: torch.Tensor, cache_x: torch.Tensor | None = None) -> torch.Tensor:
        """Convolve (B, C, T, H, W), causal in time; `cache_x` holds the frames before."""
        if not _is_fast(x):
            return super().forward(x, cache_x)
        pad_w, _, pad_h, _, pad_t, _ = self._padding
        if cache_x is not None and pad_t > 0:
            x = torch.cat([cache_x, x], dim=2)
            pad_t -= cache_x.shape[2]
        if pad_t > 0:
            x = F.pad(x, (0, 0, 0, 0, pad_t, 0))
        return torch.mkldnn_convolution(x, self.weight, self.bias, (0, pad_h, pad_w), self.stride,
                                        self.dilation, self.groups)


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
    faster = {WanCausalConv3d: FastCausalConv3d, WanRMS_norm: FastRMSNorm}
    for module in vae.modules():
        if type(module) in faster:
            module.__class__ = faster[type(module)]
    return vae
