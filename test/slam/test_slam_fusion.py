# SPDX-License-Identifier: Apache-2.0
"""The SLAM core: given poses, what is fused and what is not, the map kept."""

import dataclasses

import numpy as np
import pytest
from walks import SECOND, frame_of, slam

from depth_two_stage.slam import LEVEL, Frame


def test_given_poses_are_taken_as_they_are(room):
    core = slam()
    for sample in room[:5]:
        step = core.process(frame_of(sample), sample.T_world_camera)
        np.testing.assert_array_equal(step.T_world_camera, sample.T_world_camera)
        assert step.fused
    # Without a pose its own odometry goes on from the last one.
    step = core.process(frame_of(room[5]))
    np.testing.assert_allclose(step.T_world_camera, room[5].T_world_camera, atol=0.02)


@pytest.mark.parametrize(
    "break_pose",
    [
        lambda T: T * np.nan,
        lambda T: T[:3],
        lambda T: T * 2,
        lambda T: np.diag([1.0, 1, -1, 1]) @ T,
        lambda T: np.zeros((4, 4)),
    ],
)
def test_impossible_given_pose_is_not_fused(room, break_pose):
    core = slam()
    core.process(frame_of(room[0]), room[0].T_world_camera)
    step = core.process(frame_of(room[1]), break_pose(room[1].T_world_camera))
    assert step.T_world_camera is None
    assert not step.fused
    assert "pose: expected" in step.reason
    assert core.counters["bad_pose"] == 1
    assert core.map.frames == 1
    assert core.process(frame_of(room[2]), room[2].T_world_camera).fused


def test_given_poses_that_jump_are_refused_until_they_agree(room):
    core = slam(**{"slam.max_speed": 10.0, "slam.max_turn_rate": 300.0})
    away = np.eye(4)
    away[:3, 3] = 3.0, 0, 0  # 30 m/s at 10 Hz
    about = np.diag([-1.0, -1, 1, 1])  # its own axis
    still = np.eye(4)
    for number, (move, turn, refused) in enumerate(
        [(still, still, ""), (away, still, "m/s"), (away, still, ""), (away, about, "degrees/s")]
    ):
        T = move @ room[number].T_world_camera @ turn
        step = core.process(frame_of(room[number]), T)
        assert not step.lost
        assert step.fused == (not refused)
        assert refused in step.reason
        assert (step.T_world_camera is None) == bool(refused)
    assert core.counters["pose_jumps"] == 2
    assert core.map.frames == len(core.trajectory) == 2
    # Seconds later the camera may be there.
    step = core.process(frame_of(room[4], stamp=room[4].stamp + 3 * SECOND), room[4].T_world_camera)
    assert step.fused


def test_frames_of_doubtful_scale_are_tracked_but_not_fused(room):
    core = slam(**{"slam.max_scale_residual": 0.1})
    core.process(frame_of(room[0]))
    for residual, sample in ((0.3, room[1]), (float("nan"), room[2])):
        step = core.process(frame_of(sample, scale_residual=residual))
        assert step.T_world_camera is not None
        assert not step.fused
        assert "scale residual" in step.reason
    assert core.counters["scale_refused"] == 2
    assert core.map.frames == 1
    assert core.process(frame_of(room[3], scale_residual=0.05)).fused


def test_confidence_is_the_weight(room):
    core = slam()
    confidence = np.full(room[0].depth.shape, 0.25, np.float32)
    core.process(frame_of(room[0], confidence=confidence))
    weight = core.map.blocks.read(core.map.blocks.slots())["weight"]
    assert weight.max() == 0.25**2
    step = core.process(frame_of(room[1], confidence=np.zeros_like(confidence)))
    assert not step.fused
    assert core.counters["without_depth"] == 1


