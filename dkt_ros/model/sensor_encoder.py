"""
What the depth camera saw, as a condition of the transformer beside the latents of the RGB.

DKT proper sees colour alone, and so do all published models. A model folder may hold a
`SensorEncoder` beside the published parts: its output joins the RGB latents by channel, as these
join the noisy target. The network is then told where the camera measured and what, in the units
of its own disparity, and still gives affine-invariant disparity; where the camera saw nothing, or
there is none, it works from colour. Prompting a depth model with a poor depth is due to Prompt
Depth Anything (Lin et al. 2024).
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from dkt_ros.fusion import shrink_sensor

# Shares of the measured pixels that the range of a stream leaves out at both ends.
TAILS = (2.0, 98.0)
# A range is at least this share of its nearest inverse depth: noise of a flat wall is no relief.
MIN_SPREAD = 0.1
# Values beyond this many half ranges tell nothing more.
LIMIT = 3.0
# With less than this share of its pixels the camera is taken to have seen nothing.
MIN_SEEN = 0.02
# A stream keeps its range while both its ends move by less than this share of it.
KEPT = 0.35
CHANNELS = 2
"""Of an input image: normalised disparity, and 1 where it was measured."""


@dataclass(frozen=True)
class SensorRange:
    """
    The inverse depths that a stream calls -1 and 1.

    Attributes
    ----------
    low, high : float
        [1/m].

    """

    low: float
    high: float

    def normalized(self, inverse_depth: np.ndarray) -> np.ndarray:
        """Return inverse depth [1/m] with the range at [-1, 1], limited; float32."""
        scaled = np.float32(2 / (self.high - self.low)) * (inverse_depth - np.float32(self.low))
        return np.clip(scaled - np.float32(1), -LIMIT, LIMIT)

    def resembles(self, other: SensorRange) -> bool:
        """Return whether the other may go on with this range."""
        slack = KEPT * (self.high - self.low)
        return abs(other.low - self.low) < slack and abs(other.high - self.high) < slack


def inverted(depth: np.ndarray) -> np.ndarray:
    """Return inverse depth [1/m] of depth [m], 0 where there is no measurement."""
    with np.errstate(divide='ignore', invalid='ignore'):
        return np.nan_to_num(1 / depth, nan=0.0, posinf=0.0)


def measure_range(inverse_depth: np.ndarray) -> SensorRange | None:
    """
    Return the range of what a camera measured.

    Parameters
    ----------
    inverse_depth : (..., H, W) float
        [1/m]; 0 where there is no measurement.

    Returns
    -------
    SensorRange or None
        None where it measured next to nothing.

    """
    seen = inverse_depth[inverse_depth > 0]
    if seen.size < MIN_SEEN * inverse_depth.size:
        return None
    low, high = (float(value) for value in np.percentile(seen[::1 + seen.size // 20000], TAILS))
    missing = max(0.0, MIN_SPREAD * high - (high - low))
    return SensorRange(low - missing / 2, high + missing / 2)


def sensor_image(inverse_depth: np.ndarray, limits: SensorRange | None) -> np.ndarray:
    """Return the network's input (2, ..., H, W) float32; all zeros without a range."""
    image = np.zeros((CHANNELS, *inverse_depth.shape), np.float32)
    if limits is not None:
        seen = inverse_depth > 0
        image[0] = np.where(seen, limits.normalized(inverse_depth), np.float32(0))
        image[1] = seen
    return image


class SensorVideo:
    """
    Turn the depth of a stream's frames into network input, all of it in one range.

    The range is that of the first frame with a measurement, until what is measured has moved far
    out of it.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the range: a new stream."""
        self._range: SensorRange | None = None

    def prepared(self, depth: np.ndarray | None, height: int, width: int) -> torch.Tensor:
        """
        Return the input (1, 2, 1, height, width) of a frame.

        Parameters
        ----------
        depth : (H, W) float32 or None
            [m]; NaN where nothing was measured.
        height, width : int
            Working size [px].

        """
        if depth is None:
            return torch.zeros(1, CHANNELS, 1, height, width)
        inverse = inverted(shrink_sensor(depth, width, height))
        found = measure_range(inverse)
        if found is not None and (self._range is None or not self._range.resembles(found)):
            self._range = found
        return torch.from_numpy(sensor_image(inverse, found and self._range))[None, :, None]


