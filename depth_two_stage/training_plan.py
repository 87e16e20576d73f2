# SPDX-License-Identifier: Apache-2.0
"""What a recipe comes to: how many steps a stage has, at which rates, of which architecture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from . import networks
from .recipes import Recipe

if TYPE_CHECKING:
    import torch

__all__ = ["rate_at", "specification", "steps_of"]


def steps_of(stage: Any, images: int, budget: int = 0) -> int:
    """Steps of a stage on so many images: its epochs or iterations, at most a budget of images."""
    total = getattr(stage, "iterations", 0) or stage.epochs * (images // stage.batch)
    return min(total, max(1, budget // stage.batch)) if budget else total


def rate_at(step: int, total: int, stage: Any) -> float:
    """Learning rate of a step: steps (× factor every n epochs), cosine with warm-up, constant.

    Where a budget leaves fewer steps than the epochs take, the schedule is pressed together.
    """
    if stage.schedule == "steps":
        return stage.rate * stage.factor ** (step * stage.epochs // (total * stage.every))
    if stage.schedule == "cosine":
        warm = min(100, max(1, total // 20))
        return stage.rate * min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / total)))
    return stage.rate


def specification(recipe: Recipe) -> tuple[dict[str, Any], dict[str, torch.Tensor] | None]:
    """The architecture that a recipe trains, and the weights of a stage one that is plugged in."""
    spec, weights = networks.architecture(recipe.model, recipe.width), None
    if recipe.plug is not None:
        spec, weights = networks.plug(spec, recipe.plug, recipe.width)
    if recipe.init_std is not None and spec["stage_one"] is not None:
        spec["stage_one"]["init_std"] = recipe.init_std
    settings = spec["settings"]
    if recipe.input_size is not None:
        before = networks.NetworkSettings(**settings)
        settings["focal"] = before.focal * recipe.input_size[1] / before.input_size[1]
    for name in ("sparse_input", "input_size", "refined_size", "focal", "max_depth"):
        value = getattr(recipe, name)
        if value is not None:
            settings[name] = list(value) if isinstance(value, tuple) else value
    return spec, weights
