# SPDX-License-Identifier: Apache-2.0
"""mapping_node for Nav2: the latched grid, the obstacles, the map's services."""

import numpy as np
import pytest

pytest.importorskip("rclpy")
from mapping_rig import NODE, Sender, listen, rendered_room
from nav_msgs.msg import OccupancyGrid, Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rig import Process, Rig
from sensor_msgs.msg import PointCloud2

from depth_two_stage.messages import to_points

COARSE_MAP = ("-p", "tsdf.voxel_size:=0.02", "-p", "tsdf.memory_mb:=128.0")


@pytest.fixture
def rig(ros_domain, ros_env):
    made = Rig(ros_domain)
    yield made
    made.close()


@pytest.fixture
def start(ros_domain, ros_env, tmp_path):
    started = []

    def begin(*arguments: str) -> Process:
        started.append(Process(NODE, tmp_path, ros_domain, "--ros-args", *COARSE_MAP, *arguments))
        return started[-1]

    yield begin
    for process in started:
        process.end()


def latched(rig: Rig, topic: str) -> list:
    """What Nav2's static layer hears of a map: reliable, transient local, depth 1."""
    profile = QoSProfile(
        depth=1,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
        reliability=ReliabilityPolicy.RELIABLE,
    )
    heard = []
    rig.node.create_subscription(OccupancyGrid, topic, heard.append, profile)
    return heard


def cells(grid: OccupancyGrid, points: np.ndarray) -> np.ndarray:
    """Values of the grid under points (N, 3) m of its frame."""
    data = np.array(grid.data).reshape(grid.info.height, grid.info.width)
    origin = grid.info.origin.position
    columns = np.floor((points[:, 0] - origin.x) / grid.info.resolution + 1e-6).astype(int)
    rows = np.floor((points[:, 1] - origin.y) / grid.info.resolution + 1e-6).astype(int)
    return data[rows, columns]


def test_nav2_gets_a_grid_and_obstacles(rig, start):
    room = rendered_room(3)
    node = start("-p", "grid.floor:=-1.0", "-p", "grid.max_height:=1.5")
    listen(rig, odom=Odometry, map__obstacles=PointCloud2)
    maps = latched(rig, "map")
    sender = Sender(rig)
    sender.connect()
    for count, sample in enumerate(room, 1):
        sender.send(sample)
        assert rig.until(lambda count=count: len(rig.heard["odom"]) == count), node.text()
    assert rig.until(lambda: maps and 0 in maps[-1].data and 100 in maps[-1].data), node.text()
    grid = maps[-1]
    assert grid.header.frame_id == "map" and grid.info.resolution == pytest.approx(0.05)
    assert set(grid.data) == {-1, 0, 100}
    turned = grid.info.origin.orientation
    assert (turned.x, turned.y, turned.z, turned.w) == (0, 0, 0, 1)
    # Obstacles stand on occupied cells, in the band; before the camera it is free up to them.
    obstacles = rig.heard["map/obstacles"]
    assert rig.until(lambda: obstacles and obstacles[-1].width > 300)
    points = to_points(obstacles[-1])
    assert (points[:, 2] >= -0.9 - 1e-6).all() and (points[:, 2] <= 0.5 + 1e-6).all()
    rig.fresh_values()
    assert (cells(maps[-1], points) == 100).mean() > 0.99
    ahead = np.arange(0.3, 3.0, 0.05)
    way = cells(maps[-1], np.stack([ahead, 0 * ahead, 0 * ahead], axis=1))
    until = np.flatnonzero(way == 100)[0]
    assert until > 10 and (way[:until] == 0).all(), way
    # Who comes later gets the last one at once.
    late = latched(rig, "map")
    assert rig.until(lambda: late)
    assert node.end() == 0, node.text()
