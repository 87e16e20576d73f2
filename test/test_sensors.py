# SPDX-License-Identifier: Apache-2.0
"""Points of training frames: counts, places, what goes wrong, and old recipes' points as before."""

import dataclasses

import cv2
import numpy as np
import pytest

from depth_two_stage import recipes
from depth_two_stage.camera import Camera
from depth_two_stage.datasets import Sample, sensors
from depth_two_stage.datasets.sensors import Corruption, Sparse, draw_points
from depth_two_stage.datasets.sparse import Beams, bernoulli, lines

CAMERA = Camera(320, 240, 260.0, 260.0, 160.0, 120.0)


def frame(seed=0):
    """A frame of random boxes before a slanted wall, 2 to 6 m, with a hole in its truth."""
    rng = np.random.default_rng(seed)
    depth = np.tile(np.linspace(4, 6, 320, dtype=np.float32), (240, 1))
    rgb = np.full((240, 320, 3), 90, np.uint8)
    for _ in range(12):
        v, u = rng.integers(0, (200, 280))
        depth[v : v + 30, u : u + 40] = rng.uniform(2, 4)
        rgb[v : v + 30, u : u + 40] = rng.integers(0, 255, 3)
    depth[100:110, 50:80] = 0
    return Sample(rgb, depth, CAMERA, 0, "made")


def points_of(sparse, seeds=40, sample=None, **changes):
    sample = sample or frame()
    chosen = Sparse(**sparse) if isinstance(sparse, dict) else sparse
    chosen = dataclasses.replace(chosen, **changes)
    return [draw_points(sample, chosen, np.random.default_rng(seed)) for seed in range(seeds)]


def as_before(sample, sparse, rng):
    """How points were drawn before there was anything but beams and Bernoulli samples."""
    kind = rng.random()
    if kind < sparse.none:
        return np.zeros(sample.camera.size, np.float32)
    if kind < sparse.none + sparse.beams:
        beams = Beams(
            int(rng.choice(sparse.beam_counts)),
            noise=rng.uniform(0, sparse.noise),
            dropout=rng.uniform(0, sparse.dropout),
        )
        return lines(sample.depth, sample.camera, beams, rng)
    low, high = (max(value, 1.0) for value in sparse.samples)
    return bernoulli(sample.depth, float(np.exp(rng.uniform(np.log(low), np.log(high)))), rng)


OLDER = [name for name in recipes.names() if recipes.load(name).sparse.samples[0] > 0]


@pytest.mark.parametrize("name", OLDER)
def test_what_recipes_named_before_gives_the_points_that_it_gave(name):
    named = recipes.load(name).sparse
    known = ("none", "beams", "samples", "beam_counts", "noise", "dropout")
    sparse = Sparse(**{field: getattr(named, field) for field in known})
    sample = frame()
    for seed in range(12):
        one, other = np.random.default_rng(seed), np.random.default_rng(seed)
        expected = as_before(sample, sparse, other)
        assert np.array_equal(draw_points(sample, sparse, one), expected)
        assert one.random() == other.random()  # the view that is drawn next is the same, too


@pytest.mark.parametrize(
    "changes",
    [
        {"beams": 1.0, "elevation": (10.0, 22.5), "offset": 0.2},
        {"corners": 1.0, "samples": (5.0, 500.0)},
        {"clusters": 1.0, "half": 1.0},
        {"corruption": Corruption(noise=1.0, outliers=1.0, shift=1.0), "half": 0.5},
    ],
)
def test_the_generator_alone_decides(changes):
    first, again = points_of(changes, 3), points_of(changes, 3)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], first[1])
    assert first[0].dtype == np.float32 and first[0].shape == CAMERA.size
    assert all(np.isfinite(p).all() and (p >= 0).all() for p in first)


