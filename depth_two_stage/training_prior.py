# SPDX-License-Identifier: Apache-2.0
"""Training of the network that tells how deep it is by the image alone."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from . import losses
from .recipes import Recipe
from .training_data import Batches
from .training_stages import AskedStep, Step


class PriorBatches(Batches):
    """As `Batches`, of images without points, in views of the network's own range of scales."""

    def __init__(self, data: Any, recipe: Recipe, *more: Any) -> None:
        super().__init__(data, recipe, *more)
        view = dataclasses.replace(recipe.view, scale=recipe.prior.scale)
        points = dataclasses.replace(recipe.sparse, none=1.0)
        self.recipe = dataclasses.replace(recipe, view=view, sparse=points)


class PriorStep(AskedStep):
    """Regression of depth (`recipes.Prior`); batches without depth teach nothing."""

    name = "prior"
    batches = PriorBatches
    teaches = Step.teaches

    def __call__(self, x: Tensor, target: Tensor) -> dict[str, Any]:
        """Input (B, C, h, w), target (B, 1, H, W) in units of the scene → the loss."""
        with self.autocast():
            log = self.network(x)
        log = F.interpolate(log.float(), target.shape[-2:], mode="bilinear")
        name = self.stage.loss
        loss = losses.choose(name)(log.exp(), target, losses.valid_pixels(target))
        return self.descend({name: loss}, "network")
