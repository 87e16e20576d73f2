# SPDX-License-Identifier: Apache-2.0
"""Makers of messages: rosbags' (ROS 1 and 2) and rclpy's."""

import numpy as np
import pytest
from made_messages import STORES, Rclpy, Rosbags


@pytest.fixture(params=["humble", "ros1", "rclpy"], scope="module")
def make(request):
    """Build messages of one of the three origins."""
    if request.param in STORES:
        return Rosbags(STORES[request.param])
    pytest.importorskip("rclpy")
    return Rclpy()


@pytest.fixture
def rgb():
    """Make a smooth RGB picture (24, 32, 3), so that interpolating encodings keep it."""
    y, x = np.mgrid[:24, :32]
    return np.stack([x * 7, y * 9, 255 - x * 3 - y * 2], axis=2).astype(np.uint8)
