# SPDX-License-Identifier: Apache-2.0
"""Training of the network that tells wrong points: its batches, its loss, what it learns."""

import numpy as np
import pytest
import torch
from small_runs import recipe

from depth_two_stage import networks, training
from depth_two_stage.point_graph import NEIGHBOURS
from depth_two_stage.recipes import Outliers, Sparse
from depth_two_stage.training_data import open_training
from depth_two_stage.training_outliers import OFF, OutlierBatches, OutlierStep, mistaken
from depth_two_stage.training_plan import specification

ANCHORED = {"model": "anchored", "width": 1 / 4, "input_size": [60, 80], "refined_size": [60, 80]}


def batches(root, **changes):
    chosen = recipe(root, **ANCHORED, **changes)
    settings = networks.build(specification(chosen)[0]).settings
    return OutlierBatches(open_training(chosen.data), chosen, settings, 3, 4)


def test_a_batch_is_a_function_of_its_step(root):
    made = batches(root)
    graph, wrong = made.make(1)
    again, _ = made.make(1)
    assert np.array_equal(graph.pairs, again.pairs)
    assert wrong.shape == graph.frame.shape and set(wrong.tolist()) <= {0.0, 1.0}
    assert sorted(set(graph.frame)) == [0, 1, 2, 3]
    assert not np.array_equal(graph.pairs[:50], made.make(0)[0].pairs[:50])


def test_frames_with_too_few_points_are_drawn_again_or_refused(root):
    made = batches(root, **{"outliers.sparse.samples": [1, 400]})
    for step in range(4):
        assert np.bincount(made.make(step)[0].frame).min() > NEIGHBOURS
    few = batches(root, **{"outliers.sparse.samples": [2, 2]})
    with pytest.raises(training.TrainingError, match=r"outliers.sparse: expected more than 16"):
        few.make(0)


def test_as_many_are_wrong_and_by_as_much_as_the_recipe_says():
    rng, points = np.random.default_rng(0), np.full((100, 100), 3.0, np.float32)
    drawn = Outliers(wrong=1.0, shares=(0.1, 0.1), factors=(0.3, 0.3), depths=(0.5, 10))
    kinds = set()
    for _ in range(20):
        found = mistaken(points, drawn, rng)
        changed = found != points
        assert changed.mean() == pytest.approx(0.1, abs=0.01)
        factors = np.unique(np.round(found[changed] / 3, 3))
        kinds.add(len(factors) > 2)
        if len(factors) == 2:
            np.testing.assert_allclose(factors, [0.7, 1.3])
        else:
            assert found.min() >= 0.5 and found.max() <= 10
    assert kinds == {True, False}  # off by a factor, or anywhere
    assert mistaken(points, Outliers(wrong=0.0), rng) is points
    assert np.log(1.3) > OFF > np.log(1.05)


def test_it_learns_which_points_contradict_their_neighbours(root):
    made = batches(root, **{"outliers.wrong": 1.0, "outliers.shares": [0.05, 0.1]})
    torch.manual_seed(0)
    model = networks.build(networks.architecture("anchored", 1 / 4))
    step = OutlierStep(model, made.recipe, torch.device("cpu"), lambda module: module)
    step.rate(3e-3)
    for number in range(40):
        graph, wrong = made.make(number % 2)
        step(graph.to("cpu"), wrong)
    graph, wrong = made.make(5)
    with torch.no_grad():
        logits = model.outliers(graph.to("cpu"))
    assert logits[wrong > 0].median() > logits[wrong == 0].quantile(0.95)


def test_a_model_with_such_a_network_is_not_left_without(root, tmp_path):
    with pytest.raises(training.TrainingError, match=r"outliers.epochs: expected at least 1"):
        training.Run(recipe(root, **ANCHORED, **{"outliers.epochs": 0}), tmp_path)


def test_its_points_have_the_same_limits_as_the_others(root):
    from depth_two_stage.recipes import RecipeError

    assert isinstance(recipe(root).outliers.sparse, Sparse)
    for name in ("sparse", "outliers.sparse"):
        with pytest.raises(RecipeError, match=rf"{name}.dropout: expected at most 1, got 2"):
            recipe(root, **{f"{name}.dropout": 2.0})
