# SPDX-License-Identifier: Apache-2.0
"""Trajectory errors against evo, the reference implementation, and by hand."""

import numpy as np
import pytest

from depth_two_stage.trajectories import align, associate, ate, ate_scaled, rpe


def rotation(axis, angle):
    axis = np.asarray(axis, np.float64) / np.linalg.norm(axis)
    K = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * K @ K


def walk(seed=0, n=80):
    """Return a smooth random trajectory (N, 4, 4) and a disturbed one in another world."""
    rng = np.random.default_rng(seed)
    truth = np.tile(np.eye(4), (n, 1, 1))
    for i in range(1, n):
        step = np.eye(4)
        step[:3, :3] = rotation(rng.normal(size=3), 0.05)
        step[:3, 3] = rng.normal(size=3) * 0.05
        truth[i] = truth[i - 1] @ step
    noisy = truth.copy()
    for T in noisy:
        T[:3, :3] = T[:3, :3] @ rotation(rng.normal(size=3), 0.01)
        T[:3, 3] += rng.normal(size=3) * 0.02
    moved = np.eye(4)
    moved[:3, :3], moved[:3, 3] = rotation([1, 2, 3], 1.0), [4, -5, 6]
    stamps = 10**18 + np.arange(n, dtype=np.int64) * 100_000_000
    return stamps, moved @ noisy, truth


def evo_trajectories(stamps, estimate, truth):
    evo = pytest.importorskip("evo.core.trajectory")
    seconds = (stamps - stamps[0]) * 1e-9
    return [
        evo.PoseTrajectory3D(poses_se3=list(poses), timestamps=seconds)
        for poses in (truth, estimate)
    ]


@pytest.mark.parametrize("aligned", [True, False])
def test_ate_agrees_with_evo(aligned):
    metrics = pytest.importorskip("evo.core.metrics")
    stamps, estimate, truth = walk()
    reference, measured = evo_trajectories(stamps, estimate, truth)
    if aligned:
        measured.align(reference)
    metric = metrics.APE(metrics.PoseRelation.translation_part)
    metric.process_data((reference, measured))
    expected = metric.get_statistic(metrics.StatisticsType.rmse)
    assert ate(estimate, truth, aligned=aligned) == pytest.approx(expected, rel=1e-9)
    assert expected > 0.01


def test_the_scaled_ate_agrees_with_evo():
    metrics = pytest.importorskip("evo.core.metrics")
    stamps, estimate, truth = walk()
    estimate[:, :3, 3] *= 0.4
    reference, measured = evo_trajectories(stamps, estimate, truth)
    _, _, factor = measured.align(reference, correct_scale=True)
    metric = metrics.APE(metrics.PoseRelation.translation_part)
    metric.process_data((reference, measured))
    expected = metric.get_statistic(metrics.StatisticsType.rmse), factor
    assert ate_scaled(estimate, truth) == pytest.approx(expected, rel=1e-9)
    assert ate(estimate, truth) > 2 * expected[0] > 0.02  # the scale was most of the error


@pytest.mark.parametrize(("delta", "frames"), [(1, 1), (1.0, 10)])
def test_rpe_agrees_with_evo(delta, frames):
    metrics = pytest.importorskip("evo.core.metrics")
    stamps, estimate, truth = walk(1)
    data = evo_trajectories(stamps, estimate, truth)
    expected = []
    for relation in ("translation_part", "rotation_angle_deg"):
        metric = metrics.RPE(
            metrics.PoseRelation[relation],
            delta=frames,
            delta_unit=metrics.Unit.frames,
            all_pairs=True,
        )
        metric.process_data(tuple(data))
        expected.append(metric.get_statistic(metrics.StatisticsType.rmse))
    assert rpe(estimate, truth, stamps, delta) == pytest.approx(expected, rel=1e-6)


def test_a_perfect_trajectory_in_another_world_has_no_aligned_error():
    stamps, _, truth = walk(2)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = rotation([0, 1, 1], 2.0), [1, 2, 3]
    assert ate(T @ truth, truth) < 1e-12
    assert ate(T @ truth, truth, aligned=False) > 1
    assert max(rpe(T @ truth, truth, stamps)) < 1e-5


@pytest.mark.parametrize("factor", [0.01, 0.8, 1.0, 30.0])
def test_a_perfect_trajectory_of_another_scale_has_no_scaled_error(factor):
    _, _, truth = walk(2)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = rotation([0, 1, 1], 2.0), [1, 2, 3]
    small = T @ truth
    small[:, :3, 3] *= factor
    error, scale = ate_scaled(small, truth)
    assert error < 1e-12 and scale == pytest.approx(1 / factor, rel=1e-12)
    assert (ate(small, truth) > 1e-3) == (factor != 1)
    # A straight way says nothing about the roll round it, and has a scale all the same.
    truth[:, :3, 3] = np.arange(len(truth))[:, None] * [0.1, 0.2, 0]
    small = T @ truth
    small[:, :3, 3] *= factor
    error, scale = ate_scaled(small, truth)
    assert error < 1e-12 * max(1, scale) and scale == pytest.approx(1 / factor, rel=1e-9)


def test_a_trajectory_without_extent_has_no_scale():
    _, estimate, truth = walk(4)
    standing = np.tile(np.eye(4), (len(truth), 1, 1))
    standing[:, :3, 3] = 0.1, 1e3, 1 / 3  # their mean is not exactly the same
    assert ate_scaled(estimate[:1], truth[:1]) is None
    assert ate_scaled(standing, truth) is None
    assert ate_scaled(estimate, standing) is None  # a scale of 0 would fit
    assert ate_scaled(standing, standing) is None
    assert np.isfinite([ate(standing, truth), ate(estimate, standing)]).all()
    error, scale = ate_scaled(estimate[:2], truth[:2])  # two points fit exactly
    assert error < 1e-12 and scale > 0


@pytest.mark.parametrize("scaled", [False, True])
def test_alignment_never_mirrors(scaled):
    rng = np.random.default_rng(3)
    points = rng.normal(size=(20, 3))
    T = align(points, points * [1, 1, -1], scaled)
    assert np.linalg.det(T[:3, :3]) > 0
    assert scaled or np.linalg.det(T[:3, :3]) == pytest.approx(1)


def test_association_takes_each_true_pose_once_and_respects_the_limit():
    def at(*stamps):
        return [(s, np.diag([1.0, 1, 1, 1]) + np.eye(4, k=3) * s) for s in stamps]

    ms = 1_000_000
    stamps, estimate, truth = associate(
        at(0, 99 * ms, 101 * ms, 500 * ms), at(100 * ms, 5 * ms, 300 * ms)
    )
    np.testing.assert_array_equal(stamps, [0, 99 * ms])
    np.testing.assert_array_equal(truth[:, 0, 3], [5 * ms, 100 * ms])
    np.testing.assert_array_equal(estimate[:, 0, 3], [0, 99 * ms])


def test_nothing_to_compare_is_none():
    stamps, estimate, truth = associate([], [(0, np.eye(4))])
    assert ate(estimate, truth) is None
    assert rpe(estimate, truth, stamps) is None and ate_scaled(estimate, truth) is None
    one = np.eye(4)[None]
    assert ate(one, one) == 0 and rpe(one, one, np.array([0])) is None
