# SPDX-License-Identifier: Apache-2.0
"""Depth errors against values worked out by hand."""

import numpy as np
import pytest

from depth_two_stage.metrics import GROUPS, MEASURES, METRICS, Accumulator, chosen, score

LN2 = 0.6931471805599453
#: every measure of predictions 1, 4, 8 (and none) against truth 2, 4, 4 (and none), by hand
BY_HAND = {
    "rel": (1 / 2 + 0 + 4 / 4) / 3,
    "rmse": ((1 + 0 + 16) / 3) ** 0.5,
    "rmse_log": ((LN2**2 + 0 + LN2**2) / 3) ** 0.5,
    "log10": (0.30102999566398120 + 0 + 0.30102999566398120) / 3,
    "mae": (1 + 0 + 4) / 3,
    "delta1": 1 / 3,
    "delta2": 1 / 3,
    "delta3": 1 / 3,  # 2 > 1.25³ = 1.953
    "mse": 17 / 3,
    "ard": (1 / 2 + 0 + 4 / 4) / 3,
    "ard_printed": (1 / 1 + 0 + 4 / 8) / 3,
    "lrmse": ((LN2**2 + 0 + LN2**2) / 3) ** 0.5,
    "lrmse_si": ((LN2**2 + 0 + LN2**2) / 3 - 0) ** 0.5,  # the logs' mean is 0
    "lrmse_si_printed": (LN2**2 + 0 + LN2**2) / 3,
    "srd": (1 / 2 + 0 + 16 / 4) / 3,
    "srd_printed": (1 / 1 + 0 + 16 / 8) / 3,
    "irmse": ((500**2 + 0 + 125**2) / 3) ** 0.5,  # 1/km: 1000 - 500, 0, 125 - 250
    "imae": (500 + 0 + 125) / 3,
}


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


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_by_hand(name):
    truth = np.array([[2, 4], [4, 0]], np.float32)
    depth = np.array([[1, 4], [8, 3]], np.float32)
    s = score(depth, truth)
    assert s[name] == pytest.approx(BY_HAND[name], abs=1e-9)
    both = Accumulator()
    both.add(s)
    assert both.result()[name] == pytest.approx(BY_HAND[name], abs=1e-9)
    assert both.result(pooled=True)[name] == pytest.approx(BY_HAND[name], abs=1e-9)


# Image one: 2 predicted for 1, on one pixel. Image two: 4 for 4 on two, 2 for 4 on one.
PER_IMAGE = {
    "rel": (1 + 0.5 / 3) / 2,
    "rmse": (1 + (4 / 3) ** 0.5) / 2,
    "mse": (1 + 4 / 3) / 2,
    "rmse_log": (LN2 + LN2 / 3**0.5) / 2,
    "lrmse": (LN2 + LN2 / 3**0.5) / 2,
    "lrmse_si": (0 + LN2 * 2**0.5 / 3) / 2,  # variance of 0, 0, -ln 2: 2/9 ln² 2
    "lrmse_si_printed": (LN2**2 + LN2**2 / 3) / 2,
    "ard_printed": (0.5 + 1 / 3) / 2,
    "srd": (1 + 1 / 3) / 2,
    "srd_printed": (0.5 + 2 / 3) / 2,
    "delta1": (0 + 2 / 3) / 2,
    "irmse": (500 + (250**2 / 3) ** 0.5) / 2,
    "imae": (500 + 250 / 3) / 2,
}
PER_PIXEL = {
    "rel": 1.5 / 4,
    "rmse": (5 / 4) ** 0.5,
    "mse": 5 / 4,
    "rmse_log": LN2 / 2**0.5,
    "lrmse": LN2 / 2**0.5,
    "lrmse_si": LN2 * (2 / 3 / 4) ** 0.5,  # each image keeps its scale: 3 · 2/9 of 4 pixels
    "lrmse_si_printed": LN2**2 / 2,
    "ard_printed": 1.5 / 4,
    "srd": 2 / 4,
    "srd_printed": 2.5 / 4,
    "delta1": 2 / 4,
    "irmse": ((500**2 + 250**2) / 4) ** 0.5,
    "imae": 750 / 4,
}


@pytest.mark.parametrize("name", PER_IMAGE)
def test_means_over_images_and_over_pixels_by_hand(name):
    both = Accumulator()
    both.add(score(np.full((1, 1), 2.0), np.full((1, 1), 1.0)))
    both.add(score(np.array([[4.0, 4.0, 2.0]]), np.full((1, 3), 4.0)))
    assert both.result()[name] == pytest.approx(PER_IMAGE[name], abs=1e-9)
    assert both.result(pooled=True)[name] == pytest.approx(PER_PIXEL[name], abs=1e-9)


