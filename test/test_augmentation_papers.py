# SPDX-License-Identifier: Apache-2.0
"""The papers' ranges of views, and B's pairs of rough depth and truth."""

import dataclasses

import numpy as np
import pytest
import torch
from slanted_plane import CAMERA, plane, samples

from depth_two_stage.datasets.augmentation import Augmentation, PairAugmentation
from depth_two_stage.datasets.ranges import RANGES, PairRanges, Ranges


@pytest.mark.parametrize("name", ["E", "E-Make3D", "A", "B", "B-Make3D"])
def test_stage_one_sees_the_views_of_e(name):
    # E, section 4.1, "with values following Eigen et al."
    r = RANGES[name]
    assert (r.rotation, r.scale, r.flip, r.gain) == (5.0, (1.0, 1.5), 0.5, (0.8, 1.2))
    assert r.translate


def test_stage_two_of_b_on_make3d_as_printed_and_no_other_changes_pairs():
    assert RANGES["B-Make3D"].pair == PairRanges((10.0, 15.0), 0.9, (0.8, 1.2))
    for name in RANGES.keys() - {"B-Make3D"}:
        assert RANGES[name].pair == PairRanges((1.0, 1.0), 0.0, (1.0, 1.0))


@pytest.mark.parametrize("name", ["C", "D"])
def test_papers_that_print_no_augmentation_get_the_centre_crop(name):
    rgb, depth = plane()
    sparse = samples(depth)
    for seed in range(3):
        augment = Augmentation.of(name, np.random.default_rng(seed), size=(228, 304))
        view = augment(rgb, depth, sparse, CAMERA)
        assert np.array_equal(view.rgb, rgb[6:234, 8:312])
        assert np.array_equal(view.depth, depth[6:234, 8:312])
        assert np.array_equal(view.sparse, sparse[6:234, 8:312])


def test_views_of_e_fill_its_ranges_and_no_more():
    grey = np.full((240, 320, 3), 100, np.uint8)
    depth = np.full((240, 320), 3.0, np.float32)
    augment = Augmentation.of("E", np.random.default_rng(0), size=(228, 304))
    scales, gains, places = [], [], []
    for _ in range(300):
        view = augment(grey, depth, None, CAMERA)
        scales.append(3 / view.depth.max())
        assert (view.rgb == view.rgb[0, 0]).all()  # one factor for the whole image
        gains.append(view.rgb[0, 0] / 100)
        places.append(view.camera.cx)
    gains = np.array(gains)
    assert 1.0 <= min(scales) < 1.05 and 1.45 < max(scales) <= 1.5
    assert (gains.min(0) >= 0.795).all() and (gains.min(0) < 0.83).all()
    assert (gains.max(0) <= 1.205).all() and (gains.max(0) > 1.17).all()
    assert np.abs(np.corrcoef(gains.T) - np.eye(3)).max() < 0.3  # each channel its own
    assert np.ptp(places) > 50  # crops all over the frame


def test_the_angle_of_e_fills_five_degrees_either_way():
    rgb, depth = plane()
    angles = []
    sparse = np.zeros_like(depth)
    sparse[126, 40], sparse[126, 260] = 2.0, 4.0  # left and right of the principal point
    ranges = dataclasses.replace(RANGES["E"], scale=(1.0, 1.0), flip=0.0)
    augment = Augmentation.of(ranges, np.random.default_rng(0))
    for _ in range(200):
        view = augment(rgb, depth, sparse, CAMERA)
        (v1, u1), (v2, u2) = (np.argwhere(view.sparse == z)[0] for z in (2.0, 4.0))
        angles.append(np.rad2deg(np.arctan2(v2 - v1, u2 - u1)))
    assert -5.3 < min(angles) < -4.5 and 4.5 < max(angles) < 5.3


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_pairs_of_b_scale_the_rough_map_and_divide_the_truth(kind):
    rough = np.full((1, 1, 2, 4), 2.0, np.float32) * np.arange(1, 5, dtype=np.float32)
    target = np.array([3.0, 0.0, 5.0, 6.0], np.float32) + np.zeros_like(rough)
    if kind == "torch":
        rough, target = torch.from_numpy(rough), torch.from_numpy(target)
    kept = np.asarray(rough).copy(), np.asarray(target).copy()
    augment = PairAugmentation.of(
        Ranges(pair=dataclasses.replace(RANGES["B-Make3D"].pair, brightness=(1.0, 1.0))),
        np.random.default_rng(0),
    )
    scales, mirrored = [], 0
    for _ in range(1000):
        new, truth = (np.asarray(a) for a in augment(rough, target))
        if new[0, 0, 0, 0] > new[0, 0, 0, 3]:
            mirrored += 1
            new, truth = new[..., ::-1], truth[..., ::-1]
        s = new[0, 0, 0, 0] / 2
        np.testing.assert_allclose(new, kept[0] * s, rtol=1e-6)
        np.testing.assert_allclose(truth, kept[1] / s, rtol=1e-6)  # 0 stays no depth
        scales.append(s)
    assert 10 <= min(scales) < 10.1 and 14.9 < max(scales) <= 15
    assert 870 < mirrored < 930
    assert np.array_equal(rough, kept[0]) and np.array_equal(target, kept[1])


def test_brightness_of_a_pair_is_one_factor_for_both():
    augment = PairAugmentation(np.random.default_rng(0), brightness=(0.8, 1.2))
    factors = []
    for _ in range(200):
        rough, target = augment(np.full((3, 4), 2.0), np.full((3, 4), 5.0))
        assert np.ptp(rough) == 0 and rough[0, 0] / 2 == pytest.approx(target[0, 0] / 5)
        factors.append(rough[0, 0] / 2)
    assert 0.8 <= min(factors) < 0.82 and 1.18 < max(factors) <= 1.2


def test_pairs_of_the_others_are_left_alone():
    rough, target = np.arange(12.0).reshape(3, 4), np.ones((3, 4))
    for name in RANGES.keys() - {"B-Make3D"}:
        new, truth = PairAugmentation.of(name, np.random.default_rng(0))(rough, target)
        assert np.array_equal(new, rough) and np.array_equal(truth, target)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Augmentation.of("F", np.random.default_rng(0)),
            "ranges: expected one of E, .*'F'",
        ),
        (
            lambda: Augmentation.of("B-Make", np.random.default_rng(0)),
            "got 'B-Make'; nearest: B-Make3D",
        ),
        (lambda: PairAugmentation.of("X", np.random.default_rng(0)), "ranges: expected one of"),
        (lambda: Ranges(rotation=200), "rotation: expected"),
        (lambda: Ranges(gain=(0.0, 1.0)), "gain: expected"),
        (lambda: PairRanges(scale=(-1.0, 1.0)), "scale: expected"),
        (lambda: PairRanges(brightness=(2.0, 1.0)), "brightness: expected"),
        (lambda: PairAugmentation(np.random.default_rng(0), flip=-0.1), "flip: expected"),
    ],
)
def test_wrong_ranges_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
