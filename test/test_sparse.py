# SPDX-License-Identifier: Apache-2.0
"""Sparse patterns: counts, beams, occlusion through the offset, seeds, bad names."""

import numpy as np
import pytest

from depth_two_stage.camera import Camera
from depth_two_stage.datasets import DatasetError, Sample
from depth_two_stage.datasets.disturbances import Disturbance, shifted
from depth_two_stage.datasets.sparse import Beams, SparsePattern, bernoulli, scan, undisturbed

CAMERA = Camera(320, 240, 260.0, 260.0, 160.0, 120.0)


def sample(depth=None, **more):
    rgb = np.zeros((*CAMERA.size, 3), np.uint8)
    return Sample(rgb, depth, CAMERA, 0, "made", **more)


def ramp():
    depth = np.tile(np.linspace(1, 4, 320, dtype=np.float32), (240, 1))
    depth[:, 200:220] = 0
    return depth


def test_bernoulli_keeps_n_of_the_valid_pixels_on_average_with_their_values():
    depth = ramp()
    rng = np.random.default_rng(0)
    counts = []
    for _ in range(40):
        sparse = SparsePattern.parse("bernoulli:200")(sample(depth), rng)
        kept = sparse > 0
        assert np.array_equal(sparse[kept], depth[kept])
        counts.append(kept.sum())
    # The mean of 40 binomial counts has a standard deviation of about 2.2.
    assert abs(np.mean(counts) - 200) < 10
    assert np.std(counts) > 5


def test_bernoulli_ends_no_samples_all_pixels_and_no_truth():
    rng = np.random.default_rng(0)
    assert not bernoulli(ramp(), 0, rng).any()
    assert np.array_equal(bernoulli(ramp(), 10**9, rng), ramp())
    assert not bernoulli(np.zeros((4, 4), np.float32), 5, rng).any()


@pytest.mark.parametrize("text", ["bernoulli:150", "lines:16,noise=0.05,dropout=0.3"])
def test_the_seed_decides_the_samples(text):
    pattern, one = SparsePattern.parse(text), sample(ramp())
    first = pattern(one, np.random.default_rng(7))
    assert np.array_equal(first, pattern(one, np.random.default_rng(7)))
    assert not np.array_equal(first, pattern(one, np.random.default_rng(8)))
    assert first.dtype == np.float32 and first.shape == CAMERA.size


def test_none_is_none_and_zero_samples_are_an_empty_map():
    rng = np.random.default_rng(0)
    assert SparsePattern.parse("none")(sample(ramp()), rng) is None
    assert not SparsePattern.parse("bernoulli:0")(sample(ramp()), rng).any()


def test_lines_lie_on_the_beams_and_carry_the_true_depth():
    depth = np.full(CAMERA.size, 3.0, np.float32)
    sparse = SparsePattern.parse("lines:16")(sample(depth), np.random.default_rng(0))
    v, u = np.nonzero(sparse)
    assert np.array_equal(sparse[v, u], depth[v, u])
    beams = Beams()
    points = CAMERA.backproject(sparse)[v, u] - np.array(beams.offset)
    elevation = np.rad2deg(np.arctan2(-points[:, 1], np.hypot(points[:, 0], points[:, 2])))
    ideal = np.linspace(-15, 15, 16)
    pixel = np.rad2deg(1 / CAMERA.fy)
    nearest = ideal[np.abs(elevation[:, None] - ideal).argmin(axis=1)]
    assert np.abs(elevation - nearest).max() < pixel
    assert len(np.unique(nearest)) == 16
    # 0.4 degrees in azimuth over the 63 degrees that the camera sees
    assert 16 * 100 < len(v) < 16 * 170


def test_one_beam_is_level():
    depth = np.full(CAMERA.size, 3.0, np.float32)
    points = Beams(count=1).scan(depth, CAMERA, np.random.default_rng(0))
    assert len(points) > 50
    assert np.abs(points[:, 2] / points[:, 0]).max() < 1 / CAMERA.fy


def test_a_scan_hides_what_the_lidar_cannot_see():
    # A wall at 6 m behind a post at 2 m; the LiDAR stands 1 m to the right of the camera and sees
    # the post in front of another part of the wall, which must give no return.
    depth = np.full(CAMERA.size, 6.0, np.float32)
    depth[:, 150:170] = 2.0
    beams = Beams(16, 15.0, 0.8, (1.0, 0.0, 0.0))
    points = beams.scan(depth, CAMERA, np.random.default_rng(0))
    in_camera = points @ beams.T_camera_lidar[:3, :3].T + beams.T_camera_lidar[:3, 3]
    azimuth = np.rad2deg(np.arctan2(points[:, 1], points[:, 0]))
    post, wall = in_camera[:, 2] < 3, in_camera[:, 2] > 5
    assert post.sum() > 30 and wall.sum() > 200
    # Only a few rays at the two edges of the post may also reach the wall.
    behind = wall & (azimuth > azimuth[post].min() + 0.8) & (azimuth < azimuth[post].max() - 0.8)
    assert behind.sum() == 0


