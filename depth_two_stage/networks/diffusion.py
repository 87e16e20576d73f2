# SPDX-License-Identifier: Apache-2.0
"""Spreads depth from the points over the image, weakly across what looks like an edge.

Each pixel takes the weighted mean of its eight neighbours, of what was measured there and of what
is expected there, again and again (Jacobi's iteration of a weighted Laplace equation, as in A.
Levin, D. Lischinski, Y. Weiss, Colorization using Optimization, 2004, by whose method NYU's holes
are filled). The weights come from a network; before it has learned anything they say that
neighbours of like colour are neighbours in depth.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["NEIGHBOURS", "diffuse", "likeness", "maps_of"]

#: (rows, columns) from a pixel to its eight neighbours
NEIGHBOURS = tuple((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j)
BEYOND = 100.0  # a colour beyond the border: like none


def shifts(maps: Tensor, beyond: float = 0.0) -> list[Tensor]:
    """What each pixel's `NEIGHBOURS` hold: (B, C, h, w) → eight of them, views."""
    height, width = maps.shape[-2:]
    padded = F.pad(maps, (1, 1, 1, 1), value=beyond)
    rows = {i: padded.narrow(-2, 1 + i, height) for i in (-1, 0, 1)}
    return [rows[i].narrow(-1, 1 + j, width) for i, j in NEIGHBOURS]


def maps_of(maps: Tensor, *channels: int) -> Sequence[Tensor]:
    """As `Tensor.split` along the channels.

    OpenVINO splits slowly, and makes splits of views, too, but not of single channels that are
    selected: a fifth of the network's time. Backward of a view fills a map as large as all.
    """
    if not torch.jit.is_tracing():
        return maps.split(channels, dim=1)
    ends = itertools.accumulate(channels)
    return [
        maps[:, end - 1].unsqueeze(1) if count == 1 else maps[:, end - count : end]
        for end, count in zip(ends, channels, strict=True)
    ]


def likeness(raw: Tensor, contrast: Tensor, image: Tensor) -> list[Tensor]:
    """How alike each pixel is to its `NEIGHBOURS`, 0…1: eight maps (B, 1, h, w).

    ``raw`` (B, 8, h, w) are logits, lowered by ``contrast`` times the mean absolute difference of
    colour to the neighbour in ``image`` (B, 3, h, w); nothing is like what is beyond the border.
    """
    each = maps_of(raw, *(1,) * len(NEIGHBOURS))
    colours = maps_of(image, *(1,) * image.shape[1])
    others = zip(*(shifts(colour, BEYOND) for colour in colours), strict=True)
    contrast = contrast / len(colours)
    return [
        (
            logit - contrast * sum((o - c).abs() for o, c in zip(other, colours, strict=True))
        ).sigmoid()
        for logit, other in zip(each, others, strict=True)
    ]


def diffuse(
    depth: Tensor,
    weights: Sequence[Tensor],
    points: Tensor,
    measured: Tensor,
    hold: Tensor,
    prior: Tensor,
    steps: int,
) -> Tensor:
    """So many iterations from ``depth`` (B, 1, h, w), in any unit of depth.

    ``weights`` are those of the eight neighbours, at least 0; ``points`` that of what is measured
    in a pixel (0: nothing), ``measured`` depth times that; ``hold`` that of the expected depth
    ``prior``; each (B, 1, h, w).
    """
    total = sum(weights, points + hold)
    weights, source = [each / total for each in weights], (measured + hold * prior) / total
    if torch.is_grad_enabled() and not torch.jit.is_tracing():
        return _Diffusion.apply(depth, source, steps, *weights)
    for _ in range(steps):
        new = source
        for weight, other in zip(weights, shifts(depth), strict=True):
            new = torch.addcmul(new, weight, other)
        depth = new
    return depth


class _Diffusion(torch.autograd.Function):
    """The same loop with a backward of its own: autograd's would fill a map for every view."""

    @staticmethod
    def forward(ctx, depth: Tensor, source: Tensor, steps: int, *weights: Tensor) -> Tensor:
        """(B, 1, h, w), as all of them."""
        every = [depth]
        for _ in range(steps):
            new = source.clone()
            for weight, other in zip(weights, shifts(every[-1]), strict=True):
                new.addcmul_(weight, other)
            every.append(new)
        ctx.save_for_backward(*weights, *every[:-1])
        return every[-1]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of depth, source and weights."""
        weights, every = ctx.saved_tensors[: len(NEIGHBOURS)], ctx.saved_tensors[len(NEIGHBOURS) :]
        of_weights, of_source = [*map(torch.zeros_like, weights)], torch.zeros_like(gradient)
        height, width = gradient.shape[-2:]
        for depth in reversed(every):
            of_source += gradient
            before = gradient.new_zeros((*gradient.shape[:2], height + 2, width + 2))
            for k, ((i, j), other) in enumerate(zip(NEIGHBOURS, shifts(depth), strict=True)):
                of_weights[k].addcmul_(gradient, other)
                there = before[..., 1 + i : 1 + i + height, 1 + j : 1 + j + width]
                there.addcmul_(gradient, weights[k])
            gradient = before[..., 1:-1, 1:-1]
        return gradient.contiguous(), of_source, None, *of_weights