def test_depth_is_held_to_the_scale_of_the_map(room):
    """Frames 8 % too large come back to the scale of the map; without the filter they do not."""
    found = {}
    for rate in (0.0, 0.03):
        core = slam(**{"fusion.scale_rate": rate})
        for number, sample in enumerate(room):
            depth = sample.depth * np.float32(1.08 if number >= 8 else 1)
            core.process(frame_of(sample, depth=depth), sample.T_world_camera)
        seen, _ = core.map.raycast(room[-1].camera, room[-1].T_world_camera)
        both = (seen > 0) & (room[-1].depth > 0)
        found[rate] = np.median(seen[both] / room[-1].depth[both])
        assert core.statistics()["depth_scale"] == core.scale.scale
        core.clear()
        assert core.scale.scale == 1
    assert found[0.0] > 1.03
    assert found[0.03] == pytest.approx(1.0, abs=0.015)


def test_frames_whose_scale_cannot_be_held_are_not_fused(room):
    core = slam(**{"fusion.scale_rate": 0.02, "slam.max_scale_residual": 0.1})
    core.process(frame_of(room[0]), room[0].T_world_camera)
    wrong = frame_of(room[1], depth=room[1].depth * np.float32(1.3))
    step = core.process(wrong, room[1].T_world_camera)
    assert not step.fused and "scale off the map's by -0.2" in step.reason
    assert core.counters["scale_refused"] == 1
    # It moved the scale by the rate, no more; the next good frame is fused.
    assert core.scale.scale == pytest.approx(1 / 1.02)
    assert core.process(frame_of(room[2]), room[2].T_world_camera).fused
    assert core.scale.scale == pytest.approx(1.0, abs=0.01)


def test_pixels_at_edges_are_left_out(room):
    sizes = {}
    for jump in (0.0, 0.1):
        core = slam(**{"fusion.edge_jump": jump})
        core.process(frame_of(room[0]), room[0].T_world_camera)
        sizes[jump] = np.count_nonzero(core.map.blocks.read(core.map.blocks.slots())["weight"])
    assert 0 < sizes[0.1] < sizes[0.0]


def test_bad_frames_are_named(room):
    good = frame_of(room[0])
    for change, says in (
        ({"rgb": good.rgb[..., 0]}, "rgb: expected uint8"),
        ({"depth": good.depth[1:]}, "depth: expected float"),
        ({"depth": (good.depth * 1000).astype(np.uint16)}, "depth: expected float"),
        ({"confidence": good.depth[:, 1:]}, "confidence: expected float"),
        ({"confidence": good.depth + 1}, "confidence: expected 0 … 1"),
    ):
        with pytest.raises(ValueError, match=says):
            dataclasses.replace(good, **change)
    depth = good.depth.copy()
    depth[0, :3] = np.nan, np.inf, -1
    assert (Frame(good.rgb, depth, good.camera, 1).depth[0, :3] == 0).all()
    doubt = np.full(depth.shape, np.nan)
    assert (dataclasses.replace(good, confidence=doubt).confidence == 0).all()


def test_saved_map_is_gone_on_with(room, tmp_path):
    core = slam()
    for sample in room[:10]:
        core.process(frame_of(sample))
    core.map.save(tmp_path / "map.npz", core.trajectory)
    again = slam()
    with pytest.raises(ValueError, match="expected a whole map file"):
        (tmp_path / "bad.npz").write_bytes(b"no map")
        again.load(tmp_path / "bad.npz")
    again.load(tmp_path / "map.npz")
    assert len(again.trajectory) == 10
    steps = [again.process(frame_of(sample)) for sample in room[9:13]]
    assert not steps[0].lost, steps[0].reason
    wanted = core.trajectory[9][1]
    assert np.linalg.norm((steps[0].T_world_camera - wanted)[:3, 3]) < 0.03
    assert again.map.frames == 14


def test_clear_starts_a_new_world(room):
    core = slam()
    for sample in room[:3]:
        core.process(frame_of(sample))
    core.clear()
    assert core.trajectory == []
    assert core.statistics()["map_blocks"] == 0
    step = core.process(frame_of(room[3], stamp=1))
    np.testing.assert_array_equal(step.T_world_camera, LEVEL)
