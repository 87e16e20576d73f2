# SPDX-License-Identifier: Apache-2.0
"""A joint filter of anchored depth: each pixel becomes a mean of what lies beside it.

Of no paper as a whole: kernels for each pixel that a network predicts from depth and image are
known from joint image filtering (B. Kim, J. Ponce, B. Ham, Deformable Kernel Networks for Joint
Image Filtering, IJCV 2021). Here they see what anchoring left, and choose among surfaces that are
there already: little can be invented.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .levels import level, merged, unit

CHANNELS = 12  # of `depth_filter.seen`
#: of them: by `ABOVE` times how much anchored depth departs from the smooth interpolation, and
#: anchored depth; logarithms
DEPARTS, TIED = 3, 11
ABOVE = 3.0
STEP = 2  # px between the pixels of a kernel
WIDE = 9  # px of the window whose mean is a candidate
CHANGE = 0.1  # unit of the change that belongs to no candidate, in log depth


class JointFilterNetwork(nn.Module):
    """What `depth_filter.seen` shows, (B, 12, h, w) → change of log depth (B, 1, h, w).

    A U-Net on blocks of 2×2 pixels, of four levels, says for each pixel how much of its own depth,
    of that of eight neighbours ``STEP`` px away, of the mean around it, and of the smooth
    interpolation is taken, in logarithms; and what else is missing. Untrained it changes little.
    """

    def __init__(self, widths: tuple[int, ...] = (24, 32, 48, 64)) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"widths: expected two levels at least, got {widths!r}")
        pairs = list(itertools.pairwise(widths))
        self.stem = level(unit(4 * CHANNELS, widths[0]), widths[0], 1)
        self.down = nn.ModuleList(level(unit(a, b, 2), b, 1) for a, b in pairs)
        self.narrow = nn.ModuleList(unit(b, a) for a, b in reversed(pairs))
        self.merge = nn.ModuleList(unit(2 * a, a) for a, _ in reversed(pairs))
        kernel = 9 + 2
        self.out = nn.Conv2d(widths[0], 4 * (kernel + 1), 3, 1, 1)
        nn.init.normal_(self.out.weight, std=1e-3)
        nn.init.zeros_(self.out.bias)
        with torch.no_grad():
            self.out.bias[:4] = 4.0  # the pixel's own depth

    def forward(self, seen: Tensor) -> Tensor:
        """The change of log depth, in fp32."""
        h, w = seen.shape[-2:]
        even = F.pad(seen, (0, w % 2, 0, h % 2), mode="replicate")
        maps = [self.stem(F.pixel_unshuffle(even, 2))]
        for down in self.down:
            maps.append(down(maps[-1]))
        y = maps.pop()
        for narrow, merge in zip(self.narrow, self.merge, strict=True):
            y = merged(y, maps.pop(), narrow, merge)
        y = F.pixel_shuffle(self.out(y).float(), 2)[..., :h, :w]
        kernel, more = y[:, :-1].softmax(dim=1), y[:, -1:]
        return (kernel[:, 1:] * _candidates(seen.float())).sum(1, keepdim=True) + CHANGE * more


def _candidates(seen: Tensor) -> Tensor:
    """What may be taken in place of a pixel's own depth, less that: (B, 10, h, w)."""
    own = seen[:, TIED : TIED + 1]
    h, w = own.shape[-2:]
    around = F.pad(own, (STEP,) * 4, mode="replicate")
    places = itertools.product((0, STEP, 2 * STEP), repeat=2)
    beside = [around[..., y : y + h, x : x + w] for y, x in places if (y, x) != (STEP, STEP)]
    mean = F.avg_pool2d(F.pad(own, (WIDE // 2,) * 4, mode="replicate"), WIDE, 1)
    smooth = own - seen[:, DEPARTS : DEPARTS + 1] / ABOVE
    return torch.cat((*beside, mean, smooth), dim=1) - own


class Change(nn.Module):
    """`JointFilterNetwork` as the engines want it: a tuple."""

    def __init__(self, network: JointFilterNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, seen: Tensor) -> tuple[Tensor]:
        """The change of log depth."""
        return (self.network(seen),)
