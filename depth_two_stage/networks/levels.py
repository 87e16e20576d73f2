# SPDX-License-Identifier: Apache-2.0
"""What the small U-Nets of `anchored` are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import ResidualBlock


def enlarged(y: Tensor, like: Tensor) -> Tensor:
    """Maps (B, C, h, w) at the size of others, bilinear."""
    return F.interpolate(y, like.shape[-2:], mode="bilinear", align_corners=False)


def merged(y: Tensor, skip: Tensor, narrow: nn.Module, merge: nn.Module) -> Tensor:
    """One level up: narrowed, enlarged to the skip, merged with it."""
    return merge(torch.cat((enlarged(narrow(y), skip), skip), dim=1))


def level(down: nn.Module, channels: int, blocks: int) -> nn.Sequential:
    """One level down: what makes it smaller, and residual blocks."""
    return nn.Sequential(down, *(ResidualBlock(channels, 0.0) for _ in range(blocks)))


def unit(cin: int, cout: int, stride: int = 1) -> nn.Sequential:
    """3×3 convolution, batch normalisation, ReLU."""
    conv = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), nn.ReLU(inplace=True))
