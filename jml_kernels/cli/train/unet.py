"""A small U-Net (Ronneberger et al., 2015), one of the models of section 3.1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    layers = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Three resolutions, twice the channels at each; images of any size.

    Call:
        float32 (N, 3, H, W) -> logits, float32 (N, num_classes, H, W).
    """

    def __init__(self, num_classes: int, width: int = 16):
        super().__init__()
        self.down_full = _two_convolutions(3, width)
        self.down_half = _two_convolutions(width, 2 * width)
        self.down_quarter = _two_convolutions(2 * width, 4 * width)
        self.up_half = _two_convolutions(4 * width + 2 * width, 2 * width)
        self.up_full = _two_convolutions(2 * width + width, width)
        self.classify = nn.Conv2d(width, num_classes, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        full = self.down_full(image)
        half = self.down_half(_halve(full))
        quarter = self.down_quarter(_halve(half))
        half = self.up_half(_join(quarter, half))
        return self.classify(self.up_full(_join(half, full)))


def _halve(features: Tensor) -> Tensor:
    return F.max_pool2d(features, 2, ceil_mode=True)


def _join(coarse: Tensor, fine: Tensor) -> Tensor:
    """Bring `coarse` to the size of `fine` and stack their channels."""
    return torch.cat([F.interpolate(coarse, size=fine.shape[-2:], mode="nearest"), fine], dim=1)
