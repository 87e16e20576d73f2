# SPDX-License-Identifier: Apache-2.0
"""A small SLAM core, and frames of a rendered walk for it."""

from depth_two_stage.config import MappingNodeParameters, from_flat
from depth_two_stage.slam import Frame, Slam
from depth_two_stage.trajectories import associate, ate

SETTINGS = {"tsdf.memory_mb": 100.0, "tsdf.device": "cpu", "tsdf.voxel_size": 0.03}
SECOND = 1_000_000_000


def slam(**settings):
    return Slam(from_flat(MappingNodeParameters, {**SETTINGS, **settings}))


def frame_of(sample, **changes):
    values = {"rgb": sample.rgb, "depth": sample.depth, "camera": sample.camera}
    return Frame(**{**values, "stamp": sample.stamp, **changes})


def error(trajectory, samples):
    truth = [(s.stamp, s.T_world_camera) for s in samples if s.T_world_camera is not None]
    _, estimate, true = associate(trajectory, truth)
    return ate(estimate, true)
