# SPDX-License-Identifier: Apache-2.0
"""Transforms: the extrinsics parameter, tf2 where it is installed, and never the identity."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

import rig
import sensors
from sensor_msgs.msg import PointCloud2

from depth_two_stage.camera import Camera, Lens
from depth_two_stage.config import LidarParameters
from depth_two_stage.ros import build
from depth_two_stage.ros.reports import Drops
from depth_two_stage.ros.sparse_input import SparseInput
from depth_two_stage.ros.transforms import (
    Broadcaster,
    NoTransforms,
    TransformError,
    extrinsics,
    open_transforms,
)

SECOND = build.SECOND
STAMP = 1_700_000_000 * SECOND


class Log:
    """Stands in for a node's logger."""

    def __init__(self) -> None:
        self.lines = []

    def warning(self, line: str) -> None:
        self.lines.append(line)


def moved(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = x, y, z
    return T


def test_extrinsics_parameter():
    assert extrinsics(()) is None
    T = extrinsics((1.0, 2.0, 3.0, 0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)))
    assert np.allclose(T @ [1, 0, 0, 1], [1, 3, 3, 1])


def looked_up(transforms, parameters: LidarParameters, points: np.ndarray, age: int = 0):
    """What SparseInput makes of one cloud that is ``age`` ns older than its image."""
    camera = Camera(sensors.SIZE[1], sensors.SIZE[0], 70.0, 70.0, 39.5, 29.5)
    log = Log()
    unused = Drops(log)
    sparse = SparseInput(transforms, unused)
    cloud: PointCloud2 = sensors.cloud(points, STAMP - age)
    sparse.add_cloud(cloud)
    lens = Lens(camera.width, camera.height, camera.K)
    return sparse.at(STAMP, "camera", lens, camera, parameters), unused.counts(), log.lines


def test_points_reach_the_camera_by_the_parameter():
    found, _, _ = looked_up(
        NoTransforms(), LidarParameters(extrinsics=sensors.EXTRINSICS), sensors.wall(3.0)
    )
    assert found.mode == "rgb+lidar"
    assert np.allclose(found.depth[found.depth > 0], 3.0)


def test_without_a_transform_the_points_are_left_out_not_taken_as_they_are():
    found, counts, lines = looked_up(NoTransforms(), LidarParameters(), sensors.wall(3.0))
    assert (found.mode, found.depth) == ("rgb", None)
    assert counts["lidar transform"] == 1
    assert "tf2_ros is not installed" in lines[-1]
    assert "'lidar'" in lines[-1]


def test_time_offset_and_max_age():
    parameters = LidarParameters(extrinsics=sensors.EXTRINSICS, max_age=0.1)
    for age, offset, used in (
        (50, 0.0, True),
        (150, 0.0, False),
        (150, 0.1, True),
        (-150, 0.0, False),
    ):
        shifted = LidarParameters(extrinsics=sensors.EXTRINSICS, max_age=0.1, time_offset=offset)
        found, _, _ = looked_up(NoTransforms(), shifted, sensors.wall(), age * 1_000_000)
        assert (found.depth is not None) is used
    assert parameters.time_offset == 0.0


@pytest.fixture
def tf(ros_domain):
    """(transforms heard by one node, broadcaster of another, the rig that spins both)."""
    pytest.importorskip("tf2_ros", reason="tf2_ros is not installed")
    other = rig.Rig(ros_domain, name="transform_test")
    yield open_transforms(other.node), Broadcaster(other.node), other
    other.close()


def known(tf, target: str, source: str, stamp: int):
    transforms, _, other = tf

    def look():
        try:
            return transforms.lookup(target, source, stamp) is not None
        except TransformError:
            return False

    assert other.until(look)
    return transforms.lookup(target, source, stamp)


def test_tf_is_looked_up_at_the_images_stamp(tf):
    _, sender, other = tf
    for step in range(3):
        T = moved(x=float(step))
        sender.send(T, "base", "arm", STAMP + step * SECOND)
        other.spin(0.05)
    known(tf, "base", "arm", STAMP + 2 * SECOND)
    at = known(tf, "base", "arm", STAMP + SECOND // 2)
    assert np.allclose(at, moved(x=0.5))
    transforms = tf[0]
    with pytest.raises(TransformError, match="no transform from 'arm' to 'base'"):
        transforms.lookup("base", "arm", STAMP + 9 * SECOND, timeout=0.05)
    with pytest.raises(TransformError, match="'nowhere'"):
        transforms.lookup("base", "nowhere", STAMP)


def test_a_static_transform_may_change_and_is_heard_late(tf, ros_domain):
    """A corrected map moves map → odom: tf2_ros of Jazzy would send the first one for ever."""
    _, sender, _ = tf
    for x, parent, child in ((1.0, "map", "odom"), (2.0, "base", "arm"), (3.0, "map", "odom")):
        sender.send_static(moved(x=x), parent, child, 0)
    late = rig.Rig(ros_domain, name="late_test")
    heard = open_transforms(late.node), None, late
    assert np.allclose(known(heard, "map", "odom", STAMP), moved(x=3.0))
    assert np.allclose(known(heard, "base", "arm", STAMP), moved(x=2.0))
    late.close()


def test_static_tf_brings_points_into_the_camera(tf):
    transforms, sender, _ = tf
    sender.send_static(moved(*sensors.EXTRINSICS[:3]), "camera", "lidar", STAMP)
    known(tf, "camera", "lidar", STAMP)
    found, _, _ = looked_up(transforms, LidarParameters(fixed_frame=""), sensors.wall(3.0))
    assert np.allclose(found.depth[found.depth > 0], 3.0)


@pytest.mark.parametrize("by_parameter", [False, True])
def test_points_move_with_the_camera_between_the_stamps(tf, by_parameter):
    """The robot drives 1 m/s towards the wall: after 0.1 s the points are 0.1 m nearer."""
    transforms, sender, other = tf
    if not by_parameter:
        sender.send_static(moved(*sensors.EXTRINSICS[:3]), "camera", "lidar", STAMP)
    for step in range(-2, 3):
        sender.send(moved(z=0.1 * step), "odom", "camera", STAMP + step * SECOND // 10)
        other.spin(0.05)
    known(tf, "odom", "camera", STAMP)
    values = sensors.EXTRINSICS if by_parameter else ()
    if not by_parameter:
        known(tf, "camera", "lidar", STAMP)
    found, _, _ = looked_up(
        transforms, LidarParameters(extrinsics=values), sensors.wall(3.0), SECOND // 10
    )
    assert np.allclose(found.depth[found.depth > 0], 2.9, atol=1e-4)


def test_a_jump_back_in_time_forgets_moving_transforms_only(tf):
    transforms, sender, other = tf
    sender.send_static(moved(x=1.0), "camera", "lidar", STAMP)
    sender.send(moved(x=2.0), "odom", "camera", STAMP)
    known(tf, "odom", "lidar", STAMP)
    transforms.reset()
    assert np.allclose(transforms.lookup("camera", "lidar", STAMP), moved(x=1.0))
    with pytest.raises(TransformError):
        transforms.lookup("odom", "camera", STAMP)
    other.spin(0.05)
