# SPDX-License-Identifier: Apache-2.0
"""Temporal figures of motions whose answer is known."""

import numpy as np
import pytest

from depth_two_stage.camera import Camera
from depth_two_stage.consistency import Consistency, median_ratio
from depth_two_stage.datasets import Sample

CAMERA = Camera(40, 30, 40.0, 40.0, 19.5, 14.5)


def frame(z=0.0, posed=True):
    """Return a sample seen from z metres ahead along the optical axis, and nothing else."""
    T = np.eye(4)
    T[2, 3] = z
    return Sample(
        np.zeros((30, 40, 3), np.uint8),
        None,
        CAMERA,
        0,
        "made",
        T_world_camera=T if posed else None,
    )


def wall(metres):
    return np.full(CAMERA.size, metres, np.float32)


def test_median_ratio_counts_pixels_with_both():
    a = np.array([[0, 2, 3, 9]], np.float32)
    b = np.array([[1, 1, 2, 0]], np.float32)
    assert median_ratio(a, b) == pytest.approx((2 + 1.5) / 2)
    assert median_ratio(a, 0 * b) is None


def test_the_scale_is_steady_or_not():
    c = Consistency()
    for i, (a, b) in enumerate([(4.0, 2.2), (4.0, 1.8)]):
        c.add(i, frame(), {"refined": wall(a), "coarse": wall(b)}, wall(2.0))
    result = c.result()
    assert result["ratio_mean"] == pytest.approx({"refined": 2, "coarse": 1})
    assert result["ratio_std"] == pytest.approx({"refined": 0, "coarse": 0.1}, abs=1e-6)


def test_a_true_wall_approached_agrees_and_a_wrong_one_differs_by_hand():
    c = Consistency()
    # From 4 m the camera goes 1 m ahead: what was at 4 m is at 3 m.
    c.add(0, frame(0.0), {"refined": wall(4.0), "linear": wall(4.0)}, None)
    c.add(1, frame(1.0), {"refined": wall(3.0), "linear": wall(2.5)}, None)
    result = c.result()
    assert result["pairs"] == 1 and result["ratio_std"] == {}
    assert result["warped_rel"] == pytest.approx({"refined": 0, "linear": 0.5 / 2.5}, abs=1e-6)
    assert result["refined_to_linear"] == pytest.approx(0, abs=1e-5)


def test_methods_are_compared_on_the_same_pixels():
    c = Consistency()
    half = wall(3.0)
    half[:, 20:] = 6.0  # wrong on the right, where linear has nothing
    seen = wall(3.0)
    seen[:, 20:] = 0
    c.add(0, frame(), {"refined": wall(3.0), "linear": wall(3.3)}, None)
    c.add(1, frame(), {"refined": half, "linear": seen}, None)
    result = c.result()
    assert result["warped_rel"] == pytest.approx({"refined": 0, "linear": 0.1}, abs=1e-6)


def test_pairs_are_consecutive_frames_with_poses_and_refined_alone_without_points():
    c = Consistency()
    for i, posed in ((0, True), (1, False), (2, True), (4, True)):
        c.add(i, frame(posed=posed), {"refined": wall(3.0)}, None)
    with pytest.raises(ValueError, match=r"temporal: expected true poses .* \(1 frames without po"):
        c.result()
    c.add(5, frame(), {"refined": wall(2.0)}, None)
    assert c.result()["warped_rel"] == pytest.approx({"refined": 0.5})
    assert c.result()["refined_to_linear"] is None and c.result()["pairs"] == 1
