# SPDX-License-Identifier: Apache-2.0
"""Training on a tiny NYU-like folder: it learns, says how, and stops where it has to."""

import dataclasses
import subprocess

import numpy as np
import pytest
import torch
from small_runs import lines, recipe, train_command

from depth_two_stage import networks, recipes, training, training_plan
from depth_two_stage.networks.blocks import PlainUp
from depth_two_stage.training_data import Batches


def test_both_stages_train_and_the_file_says_how(root, tmp_path):
    made = training.Run(recipe(root), tmp_path / "run").train()
    model, found = networks.load(made)
    facts = found.facts
    assert facts["seed"] == 0 and facts["frames"] == 8 and len(facts["data_hash"]) == 64
    assert facts["epochs"] == {"stage_one": 3, "stage_two": 2, "stage_three": 0}
    assert facts["images"] == {"stage_one": 24, "stage_two": 16, "stage_three": 0}
    assert facts["batches_without_depth"]["stage_one"] == 0 and facts["code_version"]
    assert np.isfinite(facts["metrics"]["refined_rmse_200"])
    assert facts["recipe"]["stage_two"]["betas"] == [0.5, 0.999]
    stages = [line["stage"] for line in lines(tmp_path / "run")]
    assert stages == sorted(stages) and {"stage_one", "stage_two"} == set(stages)
    terms = lines(tmp_path / "run")[-2]
    assert {"discriminator", "adversarial", "l1", "rate", "seconds", "epoch"} <= terms.keys()
    assert model.settings.sparse_input == "smooth"
    # Without points the mean of the frames stands there: they show 1.3 to 5.5 m.
    assert np.shape(model.settings.mean_depth) == (12, 16)
    assert 2 < np.mean(model.settings.mean_depth) < 5


def test_stage_one_learns(root, tmp_path):
    # The correction of the filled depth overfits two frames; without it the error stays.
    changes = {
        "data.limit": 2,
        "stage_one.batch": 2,
        "stage_one.epochs": 40,
        "stage_two.epochs": 1,
        "view.scale": [1.0, 1.0],
        "view.rotation": 0.0,
        "view.flip": 0.0,
        "view.colour": 0.0,
        "sparse.none": 1.0,
        "data.validation_limit": 0,
        "stage_one.rate": 0.01,
        "stage_one.schedule": "constant",
    }
    training.Run(recipe(root, **changes), tmp_path / "run").train()
    losses = [line["rmse"] for line in lines(tmp_path / "run") if "rmse" in line]
    assert losses[-1] < 0.5 * losses[0]


def test_plain_up_convolutions_learn_in_their_fast_form(root, tmp_path, monkeypatch):
    changes = {
        "model": "cnn-residual",
        "width": 1 / 32,
        "input_size": [57, 76],
        "focal": 65.0,
        "stage_one.rate": 1e-4,
        "stage_one.epochs": 1,
        "data.validation_limit": 0,
    }
    chosen = recipe(root, **changes)
    fast = training.Run(chosen, tmp_path / "fast")
    assert not any(isinstance(part, PlainUp) for part in fast.model.modules())
    fast.train()
    monkeypatch.setattr(training.forms, "has_fast_form", lambda model: False)
    training.Run(chosen, tmp_path / "plain").train()
    torch.manual_seed(chosen.seed)
    before = networks.build(fast.spec).state_dict()
    a, b = (
        networks.read_checkpoint(networks.resolve(tmp_path / name / "weights")).tensors
        for name in ("fast", "plain")
    )
    kernels = [name for name, value in a.items() if value.shape[2:] == (5, 5)]
    assert len(kernels) == 8 and a.keys() == b.keys() == before.keys()
    for name in kernels:
        # Adam's first step is ± the rate wherever a gradient is more than rounding.
        close = (a[name].float() - b[name].float()).abs() < 3e-5
        moved = (a[name].float() - before[name]).abs() > 6e-5
        assert close.float().mean() > 0.99 and moved.float().mean() > 0.9


def test_a_loss_that_is_not_finite_names_its_part(root, tmp_path, monkeypatch):
    run = training.Run(recipe(root), tmp_path / "run")
    with torch.no_grad():
        next(run.model.stage_one.parameters()).fill_(float("nan"))
    with pytest.raises(training.TrainingError, match="stage_one, rmse: expected a finite loss"):
        run.train()
    assert not list((tmp_path / "run").glob("weights*"))


