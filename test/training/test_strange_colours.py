# SPDX-License-Identifier: Apache-2.0
"""Images in strange colours: some of a batch, colour alone, and a confidence that doubts them."""

import numpy as np
import pytest
import torch
from small_runs import recipe

from depth_two_stage import networks, training
from depth_two_stage.networks.inputs import COLOURS
from depth_two_stage.strange_colours import strange_colours
from depth_two_stage.training_data import Batches, open_training

SETTINGS = networks.NetworkSettings(input_size=(24, 32), sparse_input="relative")
COLOUR = tuple(torch.as_tensor(part).reshape(3, 1, 1) for part in COLOURS["imagenet"])


def inputs(count):
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.random((count, 8, 24, 32), np.float32))
    x[:, :3] = (x[:, :3] - COLOUR[0]) / COLOUR[1]
    return x


def test_a_share_of_the_images_changes_and_only_their_colour():
    x = inputs(40)
    before = x.clone()
    y, strange = strange_colours(x, 0.4, np.random.default_rng(1), SETTINGS)
    assert torch.equal(x, before) and 8 <= strange.sum() <= 24
    assert torch.equal((y != x).flatten(1).any(1), strange)
    assert torch.equal(y[:, 3:], x[:, 3:])
    colour = y[:, :3] * COLOUR[1] + COLOUR[0]
    assert colour.min() > -1e-5 and colour.max() < 1 + 1e-5
    means = colour.mean((1, 2, 3))[strange]
    assert (means < 0.2).any() and (means > 0.4).any()  # dark ones, and others
    again, _ = strange_colours(x, 0.4, np.random.default_rng(1), SETTINGS)
    assert torch.equal(again, y)


def test_confidence_learns_to_doubt_them(root, tmp_path, monkeypatch):
    """In the dark it is less sure of depth that is as right as by day."""
    monkeypatch.setattr("depth_two_stage.strange_colours.DARK", 1.0)
    still = {"view.rotation": 0.0, "view.scale": [1.0, 1.0], "view.colour": 0.0}
    small = {"model": "anchored", "width": 1.0, "input_size": [60, 80], "refined_size": [60, 80]}
    stage = {"epochs": 30, "rate": 5e-3, "strange": 0.5, "l1": 1.0, "adversarial": 0.0}
    changes = still | small | {f"stage_two.{name}": value for name, value in stage.items()}
    chosen = recipe(root, **changes, **{"sparse.samples": [400, 400], "stage_one.epochs": 1})
    model, _ = networks.load(training.Run(chosen, tmp_path / "run").train())
    x, _ = Batches(open_training(chosen.data), chosen, model.settings, 1, 4).make(0)
    dark, _ = strange_colours(x, 1.0, np.random.default_rng(0), model.settings)
    with torch.inference_mode():
        by_day, at_night = (model(each)[2].sigmoid().mean().item() for each in (x, dark))
    assert at_night < 0.75 * by_day


def test_a_network_without_colour_is_refused(root, tmp_path):
    chosen = recipe(root, **{"stage_two.strange": 0.5, "sparse_input": "points", "budget": 4})
    with pytest.raises(ValueError, match="strange: expected 0 for a network that sees no colour"):
        training.Run(chosen, tmp_path / "run").train()
