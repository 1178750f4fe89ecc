"""
A small decoder that a user brings in the place of the VAE's: published as TAEHV (`taew2_1`, ...).

The file has the tensors `decoder.N.*` of that layout; those of its encoder are not read. Latents
go in as the transformer gives them, normalised. A stream takes one latent at a time: the caches
are what each remembering block saw last, (B, C, h', w') each, zeros at the start.
"""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from torch import nn

from dkt_ros.errors import UserError
from dkt_ros.model.causal_vae import CausalVAEDecoder, spatial_ratio, temporal_ratio
from dkt_ros.model.checkpoint import TORCH_SUFFIXES, Checkpoint

LEVELS = 3
PREFIXES = ('decoder.', 'encoder.')
LAYOUT = ('the decoder of TAEHV is expected (github.com/madebyollin/taehv, taew2_1 for Wan 2.1 '
          'and the released models)')


class _Clamp(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x / 3) * 3


class _Remember(nn.Module):
    """Three convolutions over a frame and the one before it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _conv(2 * channels, channels), nn.ReLU(), _conv(channels, channels), nn.ReLU(),
            _conv(channels, channels))

    def forward(self, x: torch.Tensor, past: torch.Tensor) -> torch.Tensor:
        return F.relu(self.conv(torch.cat([x, past], 1)) + x)


class _Grow(nn.Module):
    """One frame becomes `stride`."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels * stride, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).reshape(-1, *x.shape[1:])


