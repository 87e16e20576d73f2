# SPDX-License-Identifier: Apache-2.0
"""Spreads depth from the points over the image, weakly across what looks like an edge.

Each pixel takes the weighted mean of its eight neighbours, of what was measured there and of what
is expected there, again and again (Jacobi's iteration of a weighted Laplace equation, as in A.
Levin, D. Lischinski, Y. Weiss, Colorization using Optimization, 2004, by whose method NYU's holes
are filled). The weights come from a network; before it has learned anything they say that
neighbours of like colour are neighbours in depth.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["NEIGHBOURS", "differences", "diffuse"]

#: (rows, columns) from a pixel to its eight neighbours
NEIGHBOURS = tuple((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j)
BEYOND = 100.0  # a colour beyond the border: like none


def shifts(maps: Tensor, beyond: float = 0.0) -> list[Tensor]:
    """What each pixel's `NEIGHBOURS` hold: (B, C, h, w) → eight of them, views."""
    height, width = maps.shape[-2:]
    padded = F.pad(maps, (1, 1, 1, 1), value=beyond)
    rows = {i: padded.narrow(-2, 1 + i, height) for i in (-1, 0, 1)}
    return [rows[i].narrow(-1, 1 + j, width) for i, j in NEIGHBOURS]


def differences(image: Tensor) -> Tensor:
    """Mean absolute difference of colour to each neighbour: (B, C, h, w) → (B, 8, h, w).

    Beyond the border it is large.
    """
    return torch.cat(
        [(other - image).abs().mean(1, keepdim=True) for other in shifts(image, BEYOND)], dim=1
    )


def diffuse(
    depth: Tensor,
    weights: Tensor,
    points: Tensor,
    measured: Tensor,
    hold: Tensor,
    prior: Tensor,
    steps: int,
) -> Tensor:
    """So many iterations from ``depth`` (B, 1, h, w), in any unit of depth.

    ``weights`` (B, 8, h, w) are those of the neighbours, at least 0; ``points`` that of what is
    measured in a pixel (0: nothing), ``measured`` depth times that; ``hold`` that of the expected
    depth ``prior``; each (B, 1, h, w).
    """
    total = weights.sum(1, keepdim=True) + points + hold
    weights, source = weights / total, (measured + hold * prior) / total
    if torch.is_grad_enabled() and not torch.jit.is_tracing():
        return _Diffusion.apply(depth, weights, source, steps)
    each = [weights.narrow(1, k, 1) for k in range(len(NEIGHBOURS))]
    for _ in range(steps):
        new = source
        for weight, other in zip(each, shifts(depth), strict=True):
            new = torch.addcmul(new, weight, other)
        depth = new
    return depth


class _Diffusion(torch.autograd.Function):
    """The same loop with a backward of its own: autograd's would fill a map for every view."""

    @staticmethod
    def forward(ctx, depth: Tensor, weights: Tensor, source: Tensor, steps: int) -> Tensor:
        """(B, 1, h, w), weights (B, 8, h, w) and source (B, 1, h, w) → (B, 1, h, w)."""
        every = [depth]
        for _ in range(steps):
            new = source.clone()
            for k, other in enumerate(shifts(every[-1])):
                new.addcmul_(weights[:, k : k + 1], other)
            every.append(new)
        ctx.save_for_backward(weights, *every[:-1])
        return every[-1]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """The gradients of depth, weights and source."""
        weights, *every = ctx.saved_tensors
        of_weights, of_source = torch.zeros_like(weights), torch.zeros_like(gradient)
        height, width = gradient.shape[-2:]
        for depth in reversed(every):
            of_source += gradient
            before = gradient.new_zeros((*gradient.shape[:2], height + 2, width + 2))
            for k, ((i, j), other) in enumerate(zip(NEIGHBOURS, shifts(depth), strict=True)):
                of_weights[:, k : k + 1].addcmul_(gradient, other)
                there = before[..., 1 + i : 1 + i + height, 1 + j : 1 + j + width]
                there.addcmul_(gradient, weights[:, k : k + 1])
            gradient = before[..., 1:-1, 1:-1]
        return gradient.contiguous(), of_weights, of_source, None
