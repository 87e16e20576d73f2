# SPDX-License-Identifier: Apache-2.0
"""The narrow network and the walk on which the tests of the evaluation run."""

import pytest
from narrow_network import narrow_weights

from depth_two_stage.datasets import open_dataset
from depth_two_stage.estimator import DepthEstimator


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    return narrow_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def estimator(weights):
    return DepthEstimator(weights, device="cpu", engine="torch", threads=1)


@pytest.fixture(scope="session")
def room():
    """Four frames of a hand-held walk, decoded once."""
    return list(open_dataset("rendered", ".", "frames:40,size:120x160")[:4])
