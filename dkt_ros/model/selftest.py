"""A start-up test of the arithmetic that everything rests on."""
from __future__ import annotations

import torch
import torch.nn.functional as F

from dkt_ros.errors import UserError

# Shapes of the VAE at which builds of torch 2.9 with cuDNN 9.8 to 9.14 gave wrong results.
SHAPES = ((16, 16, 3, 12, 20), (48, 32, 4, 9, 13))
TOLERANCE = 0.03


def check_convolutions(device: torch.device) -> None:
    """
    Compare bfloat16 3-D convolutions with float32 ones.

    Raises
    ------
    UserError
        If they differ by more than rounding can explain; the sentence names the build.

    """
    generator = torch.Generator().manual_seed(0)
    for channels, outputs, *size in SHAPES:
        x = torch.randn(1, channels, *size, generator=generator)
        weight = torch.randn(outputs, channels, 3, 3, 3, generator=generator)
        weight /= (27 * channels) ** 0.5
        expected = F.conv3d(x, weight, padding=1)
        for layout in (torch.contiguous_format, torch.channels_last_3d):
            arguments = [tensor.to(device, torch.bfloat16).contiguous(memory_format=layout)
                         for tensor in (x, weight)]
            result = F.conv3d(*arguments, padding=1).float().cpu()
            error = ((result - expected).norm() / expected.norm()).item()
            if not error < TOLERANCE:
                cudnn = torch.backends.cudnn.version() if device.type == 'cuda' else None
                raise UserError(
                    f'bfloat16 3-D convolutions are wrong by {error:.0%} on {device} (torch '
                    f'{torch.__version__}, cuDNN {cudnn}); install torch 2.8 or older, or 2.10 '
                    'or newer with cuDNN 9.15 or newer, or set precision to float32')
