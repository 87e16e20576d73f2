# SPDX-License-Identifier: Apache-2.0
"""The scale of predicted depth against the map's."""

import numpy as np
import pytest

from depth_two_stage.scale_filter import ScaleFilter, scale_against


def test_the_scale_is_the_median_ratio_of_one_surface():
    rng = np.random.default_rng(0)
    seen = rng.uniform(1, 4, (60, 80)).astype(np.float32)
    depth = seen / np.float32(1.1)
    depth[:20] *= 3  # other surfaces: something stands before them in one of the two
    depth[20:25] = 0
    seen[25:30] = 0
    assert scale_against(depth, seen) == pytest.approx(1.1, rel=1e-5)


def test_too_little_in_common_says_nothing():
    depth = np.ones((60, 80), np.float32)
    seen = np.zeros_like(depth)
    assert scale_against(depth, seen) is None
    seen[:2] = 1  # 1/30 of the pixels
    assert scale_against(depth, seen) is None
    seen[:4] = 1
    assert scale_against(depth, seen) == 1


def test_the_scale_moves_by_at_most_the_rate_and_arrives():
    held, scales = ScaleFilter(0.02), []
    for _ in range(10):
        scales.append(held.update(1.1 / held.scale))  # frames are 10 % too small
    assert scales[0] == pytest.approx(1.02) and scales[1] == pytest.approx(1.02**2)
    assert scales[-1] == pytest.approx(1.1)
    assert held.update(None) == pytest.approx(1.1)
    # One bad frame moves it a little, back down it goes as slowly.
    assert held.update(0.5) == pytest.approx(1.1 / 1.02)
    held.reset()
    assert held.scale == 1


def test_a_rate_of_nothing_leaves_depth_as_it_is():
    held = ScaleFilter(0.0)
    assert held.update(1.3) == 1


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(ValueError, match="rate: expected"):
        ScaleFilter(rate)


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_ratios_are_refused(ratio):
    with pytest.raises(ValueError, match="ratio: expected"):
        ScaleFilter(0.1).update(ratio)
