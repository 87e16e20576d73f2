# SPDX-License-Identifier: Apache-2.0
"""Groups of parameters with rates and decays of their own."""

import json

import pytest
import torch
from imagenet_layouts import E_MODELS
from torch import nn

from depth_two_stage import networks


def small(name):
    return networks.build(networks.architecture(name, 1 / 16))


def named(groups):
    return {group["name"]: group for group in groups}


@pytest.mark.parametrize("name", E_MODELS)
def test_groups_hold_every_parameter_once_and_split_at_the_encoder(name):
    stage = small(name).stage_one
    groups = named(networks.parameter_groups(stage, encoder_rate=0.1))
    assert {key: group["factor"] for key, group in groups.items()} == {"encoder": 0.1, "new": 1.0}
    ids = {key: [id(p) for p in group["params"]] for key, group in groups.items()}
    assert sorted(ids["encoder"]) == sorted(id(p) for p in stage.encoder.parameters())
    assert sorted(ids["encoder"] + ids["new"]) == sorted(id(p) for p in stage.parameters())
    # Split further, it is the same set.
    finer = networks.parameter_groups(stage, 0.1, bias_rate=2.0)
    assert sorted(id(p) for g in finer for p in g["params"]) == sorted(ids["encoder"] + ids["new"])


def test_biases_and_normalisations_may_have_a_rate_and_no_decay_of_their_own():
    stage = small("resnet-upproj").stage_one
    groups = named(networks.parameter_groups(stage, 0.5, bias_rate=2.0, decay_bias=False))
    assert {key: group["factor"] for key, group in groups.items()} == {
        "encoder": 0.5,
        "encoder_bias": 1.0,
        "new": 1.0,
        "new_bias": 2.0,
    }
    for key, group in groups.items():
        bias = key.endswith("_bias")
        assert all((p.ndim <= 1) == bias for p in group["params"])
        assert group.get("weight_decay") == (0.0 if bias else None)
    norms = [m for m in stage.modules() if isinstance(m, nn.BatchNorm2d)]
    light = {id(p) for key in ("encoder_bias", "new_bias") for p in groups[key]["params"]}
    assert {id(p) for m in norms for p in m.parameters()} | {id(stage.predict.bias)} == light


def test_a_step_moves_each_group_by_its_share_of_the_rate():
    stage = small("alexnet-upconv").stage_one
    before = {name: value.detach().clone() for name, value in stage.named_parameters()}
    groups = networks.parameter_groups(stage, encoder_rate=0.1, bias_rate=2.0)
    optimizer = torch.optim.SGD(groups, lr=123.0)
    networks.set_rate(optimizer, 0.5)
    for value in stage.parameters():
        value.grad = torch.ones_like(value)
    optimizer.step()
    for name, value in stage.named_parameters():
        step = 0.5 * (0.1 if name.startswith("encoder.") else 1.0) * (2.0 if value.ndim == 1 else 1)
        torch.testing.assert_close(before[name] - value, torch.full_like(value, step))


def test_without_decay_a_bias_stands_still_and_a_weight_shrinks():
    stage = small("alexnet-upconv").stage_one
    with torch.no_grad():
        for value in stage.parameters():
            value.fill_(1.0)
            value.grad = torch.zeros_like(value)
    groups = networks.parameter_groups(stage, decay_bias=False)
    torch.optim.SGD(groups, lr=0.1, weight_decay=0.5).step()
    for value in stage.parameters():
        assert (value == (1.0 if value.ndim <= 1 else 1 - 0.1 * 0.5)).all()


def test_groups_survive_the_state_of_an_optimizer():
    stage = small("alexnet-upconv").stage_one
    optimizer = torch.optim.SGD(networks.parameter_groups(stage, 0.1), lr=1.0, momentum=0.9)
    state = optimizer.state_dict()
    json.dumps(state["param_groups"])  # as a training state is written
    again = torch.optim.SGD(networks.parameter_groups(stage, 0.1), lr=2.0, momentum=0.9)
    again.load_state_dict(json.loads(json.dumps(state)))
    networks.set_rate(again, 1.0)
    assert [group["lr"] for group in again.param_groups] == [0.1, 1.0]
    plain = torch.optim.SGD(stage.parameters(), lr=1.0)
    networks.set_rate(plain, 0.25)
    assert plain.param_groups[0]["lr"] == 0.25


def test_frozen_parameters_are_left_out_and_shared_ones_counted_once():
    stage = small("alexnet-upconv").stage_one
    stage.encoder.requires_grad_(False)
    assert [group["name"] for group in networks.parameter_groups(stage)] == ["new"]
    stage.requires_grad_(False)
    with pytest.raises(ValueError, match="model: expected parameters to train, got none in FCRN"):
        networks.parameter_groups(stage)
    shared = nn.Conv2d(1, 1, 1)
    assert len(networks.parameter_groups(nn.Sequential(shared, shared))[0]["params"]) == 2


def test_networks_without_encoder_are_one_group():
    model = small("cnn")
    (group,) = networks.parameter_groups(model)
    assert group["name"] == "new" and len(group["params"]) == len(list(model.parameters()))
    with pytest.raises(ValueError, match="encoder_rate: expected 1 for a network without encoder"):
        networks.parameter_groups(model, encoder_rate=0.1)


@pytest.mark.parametrize("options", [{"encoder_rate": -0.1}, {"bias_rate": float("nan")}])
def test_wrong_rates_are_named(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}: expected a factor"):
        networks.parameter_groups(small("alexnet-upconv"), **options)
