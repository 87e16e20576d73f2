# SPDX-License-Identifier: Apache-2.0
"""Arrays → messages, read back by messages.py, which knows nothing of how they were made."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from depth_two_stage.camera import Camera
from depth_two_stage.messages import stamp_ns, to_camera, to_depth, to_points, to_rgb, to_transform
from depth_two_stage.ros import build

STAMP = 1_700_000_000_123_456_789
RNG = np.random.default_rng(0)


@pytest.fixture
def header():
    return build.header(STAMP, "camera")


def depth_image() -> np.ndarray:
    depth = RNG.uniform(0.3, 9.0, (24, 31)).astype(np.float32)
    depth[::5] = 0
    return depth


def test_stamp_keeps_every_nanosecond(header):
    assert stamp_ns(header) == STAMP


def test_depth_in_metres_marks_none_by_nan(header):
    depth = depth_image()
    message = build.depth(depth, header)
    values = np.frombuffer(bytes(message.data), np.float32).reshape(depth.shape)
    assert (message.encoding, message.step) == ("32FC1", 4 * 31)
    assert np.array_equal(np.isnan(values), depth == 0)
    assert np.array_equal(to_depth(message), depth)
    assert message.header == header


def test_depth_in_millimetres_marks_none_by_zero_and_never_wraps(header):
    depth = depth_image()
    depth[1, :3] = 70.0, 65.535, 65.534  # 65535 would be read as none
    message = build.depth(depth, header, "16UC1")
    back = to_depth(message)
    assert np.allclose(back[1, :3], [0, 0, 65.534])
    assert np.frombuffer(message.data, "<u2").reshape(24, 31)[1, :3].tolist() == [0, 0, 65534]
    depth[1, :2] = 0
    assert np.abs(back - depth).max() <= 0.0005 + 1e-6
    with pytest.raises(ValueError, match="expected 32FC1 or 16UC1, got '8UC1'"):
        build.depth(depth, header, "8UC1")


def test_rgb_of_a_view(header):
    rgb = RNG.integers(0, 256, (24, 31, 3), np.uint8)
    assert np.array_equal(to_rgb(build.rgb(rgb[..., ::-1], header)), rgb[..., ::-1])


def test_camera_info_is_rectified_and_has_its_own_size(header):
    camera = Camera(31, 24, 40.0, 41.0, 15.2, 11.7)
    message = build.camera_info(camera, header)
    assert to_camera(message) == camera
    assert not any(message.d)
    assert np.array_equal(np.reshape(message.r, (3, 3)), np.eye(3))


def test_cloud_has_x_y_z_rgb_in_that_order(header):
    points = RNG.uniform(-3, 3, (50, 3)).astype(np.float32)
    colours = RNG.integers(0, 256, (50, 3), np.uint8)
    message = build.cloud(points, colours, header)
    assert [(f.name, f.offset, f.datatype) for f in message.fields] == [
        ("x", 0, 7),
        ("y", 4, 7),
        ("z", 8, 7),
        ("rgb", 12, 7),
    ]
    assert (message.height, message.width, message.is_dense) == (1, 50, True)
    assert np.array_equal(to_points(message), points)
    packed = np.frombuffer(bytes(message.data), np.uint32).reshape(-1, 4)[:, 3]
    assert packed[7] == int(colours[7, 0]) << 16 | int(colours[7, 1]) << 8 | int(colours[7, 2])


def test_organized_cloud_keeps_rows_and_columns(header):
    points = RNG.uniform(1, 3, (6, 9, 3)).astype(np.float32)
    points[2, 3] = np.nan
    message = build.cloud(points, np.zeros((6, 9, 3), np.uint8), header)
    assert (message.height, message.width, message.is_dense) == (6, 9, False)
    assert message.row_step == 9 * message.point_step
    assert len(to_points(message)) == 6 * 9 - 1


def test_transform_and_pose():
    T = np.eye(4)
    T[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    T[:3, 3] = 1.0, -2.0, 0.5
    message = build.transform(T, "odom", "base_link", STAMP)
    assert (message.header.frame_id, message.child_frame_id) == ("odom", "base_link")
    assert stamp_ns(message) == STAMP
    assert np.allclose(to_transform(message), T)
    assert np.allclose(to_transform(build.pose(T)), T)
