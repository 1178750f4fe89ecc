"""
The Wan VAE frame by frame: persistent causal caches, each frame encoded and decoded once.

Fed chunk by chunk (one frame first, then `temporal_ratio` frames a latent) the result equals the
whole-clip call. All sizes are read from the VAE's own configuration, so the patchified form of
Wan 2.2 works as well as the form of Wan 2.1.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import patchify, unpatchify

from dkt_ros.model.wan_layers import COLORS, FastDecoder


def temporal_ratio(vae: AutoencoderKLWan) -> int:
    """Return the number of video frames a latent holds (the very first one holds 1)."""
    levels = len(vae.config.dim_mult) - 1
    return 2 ** sum(bool(flag) for flag in vae.config.temperal_downsample[:levels])


def spatial_ratio(vae: AutoencoderKLWan) -> int:
    """Return the number of pixels along one side of a latent pixel."""
    return 2 ** (len(vae.config.dim_mult) - 1) * (vae.config.patch_size or 1)


def latent_statistics(vae: AutoencoderKLWan) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Return mean and standard deviation of the latents, each (1, z, 1, 1, 1).

    Raises
    ------
    ValueError
        If the configuration holds another number of values than latent channels.

    """
    z = vae.config.z_dim
    values = []
    for name, neutral in (('latents_mean', 0.0), ('latents_std', 1.0)):
        row = getattr(vae.config, name)
        row = [neutral] * z if row is None else row
        if len(row) != z:
            raise ValueError(f'{name} of the VAE has {len(row)} values but z_dim is {z}; give one '
                             'value per latent channel')
        values.append(torch.tensor(row, dtype=vae.dtype, device=vae.device).view(1, z, 1, 1, 1))
    return values[0], values[1]


def _places(cache: list) -> list[int]:
    return [i for i, entry in enumerate(cache) if isinstance(entry, torch.Tensor)]


class CausalVAEEncoder:
    """Encode a stream of frames; memory does not grow with its length."""

    def __init__(self, vae: AutoencoderKLWan) -> None:
        self._vae = vae
        self._mean, self._std = latent_statistics(vae)
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next call takes one frame."""
        self._cache = [None] * self._vae._cached_conv_counts['encoder']
        self._is_first = True

    @property
    def cache_places(self) -> list[int]:
        """Where the cache holds a tensor."""
        return _places(self._cache)

    def check(self, frames: torch.Tensor) -> None:
        """Raise ValueError unless the next call of `encode` takes these."""
        if frames.ndim != 5 or frames.shape[2] != self.num_frames:
            raise ValueError(f'frames are {tuple(frames.shape)}; (B, 3, {self.num_frames}, H, W) '
                             'is expected: one frame first, then a latent of frames each')

    @property
    def num_frames(self) -> int:
        """Number of frames the next call takes."""
        return 1 if self._is_first else temporal_ratio(self._vae)

    @torch.no_grad()
    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """
        Encode the next latent's frames.

        Parameters
        ----------
        frames : (B, 3, n, H, W) float
            In [-1, 1]; n is `num_frames`.

        Returns
        -------
        (B, z, 1, h, w) float
            The mode of the posterior, normalised.

        """
        self.check(frames)
        vae = self._vae
        frames = frames.to(vae.dtype)
        if vae.config.patch_size is not None:
            frames = patchify(frames, vae.config.patch_size)
        features = vae.encoder(frames, feat_cache=self._cache, feat_idx=[0])
        self._is_first = False
        mode = vae.quant_conv(features)[:, :vae.config.z_dim]
        return (mode - self._mean) / self._std


class CausalVAEDecoder:
    """
    Decode a stream of latents; memory does not grow with its length.

    Parameters
    ----------
    vae : AutoencoderKLWan
        The weights.
    tasks : sequence of str
        What the rows of the batch are for, if only that is wanted: where it is faster, all three
        channels of `depth` then are their mean.

    """

    def __init__(self, vae: AutoencoderKLWan, tasks: Sequence[str] = ()) -> None:
        self._vae, self._tasks = vae, tuple(tasks)
        self._mean, self._std = latent_statistics(vae)
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next latent gives one frame."""
        self._cache = [None] * self._vae._cached_conv_counts['decoder']
        self._is_first = True

    @property
    def cache_places(self) -> list[int]:
        """Where the cache holds a tensor."""
        return _places(self._cache)

    @staticmethod
    def check(latent: torch.Tensor) -> None:
        """Raise ValueError unless `decode` takes this."""
        if latent.ndim != 5 or latent.shape[2] != 1:
            raise ValueError(f'latent is {tuple(latent.shape)}; (B, z, 1, h, w) is expected: give '
                             'the latents one at a time')

    @torch.no_grad()
    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """
        Decode the next latent.

        Parameters
        ----------
        latent : (B, z, 1, h, w) float
            Normalised.

        Returns
        -------
        (B, 3, n, H, W) float
            About [-1, 1], not clamped; n is 1 for the first latent, then `temporal_ratio`.

        """
        self.check(latent)
        vae = self._vae
        z = vae.post_quant_conv(latent.to(vae.dtype) * self._std + self._mean)
        known = {'tasks': self._tasks} if isinstance(vae.decoder, FastDecoder) else {}
        video = vae.decoder(z, feat_cache=self._cache, feat_idx=[0], first_chunk=self._is_first,
                            **known)
        self._is_first = False
        if isinstance(video, list):
            return _assembled(video, vae.config.patch_size or 1)
        if vae.config.patch_size is not None:
            video = unpatchify(video, vae.config.patch_size)
        return video


def _assembled(rows: Sequence[torch.Tensor], patch: int) -> torch.Tensor:
    """Turn what `FastDecoder` gives of each task into (B, 3, n, H, W) float32, in one pass."""
    n, h, w = rows[0].shape[1:]
    video = torch.empty((len(rows), COLORS, n, h, patch, w, patch))
    for colors, row in zip(video, rows, strict=True):
        # the order of `unpatchify`
        colors[:] = row.unflatten(0, (-1, patch, patch)).permute(0, 3, 4, 2, 5, 1)
    return video.flatten(5).flatten(3, 4)


def encode_clip(vae: AutoencoderKLWan, video: torch.Tensor) -> torch.Tensor:
    """
    Encode a whole clip (B, 3, T, H, W) in [-1, 1], T = ratio * N + 1.

    Returns
    -------
    (B, z, N + 1, h, w) float
        Normalised latents.

    """
    ratio = temporal_ratio(vae)
    if video.ndim != 5 or (video.shape[2] - 1) % ratio:
        raise ValueError(f'video is {tuple(video.shape)}; (B, 3, {ratio} N + 1, H, W) is expected')
    encoder, start, latents = CausalVAEEncoder(vae), 0, []
    while start < video.shape[2]:
        stop = start + encoder.num_frames
        latents.append(encoder.encode(video[:, :, start:stop]))
        start = stop
    return torch.cat(latents, dim=2)


def decode_clip(vae: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    """Decode normalised latents (B, z, N + 1, h, w) to (B, 3, ratio * N + 1, H, W)."""
    decoder = CausalVAEDecoder(vae)
    return torch.cat([decoder.decode(latent) for latent in latents.split(1, dim=2)], dim=2)
