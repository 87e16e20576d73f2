# SPDX-License-Identifier: Apache-2.0
"""The narrow network and the walk on which the tests of the evaluation run."""

import pytest
import torch

from depth_two_stage import networks
from depth_two_stage.datasets import open_dataset
from depth_two_stage.estimator import DepthEstimator

SPEC = {
    "stage_one": {"name": "fcrn", "encoder": "resnet18", "decoder": "upproj", "width": 0.125},
    "stage_two": {"name": "residual_generator", "widths": [4, 8, 8], "output": "residual"},
    "settings": {"sparse_input": "filled", "aligned": True},
}


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    model = networks.build(SPEC)
    with torch.no_grad():
        model.stage_one.predict.weight.normal_(std=0.005)
        model.stage_two.out.weight.normal_(std=0.003)
    path = tmp_path_factory.mktemp("weights") / "narrow.safetensors"
    networks.save(path, model, SPEC, {"seed": 0})
    return str(path)


@pytest.fixture(scope="session")
def estimator(weights):
    return DepthEstimator(weights, device="cpu", engine="torch", threads=1)


@pytest.fixture(scope="session")
def room():
    """Four frames of a hand-held walk, decoded once."""
    return list(open_dataset("rendered", ".", "frames:40,size:120x160")[:4])