def test_patterns_share_the_images():
    shares = {"none": 0.2, "beams": 0.2, "corners": 0.2, "clusters": 0.2, "samples": (900, 900)}
    sample, kinds = frame(), {"none": 0, "rows": 0, "corners": 0, "disc": 0, "all over": 0}
    everywhere = sensors.corners(sample.rgb, sample.depth, 900)
    for points in points_of(shares, 400, sample, beam_counts=(4,), discs=(1, 1)):
        v, u = np.nonzero(points)
        if not len(v):
            kinds["none"] += 1
        elif np.array_equal(points, everywhere):
            kinds["corners"] += 1
        elif np.hypot(np.ptp(v), np.ptp(u)) < 0.6 * 320:
            kinds["disc"] += 1
        elif len(np.unique(v)) < 120:
            kinds["rows"] += 1
        else:
            kinds["all over"] += 1
    # A disc at a hole or beside the frame is none: the standard deviation of each is 8.
    assert all(50 < count < 110 for count in kinds.values()), kinds


def test_the_number_of_samples_is_log_uniform_from_none_on():
    counts = np.array([np.count_nonzero(p) for p in points_of({"samples": (0, 1000)}, 600)])
    # log(n + 1) is uniform on 0…log 1001: a tenth below n = 1, a third below 9, two below 99.
    assert counts.min() == 0 and 700 < counts.max() < 1100
    assert 0.02 < (counts == 0).mean() < 0.12
    assert (counts <= 9).mean() == pytest.approx(1 / 3, abs=0.06)
    assert (counts <= 99).mean() == pytest.approx(2 / 3, abs=0.06)
    assert not any(p.any() for p in points_of({"samples": (0, 0)}, 5))


def test_beams_move_with_their_origin_and_spread():
    wall = dataclasses.replace(frame(), depth=np.full(CAMERA.size, 3, np.float32))
    tops, ends = [], []
    chosen = {"beams": 1.0, "beam_counts": (4,), "elevation": (10.0, 20.0), "offset": 0.2}
    for points in points_of(chosen, 120, wall):
        v, _ = np.nonzero(points[:, 155:165])
        tops.append(v.min()), ends.append(v.max())
    # Straight ahead, at 3 m, from an origin 0.1 ± 0.2 m above and 0.05 ± 0.2 m before the camera:
    # ± (2.95 ± 0.2) tan(10° to 20°) m.
    top = [120 - (0.3 + 3.15 * np.tan(np.deg2rad(20))) / 3 * 260]
    least = [120 + (-0.3 + 2.75 * np.tan(np.deg2rad(10))) / 3 * 260]
    assert top[0] - 2 < min(tops) < top[0] + 15 and min(ends) > least[0] - 2
    heights = np.subtract(ends, tops) / 260 * 3 / 2 / 2.95  # tan of the spread, but for the origin
    assert np.rad2deg(np.arctan(heights)).min() == pytest.approx(10, abs=1)
    assert np.rad2deg(np.arctan(heights)).max() == pytest.approx(20, abs=1.5)


def test_corners_lie_where_the_image_has_them_apart_from_each_other():
    rgb = np.zeros((240, 320, 3), np.uint8)
    rgb[60:180, 80:240] = 200  # four corners
    depth = np.full((240, 320), 2, np.float32)
    found = np.argwhere(sensors.corners(rgb, depth, 4))
    expected = [(60, 80), (60, 239), (179, 80), (179, 239)]
    assert len(found) == 4
    assert all(np.abs(np.subtract(expected, place)).max(axis=1).min() <= 1 for place in found)
    depth[170:] = 0  # no depth at the lower two
    assert np.count_nonzero(sensors.corners(rgb, depth, 4)) == 2
    assert not sensors.corners(rgb, depth, 0).any()
    assert not sensors.corners(rgb * 0, depth, 10).any()
    sample = frame()
    many = np.argwhere(sensors.corners(sample.rgb, sample.depth, 30)).astype(float)
    gaps = np.linalg.norm(many[:, None] - many[None], axis=2) + 99 * np.eye(len(many))
    assert 15 < len(many) <= 30 and gaps.min() >= 3


