# SPDX-License-Identifier: Apache-2.0
"""Stamps and transforms: rosbags' messages and rclpy's decode alike; bad ones are one line."""

import numpy as np
import pytest
from made_messages import header, image

from depth_two_stage import messages
from depth_two_stage.messages import MessageError


def test_stamp(make):
    message = image(make, "mono8", np.zeros((2, 2), np.uint8), header=header(make, 1_700_000_000))
    assert messages.stamp_ns(message.header) == 1_700_000_000_000_000_004
    assert messages.stamp_ns(message) == 1_700_000_000_000_000_004


def pose(make, q=(0.1, -0.2, 0.3, 0.9), t=(1.0, 2.0, 3.0), kind="Pose"):
    rotation = make("geometry_msgs/msg/Quaternion", **dict(zip("xyzw", q, strict=True)))
    if kind == "Pose":
        position = make("geometry_msgs/msg/Point", **dict(zip("xyz", t, strict=True)))
        return make("geometry_msgs/msg/Pose", position=position, orientation=rotation)
    translation = make("geometry_msgs/msg/Vector3", **dict(zip("xyz", t, strict=True)))
    return make("geometry_msgs/msg/Transform", translation=translation, rotation=rotation)


def test_transforms(make):
    expected = np.array(
        [
            [0.7263157894736842, -0.6105263157894737, -0.3157894736842105],
            [0.5263157894736842, 0.7894736842105263, -0.3157894736842105],
            [0.4421052631578947, 0.0631578947368421, 0.8947368421052632],
        ]
    )
    stamped = make(
        "geometry_msgs/msg/TransformStamped",
        header=header(make),
        child_frame_id="lidar",
        transform=pose(make, kind="Transform"),
    )
    posed = make("geometry_msgs/msg/PoseStamped", header=header(make), pose=pose(make))
    covariant = make(
        "geometry_msgs/msg/PoseWithCovariance", pose=pose(make), covariance=np.zeros(36)
    )
    zero = make("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.0)
    twist = make("geometry_msgs/msg/Twist", linear=zero, angular=zero)
    odometry = make(
        "nav_msgs/msg/Odometry",
        header=header(make),
        child_frame_id="base",
        pose=covariant,
        twist=make("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=np.zeros(36)),
    )
    for message in (pose(make), pose(make, kind="Transform"), stamped, posed, odometry):
        T = messages.to_transform(message)
        np.testing.assert_allclose(T[:3, :3], expected, atol=1e-9)
        np.testing.assert_array_equal(T[:, 3], [1, 2, 3, 1])


@pytest.mark.parametrize(
    ("q", "t", "text"),
    [
        ((0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0), "expected a quaternion of norm 1"),
        ((float("nan"), 0.0, 0.0, 1.0), (0.0, 0.0, 0.0), "expected a quaternion of norm 1"),
        ((0.0, 0.0, 0.0, 1.0), (0.0, float("inf"), 0.0), "expected a finite translation"),
    ],
)
def test_bad_transforms(make, q, t, text):
    with pytest.raises(MessageError, match=text):
        messages.to_transform(pose(make, q, t))


def test_quaternion_round_trip():
    rng = np.random.default_rng(2)
    quaternions = rng.normal(size=(50, 4))
    quaternions[:4] = np.eye(4)  # half turns about each axis, and none
    for q in quaternions:
        T = messages.matrix([1, 2, 3], q)
        np.testing.assert_allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-12)
        t, back = messages.translation_quaternion(T)
        np.testing.assert_array_equal(t, [1, 2, 3])
        assert back[3] >= 0
        np.testing.assert_allclose(messages.matrix(t, back), T, atol=1e-12)
