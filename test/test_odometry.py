# SPDX-License-Identifier: Apache-2.0
"""Camera motion and its gate: known motions found, wrong ones refused, failures said."""

import dataclasses

import numpy as np
import pytest

from depth_two_stage.config import OdometryParameters
from depth_two_stage.datasets import open_dataset
from depth_two_stage.gating import Gate, agreement
from depth_two_stage.odometry import Odometry, gate_statistics, power, reduced, rigid

METHODS = ("intensity", "hybrid", "point_to_plane")
BLACK = np.zeros((240, 320, 3), np.uint8)


def distance(a, b):
    """Translation (m) and rotation (rad) between two transforms."""
    T = np.linalg.inv(a) @ b
    return np.linalg.norm(T[:3, 3]), np.arccos(np.clip((np.trace(T[:3, :3]) - 1) / 2, -1, 1))


@pytest.fixture(scope="module")
def room():
    """Frames of a rendered room at hand-held speed, with exact poses."""
    return list(open_dataset("rendered", ".", "seed:5,frames:6,size:240x320"))


@pytest.mark.parametrize("method", METHODS)
def test_known_motion_is_found_and_accepted(room, method):
    odometry = Odometry(OdometryParameters(method=method))
    views = [odometry.view(s.rgb, s.depth, s.camera) for s in room]
    for i in range(1, len(room)):
        true = np.linalg.inv(room[i - 1].T_world_camera) @ room[i].T_world_camera
        motion = odometry.align(views[i - 1], views[i], power(true, 0.7))
        assert motion.accepted, motion.verdict
        moved, turned = distance(true, motion.T_reference_frame)
        assert moved < 0.01
        assert turned < 0.01
        assert motion.verdict.sigma[0] < 0.05


def test_pairs_that_say_nothing_are_refused(room):
    """Black, without depth, of another place: no motion is believed, whatever Open3D answers."""
    for method in METHODS:
        odometry = Odometry(OdometryParameters(method=method))
        frame = odometry.view(room[0].rgb, room[0].depth, room[0].camera)
        nothing = odometry.view(room[0].rgb, np.zeros_like(room[0].depth), room[0].camera)
        hand = odometry.view(BLACK, np.full_like(room[0].depth, 0.3), room[0].camera)
        other = next(iter(open_dataset("rendered", ".", "seed:9,frames:1,size:240x320")))
        other = odometry.view(other.rgb, other.depth, other.camera)
        for a, b in ((frame, nothing), (nothing, frame), (nothing, nothing), (frame, hand)):
            assert not odometry.align(a, b).accepted, method
        assert not odometry.align(frame, other).accepted, method


def test_open3d_raising_is_a_refusal(room):
    """Without any texture intensity has no gradient: Open3D raises "singular 6x6"."""
    odometry = Odometry(OdometryParameters(method="intensity"))
    flat = odometry.view(BLACK, np.full((240, 320), 2.0, np.float32), room[0].camera)
    with pytest.raises(RuntimeError):
        odometry.estimate(flat, flat, np.eye(4))
    motion = odometry.align(flat, flat)
    assert not motion.accepted
    # Without the colours, the signature and the source line that Open3D writes before it.
    assert motion.verdict.reason.startswith("odometry failed: Singular 6x6 linear system")
    assert motion.verdict.reason.isprintable()


def test_gate_asks_all_three_questions(room):
    parameters = OdometryParameters()
    odometry = Odometry(parameters)
    a, b = (odometry.view(s.rgb, s.depth, s.camera).check for s in (room[0], room[3]))
    true = np.linalg.inv(room[0].T_world_camera) @ room[3].T_world_camera
    assert Gate(parameters).judge(a, b, true, np.eye(4)).reason == ""
    for shift in (0.1, -0.1):
        wrong = true.copy()
        wrong[2, 3] += shift
        verdict = Gate(parameters).judge(a, b, wrong, np.eye(4))
        learned = Gate(parameters)
        for _ in range(10):
            learned.judge(a, b, true, np.eye(4))
        verdict = learned.judge(a, b, wrong, np.eye(4))
        assert verdict.reason.startswith("fitness")
    away = np.eye(4)
    away[0, 3] = parameters.max_disagreement * 1.1
    verdict = Gate(parameters).judge(a, b, true, away)
    assert verdict.reason.startswith("forward and backward differ")
    # A place known by its features may be far away: then more is allowed, but not anything.
    gate = Gate(parameters)
    looked, most = gate.look(a, b, true), parameters.max_disagreement
    assert gate.judge_way(looked, a, b, away, 1.2 * most).reason == ""
    assert gate.judge_way(looked, a, b, away, 1.05 * most).reason.startswith("forward and")
    assert Gate(parameters).judge_way(looked, a, b, np.eye(4), 0.0).reason == ""
    far = true.copy()
    far[0, 3] += 50
    assert Gate(parameters).judge(a, b, far, np.eye(4)).reason.startswith("overlap")
    # Two frames of a camera at rest: a motion that explains them worse than none.
    lax = Gate(dataclasses.replace(parameters, min_fitness=0.0))
    slip = np.eye(4)
    slip[:3, 3] = 0.15
    assert "without any motion" in lax.judge(a, a, slip, np.eye(4)).reason