def test_clusters_stay_in_their_discs():
    depth = np.full((240, 320), 2, np.float32)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        points = sensors.clustered(depth, 300, np.array([0.1]), rng)
        v, u = np.nonzero(points)
        (x, y) = np.random.default_rng(seed).random(2) * (320, 240)
        assert np.hypot(u - x, v - y).max() <= 32 + 1.5
    # Two discs of a tenth of the width hold 2 · π · 32² pixels; of these a count of n.
    counts = [
        np.count_nonzero(sensors.clustered(depth, 300, np.array([0.1, 0.1]), rng))
        for rng in map(np.random.default_rng, range(60))
    ]
    assert np.mean(counts) == pytest.approx(300, abs=10)


def test_a_missing_half_is_one_side_of_a_line():
    full = np.full((240, 320), 2, np.float32)
    shares = []
    for seed in range(60):
        kept = sensors.without_half(full, np.random.default_rng(seed)) > 0
        shares.append(kept.mean())
        # Convex on both sides: the hulls of what is kept and what is gone do not meet.
        for side in (kept, ~kept):
            if side.any():
                hull = cv2.convexHull(np.argwhere(side)[:, ::-1].astype(np.int32))
                drawn = cv2.fillConvexPoly(np.zeros((240, 320), np.uint8), hull, 1) > 0
                assert (drawn & ~side).sum() < 0.01 * side.size
    assert np.mean(shares) == pytest.approx(0.5, abs=0.1)
    assert min(shares) < 0.2 and max(shares) > 0.8
    sparse = points_of({}, 1)[0]
    half = points_of({}, 1, half=1.0)[0]
    assert np.array_equal(half[half > 0], sparse[half > 0])
    assert 0 < np.count_nonzero(half) < np.count_nonzero(sparse)


def test_a_shift_moves_every_point_alike():
    sparse = np.zeros((240, 320), np.float32)
    sparse[10, 20], sparse[100, 200], sparse[239, 319] = 1, 2, 3
    right = sensors.shifted(sparse, 8, 0.0)  # 8 px of 640 are 4 of 320
    assert np.argwhere(right).tolist() == [[10, 24], [100, 204]]
    assert right[100, 204] == 2
    down = sensors.shifted(sparse, 8, np.pi / 2)
    assert np.argwhere(down).tolist() == [[14, 20], [104, 200]]
    back = sensors.shifted(sparse, 8, 5 * np.pi / 4)  # up and left: 4 · √½ = 2.8
    assert np.argwhere(back).tolist() == [[7, 17], [97, 197], [236, 316]]
    assert not sensors.shifted(sparse, 10_000, 1.0).any()


def test_shifts_are_drawn_from_their_range():
    sparse = Sparse(corruption=Corruption(shift=1.0, shift_px=(2.0, 8.0)))
    sample = frame()
    clean = points_of(dataclasses.replace(sparse, corruption=Corruption()), 40, sample)
    lengths = []
    for before, after in zip(clean, points_of(sparse, 40, sample), strict=True):
        # The shift that brings most points together.
        scores = np.fft.ifft2(np.conj(np.fft.fft2(before > 0)) * np.fft.fft2(after > 0)).real
        dv, du = np.unravel_index(scores.argmax(), scores.shape)
        lengths.append(np.hypot(dv - 240 * (dv > 120), du - 320 * (du > 160)))
    assert 0.2 < min(lengths) < 1.8 and 3 < max(lengths) < 4.8  # 1 to 4 px here, rounded


