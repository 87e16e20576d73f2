# SPDX-License-Identifier: Apache-2.0
"""What the confidence is worth, against values worked out by hand."""

import numpy as np
import pytest

from depth_two_stage import doubt
from depth_two_stage.doubt import Doubt, calibration


def image(*values):
    return np.array([values], np.float32)


def test_dropping_a_fifth_by_confidence_and_by_the_spread():
    truth, depth = np.full((1, 10), 2.0, np.float32), np.full((1, 10), 2.0, np.float32)
    depth[0, 0], depth[0, 5] = 5.0, 1.0  # errors of 3 and 1 m
    confidence, spread = np.linspace(0.1, 1, 10)[None], np.zeros((1, 10))
    spread[0, 5:7] = 1000.0
    d = Doubt()
    d.add(depth, truth, confidence, spread)
    result = d.result()
    assert result["rmse_all"] == pytest.approx(1)  # of (9 + 1) / 10
    # The two least confident hold the 3 m, the two of largest spread the 1 m.
    assert result["rmse_most_confident_80_percent"] == pytest.approx((1 / 8) ** 0.5)
    assert result["reduction"] == pytest.approx(1 - (1 / 8) ** 0.5)
    assert result["triangle_spread_drop"] == pytest.approx(1 - (9 / 8) ** 0.5)
    assert result["within_5_percent"] == pytest.approx(0.8)
    without = Doubt()
    without.add(depth, truth, confidence)
    assert "triangle_spread_drop" not in without.result()


def test_bins_of_equally_many_pixels_by_hand():
    # 40 pixels, four a bin; of bin i, i % 5 of four are within 5 %.
    confidence = np.repeat(np.arange(10) / 10 + 0.05, 4)
    error = np.where(np.arange(40) % 4 < np.repeat(np.arange(10) % 5, 4), 0.01, 0.2)
    turn = np.random.default_rng(0).permutation(40)
    result = calibration(confidence[turn], error[turn])
    assert [b["observed"] for b in result["bins"]] == [0, 0.25, 0.5, 0.75, 1] * 2
    assert [b["expected"] for b in result["bins"]] == pytest.approx(np.arange(10) / 10 + 0.05)
    assert {b["pixels"] for b in result["bins"]} == {4}
    # Bin 0 has nothing right: relative to one pixel in four.
    by_hand = [0.2, 0.4, 0.5, 8 / 15, 0.55, 2.2, 1.6, 0.5, 2 / 15, 0.05]
    assert [b["error"] for b in result["bins"]] == pytest.approx(by_hand)
    assert result["calibration_error_median"] == pytest.approx(0.5)
    assert result["calibration_error_max"] == pytest.approx(2.2)
    assert not result["monotone"] and result["largest_fall"] == 1
    assert [b["rel"] for b in result["bins"]][:4] == pytest.approx([0.2, 0.2, 0.105, 0.01])


def test_monotone_when_what_is_observed_never_falls():
    confidence, error = np.linspace(0, 1, 30), np.where(np.arange(30) < 15, 0.2, 0.0)
    result = calibration(confidence, error)
    assert result["monotone"] and result["largest_fall"] == 0
    few = calibration(np.array([0.5]), np.array([0.01]))
    assert few["monotone"] and len(few["bins"]) == 1 and few["calibration_error_max"] == 0.5


def test_stored_pixels_are_bounded_the_same_in_each_run_and_frames_weigh_alike(monkeypatch):
    monkeypatch.setattr(doubt, "STORED", 1000)
    monkeypatch.setattr(doubt, "PIXELS", 100)

    def run():
        d = Doubt()
        for i in range(64):
            truth = np.ones((30, 40), np.float32)
            # Of each frame the confidence is its number, so that a pixel tells where it is from.
            d.add(truth, truth, np.full((30, 40), i / 100, np.float32))
            assert sum(p.shape[1] for p in d.pixels) <= 1000
        return np.concatenate(d.pixels, axis=1)[0]

    first = run()
    assert np.array_equal(first, run()) and len(first) > 400
    _, counts = np.unique(first, return_counts=True)
    assert len(counts) == 64 and counts.max() <= 2 * counts.min()


def test_frames_without_a_pixel_to_compare_are_none():
    d = Doubt()
    d.add(image(1, 0), image(0, 1), image(0.5, 0.5))
    assert d.result() is None
