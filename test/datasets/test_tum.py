# SPDX-License-Identifier: Apache-2.0
"""TUM RGB-D: pairs, poses, lenses."""

import json

import cv2
import numpy as np
import pytest
from trees import CAMERA, colour, depth_map, pose

from depth_two_stage import files
from depth_two_stage.camera import Camera
from depth_two_stage.datasets import DatasetError, open_dataset
from depth_two_stage.datasets.poses import interpolate, pairs


def make_tum(root, ready=False):
    """Three colour and depth images with stamps a few milliseconds apart, poses at 100 Hz."""
    stamps = [100.0, 100.1, 100.2]
    rgb, depth, both = ["# color images"], ["# depth maps"], []
    for i, stamp in enumerate(stamps):
        a, b = f"{stamp:.6f}", f"{stamp + 0.004:.6f}"
        files.write_image(root / "rgb" / f"{a}.png", colour(i, (480, 640)))
        files.write_depth(root / "depth" / f"{b}.png", depth_map(i, (480, 640)), 5000.0)
        rgb.append(f"{a} rgb/{a}.png")
        depth.append(f"{b} depth/{b}.png")
        both.append(f"{a} rgb/{a}.png {b} depth/{b}.png")
    rgb.append("100.150000 rgb/absent_but_unpaired.png")
    if ready:
        (root / "associations.txt").write_text("\n".join(both))
    else:
        (root / "rgb.txt").write_text("\n".join(rgb))
        (root / "depth.txt").write_text("\n".join(depth))
    times = [99.995, 100.005, 100.095, 100.105]
    files.write_trajectory(root / "groundtruth.txt", [(round(t * 1e9), pose(t)) for t in times])
    return root


@pytest.mark.parametrize("ready", [True, False])
def test_tum_pairs_images_and_interpolates_poses(tmp_path, ready):
    data = open_dataset("tum", make_tum(tmp_path / "rgbd_dataset_freiburg3_desk", ready))
    assert len(data) == 3
    assert data.camera == Camera(640, 480, 535.4, 539.2, 320.1, 247.6)
    sample = data[1]
    assert sample.stamp == 100_100_000_000
    assert np.array_equal(sample.rgb, colour(1, (480, 640)))
    assert np.allclose(sample.depth, depth_map(1, (480, 640)), atol=1e-4)
    assert np.allclose(sample.T_world_camera, pose(100.1), atol=1e-6)
    assert data[2].T_world_camera is None  # the motion capture has ended before


def test_tum_rectifies_by_the_kinect_of_the_name(tmp_path):
    root = make_tum(tmp_path / "rgbd_dataset_freiburg1_xyz")
    data = open_dataset("tum", root)
    assert data.camera == Camera(640, 480, 517.3, 516.5, 318.6, 255.3)
    raw, rectified = data.raw(0)[1], data[0].depth
    assert np.allclose(raw, depth_map(0, (480, 640)), atol=1e-4)
    assert not np.array_equal(raw, rectified)
    # Near the centre hardly anything moves; towards the corners it does.
    assert (raw == rectified)[245:265, 309:329].mean() > 0.9
    assert (raw == rectified)[50:100, 50:100].mean() < 0.1


def test_tum_camera_json_comes_before_the_name(tmp_path):
    root = make_tum(tmp_path / "rgbd_dataset_freiburg3_desk")
    content = CAMERA | {"width": 640, "height": 480, "depth_scale": 2500.0}
    (root / "camera.json").write_text(json.dumps(content))
    data = open_dataset("tum", root)
    assert data.camera.fx == 52.0
    assert np.allclose(data[0].depth, 2 * depth_map(0, (480, 640)), atol=1e-3)


def test_tum_without_any_calibration_or_pair_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"camera\.json or freiburg1, 2 or 3"):
        open_dataset("tum", make_tum(tmp_path / "desk"))
    root = make_tum(tmp_path / "freiburg2_late")
    late = (root / "depth.txt").read_text().replace("\n100.", "\n200.")
    (root / "depth.txt").write_text(late)
    with pytest.raises(DatasetError, match="colour and depth within 20 ms, got no pair"):
        open_dataset("tum", root)
    with pytest.raises(DatasetError, match="tum has no splits"):
        open_dataset("tum", root, "train")


def test_pairs_are_the_nearest_and_used_once():
    assert pairs([0, 10, 20], [9, 11, 100], 15) == [(1, 0), (2, 1)]
    assert pairs([0, 10], [4, 9], 5) == [(0, 0), (1, 1)]
    assert pairs([0, 50], [30], 5) == [] and pairs([], [1], 5) == []


def test_poses_between_measured_ones():
    turn = np.eye(4)
    turn[:3, :3] = cv2.Rodrigues(np.array([0.0, 0.0, 0.8]))[0]
    turn[:3, 3] = [2, 0, 0]
    known = [(0, np.eye(4)), (80_000_000, turn), (80_000_000, np.eye(4)), (400_000_000, turn)]
    found = interpolate([-1, 0, 20_000_000, 80_000_000, 200_000_000, 400_000_001], known)
    assert [T is None for T in found] == [True, False, False, False, True, True]
    assert np.array_equal(found[0 + 1], np.eye(4)) and np.allclose(found[3], turn)
    assert np.allclose(found[2][:3, 3], [0.5, 0, 0])
    assert np.allclose(cv2.Rodrigues(found[2][:3, :3])[0].ravel(), [0, 0, 0.2])
