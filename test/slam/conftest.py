# SPDX-License-Identifier: Apache-2.0
"""The walk that the tests of the SLAM core share."""

import pytest

from depth_two_stage.datasets import open_dataset


@pytest.fixture(scope="session")
def room():
    """A hand-held walk through a rendered room, 10 Hz, with exact poses."""
    return list(open_dataset("rendered", ".", "seed:5,frames:20,size:120x160"))
