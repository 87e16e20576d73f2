# SPDX-License-Identifier: Apache-2.0
"""Images in colours that no camera shows, so that a network's confidence learns to doubt them.

With points its depth suffers little from them, so that from errors alone it learns no doubt; on
what is unlike all that it has seen it shall have some (outlier exposure: D. Hendrycks, M. Mazeika,
T. Dietterich, Deep Anomaly Detection with Outlier Exposure, ICLR 2019).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .networks import NetworkSettings
from .networks.inputs import CHANNELS, COLOURS

__all__ = ["DOUBT", "needs_colour", "strange_colours"]

DOUBT = 0.5  # how much less sure the network shall be
DARK = 0.4  # share of the strange images that are dark, with a sensor's noise
LIGHT = (0.03, 0.3)  # what is left of grey levels in the dark
NOISE = (2.0, 8.0)  # its standard deviation, of 255
INVERTED = 0.6  # share of the others that are a negative


def needs_colour(settings: NetworkSettings) -> None:
    """ValueError for a network that sees no colour."""
    if CHANNELS[settings.sparse_input] < 3:
        raise ValueError(
            "stage_two.strange: expected 0 for a network that sees no colour, got more "
            f"(sparse_input {settings.sparse_input!r})"
        )


def strange_colours(
    x: Tensor, share: float, rng: np.random.Generator, settings: NetworkSettings
) -> tuple[Tensor, Tensor]:
    """A share of the images (B, C, h, w) of a network's input, strange; and which (B,) bool.

    Dark, or negative, or with colours exchanged. ``x`` itself stays.
    """
    mean, std = (
        torch.as_tensor(np.broadcast_to(part, 3).copy(), dtype=x.dtype, device=x.device).reshape(
            3, 1, 1
        )
        for part in COLOURS[settings.colour]
    )
    x, strange = x.clone(), torch.from_numpy(rng.random(len(x)) < share).to(x.device)
    for index in torch.nonzero(strange).flatten().tolist():
        colour = x[index, :3] * std + mean
        colour = _dark(colour, rng) if rng.random() < DARK else _exchanged(colour, rng)
        x[index, :3] = (colour - mean) / std
    return x, strange


def _dark(colour: Tensor, rng: np.random.Generator) -> Tensor:
    noise = rng.standard_normal(tuple(colour.shape), np.float32) * np.float32(rng.uniform(*NOISE))
    levels = 255 * colour * rng.uniform(*LIGHT) + torch.from_numpy(noise).to(colour)
    return levels.round().clamp(0, 255) / 255


def _exchanged(colour: Tensor, rng: np.random.Generator) -> Tensor:
    negative = rng.random() < INVERTED
    order = rng.permutation(3)
    if not negative and (order == np.arange(3)).all():
        order = np.roll(order, 1)
    colour = colour[torch.from_numpy(order).to(colour.device)]
    return 1 - colour if negative else colour
