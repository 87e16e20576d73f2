# SPDX-License-Identifier: Apache-2.0
"""The interpolation baselines, on planes they must reproduce and on the fewest samples."""

import numpy as np
import pytest

from depth_two_stage.interpolation import (
    linear,
    nearest,
    smooth,
    triangle_spread,
    triangulate,
)


def plane(height=40, width=60):
    y, x = np.mgrid[:height, :width]
    return (2 + 0.01 * x + 0.02 * y).astype(np.float32)


def test_no_samples_give_nothing():
    empty = np.zeros((4, 5), np.float32)
    assert nearest(empty) is None and linear(empty) is None


def test_nearest_copies_the_nearest_sample():
    sparse = np.zeros((1, 10), np.float32)
    sparse[0, 2], sparse[0, 7] = 1, 3
    np.testing.assert_array_equal(nearest(sparse), [[1, 1, 1, 1, 1, 3, 3, 3, 3, 3]])


def test_linear_is_exact_on_a_plane_inside_the_hull_and_nearest_outside():
    truth, sparse = plane(), np.zeros((40, 60), np.float32)
    for y, x in [(0, 0), (0, 50), (39, 0), (39, 50), (20, 20)]:
        sparse[y, x] = truth[y, x]
    result = linear(sparse)
    np.testing.assert_allclose(result[:, :51], truth[:, :51], atol=1e-5)
    np.testing.assert_array_equal(result[:, 52:], nearest(sparse)[:, 52:])
    assert result.dtype == np.float32


@pytest.mark.parametrize("pixels", [[(3, 3)], [(3, 3), (9, 20)], [(5, 2), (5, 9), (5, 30)]])
def test_one_two_and_collinear_samples_still_fill_the_image(pixels):
    sparse = np.zeros((12, 40), np.float32)
    for i, pixel in enumerate(pixels):
        sparse[pixel] = 1 + i
    np.testing.assert_array_equal(linear(sparse), nearest(sparse))


def test_smooth_passes_near_the_samples_and_stays_between_them():
    truth = plane(120, 160)
    rng = np.random.default_rng(0)
    sparse = np.where(rng.random(truth.shape) < 0.01, truth, 0).astype(np.float32)
    result = smooth(sparse)
    assert result.dtype == np.float32 and result.shape == truth.shape
    assert sparse[sparse > 0].min() <= result.min() and result.max() <= sparse.max()
    errors = [np.mean((fill(sparse) - truth) ** 2) for fill in (smooth, nearest)]
    assert errors[0] < errors[1]
    at = sparse > 0
    assert np.median(np.abs(result - sparse)[at]) < 0.01


@pytest.mark.parametrize("n", [1, 2, 3])
def test_smooth_takes_any_number_of_samples(n):
    sparse = np.zeros((30, 50), np.float32)
    sparse[5, 5 : 5 + n] = 2.0
    np.testing.assert_allclose(smooth(sparse), 2.0, rtol=1e-5)
    assert smooth(sparse * 0) is None
    every = np.full((30, 50), 3.0, np.float32)
    np.testing.assert_allclose(smooth(every), 3.0, rtol=1e-5)


def test_the_spread_of_a_triangle_and_the_distance_outside_by_hand():
    sparse = np.zeros((11, 21), np.float32)
    sparse[0, 0], sparse[10, 0], sparse[0, 10] = 1, 2, 3
    spread = triangle_spread(sparse)
    inside = np.add.outer(np.arange(11), np.arange(21)) <= 10
    np.testing.assert_allclose(spread[inside], (3 - 1) / 2)
    assert spread[0, 20] == 1010 and spread[10, 7] == 1007
    assert (spread[~inside] > 1000).all()
    two = np.where(sparse < 3, sparse, 0)
    assert (triangle_spread(two) >= 1000).all() and triangle_spread(two)[3, 4] == 1005


def test_triangles_that_are_known_change_nothing():
    rng = np.random.default_rng(0)
    sparse = np.where(rng.random((60, 80)) < 0.03, rng.uniform(1, 9, (60, 80)), 0)
    sparse = sparse.astype(np.float32)
    triangles = triangulate(sparse)
    np.testing.assert_array_equal(linear(sparse, triangles), linear(sparse))
    np.testing.assert_array_equal(triangle_spread(sparse, triangles), triangle_spread(sparse))
