# SPDX-License-Identifier: Apache-2.0
"""Training of the network that tells wrong points: the third thing that a recipe may train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .anchoring import MANY
from .datasets import Sample
from .datasets.sensors import draw_points, with_outliers
from .point_graph import NEIGHBOURS, PointGraph
from .recipes import Outliers
from .training_data import Batches, view_of
from .training_stages import AskedStep, TrainingError

DRAWS = 100  # of points, until there are enough of them and not too many
OFF = 0.1  # log ratio beyond which a changed depth is called wrong


class OutlierBatches(Batches):
    """As `Batches`: graphs of points, and which of them are wrong (N,), 0 or 1."""

    def example(self, sample: Sample, rng: np.random.Generator) -> tuple[PointGraph, np.ndarray]:
        """One frame's graph and targets; raises TrainingError where it has too few points."""
        view = view_of(self.recipe.view, self.settings, rng)
        drawn = self.recipe.outliers
        for _ in range(DRAWS):
            points = draw_points(sample, drawn.sparse, rng)
            rgb, _, points, _ = view(sample.rgb, sample.depth, points, sample.camera)
            if NEIGHBOURS < np.count_nonzero(points) <= MANY:
                break
        else:
            raise TrainingError(
                f"outliers.sparse: expected more than {NEIGHBOURS} and at most {MANY} points in "
                f"{sample.name}, got none in {DRAWS} draws"
            )
        measured, rows, columns = mistaken(points, drawn, rng), *np.nonzero(points)
        depth, right = measured[rows, columns], points[rows, columns]
        wrong = np.abs(np.log(depth / right)) > OFF
        rgb = self.recipe.photometry(rgb, rng)
        return PointGraph.of(rgb, rows, columns, depth), wrong.astype(np.float32)

    def joined(
        self, inputs: Sequence[PointGraph], targets: Sequence[np.ndarray]
    ) -> tuple[PointGraph, Tensor]:
        """The graphs of several frames as one, and its targets."""
        return PointGraph.joined(inputs), torch.from_numpy(np.concatenate(targets))


def mistaken(points: np.ndarray, drawn: Outliers, rng: np.random.Generator) -> np.ndarray:
    """Points (H, W) m, 0 = none, some of which may have taken a wrong depth."""
    if rng.random() >= drawn.wrong:
        return points
    share, absolute = rng.uniform(*drawn.shares), rng.random() < 0.5
    if absolute:
        return with_outliers(points, share, drawn.depths, 0.0, rng)
    off = rng.uniform(*drawn.factors, points.shape) * rng.choice([-1, 1], points.shape)
    off *= rng.random(points.shape) < share
    return points * (1 + off).astype(np.float32)


class OutlierStep(AskedStep):
    """Cross entropy of each point, in each image's mean: one with a few counts as one with many."""

    name = "outliers"
    batches = OutlierBatches

    def sent(self, x: PointGraph, layout: torch.memory_format) -> PointGraph:
        """A batch's graph on the stage's device."""
        return x.to(self.device)

    def __call__(self, x: PointGraph, target: Tensor) -> dict[str, Any]:
        """Graph of N points, which are wrong (N,) → the loss."""
        loss = F.binary_cross_entropy_with_logits(self.network(x), target, reduction="none")
        counts = torch.bincount(x.frame)
        mean = (loss / counts[x.frame]).sum() / len(counts)
        return self.descend({"cross_entropy": mean}, "network")
