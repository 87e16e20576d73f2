# SPDX-License-Identifier: Apache-2.0
"""A map's bounds: parameters it cannot be made with, memory that is not there, places too far."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from small_maps import CAMERA, PARAMETERS, pose, wall

from depth_two_stage.config import MappingNodeParameters
from depth_two_stage.slam import Frame, Slam
from depth_two_stage.tsdf import MapError, TsdfMap


@pytest.mark.parametrize("value", [0.0, -0.02, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["voxel_size", "truncation", "memory_mb"])
def test_lengths_and_sizes_are_positive(name, value):
    with pytest.raises(MapError, match=rf"tsdf\.{name}: expected a number above 0, got {value}"):
        TsdfMap(dataclasses.replace(PARAMETERS, **{name: value}))


def test_more_memory_than_there_is_is_said():
    script = """
import resource, open3d
resource.setrlimit(resource.RLIMIT_AS, (20 << 30, -1))
from depth_two_stage.config import TsdfParameters
from depth_two_stage.tsdf import MapError, TsdfMap
try:
    TsdfMap(TsdfParameters(device="cpu", memory_mb=60_000.0))
except MapError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    says = "tsdf.memory_mb: expected as much as CPU:0 can give at once, got 60000 MB\n"
    assert done.stdout.endswith(says), done.stderr


def test_poses_beyond_float32_are_refused_by_name():
    """In UTM a camera is thousands of kilometres from the origin: nothing of it was seen."""
    depth, rgb = wall()
    core = Slam(MappingNodeParameters(tsdf=PARAMETERS))
    far = pose(5e5, 5.4e6)
    step = core.process(Frame(rgb, depth, CAMERA, 1), far)
    assert not step.fused and step.T_world_camera is None and core.counters["bad_pose"] == 1
    assert step.reason.startswith("pose: expected a place within 83.8861 km of the origin")
    # Within, the wall is where it is.
    T = pose(*[83_000.0] * 3)
    assert core.process(Frame(rgb, depth, CAMERA, 2), T).fused
    seen, _ = core.map.raycast(CAMERA, T)
    assert (seen > 0).mean() > 0.8 and abs(np.median(seen[seen > 0]) - 1.507) < 0.01
    assert abs(np.median(core.map.points().points[:, 2]) - 83_001.507) < 0.01
