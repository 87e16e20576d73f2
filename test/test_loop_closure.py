# SPDX-License-Identifier: Apache-2.0
"""A full turn with a lens that is not as believed: the loop closes, poses and map are corrected."""

import time

import numpy as np
import pytest
from loop_walk import PERIOD, SETTINGS, circle

from depth_two_stage.config import MappingNodeParameters, from_flat
from depth_two_stage.odometry import angle_degrees
from depth_two_stage.slam import Frame, Slam

PATIENCE = 90.0  # s


@pytest.fixture(scope="module")
def walk():
    return circle()


def slam(background=False, **settings):
    return Slam(from_flat(MappingNodeParameters, {**SETTINGS, **settings}), background)


def again(frame, stamp):
    return Frame(frame.rgb, frame.depth, frame.camera, stamp)


def off(T, true):
    return angle_degrees(np.linalg.inv(T) @ true)


@pytest.mark.parametrize("background", [False, True])
def test_a_loop_is_closed(walk, background, monkeypatch):
    frames, true = walk
    core = slam(background, **{"slam.loop_closure": True})
    search, rebuilding = core._loops._search, []
    integrate = search.integrate

    def noted(*arguments):
        rebuilding.append(core.statistics()["map_rebuilding"])
        return integrate(*arguments)

    monkeypatch.setattr(search, "integrate", noted)
    steps, worst, deadline = [], 0.0, time.monotonic() + PATIENCE
    for frame in frames:
        steps.append(core.process(frame))
        worst = max(worst, steps[-1].timings_ms.get("loops", 0.0))
    while background and not core.statistics()["map_corrections"]:
        # The thread works while the camera rests.
        assert time.monotonic() < deadline, (core.statistics(), core._loops.failure)
        time.sleep(0.5)
        frame = again(frames[-1], steps[-1].stamp + PERIOD)
        steps.append(core.process(frame))
        true = np.concatenate([true, true[-1:]])
        worst = max(worst, steps[-1].timings_ms.get("loops", 0.0))
    assert not any(step.lost for step in steps), [step.reason for step in steps if step.lost]
    statistics = core.statistics()
    assert statistics["loops"] >= 1
    assert statistics["loops_failed"] == 0
    assert statistics["map_frames"] == statistics["fused"] == len(steps)
    # The map is built by the thread, and the frame that takes it over adds what came last.
    assert rebuilding[0] and not (rebuilding[-1] or core.statistics()["map_rebuilding"])
    assert background or statistics["loop_checks"] == 0
    # What the steps said then was off by more than what is known now.
    then = [off(step.T_world_camera, T) for step, T in zip(steps, true, strict=True)]
    now = [off(T, wanted) for (_, T), wanted in zip(core.trajectory, true, strict=True)]
    assert max(then) > 5
    assert off(steps[-1].T_world_camera, true[-1]) < 3
    assert np.mean(now) < 0.6 * np.mean(then)
    assert [stamp for stamp, _ in core.trajectory] == [step.stamp for step in steps]
    np.testing.assert_array_equal(core.trajectory[-1][1], steps[-1].T_world_camera)
    # What is published as odometry went on as before: the correction is apart.
    T_odom = np.linalg.inv(core.T_world_odom) @ steps[-1].T_world_camera
    assert off(T_odom, true[-1]) > 5
    # The map is the corrected poses' and whole: seen from a pose long before the loop it agrees.
    index = 23
    depth, _ = core.map.raycast(frames[index].camera, core.trajectory[index][1])
    both = (depth > 0) & (frames[index].depth > 0)
    assert both.mean() > 0.6
    assert np.median(np.abs(depth - frames[index].depth)[both]) < 0.04
    if background:
        assert worst < 1000  # ms: a whole map is not built within a frame
    core.close()


def test_given_poses_and_loaded_maps_are_not_corrected(walk, tmp_path):
    frames, true = walk
    core = slam(**{"slam.loop_closure": True})
    core.process(frames[0])
    core.map.save(tmp_path / "map.npz", core.trajectory)
    core.process(frames[1])
    assert core.statistics()["kept_frames"] == 2
    core.process(frames[2], true[2])
    assert core.statistics()["kept_frames"] == 0
    core.load(tmp_path / "map.npz")
    assert core.process(frames[0]).fused
    assert core.statistics()["kept_frames"] == 0
    core.clear()
    core.process(frames[4])
    assert core.statistics()["kept_frames"] == 1
    assert "loops" not in slam(**{"slam.loop_closure": False}).statistics()
