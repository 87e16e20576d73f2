# SPDX-License-Identifier: Apache-2.0
"""Recipes: the papers' numbers, wrong names and values, files."""

import dataclasses
import json

import pytest

from depth_two_stage import datasets, networks, recipes, training


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stage_one.speed": 1}, "stage_one.speed: expected one of epochs"),
        ({"stage_one.batch": 0}, "stage_one.batch: expected at least 1, got 0"),
        ({"stage_one.batch": "many"}, "stage_one.batch: expected int"),
        ({"stage_one.loss": "huber"}, "expected one of berhu"),
        ({"sparse.samples": [1]}, "sparse.samples: expected a list"),
        ({"model.name": 1}, "model.name: expected a name of a recipe"),
        ({"data": 3}, "data: expected a mapping"),
        ({"stage_one.loss": "berhuu"}, "got 'berhuu'; nearest: berhu"),
        ({"stage_one.rat": 1}, "got an unknown name; nearest: rate"),
        ({"stage_one.rate": float("inf")}, "stage_one.rate: expected a finite number, got inf"),
        ({"sparse.none": 1.5}, "sparse.none: expected at most 1, got 1.5"),
        ({"sparse.beam_counts": []}, "sparse.beam_counts: expected at least one number"),
        ({"sparse.beam_counts": [0]}, "sparse.beam_counts: expected at least 1, got 0"),
        ({"stage_one": {"loss": "huber"}}, "stage_one.loss: expected one of berhu"),
        ({"stage_two.none": -2}, "stage_two.none: expected at least -1"),
    ],
)
def test_wrong_recipes_are_named(changes, words):
    with pytest.raises(recipes.RecipeError, match=words):
        recipes.load("two-stage-rgbd-18", changes)


@pytest.mark.parametrize("name", recipes.names())
def test_recipes_of_the_package_load(name):
    chosen = recipes.load(name)
    assert chosen.model in networks.MODELS and chosen.data.dataset in datasets.DATASETS
    text = (recipes.FOLDER / f"{name}.yaml").read_text()
    assert "Differs from" in text, "a recipe names what differs from the paper and why"


# What the papers print, as ../shared texts have it: (model, stage one, stage two).
PRINTED = {
    "paper-e-nyu": (
        "fcrn50-rgb",
        {"epochs": 20, "batch": 16, "rate": 0.01, "momentum": 0.9, "loss": "berhu"},
        {},
    ),
    "paper-e-make3d": ("fcrn50-rgb-make3d", {"epochs": 30, "batch": 16, "rate": 0.01}, {}),
    "paper-a-nyu": (
        "two-stage-rgbd",
        {
            **{"epochs": 20, "batch": 10, "rate": 0.01, "factor": 0.2, "every": 5},
            **{"optimizer": "sgd", "loss": "berhu", "weight_decay": 0.0},
        },
        {"epochs": 200, "batch": 1, "rate": 2e-4, "betas": (0.5, 0.999)},
    ),
    "paper-b-nyu": ("two-stage-rgb", {}, {"epochs": 20, "batch": 1, "rate": 2e-4}),
    "paper-b-make3d": ("two-stage-rgb-make3d", {}, {"epochs": 20, "pairs": "B-Make3D"}),
    "paper-c-nyu": (
        "cnn-residual",
        {"optimizer": "adam", "rate": 1e-3, "weight_decay": 1e-4, "batch": 8},
        {},
    ),
    "paper-d-kitti": ("scrx-grey", {"iterations": 1000, "batch": 40, "loss": "half_l2"}, {}),
    "paper-d-nyu": ("improved-scrx-nyu-grey", {"iterations": 1000, "batch": 40}, {}),
}


@pytest.mark.parametrize("name", PRINTED)
def test_recipes_have_the_papers_numbers(name):
    chosen, (model, *stages) = recipes.load(name), PRINTED[name]
    assert chosen.model == model
    for stage, printed in zip((chosen.stage_one, chosen.stage_two), stages, strict=True):
        assert {key: getattr(stage, key) for key in printed} == printed
    assert chosen.data.farthest == (70.0 if "make3d" in name else 80.0 if "kitti" in name else 0.0)


@pytest.mark.parametrize("name", ["paper-a-nyu", "paper-b-nyu", "paper-c-nyu", "paper-d-nyu"])
def test_recipes_of_the_papers_run(root, tmp_path, name):
    changes = {"data.root": str(root), "data.validation_limit": 0, "width": 1 / 32}
    batches = {"stage_one.batch": 4, "stage_two.batch": 1, "budget": 4}
    run = training.Run(recipes.load(name, {**changes, **batches}), tmp_path / "run")
    run.train()
    assert run.images["stage_one"] == 4


def test_a_mapping_changes_what_it_names_alone():
    chosen = recipes.load("paper-a-nyu", {"stage_one": {"rate": 0.02}, "stage_two.none": -1})
    assert (chosen.stage_one.rate, chosen.stage_one.factor, chosen.stage_one.batch) == (
        0.02,
        0.2,
        10,
    )
    assert chosen.stage_two.none == -1


def test_what_a_run_writes_can_be_read_again(tmp_path):
    chosen = recipes.load("paper-b-make3d")
    (tmp_path / "again.yaml").write_text(json.dumps(dataclasses.asdict(chosen)))  # JSON is YAML
    assert recipes.load(str(tmp_path / "again.yaml")) == chosen


def test_unknown_recipes_and_broken_files(tmp_path):
    (tmp_path / "names.yaml").write_text("1: 2\nmodell: c-grey\n")
    with pytest.raises(recipes.RecipeError, match="1: expected one of model"):
        recipes.load(str(tmp_path / "names.yaml"))
    (tmp_path / "empty.yaml").write_text("data:\n")
    assert recipes.load(str(tmp_path / "empty.yaml"), {"data.root": "x"}).data.root == "x"
    with pytest.raises(recipes.RecipeError, match="got 'paper-a'; nearest: paper-a-nyu"):
        recipes.load("paper-a")
    with pytest.raises(recipes.RecipeError, match="paper-a-nyu"):
        recipes.load("paper-z")
    (tmp_path / "r.yaml").write_text("a: b: c")
    with pytest.raises(recipes.RecipeError, match="expected YAML"):
        recipes.load(str(tmp_path / "r.yaml"))
