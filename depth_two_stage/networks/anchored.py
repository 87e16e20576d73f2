# SPDX-License-Identifier: Apache-2.0
"""The shipped default's networks: a correction of what interpolation knows, then its edges.

Of no paper; the two-stage frame is A's. Small, for 700 training images and a robot's CPU: what the
points say comes in as interpolated depth, so that training starts where interpolation ends.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import ResidualBlock


class CorrectionUNet(nn.Module):
    """Stage one: (B, C, h, w) of ``inputs.assemble`` → correction (B, 1, ⌈h/2⌉, ⌈w/2⌉).

    A U-Net on the halved input; each level halves again, with ``blocks`` residual blocks below. The
    last layer starts near zero: the first answer is the interpolation.
    """

    def __init__(
        self,
        in_channels: int = 8,
        widths: tuple[int, ...] = (16, 32, 64, 96, 128),
        blocks: int = 1,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"widths: expected at least two levels, got {widths!r}")
        widths = [max(1, round(width * wide)) for wide in widths]
        self.stem = _unit(in_channels, widths[0], 2)
        steps = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(_level(_unit(a, b, 2), b, blocks) for a, b in steps)
        self.narrow = nn.ModuleList(_unit(b, a) for a, b in reversed(steps))
        self.merge = nn.ModuleList(_unit(2 * a, a) for a, _ in reversed(steps))
        self.out = nn.Conv2d(widths[0], 1, 3, 1, 1)
        nn.init.normal_(self.out.weight, std=1e-3)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """The correction to the logarithm of the interpolated depth."""
        skips = [self.stem(x)]
        for level in self.down:
            skips.append(level(skips[-1]))
        y = skips.pop()
        for narrow, merge in zip(self.narrow, self.merge, strict=True):
            skip = skips.pop()
            y = F.interpolate(narrow(y), skip.shape[-2:], mode="bilinear", align_corners=False)
            y = merge(torch.cat((y, skip), dim=1))
        return self.out(y)


#: (rows, columns) from a pixel to those it may take depth from: itself, a ring at 2, one at 5 px
TAPS = ((0, 0), *((d * i, d * j) for d in (2, 5) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j))


class EdgeGenerator(nn.Module):
    """Stage two: rough depth and its guide (B, 1 + G, H, W) → depth and logit (B, 2, H, W).

    Interpolation blurs the edges of things. Here each pixel takes the mean of its neighbours'
    depths (`TAPS`) with weights that the image decides, so that it can side with one of the two
    surfaces, and adds a correction. ``guides`` are the channels of the input that it sees beside
    the rough depth: colour, what the interpolation lacks at the points, distance, points. The
    second output is the logit of the probability that the first is within 5 % of the truth. It
    starts at the identity.
    """

    confident = True

    def __init__(
        self,
        guides: tuple[int, ...] = (0, 1, 2, 5, 6, 7),
        widths: tuple[int, int, int] = (12, 24, 48),
        blocks: int = 1,
    ) -> None:
        super().__init__()
        if len(widths) != 3:
            raise ValueError(f"widths: expected three, got {widths!r}")
        w1, w2, w3 = widths
        self.guides = tuple(guides)
        self.stem = _unit(1 + len(self.guides), w1)
        self.down2 = _level(_unit(w1, w2, 2), w2, blocks)
        self.down3 = _level(_unit(w2, w3, 2), w3, 2 * blocks)
        self.up2, self.merge2 = _unit(w3, w2), _unit(2 * w2, w2)
        self.up1, self.merge1 = _unit(w2, w1), _unit(2 * w1, w1)
        self.out = nn.Conv2d(w1, len(TAPS) + 2, 3, 1, 1)
        nn.init.normal_(self.out.weight, std=1e-3)
        nn.init.zeros_(self.out.bias)
        with torch.no_grad():
            self.out.bias[0] = 5.0  # nine tenths of the weight: itself

    def forward(self, condition: Tensor) -> Tensor:
        """Refined depth in stage two's range, and the logit."""
        rough = condition[:, :1]
        x1 = self.stem(condition)
        x2 = self.down2(x1)
        y = self.down3(x2)
        for up, merge, skip in ((self.up2, self.merge2, x2), (self.up1, self.merge1, x1)):
            y = F.interpolate(up(y), skip.shape[-2:], mode="bilinear", align_corners=False)
            y = merge(torch.cat((y, skip), dim=1))
        y = self.out(y).float()
        taken = (y[:, : len(TAPS)].softmax(dim=1) * neighbours(rough)).sum(1, keepdim=True)
        return torch.cat((taken + y[:, -2:-1], y[:, -1:]), dim=1)


def neighbours(depth: Tensor) -> Tensor:
    """Depth at each of `TAPS`, beyond the border its last value: (B, 1, H, W) → (B, K, H, W)."""
    reach = max(max(abs(row), abs(column)) for row, column in TAPS)
    height, width = depth.shape[-2:]
    padded = F.pad(depth, (reach,) * 4, mode="replicate")
    shifted = [
        padded[..., reach + row : reach + row + height, reach + column : reach + column + width]
        for row, column in TAPS
    ]
    return torch.cat(shifted, dim=1)


def _level(down: nn.Module, channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(down, *(ResidualBlock(channels, 0.0) for _ in range(blocks)))


def _unit(cin: int, cout: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), nn.ReLU(inplace=True))
