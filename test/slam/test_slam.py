# SPDX-License-Identifier: Apache-2.0
"""The SLAM core: poses, losing and finding the camera again."""

import dataclasses

import numpy as np
import pytest
from walks import SECOND, error, frame_of, slam

from depth_two_stage.camera import Camera
from depth_two_stage.config import MappingNodeParameters
from depth_two_stage.datasets import open_dataset
from depth_two_stage.slam import LEVEL, Frame, Slam


@pytest.mark.parametrize("reference", ["frame", "keyframe", "model"])
def test_tracks_a_room(room, reference):
    """Every reference follows the camera from a level first pose."""
    core = slam(**{"odometry.reference": reference})
    steps = [core.process(frame_of(sample)) for sample in room]
    assert not any(step.lost for step in steps)
    assert all(step.fused and step.covariance.shape == (6, 6) for step in steps)
    np.testing.assert_array_equal(steps[0].T_world_camera, LEVEL)
    assert steps[0].keyframe
    assert [stamp for stamp, _ in core.trajectory] == [sample.stamp for sample in room]
    assert error(core.trajectory, room) < 0.03
    statistics = core.statistics()
    assert statistics["frames"] == statistics["fused"] == statistics["map_frames"] == len(room)


def test_first_pose_is_level():
    """X forward, y left, z up: what is above in the image is above in the map."""
    camera = Camera(160, 120, 130.0, 130.0, 79.5, 59.5)
    depth = np.zeros(camera.size, np.float32)
    depth[:40] = 2.007
    core = slam()
    core.process(Frame(np.full((*camera.size, 3), 90, np.uint8), depth, camera, 1))
    points = core.map.points().points
    assert np.median(points[:, 0]) == pytest.approx(2.0, abs=0.05)
    assert points[:, 2].min() > 0.2
    assert abs(np.median(points[:, 1])) < 0.1


