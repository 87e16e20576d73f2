# SPDX-License-Identifier: Apache-2.0
"""The map that is built anew from kept frames when poses are corrected."""

from threading import Event

import numpy as np
import pytest
from small_maps import CAMERA, pose, wall

from depth_two_stage import places
from depth_two_stage.config import MappingNodeParameters, from_flat
from depth_two_stage.kept_frames import KeptFrame, KeptFrames
from depth_two_stage.loop_search import Graph, LoopSearch, Node
from depth_two_stage.tsdf import MapError

STEP, COUNT = 0.25, 80  # m between two frames of a way along a wall, which is 1.5 m off
FUSED = 2 * COUNT  # every second of the frames was kept


@pytest.fixture(scope="module")
def rebuilt():
    """The map of a bound in MB, and the number of the last frame: each frame is a node."""
    kept, poses = KeptFrames(100.0), [pose(number * STEP) for number in range(COUNT)]
    depth, rgb = wall()
    for number in range(COUNT):
        images = rgb, depth, None
        frame = KeptFrame.pack(number, np.eye(4), images, CAMERA, 5.0, number + 1)
        kept.add(frame, pose(STEP))
    none = places.Features(*(np.zeros((0, n), np.float32) for n in (2, 128, 3)))
    graph = Graph(tuple(Node(none, None, number + 1) for number in range(COUNT)), tuple(poses))

    def rebuild(memory_mb):
        values = {"tsdf.memory_mb": memory_mb, "tsdf.device": "cpu"}
        search = LoopSearch(from_flat(MappingNodeParameters, values), kept, lambda: graph)
        return search._rebuild(poses, FUSED, Event())

    return rebuild


def test_a_map_is_built_from_all_frames_that_it_has_room_for(rebuilt):
    map, last = rebuilt(64.0)
    assert (map.frames, last, map.blocks.evicted) == (COUNT, COUNT, 0)
    for x in (0.0, (COUNT - 1) * STEP):
        depth, _ = map.raycast(CAMERA, pose(x))
        assert (depth > 0).mean() > 0.9
        assert np.median(np.abs(depth - 1.507)[depth > 0]) < 0.005


def test_a_full_map_is_built_from_the_frames_nearest_to_the_camera(rebuilt):
    """Else a correction took the longer the longer the way, for blocks that are given up again."""
    map, last = rebuilt(16.0)
    whole, _ = rebuilt(64.0)
    assert 10 < map.frames < 0.5 * COUNT  # 16 MB are 9 m of this wall
    assert last == COUNT  # frames that come later are the only ones left to integrate
    assert 0 < map.blocks.evicted < 20 and map.blocks.skipped == 0
    here, there = pose((COUNT - 1) * STEP), pose()
    depth, rgb = map.raycast(CAMERA, here)
    expected, colour = whole.raycast(CAMERA, here)
    np.testing.assert_allclose(depth, expected, atol=1e-4)
    np.testing.assert_allclose(rgb, colour, atol=1)
    assert not map.raycast(CAMERA, there)[0].any()
    # Each weighs as much as those beside it that were not kept, however many were left out.
    keys = map.blocks.keys(map.blocks.slots())
    keys = keys[keys[:, 0] * 16 * 0.02 > (COUNT - 4) * STEP]
    weights = [m.blocks.values("weight")[m.blocks.find(keys)[0]].max(axis=1) for m in (map, whole)]
    np.testing.assert_allclose(*weights, rtol=1e-5)
    assert len(keys) > 10 and weights[0].max() >= 2


def test_no_memory_for_a_second_map_is_a_failure_that_is_said(monkeypatch):
    """The frames go on in the map that there is."""

    def none(*_):
        raise MapError("tsdf.memory_mb: expected as much as CPU:0 can give at once, got 512 MB")

    search = LoopSearch(MappingNodeParameters(), KeptFrames(1.0), lambda: None)
    monkeypatch.setattr(search, "_examined", none)
    outcome = search.examine(None, None, Event())
    assert outcome.failure.startswith("tsdf.memory_mb") and not outcome.loops