def test_noise_has_its_standard_deviation():
    depth = np.zeros((240, 320), np.float32)
    depth[:120], depth[120:] = 1, 4
    error = sensors.noisy(depth, 0.02, 0.0, np.random.default_rng(0)) - depth
    assert error.std() == pytest.approx(0.02, rel=0.02) and abs(error.mean()) < 1e-3
    error = sensors.noisy(depth, 0.03, 0.01, np.random.default_rng(0)) - depth
    assert error[:120].std() == pytest.approx(np.hypot(0.03, 0.01), rel=0.02)
    assert error[120:].std() == pytest.approx(np.hypot(0.03, 0.04), rel=0.02)
    sparse = points_of({}, 1)[0]
    noise = points_of({}, 1, corruption=Corruption(noise=1.0))[0]
    assert np.array_equal(noise > 0, sparse > 0)
    assert 0.005 < (noise - sparse)[sparse > 0].std() < 0.07
    near = np.full((60, 60), 0.02, np.float32)  # a point behind the camera is none
    behind = sensors.noisy(near, 0.05, 0.0, np.random.default_rng(0))
    assert (behind >= 0).all() and 0.2 < (behind == 0).mean() < 0.5


def test_outliers_are_a_share_of_the_points_within_their_limits():
    depth = np.full((240, 320), 4, np.float32)
    far = sensors.with_outliers(depth, 0.05, (0.5, 10.0), 0.3, np.random.default_rng(0))
    changed = far[far != 4]
    assert len(changed) / depth.size == pytest.approx(0.05, abs=0.003)
    assert 0.5 <= changed.min() < 0.52 and 9.98 < changed.max() <= 10
    assert changed.mean() == pytest.approx(5.25, abs=0.15)
    near = sensors.with_outliers(depth, 0.1, None, 0.3, np.random.default_rng(0))
    changed = near[near != 4] / 4
    assert len(changed) / depth.size == pytest.approx(0.1, abs=0.005)
    assert 0.7 <= changed.min() < 0.71 and 1.29 < changed.max() <= 1.3 + 1e-6
    assert np.array_equal(
        sensors.with_outliers(depth, 0.0, None, 0.3, np.random.default_rng(0)), depth
    )


def test_what_goes_wrong_happens_as_often_as_it_should():
    sample = frame()
    clean = points_of({}, 200, sample)
    spoilt = points_of(
        {}, 200, sample, corruption=Corruption(outliers=0.3, outlier_share=(0.1, 0.1))
    )
    share = np.mean([not np.array_equal(a, b) for a, b in zip(clean, spoilt, strict=True)])
    assert share == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sparse.half": 1.5}, "sparse.half: expected at most 1, got 1.5"),
        ({"sparse.radius": [0.1, 1.2]}, "sparse.radius: expected at most 1"),
        ({"sparse.discs": [0, 2]}, "sparse.discs: expected at least 1, got 0"),
        ({"sparse.discs": [3, 2]}, r"sparse.discs: expected the lower number first, got \[3, 2\]"),
        ({"sparse.elevation": [10, 120]}, "sparse.elevation: expected at most 89"),
        ({"sparse.corruption.shift": 2}, "sparse.corruption.shift: expected at most 1"),
        ({"sparse.corruption.shift_px": [8, 1]}, "expected the lower number first"),
        ({"sparse.corruption.outlier": 1}, "sparse.corruption.outlier: expected one of noise"),
        ({"sparse.corruption": 3}, "sparse.corruption: expected a mapping"),
    ],
)
def test_wrong_settings_are_named(changes, words):
    with pytest.raises(recipes.RecipeError, match=words):
        recipes.load("two-stage-rgbd-18", changes)


def test_a_recipe_may_name_it_all():
    chosen = recipes.load(
        "two-stage-rgbd-18",
        {
            "sparse": {
                "corners": 0.1,
                "samples": [0, 1000],
                "elevation": [10, 22.5],
                "offset": 0.2,
            },
            "sparse.corruption": {"noise": 0.3, "outliers": 0.2, "shift_px": [1, 4]},
        },
    )
    assert chosen.sparse.beams == 0.12 and chosen.sparse.corners == 0.1
    assert chosen.sparse.corruption == Corruption(noise=0.3, outliers=0.2, shift_px=(1.0, 4.0))
