# SPDX-License-Identifier: Apache-2.0
"""Training of the network that tells how far the image lies beside its points."""

import pytest
import torch
from small_runs import recipe

from depth_two_stage import networks, training
from depth_two_stage.networks.inputs import POINTS
from depth_two_stage.recipes import RecipeError, Sparse
from depth_two_stage.training_data import open_training
from depth_two_stage.training_plan import specification
from depth_two_stage.training_registration import (
    RegistrationBatches,
    RegistrationStep,
    divided,
)

ANCHORED = {"model": "anchored", "width": 1 / 4, "input_size": [60, 80], "refined_size": [60, 80]}


def batches(root, **changes):
    changes = {"registration.sparse.samples": [2000, 2000]} | changes
    chosen = recipe(root, **ANCHORED, **changes)
    settings = networks.build(specification(chosen)[0]).settings
    return RegistrationBatches(open_training(chosen.data), chosen, settings, 4, 4)


def test_a_batch_is_a_function_of_its_step(root):
    made = batches(root)
    x, offset = made.make(1)
    again, _ = made.make(1)
    assert torch.equal(x, again)
    assert x.shape == (4, 8, 60, 80) and offset.shape == (4, 2)
    assert x.dtype == offset.dtype == torch.float32


def test_the_image_is_moved_by_what_is_told_and_the_points_are_not(root):
    still, away = (batches(root, **{"registration.moved": share}).make(0) for share in (0.0, 1.0))
    assert not still[1].any() and (away[1].norm(dim=1) > 0).all()
    assert torch.equal(still[0][:, 3:], away[0][:, 3:])
    for plain, found, offset in zip(still[0], away[0], away[1], strict=True):
        rows, columns = (int(part) for part in offset.round())
        inside = (slice(None, 3), slice(10, 50), slice(10, 70))
        back = torch.roll(found, (-rows, -columns), (1, 2))[inside]
        apart = (back - plain[inside]).abs().mean()
        assert apart <= (found[inside] - plain[inside]).abs().mean()
        assert (found[POINTS] > 0).any()


def test_offsets_between_pixels_are_divided_among_them():
    offsets = torch.tensor([[0.0, 0.0], [1.25, -2.5], [-5.0, 5.0]])
    weights = divided(offsets, 5)
    assert weights.shape == (3, 11, 11)
    torch.testing.assert_close(weights.sum((1, 2)), torch.ones(3))
    whole = torch.arange(-5.0, 6)
    mean = torch.stack((weights.sum(2) @ whole, weights.sum(1) @ whole), dim=1)
    torch.testing.assert_close(mean, offsets)


def test_it_learns(root):
    made = batches(root, **{"registration.moved": 1.0})
    torch.manual_seed(0)
    model = networks.build(networks.architecture("anchored", 1 / 4))
    step = RegistrationStep(model, made.recipe, torch.device("cpu"), lambda module: module)
    step.rate(3e-3)
    told = []
    for _ in range(40):
        x, offset = made.make(0)
        told.append(float(step(x, offset)["cross_entropy"]))
    assert told[-1] < 0.7 * told[0]


def test_a_model_with_such_a_network_is_not_left_without(root, tmp_path):
    with pytest.raises(training.TrainingError, match=r"registration.epochs: expected at least 1"):
        training.Run(recipe(root, **ANCHORED, **{"registration.epochs": 0}), tmp_path)


def test_its_values_have_limits(root):
    assert isinstance(recipe(root).registration.sparse, Sparse)
    for name, most, wrong in (
        ("registration.sparse.dropout", 1, 2.0),
        ("registration.moved", 1, 1.5),
        ("registration.farthest", 6, 7.0),
    ):
        with pytest.raises(RecipeError, match=rf"{name}: expected at most {most}, got"):
            recipe(root, **{name: wrong})