def test_gate_learns_how_noisy_the_depth_is(room):
    """Predicted depth differs by several per cent from frame to frame and must still be tracked."""
    rng = np.random.default_rng(0)
    parameters = OdometryParameters()
    odometry = Odometry(parameters)
    # Smooth errors, as a network makes them: a factor that varies over the image and with time.
    views = []
    for sample in room:
        coarse = rng.normal(1.0, 0.03, (4, 5)).astype(np.float32)
        factor = np.kron(coarse, np.ones((60, 64), np.float32))
        views.append(odometry.view(sample.rgb, sample.depth * factor, sample.camera))
    gate, exact = Gate(parameters), Gate(parameters)
    clean = [odometry.view(s.rgb, s.depth, s.camera) for s in room]
    for _ in range(2):
        for i in range(1, len(room)):
            true = np.linalg.inv(room[i - 1].T_world_camera) @ room[i].T_world_camera
            assert gate.judge(views[i - 1].check, views[i].check, true, np.eye(4)).reason == ""
            assert exact.judge(clean[i - 1].check, clean[i].check, true, np.eye(4)).reason == ""
    assert gate.tolerance > 3 * exact.tolerance


def test_a_copy_has_learned_as_much_and_learns_on_alone(room):
    odometry = Odometry()
    views = [odometry.view(s.rgb, s.depth, s.camera) for s in room[:2]]
    assert odometry.align(views[0], views[1]).accepted
    copy = odometry.copy()
    assert copy._gates["frame"].usual_fitness == odometry._gates["frame"].usual_fitness
    assert copy._gates["keyframe"].tolerance == odometry._gates["frame"].tolerance < 0.15
    assert copy.align(views[0], views[1]).accepted
    assert len(copy._gates["frame"]._noise) == 2
    assert len(odometry._gates["frame"]._noise) == 1
    # How well the motion is known, as a pose graph wants it: symmetric, every direction fixed.
    information = odometry.information(views[0], views[1], np.eye(4))
    np.testing.assert_allclose(information, information.T, rtol=1e-4, atol=1.0)
    assert np.linalg.eigvalsh(information).min() > 100


def test_agreement_of_a_view_with_itself_and_behind_the_camera(room):
    check = Odometry().view(room[0].rgb, room[0].depth, room[0].camera).check
    same = agreement(check, check, np.eye(4), 0.02)
    assert same.overlap == same.fitness == 1.0
    assert same.intensity == same.depth == 0.0
    behind = np.diag([1.0, -1, -1, 1])
    assert agreement(check, check, behind, 0.02).overlap == 0.0


def test_reduced_depth_keeps_edges_holes_and_pixel_centres():
    u = np.arange(64, dtype=np.float32)
    ramp = np.tile(1 + 0.001 * u, (48, 1))
    small = reduced(ramp, (32, 24))
    np.testing.assert_allclose(small[5], 1 + 0.001 * (2 * np.arange(32) + 0.5), rtol=1e-5)
    edge = np.where(u < 33, np.float32(1), np.float32(3)) * np.ones((48, 1), np.float32)
    assert set(np.unique(reduced(edge, (32, 24)))) == {1.0, 3.0}
    holes = ramp.copy()
    holes[::2, ::2] = 0
    small = reduced(holes, (32, 24))
    assert ((small == 0) | (small >= 1)).all()


def test_rigid_and_power():
    T = np.eye(4)
    angle = 0.3
    T[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    T[:3, 3] = 1, 2, 3
    half = power(T, 0.5)
    assert np.arctan2(half[1, 0], half[0, 0]) == pytest.approx(0.15)
    np.testing.assert_allclose(half[:3, 3], [0.5, 1, 1.5])
    np.testing.assert_allclose(power(T, 0), np.eye(4), atol=1e-12)
    bent = T.copy()
    bent[:3, :3] *= 1.01
    np.testing.assert_allclose(rigid(bent), T, atol=1e-9)


def test_gate_statistics_count_every_step(room):
    statistics = gate_statistics(room)
    assert statistics.wrong + statistics.good == len(room) - 1
    assert statistics.refused_share == 0.0
    assert statistics.caught_share is None
    # Poses that lie: every step is now "wrong", and none is refused.
    lying = [
        dataclasses.replace(s, T_world_camera=s.T_world_camera + np.diag([0, 0, 0, 0.0]))
        for s in room
    ]
    for number, sample in enumerate(lying):
        sample.T_world_camera[0, 3] += 0.2 * number
    statistics = gate_statistics(lying)
    assert (statistics.wrong, statistics.caught) == (len(room) - 1, 0)


def test_gate_on_a_recording(recordings):
    """Paper E's tracking: of the steps wrong by > 3 cm ≥ 80 % caught, of the good ≤ 5 % refused."""
    samples = open_dataset("folder", recordings / "tum_fr1_xyz")
    statistics = gate_statistics(samples, OdometryParameters(method="intensity"))
    assert statistics.wrong + statistics.good > 250
    assert statistics.wrong > 20
    assert statistics.caught_share >= 0.8
    assert statistics.refused_share <= 0.05
