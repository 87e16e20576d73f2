# SPDX-License-Identifier: Apache-2.0
"""PatchGAN discriminator with a receptive field of 70×70 pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """(rough, depth), (B, ``condition`` | 1, H, W) → logits (B, 1, H/8 − 2, W/8 − 2), a patch each.

    4×4 convolutions with strides 2, 2, 2, 1, 1: a patch is 70×70. A does not print widths:
    64-128-256-512. B: 32-64-128-256 (NYU), 1-1-1-1 (Make3D), its fifth C1 being the output layer.
    No BN on the first layer, as in the work that A builds on. ``condition`` is 1 for a rough depth,
    3 for the image of a single cGAN.
    """

    def __init__(self, widths: tuple[int, ...] = (64, 128, 256, 512), condition: int = 1) -> None:
        super().__init__()
        if len(widths) != 4:
            raise ValueError(f"widths: expected four, got {widths!r}")
        layers: list[nn.Module] = []
        cin = condition + 1
        for index, (wide, stride) in enumerate(zip(widths, (2, 2, 2, 1), strict=True)):
            layers.append(nn.Conv2d(cin, wide, 4, stride, 1, bias=index == 0))
            if index:
                layers.append(nn.BatchNorm2d(wide))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            cin = wide
        layers.append(nn.Conv2d(cin, 1, 4, 1, 1))
        self.layers = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, rough: Tensor, depth: Tensor) -> Tensor:
        """Judge the pair."""
        return self.layers(torch.cat((rough, depth), dim=1))
