# SPDX-License-Identifier: Apache-2.0
"""The shipped default's networks: points are spread along what the image shows, then its edges.

Of no paper; the two-stage frame is A's. Small, for 700 training images and a robot's CPU. Four
fifths of interpolation's squared error lies within 8 px of a depth edge (500 points, `nyu/val`):
what has to be learned is where edges are, and the points say how deep it is between them.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .diffusion import NEIGHBOURS, diffuse, likeness, maps_of
from .inputs import DISTANCE, LACK, LOG_REACH, POINTS, SMOOTH
from .levels import enlarged, level, merged, unit

FIRM = 20.0  # weight of a trusted point beside at most 1 of each neighbour
#: how much a difference of colour (in standard deviations of ImageNet's) parts two pixels at first
CONTRAST = 20.0


class DiffusionUNet(nn.Module):
    """Stage one: (B, C, h, w) of ``inputs.assemble`` → correction (B, 1, ⌈h/2⌉, ⌈w/2⌉).

    A U-Net on the halved input; each level halves again, with ``blocks`` residual blocks below. On
    the way up every level says how alike neighbouring pixels are in depth, and how much of the
    expected depth stands; the last one what is expected (the smooth interpolation and a change) and
    how far each point is believed. From the coarsest level to the finest the depth is then
    diffused, ``steps`` iterations each. The answer is what that adds to the smooth interpolation.
    """

    def __init__(
        self,
        in_channels: int = 8,
        widths: tuple[int, ...] = (16, 32, 64, 96, 128),
        blocks: int = 1,
        width: float = 1.0,
        steps: tuple[int, ...] = (6, 8, 12, 12),
    ) -> None:
        super().__init__()
        if len(widths) < 2 or len(steps) != len(widths) - 1:
            raise ValueError(
                "widths, steps: expected two levels at least and one number of steps fewer, got "
                f"{widths!r}, {steps!r}"
            )
        widths = [max(1, round(width * wide)) for wide in widths]
        pairs = list(itertools.pairwise(widths))
        self.stem = unit(in_channels, widths[0], 2)
        self.down = nn.ModuleList(level(unit(a, b, 2), b, blocks) for a, b in pairs)
        self.narrow = nn.ModuleList(unit(b, a) for a, b in reversed(pairs))
        self.merge = nn.ModuleList(unit(2 * a, a) for a, _ in reversed(pairs))
        self.steps = tuple(steps)
        self.heads = nn.ModuleList(_head(a, len(NEIGHBOURS) + 1) for a, _ in reversed(pairs))
        self.contrast = nn.Parameter(torch.full((len(pairs),), CONTRAST).log())
        self.out = _head(widths[0], 2)
        with torch.no_grad():
            for head in self.heads:
                head.bias[:-1], head.bias[-1] = 1.0, -3.5
            self.out.bias[1] = 2.0

    def forward(self, x: Tensor) -> Tensor:
        """The correction to the logarithm of the interpolated depth."""
        skips = [self.stem(x)]
        for down in self.down:
            skips.append(down(skips[-1]))
        y, heads = skips.pop(), []
        for narrow, merge, head in zip(self.narrow, self.merge, self.heads, strict=True):
            y = merged(y, skips.pop(), narrow, merge)
            heads.append(head(y).float().contiguous())
        change, trust = maps_of(self.out(y).float().contiguous(), 1, 1)
        with _all_digits(x):
            x = x.float().contiguous()
            there = x[:, POINTS : POINTS + 1].relu()
            parts = (x[:, :3], x[:, SMOOTH : SMOOTH + 1], there, there * x[:, LACK : LACK + 1])
            image, smooth, points, lack = (F.avg_pool2d(y, 2, ceil_mode=True) for y in parts)
            points, lack = (4 * y * trust.sigmoid() for y in (points, lack))  # how many in a pixel
            levels = [(image, smooth + change, points, smooth * points + lack)]
            for _ in heads[1:]:
                means = [F.avg_pool2d(part, 2, ceil_mode=True) for part in levels[0]]
                levels.insert(0, (*means[:2], 4 * means[2], 4 * means[3]))
            depth = levels[0][1]
            for one, head, contrast, steps in zip(
                levels, heads, self.contrast.exp(), self.steps, strict=True
            ):
                image, prior, points, measured = one
                depth = enlarged(depth, prior)
                raw, hold = maps_of(head, len(NEIGHBOURS), 1)
                alike, hold = likeness(raw, contrast, image), hold.exp()
                depth = diffuse(depth, alike, FIRM * points, FIRM * measured, hold, prior, steps)
            return depth - smooth


class EdgeGenerator(nn.Module):
    """Stage two: rough depth and its guide (B, 1 + G, H, W) → depth and logit (B, 2, H, W).

    Interpolation blurs the edges of things, and stage one sees half of the pixels. Here depth is
    diffused once more, ``steps`` iterations at the full size, from the rough depth (and a change
    to it) and from the points, so that a pixel at an edge sides with one of the two surfaces. Depth
    is in stage two's range, the logarithm ÷ ln 20. The network runs at half the size and says four
    pixels at once. The second output is the logit of the probability that the first is within 5 %
    of the truth. ``guides`` are the channels of the input that it sees beside the rough depth.
    """

    confident = True
    guides = (0, 1, 2, SMOOTH, LACK, DISTANCE, POINTS)

    def __init__(
        self, widths: tuple[int, int, int] = (24, 48, 64), blocks: int = 1, steps: int = 6
    ) -> None:
        super().__init__()
        if len(widths) != 3:
            raise ValueError(f"widths: expected three, got {widths!r}")
        w1, w2, w3 = widths
        self.steps = steps
        self.stem = level(unit(1 + len(self.guides), w1, 2), w1, 1)
        self.down2 = level(unit(w1, w2, 2), w2, blocks)
        self.down3 = level(unit(w2, w3, 2), w3, 2 * blocks)
        self.up2, self.merge2 = unit(w3, w2), unit(2 * w2, w2)
        self.up1, self.merge1 = unit(w2, w1), unit(2 * w1, w1)
        self.contrast = nn.Parameter(torch.tensor(CONTRAST).log())
        self.out = _head(w1, 4 * (len(NEIGHBOURS) + 4))
        with torch.no_grad():
            self.out.bias[: 4 * len(NEIGHBOURS)] = 1.0
            self.out.bias[4 * len(NEIGHBOURS) :][:8] = torch.tensor([-1.0, 2.0]).repeat_interleave(
                4
            )

    def forward(self, condition: Tensor) -> Tensor:
        """Refined depth in stage two's range, and the logit."""
        x1 = self.stem(condition)
        x2 = self.down2(x1)
        y = merged(self.down3(x2), x2, self.up2, self.merge2)
        y = self.out(merged(y, x1, self.up1, self.merge1)).float().contiguous()
        condition = condition.float().contiguous()
        rough, colour, smooth, lack, _, points = maps_of(condition, 1, 3, 1, 1, 1, 1)
        y = F.pixel_shuffle(y, 2)[..., : rough.shape[-2], : rough.shape[-1]].contiguous()
        raw, hold, trust, change, logit = maps_of(y, len(NEIGHBOURS), 1, 1, 1, 1)
        with _all_digits(y):
            points = FIRM * points.relu() * trust.sigmoid()
            measured = points * (smooth + lack) / LOG_REACH
            alike = likeness(raw, self.contrast.exp(), colour)
            prior = rough + change
            depth = diffuse(rough, alike, points, measured, hold.exp(), prior, self.steps)
        return torch.cat((depth, logit), dim=1)


def _all_digits(x: Tensor) -> torch.autocast:
    """No autocast: bf16 has eight bits, and a logarithm of depth needs more."""
    return torch.autocast("cuda" if x.is_cuda else "cpu", enabled=False)


def _head(cin: int, cout: int) -> nn.Conv2d:
    """A last layer that starts near zero, so that its biases decide what a new network does."""
    head = nn.Conv2d(cin, cout, 3, 1, 1)
    nn.init.normal_(head.weight, std=1e-3)
    nn.init.zeros_(head.bias)
    return head
