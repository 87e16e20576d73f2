# SPDX-License-Identifier: Apache-2.0
"""Tying depth to points: exact where it can be, harmless where points are few or wrong."""

import numpy as np
import pytest

from depth_two_stage.anchoring import MANY, NEIGHBOURS, anchor, without_strays
from depth_two_stage.dense_scan import DenseScan

SIZE = (120, 160)


def scene(seed=0):
    """Return a truth with a step, and a prediction of it with smooth relative errors."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] / SIZE[0]
    truth = np.where(x > 0.6, 4 + x, 1.5 + 0.5 * y)
    phase = rng.uniform(0, 6, 2)
    error = 0.1 + 0.15 * np.sin(3 * x + phase[0]) * np.cos(2.5 * y + phase[1])
    return truth.astype(np.float32), (truth * np.exp(error)).astype(np.float32)


def sample(truth, n, seed=1):
    rng = np.random.default_rng(seed)
    sparse = np.zeros(SIZE, np.float32)
    chosen = rng.choice(truth.size, n, replace=False)
    sparse.flat[chosen] = truth.flat[chosen]
    return sparse


def rmse(a, b):
    return float(np.sqrt(np.mean((a - b) ** 2)))


def test_none_changes_nothing_and_reports_the_error():
    truth, depth = scene()
    result, residual, kept = anchor(depth, sample(truth, 50), "none")
    np.testing.assert_array_equal(result, depth)
    assert residual > 0.05 and kept.sum() == 50


def test_scale_removes_a_constant_factor_exactly_and_ignores_outliers():
    truth, _ = scene()
    sparse = sample(truth, 60)
    sparse.flat[np.flatnonzero(sparse)[:15]] *= 3  # a quarter of the points is wrong
    result, residual, _ = anchor(truth * np.float32(1.3), sparse, "scale")
    np.testing.assert_allclose(result, truth, rtol=1e-5)
    assert residual < 1e-5


@pytest.mark.parametrize(("n", "share"), [(20, 0.6), (100, 0.3), (500, 0.15), (5000, 0.08)])
def test_residual_removes_smooth_errors_the_better_the_more_points(n, share):
    truth, depth = scene()
    result, residual, _ = anchor(depth, sample(truth, n), "residual")
    assert rmse(result, truth) < share * rmse(depth, truth)
    assert residual < 0.03


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_few_points_do_not_make_it_worse_on_average(n):
    before, after = [], []
    for seed in range(40):
        truth, depth = scene(seed)
        result, _, _ = anchor(depth, sample(truth, n, seed), "residual")
        before.append(rmse(depth, truth))
        after.append(rmse(result, truth))
    assert np.mean(after) < np.mean(before)


def test_points_on_one_line_answer():
    truth, depth = scene()
    sparse = np.zeros(SIZE, np.float32)
    sparse[60] = truth[60]
    result, residual, _ = anchor(depth, sparse, "residual")
    assert rmse(result, truth) < rmse(depth, truth)
    assert residual < 0.02 and np.isfinite(result).all()


def test_outliers_are_dropped():
    truth, depth = scene()
    sparse = sample(truth, 200)
    wrong = np.flatnonzero(sparse)[::20]
    clean, _, _ = anchor(depth, sparse, "residual")
    sparse.flat[wrong] = 20
    result, residual, kept = anchor(depth, sparse, "residual")
    assert not kept.flat[wrong].any() and kept.sum() == 200 - len(wrong)
    assert rmse(result, truth) < 1.5 * rmse(clean, truth)
    assert residual < 0.03


@pytest.mark.parametrize("size", [(480, 640), (375, 1242), (240, 320)])
def test_a_dense_scan_mends_what_is_finer_than_the_networks_pixels(size):
    """A thin post that the prediction lacks: scan lines four pixels apart show it."""
    truth = np.full(size, 4, np.float32)
    post = slice(size[1] // 2, size[1] // 2 + size[1] // 60)
    truth[:, post] = 2
    sparse = np.zeros(size, np.float32)
    sparse[::4, ::2] = truth[::4, ::2]
    flat = np.full(size, 4, np.float32)
    result, residual, kept = anchor(flat, sparse, "residual", DenseScan.of(sparse))
    np.testing.assert_array_equal(kept, sparse > 0)
    assert residual < 0.01
    assert np.abs(result - truth)[:, post].mean() < 0.25
    assert np.abs(result - truth)[:, : size[1] // 4].max() < 1e-3  # the rest stays


@pytest.mark.parametrize("n", [50, 200, 1000])
def test_strays_are_taken_out_and_edges_are_not(n):
    truth, _ = scene()
    clean = sample(truth, n)
    assert without_strays(clean) is clean
    wrong = np.flatnonzero(clean)[::25]
    sparse = clean.copy()
    sparse.flat[wrong] = np.resize([0.3, 20.0], len(wrong))
    expected = clean.copy()
    expected.flat[wrong] = 0
    np.testing.assert_array_equal(without_strays(sparse), expected)
    assert np.count_nonzero(sparse) == n  # what was given is left as it is


@pytest.mark.parametrize("n", [0, 1, NEIGHBOURS, MANY + 1])
def test_too_few_points_to_tell_and_too_many_to_matter_are_all_kept(n):
    sparse = sample(np.geomspace(0.01, 100, SIZE[0] * SIZE[1]).reshape(SIZE), n)
    assert without_strays(sparse) is sparse


def test_points_that_all_disagree_still_answer():
    _, depth = scene()
    rng = np.random.default_rng(0)
    sparse = np.where(rng.random(SIZE) < 0.01, np.exp(rng.normal(0, 3, SIZE)), 0)
    result, residual, kept = anchor(depth, sparse.astype(np.float32), "residual")
    assert np.isfinite(result).all() and (result > 0).all()
    assert residual > 0.01 and 2 * kept.sum() >= np.count_nonzero(sparse)


@pytest.mark.parametrize("method", ["none", "scale", "residual"])
def test_without_points_the_depth_is_unchanged(method):
    _, depth = scene()
    result, residual, kept = anchor(depth, np.zeros(SIZE, np.float32), method)
    np.testing.assert_array_equal(result, depth)
    assert residual == 0 and not kept.any()


def test_where_there_is_no_depth_there_is_none_afterwards():
    truth, depth = scene()
    depth[:, :20] = 0
    result, _, kept = anchor(depth, sample(truth, 300), "residual")
    assert (result[:, :20] == 0).all() and (result[:, 20:] > 0).all()
    assert not kept[:, :20].any()


def test_a_uniform_correction_needs_no_neighbours():
    """A constant relative error is corrected far from the points too."""
    truth, _ = scene()
    sparse = np.zeros(SIZE, np.float32)
    sparse[:30, :30:3] = truth[:30, :30:3]
    result, _, _ = anchor(truth * np.float32(0.8), sparse, "residual")
    np.testing.assert_allclose(result, truth, rtol=0.01)


def test_unknown_method_is_named():
    with pytest.raises(ValueError, match="anchor: expected one of none, scale, residual, got 'x'"):
        anchor(np.ones(SIZE, np.float32), np.ones(SIZE, np.float32), "x")
