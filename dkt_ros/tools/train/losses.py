"""Training losses; all maps are (B, T, H, W) unless said otherwise."""
from __future__ import annotations

import torch

from dkt_ros.material import Material


def pixel_weights(material: torch.Tensor, valid: torch.Tensor,
                  transparent_weight: float) -> torch.Tensor:
    """Weigh pixels: transparent ones most, other things half as much, the background once."""
    weights = torch.ones_like(material, dtype=torch.float32)
    weights[material > 0] = max(1.0, transparent_weight / 2)
    weights[(material == Material.TRANSPARENT) | (material == Material.TRANSLUCENT)] = \
        transparent_weight
    return weights * valid


def weighted_mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the mean of `values` under `weights`."""
    return (values * weights).sum() / weights.sum().clamp(min=1.0)


def align(prediction: torch.Tensor, inverse_depth: torch.Tensor,
          trusted: torch.Tensor) -> torch.Tensor:
    """
    Return scale * prediction + shift [1/m], fitted by least squares a clip on trusted pixels.

    This is what a depth camera's own background does to the disparity at run time
    (`MetricAnchor`), so that training sees the errors that remain after it.
    """
    dims = (1, 2, 3)
    count = trusted.sum(dims, keepdim=True).clamp(min=1.0)

    def mean(values: torch.Tensor) -> torch.Tensor:
        return (values * trusted).sum(dims, keepdim=True) / count

    centre, target = mean(prediction), mean(inverse_depth)
    variance = mean((prediction - centre) ** 2).clamp(min=1e-2)
    scale = mean((prediction - centre) * (inverse_depth - target)) / variance
    return scale * (prediction - centre) + target


def relative_error(prediction: torch.Tensor, inverse_depth: torch.Tensor,
                   material: torch.Tensor) -> torch.Tensor:
    """Return |aligned / true - 1| of inverse depth, aligned on what a depth camera sees well."""
    valid = (inverse_depth > 0).float()
    trusted = valid * ((material == Material.BACKGROUND) | (material == Material.DIFFUSE))
    aligned = align(prediction, inverse_depth, trusted)
    return (aligned / inverse_depth.clamp(min=0.05) - 1).abs().clamp(max=2.0) * valid


def gradient_error(prediction: torch.Tensor, target: torch.Tensor,
                   weights: torch.Tensor) -> torch.Tensor:
    """Return the L1 error of horizontal and vertical differences at strides 1 and 4."""
    total = prediction.new_zeros(())
    for stride in (1, 4):
        for dim in (-1, -2):
            length = prediction.shape[dim] - stride
            error = (prediction.narrow(dim, stride, length) - prediction.narrow(dim, 0, length)
                     - target.narrow(dim, stride, length) + target.narrow(dim, 0, length)).abs()
            both = weights.narrow(dim, stride, length) * (weights.narrow(dim, 0, length) > 0)
            total = total + weighted_mean(error, both)
    return total / 4


def normal_error(prediction: torch.Tensor, normals: torch.Tensor,
                 weights: torch.Tensor) -> torch.Tensor:
    """Return 1 - cosine plus L1 between (B, 3, T, H, W) predictions and unit normals."""
    cosine = torch.nn.functional.cosine_similarity(prediction, normals, dim=1, eps=1e-4)
    exists = (normals.abs().sum(1) > 0.5).float()
    return weighted_mean(1 - cosine + 0.5 * (prediction - normals).abs().mean(1),
                         weights * exists)
