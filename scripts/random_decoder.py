#!/usr/bin/env python3
"""
Write a small decoder with random weights, in TAEHV's layout for Wan 2.1, to time it.

    scripts/random_decoder.py decoder.safetensors
"""
from __future__ import annotations

import sys

import torch
from safetensors.torch import save_file

from dkt_ros.model.tiny_decoder import TinyDecoder

# of taew2_1: latent channels, channels of the levels, frames after each level, pixels at once
SHAPE = (16, (256, 128, 64, 64), (1, 2, 2), 1)


def main(path: str) -> None:
    """Draw weights that neither grow nor vanish from layer to layer, and store them."""
    torch.manual_seed(0)
    network = TinyDecoder(*SHAPE)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter)
    save_file(network.state_dict(), path)


if __name__ == '__main__':
    main(sys.argv[1])
