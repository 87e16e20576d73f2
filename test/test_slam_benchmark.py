# SPDX-License-Identifier: Apache-2.0
"""The SLAM core timed beside Open3D's own."""

import numpy as np
import pytest

from depth_two_stage.commands.benchmark import mapping_parameters
from depth_two_stage.config import MappingNodeParameters, from_flat
from depth_two_stage.datasets import open_dataset
from depth_two_stage.slam_benchmark import LegacyVolume, slam_rows

SETTINGS = {"tsdf.memory_mb": 100.0, "tsdf.device": "cpu", "tsdf.voxel_size": 0.03}


@pytest.fixture(scope="module")
def parameters():
    return from_flat(MappingNodeParameters, SETTINGS)


def test_both_are_timed_on_the_same_frames(parameters):
    rows = slam_rows(open_dataset("rendered", ".", "seed:5,frames:5,size:120x160"), parameters)
    by_name = {row["what"]: row for row in rows}
    ours = ("SLAM, a frame", "SLAM, track", "SLAM, fuse", "SLAM, loops", "SLAM, mesh")
    theirs = ("legacy volume, integrate", "dense SLAM model, a frame")
    more = ("legacy volume, mesh",) if LegacyVolume(parameters).works else ()
    assert set(by_name) == {*ours, *theirs, *more}
    assert all(row["median"] >= 0 and row["p95"] >= row["median"] for row in rows)
    assert all(by_name[name]["ratio"] > 0 for name in theirs)
    # Both followed the camera: what was timed is tracking, not failing to.
    assert by_name[ours[0]]["ate"] < 0.03 and by_name[theirs[1]]["ate"] < 0.1


def test_the_legacy_volume_says_whether_it_works(parameters):
    """Open3D 0.20's allocates before the lens and makes no surface; then it is only timed."""
    sample = open_dataset("rendered", ".", "seed:5,frames:1,size:120x160")[0]
    volume = LegacyVolume(parameters)
    scale, volume.scale = volume.scale, 1.0
    volume.integrate(volume.prepare(sample), np.eye(4))
    surface = len(volume.volume.extract_triangle_mesh().vertices)
    assert (surface > 100, scale) == ((True, 1.0) if volume.works else (False, 1000.0))


def test_a_recording_without_depth_is_refused(parameters):
    with pytest.raises(ValueError, match="recording: expected frames with depth"):
        slam_rows([], parameters)


def test_parameters_of_either_node_may_be_given():
    given = mapping_parameters(["estimator.threads=2", "tsdf.voxel_size=0.01"])
    assert given == from_flat(MappingNodeParameters, {"tsdf.voxel_size": 0.01})
    assert mapping_parameters(None) == MappingNodeParameters()
