# SPDX-License-Identifier: Apache-2.0
"""Training of the network that filters anchored depth."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from . import losses
from .anchoring import anchor
from .dense_scan import DenseScan
from .depth_filter import LEAST, seen, sized
from .networks.inputs import LACK, POINTS, SMOOTH
from .recipes import Recipe
from .scan_band import scan_band
from .training_data import Batches
from .training_stages import AskedStep, Step


class FilterBatches(Batches):
    """As `Batches`, with the network's own points, and images that lie beside them.

    Views are neither turned nor enlarged: with the truth resampled points and edges would lie up to
    a pixel from where they were measured, and that is what is to be learned.
    """

    def __init__(self, data: Any, recipe: Recipe, *more: Any) -> None:
        super().__init__(data, recipe, *more)
        drawn = recipe.joint_filter
        photometry = dataclasses.replace(recipe.photometry, offset=drawn.offset)
        view = dataclasses.replace(recipe.view, scale=(1.0, 1.0), rotation=0.0)
        self.recipe = dataclasses.replace(
            recipe, sparse=drawn.sparse, photometry=photometry, view=view
        )


class FilterStep(AskedStep):
    """Logarithm of RMSE between the points, and half as much of that everywhere."""

    name = "joint_filter"
    batches = FilterBatches
    teaches = Step.teaches

    def __call__(self, x: Tensor, target: Tensor) -> dict[str, Any]:
        """Input (B, C, h, w), target (B, 1, H, W) in units of the scene → the losses."""
        with torch.no_grad(), self.autocast():
            answers = [part.float().cpu().numpy()[:, 0] for part in self.model(x)]
        made = [tied(*each) for each in zip(x.float().cpu().numpy(), *answers, strict=True)]
        shown, log, band = (
            torch.from_numpy(np.stack(part)).to(x.device) for part in zip(*made, strict=True)
        )
        with self.autocast():
            change = self.network(shown)
        size, band = target.shape[-2:], band[:, None].float()
        depth = F.interpolate(log[:, None] + change.float(), size, mode="bilinear").exp()
        band = F.interpolate(band, size) > 0
        valid = losses.valid_pixels(target)
        terms = {
            "between": losses.rmse_log(depth, target, valid & band),
            "all": 0.5 * losses.rmse_log(depth, target, valid),
        }
        return self.descend(terms, "network")


def tied(
    x: np.ndarray, coarse: np.ndarray, refined: np.ndarray, logit: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input x (8, h, w), answers → what is shown, anchored log depth, between the points or not."""
    log = np.where(x[POINTS] > 0, x[SMOOTH] + x[LACK], np.float32(0))
    points = np.where(x[POINTS] > 0, np.exp(log), np.float32(0))
    depth, _, _ = anchor(sized(refined, points.shape), points, "residual", DenseScan.of(points))
    log = np.log(np.maximum(depth, np.float32(LEAST)))
    return seen(x, coarse, refined, logit, log), log, scan_band(points)