def test_pooling_equals_one_image_of_all_pixels():
    rng = np.random.default_rng(0)
    parts = [(rng.uniform(1, 9, (3, n)), rng.uniform(1, 9, (3, n))) for n in (2, 5, 9)]
    pooled = Accumulator()
    for depth, truth in parts:
        pooled.add(score(depth, truth))
    whole = score(*(np.hstack([part[i] for part in parts]) for i in (0, 1)))
    for name in set(MEASURES) - {"lrmse_si"}:  # whose scale is the image's
        assert pooled.result(pooled=True)[name] == pytest.approx(whole[name], rel=1e-12), name


def test_the_scale_invariant_error_ignores_a_scale():
    truth = np.random.default_rng(0).uniform(1, 9, (6, 7))
    assert score(3 * truth, truth)["lrmse_si"] == pytest.approx(0, abs=1e-7)
    depth = truth * np.random.default_rng(1).uniform(0.5, 2, truth.shape)
    assert score(3 * depth, truth)["lrmse_si"] == pytest.approx(score(depth, truth)["lrmse_si"])
    # By pairs of pixels, as Eigen et al. write it: Σ (d_i - d_j)² / 2n².
    d = np.log(depth / truth).ravel()
    pairs = ((d[:, None] - d) ** 2).sum() / (2 * d.size**2)
    assert score(depth, truth)["lrmse_si"] == pytest.approx(np.sqrt(pairs))


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
    assert s["invalid_targets"] == 0
    truth[1] = bad
    s = score(depth, truth)
    assert s["missing"] == 1 and s["pixels"] == 3 and s["rel"] == 0
    assert s["invalid_targets"] == (0 if bad == 0 else 3)  # 0 is none, the others are mistakes
    total = Accumulator()
    total.add(s)
    total.add(s)
    result = total.result()
    assert (result["missing"], result["invalid_targets"]) == (2, 2 * s["invalid_targets"])
    assert result["coverage"] == pytest.approx(2 / 3)


def test_limits_bound_the_truth():
    truth = np.array([[0.5, 5.0, 50.0]])
    assert score(np.ones((1, 3)), truth, low=1, high=10)["pixels"] == 1
    assert score(np.ones((1, 3)), truth, low=0.5, high=50)["pixels"] == 1  # strict
    for low, high in ((-1, 10), (10, 10), (np.nan, 10)):
        with pytest.raises(ValueError, match="limits: expected 0 <= low < high"):
            score(np.ones((1, 3)), truth, low, high)


@pytest.mark.parametrize(
    ("depth", "truth", "says"),
    [
        (np.ones((2, 3)), np.ones((2, 2)), r"depth: expected the truth's shape \(2, 2\), got"),
        (np.ones((2, 2, 1)), np.ones((2, 2)), r"depth: expected numbers \(H, W\), got float64 "),
        (np.ones((2, 2)), np.ones(4), r"truth: expected numbers \(H, W\), got float64 \(4,\)"),
        (np.ones((2, 2), complex), np.ones((2, 2)), "depth: expected numbers .* got complex128"),
        (np.ones((2, 2)), np.ones((2, 2), bool), "truth: expected numbers .* got bool"),
    ],
)
def test_what_are_no_two_depth_images_is_refused(depth, truth, says):
    with pytest.raises(ValueError, match=says):
        score(depth, truth)


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
    assert all(Accumulator().result()[name] is None for name in MEASURES)
    for depth, truth in (
        (np.zeros((2, 2)), np.zeros((2, 2))),
        (np.ones((2, 2)), np.full((2, 2), np.nan)),
        (np.full((2, 2), -1.0), np.ones((2, 2))),
        (np.ones((0, 3)), np.ones((0, 3))),
    ):
        only_empty = Accumulator()
        only_empty.add(score(depth, truth))
        assert only_empty.result(pooled=True)["rmse"] is None
        assert only_empty.result()["rel"] is None and only_empty.result()["empty"] == 1


def test_groups_name_known_measures():
    assert GROUPS["usual"] == METRICS
    assert all(set(names) <= set(MEASURES) for names in GROUPS.values())
    assert set(BY_HAND) == set(MEASURES)


def test_measures_are_chosen_by_group_and_name():
    assert chosen("D") == GROUPS["D"] and chosen("all") == tuple(MEASURES)
    assert chosen("E, irmse,rel") == (*GROUPS["E"], "irmse")
    with pytest.raises(ValueError, match=r"measures: expected some of .* got 'lrmse_sl'; near"):
        chosen("usual,lrmse_sl")
