# SPDX-License-Identifier: Apache-2.0
"""B's generator of stage two: a plain U-Net."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import NORMS

NYU = ((256, 256, 512, 512, 512, 256, 256, 256), (256, 128, 64, 1, 1, 1, 1))
MAKE3D = ((256, 512, 512, 512, 512, 256, 256, 256), (128, 64, 66, 1, 1, 1, 1))


class UNetGenerator(nn.Module):
    """B's generator: (B, in_channels, 256, 256) → depth (B, 1, 256, 256), both in [-1, 1].

    3×3 filters with stride 2 all the way down to 1×1 and, transposed, up again with skips between
    layers of one size; every ReLU leaky (0.2). ``widths`` are the encoder's (B, section 4, "C…"),
    ``filters`` the decoder's: B lists it after the skip is joined, so CD512-CD384-C576-C513-C513-
    C257-C257 (NYU) are 256, 128, 64, 1, 1, 1, 1 filters beside skips of 256, 256, 512, 512, 512,
    256, 256, and Make3D's CD384-CD320-C578-… are 128, 64, 66, 1, 1, 1, 1. The output layer and its
    tanh, which B leaves out, are the image-translation work's, and so is no BN on the first and
    the innermost layer, where batch 1 has a single value. Dropout 0.5 on ``dropped`` decoder
    layers: the listing marks two, the prose says the first three; the prose is followed.

    Any size works: where a map is odd, its twin is cut.
    """

    def __init__(
        self,
        widths: tuple[int, ...] = NYU[0],
        filters: tuple[int, ...] = NYU[1],
        in_channels: int = 1,
        dropout: float = 0.5,
        dropped: int = 3,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm: expected one of {', '.join(NORMS)}, got {norm!r}")
        if len(filters) != len(widths) - 1:
            raise ValueError(f"filters: expected {len(widths) - 1}, got {filters!r}")
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        cin = in_channels
        for index, wide in enumerate(widths):
            bare = index in (0, len(widths) - 1)
            layer = nn.Sequential(nn.Conv2d(cin, wide, 3, 2, 1, bias=bare))
            if not bare:
                layer.append(NORMS[norm](wide))
            self.down.append(layer.append(nn.LeakyReLU(0.2, inplace=True)))
            cin = wide
        for index, (wide, skip) in enumerate(zip(filters, widths[-2::-1], strict=True)):
            layer = nn.Sequential(
                nn.ConvTranspose2d(cin, wide, 3, 2, 1, 1, bias=False), NORMS[norm](wide)
            )
            if index < dropped:
                layer.append(nn.Dropout(dropout))
            self.up.append(layer.append(nn.LeakyReLU(0.2, inplace=True)))
            cin = wide + skip
        self.out = nn.ConvTranspose2d(cin, 1, 3, 2, 1, 1)
        for module in self.modules():  # Isola et al.: N(0, 0.02²)
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, rough: Tensor) -> Tensor:
        """Refine the rough depth, or make depth of an image."""
        maps = [rough]
        for layer in self.down:
            maps.append(_down(layer, maps[-1]))
        x = maps.pop()
        for layer in self.up:
            skip = maps.pop()
            x = torch.cat((_cut(layer(x), skip), skip), dim=1)
        return torch.tanh(_cut(self.out(x), rough))


def _down(layer: nn.Module, x: Tensor) -> Tensor:
    """One step down; a map of one pixel goes in fp32.

    There a stride-2 convolution sees padding alone beside that pixel, and the gradient that torch
    2.13 computes for its weights in bf16 on the CPU is NaN.
    """
    if max(x.shape[2:]) > 1 or x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return layer(x)
    with torch.autocast("cpu", enabled=False):
        return layer(x.float())


def _cut(x: Tensor, like: Tensor) -> Tensor:
    """The part of x (…, H, W) that has a twin in ``like``."""
    return x[..., : like.shape[-2], : like.shape[-1]]
