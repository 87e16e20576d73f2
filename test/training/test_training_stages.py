# SPDX-License-Identifier: Apache-2.0
"""Every kind of model trains, stage by stage, from scratch or from files."""

import dataclasses

import pytest
import torch
from safetensors.torch import save_file
from small_runs import cut_and_resumed, lines, recipe, same

from depth_two_stage import networks, training

KINDS = {
    "fcrn18-rgb": ["stage_one"],
    "sc-grey": ["stage_one"],
    "cnn-fc": ["stage_one"],
    "two-stage-rgb": ["stage_one", "stage_two"],
    "three-stage-rgb": ["stage_one", "stage_two", "stage_three"],
    "single-cgan-rgb": ["stage_two"],
    "anchored": ["stage_one", "stage_two", "outliers", "registration", "prior", "joint_filter"],
}


@pytest.mark.parametrize(("model", "stages"), KINDS.items())
def test_every_kind_of_model_trains_and_resumes(root, tmp_path, model, stages):
    changes = {"model": model, "width": 1 / 32, "budget": 8, "stage_one.fraction": model[0] == "s"}
    if "cnn" not in model:  # fully connected layers want their own size
        changes["input_size"] = [57, 76]
    chosen = recipe(root, **changes)
    whole = training.Run(chosen, tmp_path / "whole")
    before = {name: value.clone() for name, value in whole.model.state_dict().items()}
    whole.train()
    found = list(dict.fromkeys(line["stage"] for line in lines(tmp_path / "whole")))
    assert found == stages
    for stage in stages:  # every stage moved, and its losses are there
        assert any(
            not torch.equal(value, before[name])
            for name, value in whole.model.state_dict().items()
            if name.startswith(stage) and value.is_floating_point()
        )
    # Cut off after each state that was written, it ends at the same weights.
    cut_and_resumed(chosen, tmp_path / "broken")
    assert same(tmp_path / "whole" / "weights", tmp_path / "broken" / "weights")


def test_stage_three_follows_a_frozen_stage_two(root, tmp_path):
    changes = {"model": "three-stage-rgb", "width": 1 / 32, "input_size": [57, 76], "budget": 4}
    run = training.Run(recipe(root, **changes), tmp_path / "run")
    states = {}
    loop = run._loop

    def watched(progress, stage, update):
        loop(progress, stage, update)
        states[update.name] = {
            name: {k: v.clone() for k, v in getattr(run.model, name).state_dict().items()}
            for name in run.stages
        }

    run._loop = watched
    run.train()
    for frozen in ("stage_one", "stage_two"):
        first, last = states[frozen][frozen], states["stage_three"][frozen]
        assert all(torch.equal(first[name], value) for name, value in last.items())


def test_a_trained_stage_one_is_plugged_in_and_stays(root, tmp_path):
    one = recipe(root, model="fcrn18-rgb", width=1 / 32, input_size=[57, 76], budget=8)
    file = training.Run(one, tmp_path / "one").train()
    two = recipe(root, model="two-stage-rgb", width=1 / 32, plug=str(file), budget=4)
    run = training.Run(two, tmp_path / "two")
    model, checkpoint = networks.load(run.train())
    assert (
        checkpoint.facts["images"]["stage_one"] == 0
        and checkpoint.facts["images"]["stage_two"] == 4
    )
    assert model.settings.input_size == (57, 76) and model.stage_two is not None
    plugged, _ = networks.load(file)
    for name, value in plugged.stage_one.state_dict().items():
        assert torch.equal(value, model.stage_one.state_dict()[name])
    cut_and_resumed(dataclasses.replace(two, save_every=1), tmp_path / "cut")
    assert same(tmp_path / "two" / "weights", tmp_path / "cut" / "weights")
    alone = recipe(root, model="fcrn18-rgb", width=1 / 32, plug=str(file))
    with pytest.raises(training.TrainingError, match=r"plug: expected something .* left to train"):
        training.Run(alone, tmp_path / "nothing")


def test_an_encoder_may_learn_at_its_own_rate(root, tmp_path):
    changes = {"model": "fcrn18-rgb", "width": 1 / 32, "input_size": [57, 76], "budget": 8}
    run = training.Run(recipe(root, **changes, **{"stage_one.encoder_rate": 0.0}), tmp_path / "run")
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    run.train()
    moved = {name for name, p in run.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved and not any(".encoder." in name for name in moved)


def test_encoders_start_from_a_file(root, tmp_path):
    source = networks.build(networks.architecture("fcrn18-rgb", 1 / 16))
    state = source.stage_one.encoder.state_dict()
    file = tmp_path / "resnet18.safetensors"
    save_file(dict(state), file)
    changes = {"model": "fcrn18-rgbd", "width": 1 / 16, "encoder_weights": str(file)}
    run = training.Run(recipe(root, **changes, budget=4), tmp_path / "run")
    stem = run.model.stage_one.encoder.conv1.weight
    torch.testing.assert_close(stem[:, :3], state["conv1.weight"])
    torch.testing.assert_close(stem[:, 3], state["conv1.weight"].mean(1))
    _, found = networks.load(run.train())
    assert found.facts["encoder"]["file"].endswith("resnet18.safetensors")
    with pytest.raises(ValueError, match="encoder"):
        none = {"model": "cnn", "width": 1 / 16, "encoder_weights": str(file)}
        training.Run(recipe(root, **none), tmp_path / "none")


def test_the_printed_forms_of_the_cgan_train(root, tmp_path):
    printed = {"stage_two.loss": "log_l1", "stage_two.form": "min_max", "stage_two.pairs": "B"}
    changes = {"model": "two-stage-rgb", "width": 1 / 32, "input_size": [57, 76], "budget": 4}
    training.Run(recipe(root, **changes, **printed), tmp_path / "run").train()
    terms = [line for line in lines(tmp_path / "run") if "log_l1" in line]
    assert terms and terms[0]["adversarial"] < 0  # log(1 − D)
