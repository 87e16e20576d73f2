# SPDX-License-Identifier: Apache-2.0
"""Generators of stage two."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import NORMS, ResidualBlock


class ResidualGenerator(nn.Module):
    """A's generator: a U-Net outline whose inner layers are nine residual blocks.

    (B, 1, 256, 256) rough depth in [-1, 1] → (B, 1, 256, 256); any size divisible by 4 works.
    Three layers go down (strides 1, 2, 2), the blocks keep the size, two transposed convolutions
    go up with the skips i → n − i, i = 1, 2, and one layer makes the output. Widths are not
    printed; 64, 128, 256 as in the image-translation work that A builds on.

    ``output`` is ``tanh`` (A's reading: the range ends at the maximum depth) or ``residual``: the
    skip i = 0 too, the layers correct the rough depth, nothing is clamped, and training starts at
    the identity. ``norm`` is ``batch``, or ``instance``: A trains with batch 1, where batch
    normalisation is one of the instance, and running means do not stand for it at inference.
    The noise z is the dropout; it is off at inference, so a frame has one answer.
    """

    def __init__(
        self,
        widths: tuple[int, int, int] = (64, 128, 256),
        blocks: int = 9,
        dropout: float = 0.5,
        output: str = "tanh",
        norm: str = "batch",
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm: expected one of {', '.join(NORMS)}, got {norm!r}")
        if output not in ("tanh", "residual"):
            raise ValueError(f"output: expected 'tanh' or 'residual', got {output!r}")
        if len(widths) != 3:
            raise ValueError(f"widths: expected three, got {widths!r}")
        w1, w2, w3 = widths
        self.output = output
        self.down1 = _unit(nn.Conv2d(1, w1, 3, 1, 1, bias=False), w1, norm)
        self.down2 = _unit(nn.Conv2d(w1, w2, 3, 2, 1, bias=False), w2, norm)
        self.down3 = _unit(nn.Conv2d(w2, w3, 3, 2, 1, bias=False), w3, norm)
        self.blocks = nn.Sequential(*(ResidualBlock(w3, dropout, norm) for _ in range(blocks)))
        self.up2 = _unit(nn.ConvTranspose2d(w3, w2, 3, 2, 1, 1, bias=False), w2, norm, dropout)
        self.up1 = _unit(nn.ConvTranspose2d(2 * w2, w1, 3, 2, 1, 1, bias=False), w1, norm)
        self.out = nn.Conv2d(2 * w1, 1, 3, 1, 1)
        for module in self.modules():  # Isola et al.: N(0, 0.02²)
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)
        if output == "residual":
            nn.init.normal_(self.out.weight, std=1e-4)
        nn.init.zeros_(self.out.bias)

    def forward(self, rough: Tensor) -> Tensor:
        """Refine the rough depth."""
        d1 = self.down1(rough)
        d2 = self.down2(d1)
        x = self.blocks(self.down3(d2))
        x = self.up1(torch.cat((self.up2(x), d2), dim=1))
        x = self.out(torch.cat((x, d1), dim=1))
        return rough + x if self.output == "residual" else torch.tanh(x)


def _unit(conv: nn.Module, channels: int, norm: str, dropout: float = 0.0) -> nn.Sequential:
    """Convolution–norm–[dropout]–LeakyReLU(0.2): Ck, or CDk with dropout."""
    unit = nn.Sequential(conv, NORMS[norm](channels))
    if dropout:
        unit.append(nn.Dropout(dropout))
    return unit.append(nn.LeakyReLU(0.2, inplace=True))
