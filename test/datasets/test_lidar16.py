# SPDX-License-Identifier: Apache-2.0
"""Stills of a camera with a 16-beam LiDAR."""

import json

import numpy as np
import pytest
from trees import colour, write_cloud

from depth_two_stage import files
from depth_two_stage.datasets import DatasetError, open_dataset


def test_lidar16(tmp_path):
    K, D = [[50.0, 0, 31], [0, 50, 24], [0, 0, 1]], [-0.3, 0.08, 0, 0, 0]
    T = [[0, -1, 0, 0.0], [0, 0, -1, -0.1], [1, 0, 0, 0], [0, 0, 0, 1.0]]
    (tmp_path / "config.json").write_text(json.dumps({"cam": {"K": K, "D": D}, "tf": T}))
    files.write_image(tmp_path / "image_orig" / "0.jpg", colour())
    (tmp_path / "pointcloud").mkdir()
    write_cloud(tmp_path / "pointcloud" / "0.pcd", np.array([[5, 0.3, 0.1]], np.float32))
    data = open_dataset("lidar16", tmp_path)
    assert data[0].depth is None and len(data[0].points) == 1
    assert not data.lens.is_rectified and not np.array_equal(data[0].rgb, data.raw(0)[0])
    assert np.array_equal(data[0].T_camera_lidar, T)
    (tmp_path / "config.json").write_text(json.dumps({"cam": {"K": K}}))
    with pytest.raises(DatasetError, match=r"expected cam\.K, cam\.D and tf"):
        open_dataset("lidar16", tmp_path)
