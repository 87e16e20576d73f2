# SPDX-License-Identifier: Apache-2.0
"""The morphological baseline, step by step on depth whose answer is known."""

import numpy as np
import pytest

from depth_two_stage.morphology import morphological


def test_a_step_moves_by_the_diamond_and_is_blurred_by_the_binomial_kernel():
    dense = np.full((20, 20), 2.0, np.float32)
    dense[:, 10:] = 4.0
    result = morphological(dense)
    # Dilation prefers what is near: 2 m reaches to column 11. Then 1 4 6 4 1 / 16 across the step.
    row = [*[2.0] * 10, (15 * 2 + 4) / 16, (11 * 2 + 5 * 4) / 16, (5 * 2 + 11 * 4) / 16]
    row += [(2 + 15 * 4) / 16, *[4.0] * 6]
    np.testing.assert_allclose(result, np.tile(row, (20, 1)), rtol=1e-6)


def test_columns_are_extended_to_the_top_each_by_itself():
    sparse = np.zeros((40, 40), np.float32)
    sparse[20:, :20], sparse[20:, 20:] = 2.0, 4.0
    result = morphological(sparse)
    np.testing.assert_allclose(result[:, :19], 2.0, rtol=1e-6)
    np.testing.assert_allclose(result[:, 27:], 4.0, rtol=1e-6)


def test_a_single_wrong_pixel_is_closed_over_and_a_hole_is_closed_from_both_sides():
    dense = np.full((20, 20), 2.0, np.float32)
    dense[10, 10] = 9.0  # farther than all round it: dilation covers it
    np.testing.assert_allclose(morphological(dense), 2.0, rtol=1e-6)
    dense[:, 8:12], dense[:, 12:] = 0.0, 3.0
    # Both sides reach two columns into the hole of four; then the blur across the new step.
    row = morphological(dense)[10]
    assert row[7] == pytest.approx(2.0) and row[9] == pytest.approx((11 * 2 + 5 * 3) / 16)


@pytest.mark.parametrize("count", [1, 2, 20, 200, 5000])
@pytest.mark.parametrize("corner", [False, True])
def test_it_answers_everywhere_between_the_nearest_and_the_farthest_point(count, corner):
    rng = np.random.default_rng(count)
    size = (120, 160) if corner else (480, 640)
    sparse = np.zeros((480, 640), np.float32)
    place = rng.integers(0, size[0], count), rng.integers(0, size[1], count)
    sparse[place] = rng.uniform(1, 9, count)
    result = morphological(sparse)
    assert result.dtype == np.float32 and result.shape == sparse.shape
    points = sparse[sparse > 0]
    assert points.min() * 0.9999 <= result.min() and result.max() <= points.max() * 1.0001
    np.testing.assert_allclose(morphological(3 * sparse), 3 * result, rtol=1e-4)


def test_kernels_grow_with_the_distance_of_the_points():
    # A point in 400 pixels: cells of 4.5 pixels, so that 2 m reaches 2.5 of them over the step.
    sparse = np.zeros((400, 400), np.float32)
    sparse[10::20, 10::20] = 4.0
    sparse[10::20, 10:200:20] = 2.0
    cell = (0.05 * 400) ** 0.5
    row = morphological(sparse)[200]
    step = np.argmax(row > 3.0)
    assert step - 190 == pytest.approx(2.5 * cell, abs=cell)


def test_no_points_give_nothing():
    assert morphological(np.zeros((4, 5), np.float32)) is None
