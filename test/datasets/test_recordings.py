# SPDX-License-Identifier: Apache-2.0
"""The real recordings, where they are."""

import numpy as np
import pytest

from depth_two_stage.datasets import open_dataset
from depth_two_stage.datasets.sparse import SparsePattern


@pytest.mark.parametrize(
    ("name", "folder", "split", "frames", "size"),
    [
        ("nyu", "nyu", "train", 700, (240, 320)),
        ("nyu", "nyu", "val", 95, (480, 640)),
        ("tum", "tum_fr1_xyz", None, 266, (480, 640)),
        ("folder", "tum_fr1_xyz", None, 266, (480, 640)),
        ("folder", "kitchen", None, 200, (480, 640)),
        ("sevenscenes", "kitchen", None, 200, (480, 640)),
        ("folder", "icsl", None, 110, (480, 640)),
        ("kitti", "kitti_raw", None, 8, (375, 1242)),
        ("lidar16", "lidar16", None, 4, (1080, 1920)),
    ],
)
def test_real_recordings_open_and_decode(recordings, name, folder, split, frames, size):
    data = open_dataset(name, recordings / folder, split)
    assert len(data) == frames
    for sample in (data[0], data[-1]):
        assert sample.rgb.shape[:2] == size == sample.camera.size
        if sample.depth is not None:
            assert (sample.depth > 0).mean() > 0.5 and sample.depth.max() < 11
        sparse = SparsePattern.parse("lines:16" if sample.points is None else "points")
        assert np.count_nonzero(sparse(sample, np.random.default_rng(0))) > 500
    stamps = [data.frames[i].stamp for i in range(frames)]
    assert stamps == sorted(set(stamps))


@pytest.mark.parametrize(("name", "folder"), [("tum", "tum_fr1_xyz"), ("sevenscenes", "kitchen")])
def test_real_depth_and_poses_agree_between_frames(recordings, name, folder):
    # A surface seen in one frame lies where the other measured it: poses, camera and registration.
    data = open_dataset(name, recordings / folder)
    errors = []
    for i in range(20, 140, 20):
        a, b = data[i], data[i + 3]
        points = a.camera.backproject(a.depth)[::4, ::4].reshape(-1, 3)
        T_b_a = np.linalg.inv(b.T_world_camera) @ a.T_world_camera
        moved = b.camera.project(points[points[:, 2] > 0], T_b_a)
        both = (moved > 0) & (b.depth > 0)
        errors.append(np.median(np.abs(moved - b.depth)[both]))
    assert np.median(errors) < 0.03