def test_points_of_a_scan_return_to_their_pixels_with_noise_along_the_ray_only():
    depth = np.full(CAMERA.size, 4.0, np.float32)
    clean = Beams().scan(depth, CAMERA, np.random.default_rng(3))
    noisy = Beams(noise=0.05).scan(depth, CAMERA, np.random.default_rng(3))
    assert clean.dtype == noisy.dtype == np.float32
    r0, r1 = np.linalg.norm(clean, axis=1), np.linalg.norm(noisy, axis=1)
    assert np.allclose(clean / r0[:, None], noisy / r1[:, None], atol=1e-6)
    assert 0.045 < np.std(r1 - r0) < 0.055


def test_dropout_loses_its_share_and_offsets_change_the_frame():
    depth = np.full(CAMERA.size, 4.0, np.float32)
    every = Beams().scan(depth, CAMERA, np.random.default_rng(0))
    some = Beams(dropout=0.25).scan(depth, CAMERA, np.random.default_rng(0))
    assert 0.7 < len(some) / len(every) < 0.8
    T = np.eye(4)  # a LiDAR frame that is the optical frame: the scan must still lie on the wall
    T[:3, :3] = Beams().T_camera_lidar[:3, :3]
    points = scan(depth, CAMERA, T, 16, 15.0, 0.4, 0.0, 0.0, np.random.default_rng(0))
    assert np.allclose(points[:, 0], 4.0, atol=1e-5)  # x of the LiDAR is the optical axis


def plain_scan(depth, camera, beams, rng):
    """The scan step by step over all pixels, as its docstring says it."""
    T = beams.T_camera_lidar
    x, y, z = np.moveaxis((camera.backproject(depth) - T[:3, 3]) @ T[:3, :3], 2, 0)
    angle = np.rad2deg(np.arctan2(z, np.hypot(x, y)))
    ideal = np.linspace(-beams.elevation, beams.elevation, beams.count) if beams.count > 1 else [0]
    off = np.abs(angle[..., None] - ideal)
    seen = (off.min(axis=2) < np.rad2deg(0.75 / camera.fy)) & (depth > 0)
    azimuth = np.rad2deg(np.arctan2(y, x))[seen]
    shots = off.argmin(axis=2)[seen] * 10000 + np.rint(azimuth / beams.azimuth_step)
    points = np.stack([x, y, z], axis=2)[seen]
    nearest = {}
    for shot, point in zip(shots, points, strict=True):
        nearest[shot] = min(point, nearest.get(shot, point), key=np.linalg.norm)
    return np.array(list(nearest.values()))


@pytest.mark.parametrize("count", [1, 4, 64])
@pytest.mark.parametrize(
    ("elevation", "offset"), [(15.0, (0, -0.1, 0.05)), (40.0, (0.3, 0.2, -0.1))]
)
def test_a_scan_skips_nothing_that_a_beam_hits(count, elevation, offset):
    camera = Camera(80, 60, 65.0, 66.0, 40.0, 30.0)
    rng = np.random.default_rng(count)
    depth = rng.uniform(1, 6, camera.size).astype(np.float32)
    depth[rng.random(camera.size) < 0.2] = 0
    beams = Beams(count, elevation, 0.8, offset)
    fast = beams.scan(depth, camera, rng)
    plain = plain_scan(depth.astype(np.float64), camera, beams, rng)
    assert len(fast) > 30 and abs(len(fast) - len(plain)) <= 1  # a tie may round either way
    gaps = np.linalg.norm(fast[:, None] - plain[None], axis=2).min(axis=1)
    assert (gaps < 1e-4).sum() >= len(fast) - 1


def test_beams_may_look_straight_up():
    # Within 89° of level nearly all pixels are in reach, and slopes are without bound.
    depth = np.full(CAMERA.size, 2, np.float32)
    points = Beams(90, 89.0, 1.0, (0.0, 3.0, 2.0)).scan(depth, CAMERA, np.random.default_rng(0))
    elevation = np.rad2deg(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1])))
    assert elevation.max() > 85


def test_a_scan_of_nothing_is_empty():
    points = Beams().scan(np.zeros(CAMERA.size, np.float32), CAMERA, np.random.default_rng(0))
    assert points.shape == (0, 3)


