# SPDX-License-Identifier: Apache-2.0
"""Which measured points are wrong: a small network on the graph of the points.

Of no paper. A network that completes depth follows its points, so that afterwards its error tells
little of a wrong one; asked before, neighbours and the image between them tell most.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from ..point_graph import OWN, PAIR, PointGraph

HEADS = 4


class OutlierNetwork(nn.Module):
    """`PointGraph` of N points → logits (N,) of the probability that a point's depth is wrong.

    Two rounds: what a point's neighbours say of it, then what they say knowing the same of
    themselves, so that a wrong neighbour is no witness. The mean over all points of the image
    tells how often points are wrong there: one among two hundred that contradicts its neighbours
    is rather a thin thing than a mistake. ``width`` is that of all hidden layers.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.first = _Round(PAIR, OWN, width)
        self.second = _Round(PAIR + width, width, width)
        self.out = _layers(2 * width, width, 1)

    def forward(self, graph: PointGraph) -> Tensor:
        """The logits of all images' points."""
        known = self.first(graph.pairs, graph.own)
        known = self.second(torch.cat((graph.pairs, known[graph.near]), dim=2), known)
        sums = known.new_zeros(int(graph.frame[-1]) + 1, known.shape[1])
        sums = sums.index_add(0, graph.frame, known)
        mean = sums / torch.bincount(graph.frame).clamp(min=1)[:, None]
        return self.out(torch.cat((known, mean[graph.frame]), dim=1))[:, 0]


class _Round(nn.Module):
    """What the neighbours of each point say, (N, K, pair), beside what is known of it, (N, own)."""

    def __init__(self, pair: int, own: int, width: int) -> None:
        super().__init__()
        self.each = _layers(pair, width, width)
        self.heed = nn.Linear(width, HEADS)
        self.all = _layers((HEADS + 1) * width + own, width, width)

    def forward(self, pairs: Tensor, own: Tensor) -> Tensor:
        each = self.each(pairs)
        heed = self.heed(each).softmax(dim=1)
        each = each.relu()
        means = torch.einsum("nkw,nkh->nhw", each, heed).flatten(1)
        return self.all(torch.cat((means, each.amax(dim=1), own), dim=1)).relu()


def _layers(*widths: int) -> nn.Sequential:
    layers = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*layers[:-1], nn.Linear(*widths[-2:]))
