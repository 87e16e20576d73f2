# SPDX-License-Identifier: Apache-2.0
"""How deep it is by the image alone: what is expected before points are looked at.

Of no paper. A network that spreads depth from points has little to spread where there are none or a
few, and looks at edges nearby; how large a room is can be seen in the whole of its image only.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn
from torch.nn import functional as F

from .levels import enlarged, level, merged, unit


class PriorNetwork(nn.Module):
    """Input (B, C, h, w), colour first → logarithm of depth (B, 1, h, w).

    Depth is that of a canonical camera, in units of the scene without points (`inputs.scene_unit`),
    so that 0 is the training images' median. A U-Net on the halved colours: five levels, at the
    deepest of which the mean of all places is told to each; the answer is an eighth as fine as the
    input, edges are others' business. ``dropout`` is the share of the deepest maps left out.
    """

    def __init__(
        self, widths: tuple[int, ...] = (32, 64, 96, 128, 192), dropout: float = 0.2
    ) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"widths: expected two levels at least, got {widths!r}")
        pairs = list(itertools.pairwise(widths))
        self.stem = unit(3, widths[0], 2)
        self.down = nn.ModuleList(level(unit(a, b, 2), b, 1) for a, b in pairs)
        deepest = widths[-1]
        self.whole = nn.Sequential(
            nn.Linear(deepest, deepest), nn.ReLU(inplace=True), nn.Linear(deepest, deepest)
        )
        self.dropout = nn.Dropout2d(dropout)
        above = list(reversed(pairs[1:]))
        self.narrow = nn.ModuleList(unit(b, a) for a, b in above)
        self.merge = nn.ModuleList(unit(2 * a, a) for a, _ in above)
        self.out = nn.Conv2d(widths[1], 1, 3, 1, 1)
        nn.init.normal_(self.out.weight, std=1e-2)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """The logarithm of depth."""
        return enlarged(self.rough(x), x)

    def rough(self, x: Tensor) -> Tensor:
        """The same before it is enlarged, (B, 1, ⌈h/8⌉, ⌈w/8⌉), in fp32."""
        maps = [self.stem(F.avg_pool2d(x[:, :3], 2, ceil_mode=True))]
        for down in self.down:
            maps.append(down(maps[-1]))
        y = maps.pop()
        y = self.dropout(y + self.whole(y.mean(dim=(2, 3)))[:, :, None, None])
        for narrow, merge in zip(self.narrow, self.merge, strict=True):
            y = merged(y, maps.pop(), narrow, merge)
        return self.out(y).float()


class Rough(nn.Module):
    """`PriorNetwork.rough` alone: what an engine runs."""

    def __init__(self, network: PriorNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """As the engines want it: a tuple."""
        return (self.network.rough(x),)
