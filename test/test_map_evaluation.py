# SPDX-License-Identifier: Apache-2.0
"""What maps are compared with: thinned points, surfaces that frames saw; surfels' parameters."""

import numpy as np
import pytest
from small_maps import CAMERA, pose, wall

from depth_two_stage import map_evaluation
from depth_two_stage.commands.evaluate import slam_parameters
from depth_two_stage.config import (
    ConfigError,
    MappingNodeParameters,
    SurfelParameters,
    flatten,
    from_flat,
)
from depth_two_stage.datasets import Sample
from depth_two_stage.map_evaluation import SeenSurfaces
from depth_two_stage.reconstruction import thinned


def test_thinned_points_are_the_first_of_each_cell():
    points = np.array([[0.09, 0, 0], [-0.01, 0, 0], [0.01, 0, 0], [0.11, 0, 0], [0.05, 0.05, 0.05]])
    np.testing.assert_array_equal(thinned(points, 0.1), points[[0, 1, 3]])
    assert thinned(np.zeros((0, 3)), 0.1).shape == (0, 3)
    far = np.array([[1e4, -1e4, 0], [0, 0, 0]])
    np.testing.assert_array_equal(thinned(far, 0.02), far)


@pytest.mark.parametrize("many", [map_evaluation.MANY, 100])
def test_surfaces_are_what_the_frames_saw_within_range(monkeypatch, many):
    monkeypatch.setattr(map_evaluation, "MANY", many)  # thinned at the end, or on the way
    seen = SeenSurfaces(MappingNodeParameters())
    depth, rgb = wall(1.507)
    depth[:, :40] = 5.1  # beyond tsdf.max_range
    depth[:, 40:60] = 0.0
    for x in (0.0, 0.0, 0.5):
        seen.add(Sample(rgb, depth, CAMERA, 0, "a", T_world_camera=pose(x)))
    seen.add(Sample(rgb, depth, CAMERA, 0, "b"))  # no pose
    seen.add(Sample(rgb, None, CAMERA, 0, "c", T_world_camera=pose()))
    assert seen.frames == 3
    points = seen.surface().points
    np.testing.assert_allclose(points[:, 2], 1.507, rtol=1e-6)
    left = (60 - CAMERA.cx) / CAMERA.fx * 1.507
    right = (159 - CAMERA.cx) / CAMERA.fx * 1.507 + 0.5
    assert points[:, 0].min() == pytest.approx(left, abs=0.02)
    assert points[:, 0].max() == pytest.approx(right, abs=0.02)
    # One for each cell of 2 cm, whatever number of frames saw it.
    area = (right - left) * 119 / CAMERA.fy * 1.507
    assert 0.9 < len(points) * 0.02**2 / area < 1.15
    scores = seen.compare(seen.surface())
    assert scores["fscore"] == 1 and scores["accuracy"] == 0
    moved = pose(x=0.3)
    assert seen.compare(seen.surface(), moved)["precision"] < 0.9


def test_parameters_of_surfels_stand_beside_those_of_the_node():
    mapping, surfels = slam_parameters(
        None, ["tsdf.voxel_size=0.03", "surfels.stable_confidence=4", "surfels.normal_tolerance=30"]
    )
    assert mapping.tsdf.voxel_size == 0.03
    assert surfels == SurfelParameters(stable_confidence=4.0, normal_tolerance=30.0)
    with pytest.raises(ConfigError, match="max_unstable_frames: expected an integer in"):
        slam_parameters(None, ["surfels.max_unstable_frames=0"])
    with pytest.raises(ConfigError, match="stable"):
        slam_parameters(None, ["surfels.stable=1"])
    for item in flatten(SurfelParameters).values():
        assert item.help.endswith("."), item.name
        item.check(item.default)
    assert from_flat(SurfelParameters, {}) == SurfelParameters()
