# SPDX-License-Identifier: Apache-2.0
"""Clouds: rosbags' messages and rclpy's decode alike; bad ones are one clear line."""

import numpy as np
import pytest
from made_messages import cloud

from depth_two_stage import messages
from depth_two_stage.messages import MessageError

XYZ = [("x", "f4"), ("y", "f4"), ("z", "f4")]
LAYOUTS = {
    "plain": XYZ,
    "padded": {"names": list("xyz"), "formats": ["f4"] * 3, "offsets": [0, 4, 8], "itemsize": 32},
    "shuffled": [("intensity", "f4"), ("z", "f4"), ("ring", "u2"), ("x", "f4"), ("y", "f4")],
    "double": [("t", "u1"), ("y", "f8"), ("x", "f8"), ("z", "f8")],
    "mixed": [("x", "f8"), ("y", "f4"), ("z", "f4")],
    "big": [("x", ">f4"), ("y", ">f4"), ("z", ">f4"), ("rgb", ">u4")],
}


@pytest.mark.parametrize("row_pad", [0, 7])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_cloud_layouts(make, layout, row_pad):
    values = np.random.default_rng(1).uniform(-50, 50, (12, 3)).astype(np.float32)
    result = messages.to_points(cloud(make, LAYOUTS[layout], values, row_pad, height=3))
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, values)


def test_cloud_without_returns(make):
    values = np.array([[1, 2, 3], [np.nan, 0, 0], [0, np.inf, 1], [0, 0, 0], [0, 0, 4]], np.float64)
    np.testing.assert_array_equal(
        messages.to_points(cloud(make, XYZ, values)), [[1, 2, 3], [0, 0, 4]]
    )
    huge = np.array([[1e300, 0, 1], [1, 1, 1]])
    double = [(n, "f8") for n in "xyz"]
    np.testing.assert_array_equal(messages.to_points(cloud(make, double, huge)), [[1, 1, 1]])
    for empty in (
        cloud(make, XYZ, np.zeros((0, 3))),
        cloud(make, XYZ, np.zeros((0, 3)), fields=[], point_step=0),
        cloud(make, XYZ, np.full((4, 3), np.nan)),
    ):
        assert messages.to_points(empty).shape == (0, 3)


@pytest.mark.parametrize(
    ("dtype", "changes", "text"),
    [
        (XYZ[:2], {}, "expected fields x, y, z, got x, y"),
        ([("x", "f4"), ("y", "i4"), ("z", "f4")], {}, r"points.y: expected datatype 7"),
        (XYZ, {"point_step": 0}, "expected point_step above 0, got 0"),
        (XYZ, {"row_step": 40}, r"width \* point_step = 60, got 40"),
        (XYZ, {"data": bytes(59)}, r"row_step \* height = 60 bytes, got 59"),
        (XYZ, {"point_step": 8, "width": 5}, r"points.z: expected an offset of at most 4"),
        (XYZ, {"point_step": 3}, r"points: expected point_step of at least 4 \(x\), got 3"),
    ],
)
def test_malformed_clouds(make, dtype, changes, text):
    with pytest.raises(MessageError, match=text):
        messages.to_points(cloud(make, dtype, np.ones((5, 3)), **changes))
