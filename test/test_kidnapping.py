# SPDX-License-Identifier: Apache-2.0
"""Kidnapping a camera in a recording, and the measure of its return."""

import numpy as np
import pytest

from depth_two_stage.config import MappingNodeParameters, from_flat
from depth_two_stage.datasets import open_dataset
from depth_two_stage.kidnapping import Kidnapped, Kidnapping, recoveries
from depth_two_stage.map_evaluation import SlamRun
from depth_two_stage.slam import Step

SETTINGS = {"tsdf.memory_mb": 64.0, "tsdf.device": "cpu", "tsdf.voxel_size": 0.04}


@pytest.fixture(scope="module")
def room():
    return open_dataset("rendered", ".", "seed:5,frames:18,size:120x160,lidar:0")


def kidnapped(room, *texts):
    return Kidnapped(room, [Kidnapping.parse(text) for text in texts])


def test_frames_are_cut_dark_or_show_a_hand(room):
    frames = kidnapped(room, "dark:12:2", "cut:3:5", "hand:9:1")
    samples = list(frames)
    kept = [0, 1, 2, *range(8, 18)]
    assert [s.name for s in samples] == [room.names[i] for i in kept]
    assert frames.returns() == [room[i].stamp for i in (8, 10, 14)]
    by = dict(zip(kept, samples, strict=True))
    assert (by[9].depth == np.float32(0.25)).all() and by[9].rgb.std() == 0
    assert not by[12].rgb.any() and not by[13].depth.any()
    assert by[9].T_world_camera is None
    for i in (8, 10, 14):
        np.testing.assert_array_equal(by[i].rgb, room[i].rgb)
        np.testing.assert_array_equal(by[i].T_world_camera, room[i].T_world_camera)


@pytest.mark.parametrize("text", ["fog:1:2", "cut:1", "cut:0:2", "cut:2:0", "cut:a:b", "cut:-1:2"])
def test_what_is_no_kidnapping_is_named(text):
    with pytest.raises(ValueError, match="--kidnap: expected"):
        Kidnapping.parse(text)


@pytest.mark.parametrize("texts", [("cut:3:5", "dark:8:2"), ("cut:3:15",), ("cut:30:2",)])
def test_frames_are_left_between_and_after(room, texts):
    with pytest.raises(ValueError, match="--kidnap: expected frames between"):
        kidnapped(room, *texts)


def test_recoveries_are_counted_and_wrong_poses_found():
    def pose(x):
        T = np.eye(4)
        T[0, 3] = x
        return T

    truth = [(i * 10**9, pose(0.1 * i)) for i in range(12)]
    steps = []
    for i, lost in enumerate("....LL.LLL.LLL"[:12]):
        x = 0.1 * i + 5 + (0.2 if i == 10 else 0.0)  # another world; one pose is wrong
        found = None if lost == "L" else pose(x)
        steps.append(Step(i * 10**9, found, found is None, "", found is not None))
    found = recoveries(steps, truth, [4 * 10**9, 7 * 10**9, 11 * 10**9])
    assert found["frames_to_recovery"] == [2, 3, None]
    assert found["wrong_fusions"] == 1
    assert found["compared_fusions"] == 6


def test_a_kidnapped_camera_is_found_and_nothing_wrong_is_fused(room):
    """As measured on recordings by `evaluate --slam --kidnap` (docs/slam.md)."""
    frames = kidnapped(room, "cut:6:3", "hand:12:3")
    run = SlamRun(from_flat(MappingNodeParameters, SETTINGS), False, returns=frames.returns())
    for sample in frames:
        run.add(sample, sample.depth)
    result = run.result()
    assert result["lost_frames"] >= 3
    waits = result["kidnappings"]["frames_to_recovery"]
    assert all(wait is not None and wait <= 2 for wait in waits)
    assert result["kidnappings"]["wrong_fusions"] == 0
    assert result["kidnappings"]["compared_fusions"] >= 10


def test_a_place_half_a_metre_from_its_keyframe_is_found(recordings):
    """Half of the view is new there: dense odometry there and back differs by 8 cm."""
    frames = kidnapped(open_dataset("folder", recordings / "kitchen")[:63], "cut:10:50")
    run = SlamRun(from_flat(MappingNodeParameters, SETTINGS), False, returns=frames.returns())
    for sample in frames:
        run.add(sample, sample.depth)
    found = run.result()["kidnappings"]
    assert found["frames_to_recovery"] == [0]
    assert (found["wrong_fusions"], found["compared_fusions"]) == (0, 13)