def _conv(channels: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(channels, outputs, 3, padding=1, bias=bias)


class TinyDecoder(nn.Module):
    """
    The network, without state.

    Parameters
    ----------
    z_dim : int
        Latent channels.
    widths : sequence of int
        Channels of the three levels and of the last one.
    strides : sequence of int
        How many frames one becomes after each level.
    patch : int
        Pixels along a side that the last convolution gives at once.

    """

    def __init__(self, z_dim: int, widths: Sequence[int], strides: Sequence[int],
                 patch: int) -> None:
        super().__init__()
        self.z_dim, self.patch = z_dim, patch
        self.temporal_ratio, self.spatial_ratio = math.prod(strides), 2 ** LEVELS * patch
        layers = [_Clamp(), _conv(z_dim, widths[0]), nn.ReLU()]
        for level, stride in enumerate(strides):
            width = widths[level]
            layers += [_Remember(width), _Remember(width), _Remember(width),
                       nn.Upsample(scale_factor=2), _Grow(width, stride),
                       _conv(width, widths[level + 1], bias=False)]
        self.decoder = nn.Sequential(*layers, nn.ReLU(), _conv(widths[-1], 3 * patch ** 2))
        self.requires_grad_(False).eval()

    def empty_caches(self, latent: torch.Tensor) -> list[torch.Tensor]:
        """Return the caches at the start of a stream of latents (B, z, h, w)."""
        caches, size = [], latent.shape[2:]
        for layer in self.decoder:
            if isinstance(layer, _Remember):
                channels = layer.conv[0].out_channels
                caches.append(latent.new_zeros(len(latent), channels, *size))
            elif isinstance(layer, nn.Upsample):
                size = [2 * n for n in size]
        return caches

    def forward(self, latent: torch.Tensor,
                *caches: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """
        Decode one latent.

        Parameters
        ----------
        latent : (B, z, h, w) float
            Normalised.
        *caches : (B, C, h', w') float
            Of `empty_caches`, or what the latent before gave.

        Returns
        -------
        frames : (B, 3, temporal_ratio, H, W) float
            In [-1, 1].
        *caches : (B, C, h', w') float
            For the next latent.

        """
        x, batch, new = latent, len(latent), []
        for layer in self.decoder:
            if isinstance(layer, _Remember):
                frames = x.unflatten(0, (batch, -1))
                past = torch.cat([caches[len(new)][:, None], frames[:, :-1]], dim=1)
                new.append(frames[:, -1])
                x = layer(x, past.flatten(0, 1))
            else:
                x = layer(x)
        if self.patch > 1:
            x = F.pixel_shuffle(x, self.patch)
        video = x.clamp(0, 1).mul(2).sub(1).unflatten(0, (batch, -1)).transpose(1, 2)
        return (video, *new)


class TinyDecoderStream:
    """
    Decode a stream of latents, with the calls of `CausalVAEDecoder`.

    Parameters
    ----------
    network : torch.nn.Module
        A `TinyDecoder`, or any module with `forward` and `empty_caches` as it has them.

    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next latent gives one frame."""
        self._caches: list[torch.Tensor] | None = None

    @torch.no_grad()
    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Decode the next latent (B, z, 1, h, w) to (B, 3, n, H, W), n as of the VAE."""
        CausalVAEDecoder.check(latent)
        latent = latent[:, :, 0].to(next(self._network.parameters()))
        is_first = self._caches is None
        caches = self._network.empty_caches(latent) if is_first else self._caches
        video, *self._caches = self._network(latent, *caches)
        # the first latent is one frame, the last of those that its decoder makes
        return video[:, :, -1:] if is_first else video


def load_tiny_decoder(path: str | Path, vae: AutoencoderKLWan) -> TinyDecoder:
    """
    Read a decoder for the latents of `vae`, onto its device and in its dtype.

    Parameters
    ----------
    path : str or Path
        A .safetensors or .pth file in TAEHV's layout, or a folder with one.
    vae : AutoencoderKLWan
        Whose decoder it replaces.

    Raises
    ------
    UserError
        If the file is missing or broken, of another layout or for other latents.

    """
    path = _file_of(Path(path).expanduser())
    stored = Checkpoint([path])
    unknown = [key for key in stored if not key.startswith(PREFIXES)]
    if unknown:
        raise UserError(f'{path} has the tensor {unknown[0]!r}; {LAYOUT}')
    state = {key: value for key, value in stored.items() if key.startswith('decoder.')}
    network = _shaped(path, {key: tuple(value.shape) for key, value in state.items()}, vae)
    network.load_state_dict(_checked(path, state, network))
    return network.to(vae.device, vae.dtype, memory_format=torch.channels_last)


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = [file for file in sorted(path.iterdir())
             if file.suffix in ('.safetensors', *TORCH_SUFFIXES)]
    if len(files) != 1:
        raise UserError(f'folder {path} has {len(files)} weight files; name the one of the '
                        'decoder')
    return files[0]


def _shaped(path: Path, shapes: Mapping[str, tuple[int, ...]],
            vae: AutoencoderKLWan) -> TinyDecoder:
    """Read the network's form off the shapes; refuse one that does not fit the VAE."""
    try:
        width, z = shapes['decoder.1.weight'][:2]
        widths = [width, *(shapes[f'decoder.{8 + 6 * i}.weight'][0] for i in range(LEVELS))]
        outputs = shapes['decoder.22.weight'][0]
        strides = [shapes[f'decoder.{7 + 6 * i}.conv.weight'][0] // widths[i]
                   for i in range(LEVELS)]
    except (KeyError, ValueError) as error:
        raise UserError(f'{path} lacks the tensor {error}; {LAYOUT}') from error
    patch = math.isqrt(outputs // 3)
    ratio = temporal_ratio(vae)
    # files may hold more time steps than a model has; the first levels then keep the last one
    for level in range(LEVELS):
        excess = max(math.prod(strides) // ratio, 1)
        strides[level] //= math.gcd(excess, strides[level])
    network = TinyDecoder(z, widths, strides, patch)
    found = {'latent channels': z, 'frames a latent': network.temporal_ratio,
             'pixels a latent pixel': network.spatial_ratio}
    wanted = (vae.config.z_dim, ratio, spatial_ratio(vae))
    for (what, have), need in zip(found.items(), wanted, strict=True):
        if have != need:
            raise UserError(f'{path} decodes {have} {what}; the VAE of this model has {need}: '
                            'give the decoder for its VAE')
    return network


def _checked(path: Path, state: Mapping[str, torch.Tensor],
             network: TinyDecoder) -> dict[str, torch.Tensor]:
    """Return the tensors the network wants; name one that is left over, missing or misshapen."""
    expected, found = network.state_dict(), {}
    for key in sorted(expected.keys() | state.keys()):
        wanted = tuple(expected[key].shape) if key in expected else None
        value = state.get(key)
        if value is not None and wanted is not None and '.conv.weight' in key:
            value = value[-wanted[0]:]
        shape = None if value is None else tuple(value.shape)
        if shape != wanted:
            raise UserError(f'tensor {key!r} of {path} is {shape or "missing"}, '
                            f'{wanted or "nothing"} is expected; {LAYOUT}')
        found[key] = value
    return found
