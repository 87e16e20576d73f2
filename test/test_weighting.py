# SPDX-License-Identifier: Apache-2.0
"""What a pixel weighs in the map."""

import numpy as np
import pytest

from depth_two_stage.config import FusionParameters
from depth_two_stage.weighting import at_edges, pixel_weights


def step(near=2.0, far=3.0):
    """A wall at 2 m, from column 10 on one at 3 m."""
    depth = np.full((12, 20), near, np.float32)
    depth[:, 10:] = far
    return depth


def test_a_pixel_weighs_by_its_confidence():
    confidence = np.linspace(0, 1, 240, dtype=np.float32).reshape(12, 20)
    weights = pixel_weights(step(), confidence, FusionParameters())
    assert weights == pytest.approx(confidence**2) and weights.dtype == np.float32
    weights = pixel_weights(step(), confidence, FusionParameters(confidence_power=1.0))
    assert np.array_equal(weights, confidence)
    ones = np.ones((12, 20), np.float32)
    assert np.array_equal(pixel_weights(step(), None, FusionParameters()), ones)
    alike = pixel_weights(step(), confidence, FusionParameters(confidence_power=0.0))
    assert np.array_equal(alike, ones)


def test_far_pixels_weigh_less():
    depth = np.array([[0.0, 0.5, 1.0, 2.0, 4.0]], np.float32)
    weights = pixel_weights(depth, None, FusionParameters(range_power=2.0))
    assert weights == pytest.approx(np.array([[1, 1, 1, 1 / 4, 1 / 16]]))
    weights = pixel_weights(depth, np.full_like(depth, 0.5), FusionParameters(range_power=1.0))
    assert weights == pytest.approx(np.array([[1, 1, 1, 1 / 2, 1 / 4]]) / 4)


def test_pixels_beside_a_jump_are_left_out():
    weights = pixel_weights(step(), None, FusionParameters(edge_jump=0.3, edge_width=0.1))
    assert (weights[:, 8:12] == 0).all()  # two pixels on each side
    assert (weights[:, :8] == 1).all() and (weights[:, 12:] == 1).all()
    # 2 to 3 m is a jump by half.
    assert (pixel_weights(step(), None, FusionParameters(edge_jump=0.5)) == 1).all()


def test_holes_are_no_edges():
    depth = np.full((9, 9), 2.0, np.float32)
    depth[4, 4] = 0
    assert not at_edges(depth, 0.1).any()
    depth[4, 5] = 4.0  # a far pixel beside the hole: around it is an edge, in the hole nothing
    assert at_edges(depth, 0.1).sum() == 8 and not at_edges(depth, 0.1)[4, 4]
    assert not at_edges(np.zeros((9, 9), np.float32), 0.1).any()
