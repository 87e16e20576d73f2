# SPDX-License-Identifier: Apache-2.0
"""Depth errors against values worked out by hand."""

import numpy as np
import pytest

from depth_two_stage.metrics import METRICS, Accumulator, score


def test_measures_by_hand():
    truth = np.array([[1.0, 2.0], [4.0, 0.0]], np.float32)
    depth = np.array([[1.1, 2.0], [2.0, 5.0]], np.float32)
    s = score(depth, truth)
    assert s["pixels"] == 3 and s["missing"] == 0
    assert s["rel"] == pytest.approx((0.1 + 0 + 0.5) / 3, abs=1e-6)
    assert s["mae"] == pytest.approx(2.1 / 3, abs=1e-6)
    assert s["rmse"] == pytest.approx(np.sqrt((0.01 + 4) / 3), abs=1e-6)
    logs = np.array([np.log(1.1), 0, np.log(0.5)])
    assert s["rmse_log"] == pytest.approx(np.sqrt(np.mean(logs**2)), abs=1e-6)
    assert s["log10"] == pytest.approx(np.mean(np.abs(logs)) / np.log(10), abs=1e-6)
    assert (s["delta1"], s["delta2"], s["delta3"]) == pytest.approx((2 / 3, 2 / 3, 2 / 3))


def test_delta_threshold_is_strict_and_symmetric():
    truth = np.full((1, 4), 1.0)
    depth = np.array([[1.25, 1.2499, 1 / 1.2499, 1.6]])
    s = score(depth, truth)
    assert (s["delta1"], s["delta2"], s["delta3"]) == (0.5, 0.75, 1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, -1.0])
def test_bad_pixels_are_left_out_and_counted(bad):
    truth, depth = np.full((2, 3), 2.0), np.full((2, 3), 2.0)
    depth[0, 0] = bad
    s = score(depth, truth)
    assert s["missing"] == 1 and s["pixels"] == 6 and s["rmse"] == 0
    truth[1] = bad
    s = score(depth, truth)
    assert s["missing"] == 1 and s["pixels"] == 3 and s["rel"] == 0


def test_limits_bound_the_truth():
    truth = np.array([[0.5, 5.0, 50.0]])
    assert score(np.ones((1, 3)), truth, low=1, high=10)["pixels"] == 1


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"depth: expected the truth's shape \(2, 2\), got"):
        score(np.ones((2, 3)), np.ones((2, 2)))


def test_mean_of_images_and_pooled_differ_as_defined():
    a = score(np.full((1, 1), 2.0), np.full((1, 1), 1.0))  # error 1 on 1 pixel
    b = score(np.full((1, 3), 4.0), np.full((1, 3), 4.0))  # error 0 on 3 pixels
    empty = score(np.zeros((1, 3)), np.ones((1, 3)))
    both = Accumulator()
    for s in (a, b, empty):
        both.add(s)
    assert both.result()["rmse"] == pytest.approx(0.5)
    assert both.result(pooled=True)["rmse"] == pytest.approx(0.5)  # sqrt(1 / 4)
    assert both.result()["rel"] == pytest.approx(0.5)
    assert both.result(pooled=True)["rel"] == pytest.approx(0.25)
    assert both.result()["images"] == 2 and both.result()["empty"] == 1
    assert both.result()["coverage"] == pytest.approx(4 / 7)


def test_nothing_to_average_is_none_not_zero():
    assert all(Accumulator().result()[name] is None for name in METRICS)
    only_empty = Accumulator()
    only_empty.add(score(np.zeros((2, 2)), np.zeros((2, 2))))
    assert only_empty.result(pooled=True)["rmse"] is None
