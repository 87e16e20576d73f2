# SPDX-License-Identifier: Apache-2.0
"""Errors by place, of aligned depth and on common pixels, against values worked out by hand."""

import numpy as np
import pytest

from depth_two_stage.depth_scores import DepthScores


def row(*values):
    return np.array([values], np.float32)


def test_inside_and_outside_are_means_over_the_images_that_have_such_pixels():
    scores = DepthScores()
    truth, band = row(2, 2, 2, 2), np.array([[True, True, False, False]])
    scores.add({"a": row(3, 3, 2, 4)}, truth, invalid=3, band=band)
    scores.add({"a": row(4, 4, 4, 4)}, row(2, 2, 0, 0), band=band)
    result = scores.result()["a"]
    assert result["inside"]["mae"] == pytest.approx((1 + 2) / 2)
    assert result["outside"]["rmse"] == pytest.approx(2**0.5)  # of 0 and 2 m
    assert (result["outside"]["images"], result["outside"]["empty"]) == (1, 1)
    assert result["mae"] == pytest.approx((1 + 2) / 2) and result["invalid_targets"] == 3
    assert scores.result(pooled=True)["a"]["inside"]["rmse"] == pytest.approx((10 / 4) ** 0.5)
    assert "common" not in result and "dbe_acc" not in result and "change_median" not in result


def test_pixels_common_to_all_where_some_have_no_answer():
    scores = DepthScores()
    scores.add({"a": row(3, 0, 5), "b": row(2, 9, 4)}, row(2, 2, 4))
    scores.add({"a": row(3, 3, 3), "b": row(2, 2, 2)}, row(2, 2, 2))
    result = scores.result()
    # Image one: without the second pixel; image two: all.
    assert result["a"]["common"]["mae"] == 1 and result["b"]["common"]["mae"] == 0
    assert result["a"]["common"]["pixels"] == result["b"]["common"]["pixels"] == 5
    assert result["b"]["mae"] == pytest.approx((7 / 3 + 0) / 2) and result["a"]["missing"] == 1


def test_aligned_by_the_median_ratio_of_each_image():
    scores = DepthScores(aligned=True)
    scores.add({"a": row(1, 2, 3)}, row(2, 4, 9))  # ratios 2, 2, 3
    scores.add({"a": row(4, 4, 4)}, row(1, 1, 1))
    result = scores.result()["a"]
    assert result["aligned_rmse"] == pytest.approx(3**0.5 / 2)  # 3 m on a third of the first
    assert result["aligned_rel"] == pytest.approx((3 / 9) / 3 / 2)
    assert "aligned" not in result


def test_an_image_without_an_answer_has_no_scale_and_counts_as_empty():
    scores = DepthScores(aligned=True)
    scores.add({"a": row(0, 0)}, row(1, 1))
    result = scores.result()["a"]
    assert result["aligned_rmse"] is None and result["empty"] == 1


def test_the_change_of_stage_two_is_the_mean_of_medians_of_metres():
    scores = DepthScores()
    one = row(2, 2, 2, 0)
    scores.add({"refined": one}, row(2, 2, 2, 2))
    scores.add_change(one, row(2.1, 1.7, 2.2, 5))  # 0.1, 0.3, 0.2; the last has no coarse depth
    scores.add_change(one, row(2.4, 2.4, 2.4, 0))
    scores.add_change(one, row(0, 0, 0, 3))
    assert scores.result()["refined"]["change_median"] == pytest.approx((0.2 + 0.4) / 2)