def sensor_clip(depths: np.ndarray, height: int, width: int) -> torch.Tensor:
    """Return the input (1, 2, T, height, width) of a clip (T, H, W) [m], NaN where unmeasured."""
    video = SensorVideo()
    return torch.cat([video.prepared(depth, height, width) for depth in depths], dim=2)


class SensorEncoder(ModelMixin, ConfigMixin):
    """
    Encode the depth of a latent's frames: no past, no attention, a hundredth of the DiT's work.

    Parameters
    ----------
    out_channels : int
        Channels that join the RGB latents.
    num_frames : int
        Frames a latent.
    spatial_ratio : int
        Pixels along one side of a latent pixel; even.
    fine_channels, coarse_channels : int
        Width at twice the latents' resolution and at theirs.

    """

    @register_to_config
    def __init__(self, out_channels: int = 48, num_frames: int = 4, spatial_ratio: int = 16,
                 fine_channels: int = 128, coarse_channels: int = 256) -> None:
        super().__init__()
        fine, coarse = fine_channels, coarse_channels
        inputs = CHANNELS * num_frames * (spatial_ratio // 2) ** 2
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(spatial_ratio // 2), nn.Conv2d(inputs, fine, 1), nn.SiLU(),
            nn.Conv2d(fine, fine, 3, padding=1), nn.SiLU(), nn.PixelUnshuffle(2),
            nn.Conv2d(4 * fine, coarse, 1), nn.SiLU(),
            nn.Conv2d(coarse, out_channels, 3, padding=1))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """
        Encode one latent's frames.

        Parameters
        ----------
        frames : (B, 2, n, H, W) float
            Results of `sensor_image`; n is the number of frames a latent, or 1, which counts as
            so many copies. A frame without any measurement counts as a copy of the nearest one
            that has some.

        Returns
        -------
        (B, out_channels, 1, H / spatial_ratio, W / spatial_ratio) float

        """
        count = self.config.num_frames
        if frames.ndim != 5 or frames.shape[1] != CHANNELS or frames.shape[2] not in (1, count):
            raise ValueError(f'sensor frames are {tuple(frames.shape)}; (B, {CHANNELS}, 1 or '
                             f'{count}, H, W) is expected')
        frames = nearest_measured(frames).expand(-1, -1, count, -1, -1)
        return self.layers(frames.flatten(1, 2))[:, :, None]

    def encode_clip(self, video: torch.Tensor) -> torch.Tensor:
        """Encode a clip (B, 2, ratio N + 1, H, W): (B, out_channels, N + 1, h, w)."""
        first, rest = video[:, :, :1], video[:, :, 1:]
        chunks = rest.split(self.config.num_frames, dim=2) if rest.shape[2] else ()
        return torch.cat([self(chunk) for chunk in (first, *chunks)], dim=2)


def nearest_measured(frames: torch.Tensor) -> torch.Tensor:
    """
    Give frames without any measurement those of the nearest frame in time that has some.

    Depth cameras are slower than colour ones, and drop frames.

    Parameters
    ----------
    frames : (B, 2, n, H, W) float
        Results of `sensor_image`.

    Returns
    -------
    (B, 2, n, H, W) float
        The same where all frames have measurements, or none has.

    """
    index = torch.arange(frames.shape[2], device=frames.device)
    away = (index[:, None] - index).abs()
    empty = frames[:, 1].amax(dim=(2, 3)) <= 0
    source = (away + len(index) * empty[:, None]).argmin(dim=2)
    return frames[torch.arange(len(frames), device=frames.device)[:, None], :, source].movedim(
        2, 1)


def with_sensor(rgb: torch.Tensor, encoder: SensorEncoder | None,
                sensor: torch.Tensor | None) -> torch.Tensor:
    """
    Return the condition of the transformer: RGB latents, and what the sensor says beside them.

    Parameters
    ----------
    rgb : (B, z, k, h, w) float
        RGB latents.
    encoder : SensorEncoder or None
        Without one the RGB latents are all.
    sensor : (B, 2, n, H, W) float or None
        One latent's frames, or a clip; None where there is no sensor.

    """
    if encoder is None:
        return rgb
    if sensor is None:
        ratio, (k, h, w) = encoder.config.spatial_ratio, rgb.shape[2:]
        sensor = rgb.new_zeros(len(rgb), CHANNELS, encoder.config.num_frames * (k - 1) + 1,
                               h * ratio, w * ratio)
    encode = encoder if rgb.shape[2] == 1 else encoder.encode_clip
    return torch.cat([rgb, encode(sensor.to(encoder.device, encoder.dtype)).to(rgb)], dim=1)