def test_an_earlier_run_is_neither_overwritten_nor_mixed(root, tmp_path):
    out = tmp_path / "run"
    changes = {"stage_one.epochs": 1, "stage_two.epochs": 1, "data.validation_limit": 0}
    training.Run(recipe(root, **changes), out).train()
    with pytest.raises(training.TrainingError, match="expected an empty folder or --resume"):
        training.Run(recipe(root, **changes), out)
    with pytest.raises(training.TrainingError, match=r"same recipe .* got another one: seed$"):
        training.Run(recipe(root, **changes, seed=1), out, resume=True)
    # Another network is another recipe too, not a list of tensors that do not fit.
    with pytest.raises(training.TrainingError, match=r"got another one: model, width$"):
        other = {**changes, "model": "two-stage-rgb", "width": 1 / 32}
        training.Run(recipe(root, **other), out, resume=True)
    with pytest.raises(training.TrainingError, match="expected the same data_hash"):
        training.Run(recipe(root, **changes, **{"data.limit": 4}), out, resume=True)
    (out / "state.safetensors").write_bytes(b"0" * 100)
    with pytest.raises(ValueError, match="expected a training state"):
        training.Run(recipe(root, **changes), out, resume=True)


def test_what_cannot_be_done_is_found_before_training(root, tmp_path, monkeypatch):
    monkeypatch.setattr(training.Run, "train", lambda self: pytest.fail("it began to train"))
    with pytest.raises(ValueError, match="split: expected one of train, val, got 'test'"):
        training.Run(recipe(root, **{"data.validation_split": "test"}), tmp_path / "run")
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        command = [*train_command(root), "-o", str(out)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert f"{out}: expected a writable folder" in done.stderr


@pytest.mark.parametrize(
    ("name", "model", "left"),
    [
        ("paper-c-nyu", "two-stage-rgb", "two"),
        ("paper-d-nyu", "three-stage-rgb", "two and three"),
        ("paper-e-nyu", "single-cgan-rgb", "two"),
    ],
)
def test_a_stage_that_would_stay_random_is_refused(root, tmp_path, name, model, left):
    """Recipes of one-stage papers with a model of more stages; a budget gives it no step either."""
    changes = {"data.root": str(root), "model": model, "width": 1 / 32, "input_size": [57, 76]}
    changes |= {"data.validation_limit": 0, "stage_one.batch": 4, "budget": 4}
    words = f"^stage_two.epochs: expected at least 1 for a model with a stage {left}, got 0; -p sta"
    with pytest.raises(training.TrainingError, match=words):
        training.Run(recipes.load(name, changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    run = training.Run(recipes.load(name, {**changes, "stage_two.epochs": 1}), tmp_path / "run")
    run.train()
    assert run.images["stage_two"] == 4


def test_rates_are_those_of_the_paper():
    stage = recipes.load("paper-a-nyu").stage_one
    rates = [training_plan.rate_at(epoch * 79, 20 * 79, stage) for epoch in (0, 4, 5, 10, 19)]
    assert rates == pytest.approx([1e-2, 1e-2, 2e-3, 4e-4, 8e-5])
    cosine = dataclasses.replace(stage, schedule="cosine")
    assert training_plan.rate_at(1579, 1580, cosine) < 1e-7 < training_plan.rate_at(0, 1580, cosine)


def test_a_budget_presses_the_schedule_together():
    stage = recipes.load("paper-a-nyu").stage_one
    assert training_plan.steps_of(stage, 795) == 20 * 79
    total = training_plan.steps_of(stage, 795, budget=400)
    assert total == 40
    rates = [training_plan.rate_at(step, total, stage) for step in (0, 9, 10, 20, 39)]
    assert rates == pytest.approx([1e-2, 1e-2, 2e-3, 4e-4, 8e-5])
    assert training_plan.steps_of(stage, 795, budget=3) == 1
    assert training_plan.steps_of(stage, 795, budget=10**9) == 20 * 79
    assert training_plan.steps_of(dataclasses.replace(stage, iterations=1000), 795) == 1000


def test_batches_without_depth_are_counted_and_teach_nothing(root, tmp_path, monkeypatch):
    chosen = recipe(root, model="fcrn18-rgb", width=1 / 32, input_size=[57, 76], budget=12)
    make = Batches.make

    def spoilt(self, step):
        x, target = make(self, step)
        return x, (target * np.nan if step == 1 else target)

    monkeypatch.setattr(Batches, "make", spoilt)
    run = training.Run(chosen, tmp_path / "run")
    _, found = networks.load(run.train())
    assert found.facts["batches_without_depth"]["stage_one"] == 1
    assert found.facts["pixels_not_depth"]["stage_one"] == 4 * 256 * 256  # of step 1
    counted = [line for line in lines(tmp_path / "run") if "batch_without_depth" in line]
    assert [line["step"] for line in counted] == [1]
    monkeypatch.setattr(Batches, "make", lambda self, step: (make(self, step)[0], torch.zeros(1)))
    with pytest.raises(training.TrainingError, match="target: expected depth in some image"):
        training.Run(chosen, tmp_path / "none").train()
