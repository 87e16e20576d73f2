# SPDX-License-Identifier: Apache-2.0
"""Training of the network that tells depth by the image alone."""

import pytest
import torch
from small_runs import recipe

from depth_two_stage import networks, training
from depth_two_stage.networks.inputs import POINTS
from depth_two_stage.recipes import RecipeError
from depth_two_stage.training_data import open_training
from depth_two_stage.training_plan import specification
from depth_two_stage.training_prior import PriorBatches, PriorStep

ANCHORED = {"model": "anchored", "width": 1 / 4, "input_size": [60, 80], "refined_size": [60, 80]}
STAGE = training.STAGES.index("prior")


def batches(root, **changes):
    chosen = recipe(root, **ANCHORED, **changes)
    settings = networks.build(specification(chosen)[0]).settings
    return PriorBatches(open_training(chosen.data), chosen, settings, STAGE, 4)


def test_a_batch_has_no_points_and_is_a_function_of_its_step(root):
    made = batches(root, **{"sparse.none": 0.0, "stage_two.none": 0.0})
    x, depth = made.make(1)
    again, _ = made.make(1)
    assert torch.equal(x, again)
    assert x.shape == (4, 8, 60, 80) and depth.shape == (4, 1, 60, 80)
    assert not x[:, POINTS].any() and (depth > 0).any()


def test_views_have_a_range_of_scales_of_their_own(root):
    """Enlarged twice, things are half as far away."""
    still = {"view.rotation": 0.0, "view.flip": 0.0, "view.scale": [1.0, 1.0]}
    near, far = (
        batches(root, **still, **{"prior.scale": [s, s]}).make(0)[1].flatten(1) for s in (2.0, 1.0)
    )
    for one, other in zip(near, far, strict=True):
        ratio = float(one[one > 0].median() / other[other > 0].median())
        assert 0.3 < ratio < 0.75


def step_of(made):
    torch.manual_seed(0)
    model = networks.build(networks.architecture("anchored", 1 / 4))
    return PriorStep(model, made.recipe, torch.device("cpu"), lambda module: module)


@pytest.mark.parametrize("loss", ["relative", "rmse"])
def test_it_learns(root, loss):
    made = batches(root, **{"prior.loss": loss})
    step = step_of(made)
    step.rate(2e-3)
    told = []
    for _ in range(30):
        told.append(float(step(*made.make(0))[loss]))
    assert told[-1] < 0.7 * told[0]


def test_a_batch_without_depth_teaches_nothing(root):
    step = step_of(batches(root))
    assert not step.teaches(torch.zeros(2, 1, 6, 8))
    assert step.teaches(torch.ones(2, 1, 6, 8))


def test_a_model_with_such_a_network_is_not_left_without(root, tmp_path):
    with pytest.raises(training.TrainingError, match=r"prior.epochs: expected at least 1"):
        training.Run(recipe(root, **ANCHORED, **{"prior.epochs": 0}), tmp_path)


def test_its_values_have_limits(root):
    for name, wrong, expected in (
        ("prior.batch", 0, "at least 1"),
        ("prior.scale", [1.5, 1.0], "the lower number first"),
        ("prior.scale", [0.0, 1.0], "at least 0.1"),
        ("prior.loss", "berhu", "one of rmse"),
    ):
        with pytest.raises(RecipeError, match=rf"{name}: expected {expected}"):
            recipe(root, **{name: wrong})
