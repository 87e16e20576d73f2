# SPDX-License-Identifier: Apache-2.0
"""E's start of the new layers."""

import copy

import pytest
import torch
from imagenet_layouts import E_MODELS, same
from torch import nn

from depth_two_stage import networks


@pytest.mark.parametrize("name", E_MODELS)
def test_new_layers_start_at_variance_one_hundredth(name):
    # E, section 4.1: "a normal distribution with zero mean and 0.01 variance".
    spec = networks.architecture(name, 1 / 4 if "fc" not in name else 1 / 16)
    spec["stage_one"]["init_std"] = 0.1
    torch.manual_seed(0)
    stage = networks.build(spec).stage_one
    kernels = [
        module.weight
        for layer in stage.new_layers()
        for module in layer.modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
    ]
    assert kernels
    for weight in kernels:
        n = weight.numel()
        assert weight.mean().abs().item() < 5 * 0.1 / n**0.5
        assert weight.var().item() == pytest.approx(0.01, rel=5 * (2 / n) ** 0.5)
    # The encoder keeps its own start: what it is without.
    torch.manual_seed(0)
    del spec["stage_one"]["init_std"]
    assert same(stage.encoder, networks.build(spec).stage_one.encoder.state_dict())


@pytest.mark.parametrize("name", E_MODELS)
def test_any_networks_new_layers_can_be_started_again(name):
    stage = networks.build(networks.architecture(name, 1 / 16)).stage_one
    new = {id(p) for layer in stage.new_layers() for p in layer.parameters()}
    before = copy.deepcopy(stage.state_dict())
    networks.initialise(stage.new_layers(), 0.1)
    for key, value in stage.named_parameters():
        if id(value) not in new:
            assert torch.equal(value, before[key]), key
        elif value.ndim > 1:
            assert not torch.equal(value, before[key]), key
        else:
            assert ((value == 0) | (value == 1)).all()
    encoder = {id(p) for p in stage.encoder.parameters()}
    assert new | encoder == {id(p) for p in stage.parameters()} and not new & encoder


def test_a_wrong_standard_deviation_is_named():
    for std in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="std: expected a positive number"):
            networks.initialise([nn.Conv2d(1, 1, 1)], std)
