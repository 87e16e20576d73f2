# SPDX-License-Identifier: Apache-2.0
"""Training of the network that filters anchored depth."""

import numpy as np
import pytest
import torch
from small_runs import recipe

from depth_two_stage import networks, training
from depth_two_stage.anchoring import anchor
from depth_two_stage.networks.inputs import LACK, POINTS, SMOOTH
from depth_two_stage.networks.joint_filter import TIED
from depth_two_stage.recipes import RecipeError
from depth_two_stage.training_data import open_training
from depth_two_stage.training_filter import FilterBatches, FilterStep, tied
from depth_two_stage.training_plan import specification

ANCHORED = {"model": "anchored", "width": 1 / 4, "input_size": [60, 80], "refined_size": [60, 80]}
STAGE = training.STAGES.index("joint_filter")


def batches(root, **changes):
    changes = {"joint_filter.sparse.samples": [150, 600], **changes}
    chosen = recipe(root, **ANCHORED, **changes)
    settings = networks.build(specification(chosen)[0]).settings
    return FilterBatches(open_training(chosen.data), chosen, settings, STAGE, 4)


def test_a_batch_has_points_of_its_own_and_is_a_function_of_its_step(root):
    made = batches(root, **{"sparse.none": 1.0})
    x, depth = made.make(1)
    again, _ = made.make(1)
    assert torch.equal(x, again)
    assert x.shape == (4, 8, 60, 80) and depth.shape == (4, 1, 60, 80)
    assert (x[:, POINTS].sum(dim=(1, 2)) > 60).all() and (depth > 0).any()


def test_the_image_lies_beside_its_points_as_often_as_is_asked(root):
    (still, depth), (moved, other) = (
        batches(root, **{"joint_filter.offset": share}).make(0) for share in (0.0, 1.0)
    )
    assert torch.equal(depth, other) and torch.equal(still[:, 3:], moved[:, 3:])
    assert all((a != b).any() for a, b in zip(still[:, :3], moved[:, :3], strict=True))


def step_of(made):
    torch.manual_seed(0)
    model = networks.build(specification(made.recipe)[0])
    return FilterStep(model, made.recipe, torch.device("cpu"), lambda module: module)


def test_it_is_shown_depth_as_the_estimator_anchors_it(root):
    made = batches(root)
    x, _ = made.make(0)
    with torch.no_grad():
        answers = [part.numpy()[:, 0] for part in step_of(made).model.eval()(x)]
    x, answers = x[0].numpy(), [part[0] for part in answers]
    shown, log, band = tied(x, *answers)
    points = np.where(x[POINTS] > 0, np.exp(x[SMOOTH] + x[LACK]), np.float32(0))
    depth, _, _ = anchor(answers[1], points)
    np.testing.assert_allclose(log, np.log(depth), atol=1e-6)
    np.testing.assert_allclose(shown[TIED], log - log.mean(), atol=1e-5)
    assert band[points > 0].all() and band.dtype == bool


def test_it_learns_and_nothing_else_does(root):
    made = batches(root)
    step = step_of(made)
    before = {name: each.clone() for name, each in step.model.state_dict().items()}
    step.rate(3e-3)
    told = []
    for _ in range(25):
        told.append(float(step(*made.make(0))["between"]))
    assert told[-1] < told[0] - 0.05  # logarithms: 5 %
    changed = {
        name.split(".")[0]
        for name, each in step.model.state_dict().items()
        if not torch.equal(each, before[name])
    }
    assert changed == {"joint_filter"}


def test_a_batch_without_depth_teaches_nothing(root):
    step = step_of(batches(root))
    assert not step.teaches(torch.zeros(2, 1, 6, 8))
    assert step.teaches(torch.ones(2, 1, 6, 8))


def test_a_model_with_such_a_network_is_not_left_without(root, tmp_path):
    with pytest.raises(training.TrainingError, match=r"joint_filter.epochs: expected at least 1"):
        training.Run(recipe(root, **ANCHORED, **{"joint_filter.epochs": 0}), tmp_path)


def test_its_values_have_limits(root):
    for name, wrong, expected in (
        ("joint_filter.batch", 0, "at least 1"),
        ("joint_filter.offset", 1.5, "at most 1"),
        ("joint_filter.schedule", "steps", "one of cosine"),
        ("joint_filter.sparse.beams", 2.0, "at most 1"),
    ):
        with pytest.raises(RecipeError, match=rf"{name}: expected {expected}"):
            recipe(root, **{name: wrong})