def test_after_a_pause_the_camera_is_looked_for(room):
    """Frames were cut out: the last motion says nothing, what is seen says where it is."""
    core = slam()
    for sample in room[:12]:
        core.process(frame_of(sample))
    assert "gaps" not in core.counters
    step = core.process(frame_of(room[2], stamp=room[11].stamp + 2 * SECOND))
    wanted = LEVEL @ np.linalg.inv(room[0].T_world_camera) @ room[2].T_world_camera
    assert np.linalg.norm((step.T_world_camera - wanted)[:3, 3]) < 0.03
    assert core.counters["gaps"] == 1
    # No motion is made of the two: the next frame is expected where this one was.
    assert not core.process(frame_of(room[3], stamp=room[11].stamp + 21 * SECOND // 10)).lost


def dark(sample):
    return frame_of(sample, rgb=np.zeros_like(sample.rgb), depth=np.zeros_like(sample.depth))


def hand(sample):
    return frame_of(
        sample, rgb=np.full_like(sample.rgb, 120), depth=np.full_like(sample.depth, 0.25)
    )


@pytest.mark.parametrize("reference", ["frame", "model"])
@pytest.mark.parametrize("trouble", [dark, hand])
def test_lost_is_said_nothing_is_fused_and_tracking_recovers(room, reference, trouble):
    core = slam(**{"odometry.reference": reference})
    for sample in room[:8]:
        assert not core.process(frame_of(sample)).lost
    fused, path = core.map.frames, len(core.trajectory)
    for sample in room[8:12]:
        step = core.process(trouble(sample))
        assert step.lost
        assert step.T_world_camera is None
        assert not step.fused
        assert step.reason
    assert core.map.frames == fused
    assert len(core.trajectory) == path
    assert core.counters["lost"] == 4
    # The camera comes back within sight of what it knew.
    steps = [
        core.process(frame_of(sample, stamp=room[12].stamp + i * SECOND // 10))
        for i, sample in enumerate(reversed(room[4:12]))
    ]
    found = [i for i, step in enumerate(steps) if not step.lost]
    assert found, [step.reason for step in steps]
    assert found[0] <= 3
    true = np.linalg.inv(room[0].T_world_camera)
    for i, sample in enumerate(reversed(room[4:12])):
        if i in found:
            wanted = LEVEL @ true @ sample.T_world_camera
            assert np.linalg.norm((steps[i].T_world_camera - wanted)[:3, 3]) < 0.05


def test_another_place_is_not_taken_for_this_one(room):
    core = slam()
    for sample in room[:6]:
        core.process(frame_of(sample))
    other = list(open_dataset("rendered", ".", "seed:9,frames:3,size:120x160"))
    for i, sample in enumerate(other):
        step = core.process(frame_of(sample, stamp=room[6].stamp + i * SECOND // 10))
        assert step.lost
    assert core.map.frames == 6


def test_open3d_raising_is_lost_and_not_fatal():
    """No texture, intensity only: Open3D answers "singular 6x6" for every frame after the first."""
    camera = Camera(160, 120, 130.0, 130.0, 79.5, 59.5)
    rgb, depth = np.zeros((*camera.size, 3), np.uint8), np.full(camera.size, 2.0, np.float32)
    core = slam(**{"odometry.method": "intensity", "odometry.reference": "frame"})
    assert core.process(Frame(rgb, depth, camera, 1)).fused
    for stamp in (2, 3):
        step = core.process(Frame(rgb, depth, camera, stamp))
        assert step.lost
        assert "odometry failed" in step.reason
    assert core.map.frames == 1


def test_frames_out_of_order_are_dropped_and_a_restarted_clock_is_followed(room):
    core = slam()
    core.process(frame_of(room[0], stamp=10 * SECOND))
    core.process(frame_of(room[1], stamp=10 * SECOND + SECOND // 10))
    for stamp in (10 * SECOND + SECOND // 10, 10 * SECOND):
        step = core.process(frame_of(room[2], stamp=stamp))
        assert not step.lost
        assert step.T_world_camera is None
        assert "stamp: expected one after" in step.reason
    assert core.counters["out_of_order"] == 2
    assert core.map.frames == 2
    # A bag that starts again: seconds back, the same room.
    step = core.process(frame_of(room[2], stamp=SECOND))
    assert not step.lost
    assert step.fused
    assert step.reason.startswith("time went back by 9.1 s")
    assert core.counters["time_jumps"] == 1
    assert core.process(frame_of(room[3], stamp=0)).T_world_camera is not None
    # By less than a second, where whoever knows the clock says so; for one frame.
    core.restart_time()
    step = core.process(frame_of(room[3], stamp=SECOND // 2))
    assert step.T_world_camera is not None and not step.reason, "forward it is no jump"
    core.restart_time()
    step = core.process(frame_of(room[3], stamp=SECOND // 4))
    assert step.fused and step.reason.startswith("time went back by 0.25 s")
    assert core.counters["time_jumps"] == 3
    assert core.process(frame_of(room[3], stamp=SECOND // 5)).T_world_camera is None


def test_nothing_starts_without_depth(room):
    core = slam()
    assert core.process(dark(room[0])).lost
    assert core.map.frames == 0
    step = core.process(frame_of(room[1]))
    np.testing.assert_array_equal(step.T_world_camera, LEVEL)


def test_size_of_the_images_may_change(room):
    core = slam()
    core.process(frame_of(room[0]))
    camera = room[1].camera.cropped(10, 6, 120, 90)
    part = slice(6, 96), slice(10, 130)
    step = core.process(Frame(room[1].rgb[part], room[1].depth[part], camera, room[1].stamp))
    assert step.lost or step.T_world_camera is not None
    assert not core.process(frame_of(room[2])).lost


def halved(sample):
    """Every second pixel: another camera at the same place."""
    c = sample.camera
    camera = Camera(c.width // 2, c.height // 2, c.fx / 2, c.fy / 2, c.cx / 2, c.cy / 2)
    return Frame(sample.rgb[::2, ::2], sample.depth[::2, ::2], camera, sample.stamp)


@pytest.mark.parametrize("reference", ["frame", "keyframe", "model"])
def test_tracking_goes_on_when_the_size_changes_and_changes_back(room, reference):
    """Also where the camera is lost at that moment: keyframes are seen by the new camera."""
    core = slam(**{"odometry.reference": reference})
    frames = [frame_of(sample) for sample in room[:4]]
    frames += [halved(sample) for sample in room[4:8]]
    frames += [frame_of(sample) for sample in room[8:11]]
    for frame in frames:
        step = core.process(frame)
        assert not step.lost, step.reason
    blind = frame_of(room[11], depth=np.zeros_like(room[11].depth))
    assert core.process(blind).lost
    step = core.process(dataclasses.replace(halved(room[10]), stamp=room[12].stamp))
    assert not step.lost, step.reason
    assert error(core.trajectory[:-1], room) < 0.05


def test_keyframes_are_bounded(room):
    core = slam(**{"slam.keyframe_distance": 0.02, "slam.max_keyframes": 4})
    for sample in room:
        core.process(frame_of(sample))
    assert core.statistics()["keyframes"] == 4


def test_two_runs_agree_within_a_millimetre(room):
    runs = []
    for _ in range(2):
        core = slam()
        runs.append([core.process(frame_of(sample)).T_world_camera for sample in room[:12]])
    difference = np.array(runs[0])[:, :3, 3] - np.array(runs[1])[:, :3, 3]
    assert np.abs(difference).max() < 1e-3


def test_tum_recording_within_5_cm(recordings):
    """Sensor depth, own odometry, no frame lost (ATE RMSE after SE(3) alignment)."""
    samples = open_dataset("folder", recordings / "tum_fr1_xyz")
    core = Slam(MappingNodeParameters())
    for sample in samples:
        core.process(frame_of(sample))
    assert core.counters["lost"] == 0
    assert error(core.trajectory, samples) < 0.05