def test_points_are_projected_with_the_nearest_in_front_else_measured_depth_is_used():
    pattern, rng = SparsePattern.parse("points"), np.random.default_rng(0)
    T = np.eye(4)
    T[2, 3] = 1.0
    cloud = np.array([[0, 0, 4], [0, 0, 1], [0, 0, -3], [np.nan, 0, 1]], np.float32)
    sparse = pattern(sample(points=cloud, T_camera_lidar=T), rng)
    assert np.count_nonzero(sparse) == 1 and sparse[120, 160] == 2.0
    measured = ramp()
    assert pattern(sample(sparse=measured), rng) is measured
    with pytest.raises(DatasetError, match="expected LiDAR points or sparse depth in made"):
        pattern(sample(ramp()), rng)


def test_truth_is_needed_to_sample_it():
    with pytest.raises(DatasetError, match="sparse bernoulli:5: expected depth in made, got none"):
        SparsePattern.parse("bernoulli:5")(sample(), np.random.default_rng(0))


@pytest.mark.parametrize(
    "text",
    ["", "some", "bernoulli", "bernoulli:-1", "bernoulli:x", "bernoulli:1.5", "lines:0", "lines",
     "points:3", "none:1", "lines:16,beam=3", "lines:16,noise=x", "lines:16,dropout=2",
     "bernoulli:5,noise=1", "bernoulli:5,outliers=1.1", "bernoulli:5,wrong=-0.1",
     "bernoulli:5,shift=65", "lines:4,shift=nan", "bernoulli:5,outliers=0.6,wrong=0.6",
     "bernoulli:5,outlier=0.1", "points,shift=8", "none,shift=8", "lines:0,shift=8"],
)  # fmt: skip
def test_unknown_patterns_are_refused(text):
    with pytest.raises(DatasetError, match=r"^sparse: expected"):
        SparsePattern.parse(text)


def test_patterns_print_as_they_are_written():
    for text in ("none", "points", "bernoulli:200", "lines:16"):
        assert str(SparsePattern.parse(text)) == text
    assert SparsePattern.parse("lines:8,elevation=10").beams.elevation == 10


def test_outliers_are_a_share_of_the_points_and_uniform_in_half_a_metre_to_ten():
    depth = np.full(CAMERA.size, 20.0, np.float32)  # which no outlier can be
    pattern = SparsePattern.parse("bernoulli:2000,outliers=0.25")
    sparse = pattern(sample(depth), np.random.default_rng(0))
    found = sparse[(sparse > 0) & (sparse < 20)]
    assert len(found) == round(0.25 * np.count_nonzero(sparse))
    assert 0.5 <= found.min() < 0.7 and 9.8 < found.max() <= 10
    assert found.mean() == pytest.approx(5.25, abs=0.5)  # its standard deviation is 0.12
    assert sparse.dtype == np.float32


def test_wrong_points_are_thirty_percent_off_in_either_direction_and_no_outliers():
    depth = np.full(CAMERA.size, 20.0, np.float32)
    points = bernoulli(depth, 2000, np.random.default_rng(0))
    sparse = Disturbance(outliers=0.1, wrong=0.2)(points, np.random.default_rng(1))
    n = np.count_nonzero(points)
    values, counts = np.unique(np.round(sparse[sparse > 10], 3), return_counts=True)
    assert values.tolist() == [14, 20, 26]
    assert counts[1] == n - round(0.1 * n) - round(0.2 * n)
    assert abs(counts[0] - counts[2]) < 4 * (0.2 * n) ** 0.5
    assert np.array_equal(points > 0, sparse > 0) and (points[points > 0] == 20).all()


def test_a_shift_moves_all_points_alike_and_loses_those_that_leave():
    points = np.zeros((20, 30), np.float32)
    points[0, 0], points[10, 10], points[19, 29] = 1, 2, 3
    moved = shifted(points, -1, 2)
    assert moved[9, 12] == 2 and np.count_nonzero(moved) == 1
    directions = set()
    for seed in range(20):
        moved = Disturbance(shift=4)(points, np.random.default_rng(seed))
        (row,), (column,) = np.nonzero(moved == 2)
        assert np.hypot(row - 10, column - 10) == pytest.approx(4, abs=0.71)
        directions.add((row, column))
    assert len(directions) > 10


def test_a_disturbed_pattern_disturbs_the_points_of_the_clean_one():
    for text in ("bernoulli:150", "lines:16,noise=0.05"):
        clean = SparsePattern.parse(text)(sample(ramp()), np.random.default_rng(7))
        wrong = f"{text},wrong=0.5"
        disturbed = SparsePattern.parse(wrong)(sample(ramp()), np.random.default_rng(7))
        assert np.array_equal(clean > 0, disturbed > 0)
        assert np.mean((clean == disturbed)[clean > 0]) == pytest.approx(0.5, abs=0.01)
        assert undisturbed(wrong) == undisturbed(text) == text
    assert undisturbed("lines:8,shift=2,noise=0.1,outliers=0.1") == "lines:8,noise=0.1"
