# SPDX-License-Identifier: Apache-2.0
"""odom, base frame and the camera's tree: every frame keeps its one parent."""

import sys

import numpy as np
import pytest

pytest.importorskip("rclpy")
import rig
from nav_msgs.msg import Odometry
from scipy.spatial.transform import Rotation

from depth_two_stage.config import PoseParameters
from depth_two_stage.ros.motion import T_LINK_OPTICAL, Motion, Mount
from depth_two_stage.ros.transforms import (
    Broadcaster,
    NoTransforms,
    TransformError,
    extrinsics,
    open_transforms,
)

STAMP = 1_700_000_000_000_000_000
PITCHED = np.eye(4)  # a camera that looks down by 30 degrees, 0.4 m above the base
PITCHED[:3, :3] = Rotation.from_euler("y", 30, degrees=True).as_matrix()
PITCHED[2, 3] = 0.4


@pytest.fixture
def other(ros_domain):
    made = rig.Rig(ros_domain, name="motion_test")
    yield made
    made.close()


def test_without_tf_the_odometry_moves_camera_link(other):
    mount = Mount(other.node, PoseParameters(), None, NoTransforms())
    assert np.array_equal(mount.first_pose("camera_optical", STAMP), T_LINK_OPTICAL)
    assert mount.frame == "camera_link"
    assert np.array_equal(mount.T_base_camera("camera_optical", STAMP), T_LINK_OPTICAL)


def test_given_extrinsics_make_the_first_pose(other):
    T = extrinsics((0.1, 0.0, 0.4, *Rotation.from_matrix(T_LINK_OPTICAL[:3, :3]).as_quat()), "it")
    mount = Mount(other.node, PoseParameters(base_frame="base_link"), T, NoTransforms())
    assert np.allclose(mount.first_pose("camera_optical", STAMP), T)
    assert mount.frame == "base_link"


@pytest.fixture
def tree(other):
    """Transforms that have heard base_link → camera_link → camera_optical."""
    pytest.importorskip("tf2_ros", reason="tf2_ros is not installed")
    heard, sender = open_transforms(other.node), Broadcaster(other.node)
    sender.send_static(PITCHED, "base_link", "camera_link", STAMP)
    sender.send_static(T_LINK_OPTICAL, "camera_link", "camera_optical", STAMP)
    assert other.until(lambda: heard.top("camera_optical", ()) == "base_link")
    return heard


def test_odometry_moves_the_top_of_the_cameras_tree(other, tree):
    mount = Mount(other.node, PoseParameters(), None, tree)
    T = mount.first_pose("camera_optical", STAMP)
    assert np.allclose(T, PITCHED @ T_LINK_OPTICAL)
    motion = Motion(other.node, PoseParameters(), mount)
    motion.publish(T, None, STAMP, "camera_optical", "odom")

    def world():
        try:
            return tree.lookup("map", "camera_optical", STAMP)
        except TransformError:
            return None

    assert other.until(lambda: world() is not None)
    assert np.allclose(world(), T)
    assert np.allclose(tree.lookup("map", "base_link", STAMP), np.eye(4))
    assert np.allclose(tree.lookup("base_link", "camera_link", STAMP), PITCHED)


def sent(other, motion: Motion, count: int) -> list[tuple[str, str]]:
    """(parent, child) of the ``count`` that go out on /tf with one pose, and of any more.

    The pose goes out on odom in any case.
    """
    from tf2_msgs.msg import TFMessage

    moving, poses = [], []
    other.node.create_subscription(TFMessage, "/tf", lambda m: moving.extend(m.transforms), 10)
    other.node.create_subscription(Odometry, "odom", poses.append, 10)
    for topic in ("/tf", "odom"):
        assert other.until(lambda topic=topic: other.node.count_publishers(topic) > 0)
    other.spin(0.5)
    motion.publish(T_LINK_OPTICAL, None, STAMP, "camera_optical", "odom")
    assert other.until(lambda: poses and len(moving) >= count)
    other.spin(1.0)
    return [(item.header.frame_id, item.child_frame_id) for item in moving]


def test_a_corrected_map_moves_odom_and_the_odometry_goes_on(other, tree):
    mount = Mount(other.node, PoseParameters(), None, tree)
    motion, poses = Motion(other.node, PoseParameters(), mount), []
    other.node.create_subscription(Odometry, "odom", poses.append, 10)
    assert other.until(lambda: other.node.count_publishers("odom") > 0)
    other.spin(0.5)
    T = mount.first_pose("camera_optical", STAMP)
    correction = np.eye(4)
    correction[:3, 3] = 0.3, -0.2, 0.1
    for stamp, T_map_odom in ((STAMP, np.eye(4)), (STAMP + 10**9, correction)):
        motion.correct(T_map_odom)
        motion.publish(T_map_odom @ T, None, stamp, "camera_optical", "odom")
    assert other.until(lambda: len(poses) == 2)
    first, second = (message.pose.pose.position for message in poses)
    assert (first.x, first.y, first.z) == pytest.approx((second.x, second.y, second.z), abs=1e-9)

    def corrected():
        try:
            return np.allclose(tree.lookup("map", "odom", STAMP), correction)
        except TransformError:
            return False

    assert other.until(corrected)


def test_without_tf_the_odometry_is_the_corrected_pose(other, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    mount = Mount(other.node, PoseParameters(), None, NoTransforms())
    motion, poses = Motion(other.node, PoseParameters(), mount), []
    other.node.create_subscription(Odometry, "odom", poses.append, 10)
    assert other.until(lambda: other.node.count_publishers("odom") > 0)
    other.spin(0.5)
    correction = np.eye(4)
    correction[:3, 3] = 0.3, -0.2, 0.1
    motion.correct(correction)
    motion.publish(correction @ T_LINK_OPTICAL, None, STAMP, "camera_optical", "odom")
    assert other.until(lambda: poses)
    assert poses[0].pose.pose.position.x == pytest.approx(0.3)


def test_a_base_frame_below_another_gets_no_second_parent(other, tree):
    pose = PoseParameters(base_frame="camera_link")
    assert sent(other, Motion(other.node, pose, Mount(other.node, pose, None, tree)), 0) == []
    pose = PoseParameters(base_frame="base_link")
    motion = Motion(other.node, pose, Mount(other.node, pose, None, tree))
    assert sent(other, motion, 1) == [("odom", "base_link")]


def test_odometry_that_others_send_is_left_to_them(other, tree):
    Broadcaster(other.node).send(np.eye(4), "odom", "base_link", STAMP)
    assert other.until(lambda: tree.top("base_link", ()) == "odom")
    pose = PoseParameters()
    assert sent(other, Motion(other.node, pose, Mount(other.node, pose, None, tree)), 0) == []


def test_a_tree_that_comes_late_is_taken_then(other):
    pytest.importorskip("tf2_ros", reason="tf2_ros is not installed")
    heard, sender = open_transforms(other.node), Broadcaster(other.node)
    mount = Mount(other.node, PoseParameters(), None, heard)
    mount.attach("camera_optical")
    assert mount.frame == "camera_link"
    sender.send_static(T_LINK_OPTICAL, "mast", "camera_optical", STAMP)

    def attached():
        mount.attach("camera_optical")
        return mount.frame == "mast"

    assert other.until(attached)


def test_a_named_base_frame_stays(other, tree):
    mount = Mount(other.node, PoseParameters(base_frame="camera_link"), None, tree)
    mount.attach("camera_optical")
    assert mount.frame == "camera_link"
    assert tree.top("camera_optical", ("camera_link",)) == "camera_optical"
    assert tree.top("never_heard_of", ()) == "never_heard_of"
