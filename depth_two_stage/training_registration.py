# SPDX-License-Identifier: Apache-2.0
"""Training of the network that tells how far the image lies beside its points."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .datasets import Sample
from .datasets.photometry import moved
from .datasets.sensors import draw_points
from .networks.inputs import assemble
from .training_data import Batches, view_of
from .training_stages import AskedStep


class RegistrationBatches(Batches):
    """As `Batches`: inputs, and how many px of them the image lies below and right of its points.

    The points come first: they are right where the depth is, and the image is moved.
    """

    def example(self, sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """One frame's input (C, h, w) and target (2,)."""
        drawn, settings = self.recipe.registration, self.settings
        view = view_of(self.recipe.view, settings, rng)
        points = draw_points(sample, drawn.sparse, rng)
        rgb, _, points, camera = view(sample.rgb, sample.depth, points, sample.camera)
        rgb = self.recipe.photometry(rgb, rng)
        length, angle = 0.0, rng.uniform(0, 2 * np.pi)
        if rng.random() < drawn.moved:
            length = rng.uniform(0, drawn.farthest)
            rgb = moved(rgb, length, angle)
        points = points / np.float32(camera.focal / settings.focal)
        x = assemble(rgb, points, settings.sparse_input, settings.mean_depth, settings.colour)
        return x, np.float32([length * np.sin(angle), length * np.cos(angle)])


class RegistrationStep(AskedStep):
    """Cross entropy of the offset, between whose four nearest whole ones the truth is divided."""

    name = "registration"
    batches = RegistrationBatches

    def __call__(self, x: Tensor, target: Tensor) -> dict[str, Any]:
        """Input (B, C, h, w), offset (B, 2) px → the loss."""
        with self.autocast():
            logits = self.network(x)
        told = logits.float().flatten(1).log_softmax(dim=1)
        loss = -(told * divided(target, logits.shape[-1] // 2).flatten(1)).sum(dim=1).mean()
        return self.descend({"cross_entropy": loss}, "network")


def divided(offset: Tensor, reach: int) -> Tensor:
    """Offsets (B, 2) px → weights (B, 2 reach + 1, 2 reach + 1) of whole ones, bilinear, sum 1."""
    whole = torch.arange(-reach, reach + 1, device=offset.device)
    rows, columns = ((1 - (part[:, None] - whole).abs()).clamp(min=0) for part in offset.unbind(1))
    return rows[:, :, None] * columns[:, None, :]
