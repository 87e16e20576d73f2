# SPDX-License-Identifier: Apache-2.0
"""mapping_node for Nav2: the latched grid, the obstacles, the map's services."""

import json
import os
import signal
from pathlib import Path as FilePath

import numpy as np
import pytest

pytest.importorskip("rclpy")
from mapping_rig import Sender, at, call, listen, mapping_nodes, rendered_room
from nav_msgs.msg import OccupancyGrid, Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rig import Process, Rig
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import SetBool, Trigger

from depth_two_stage.messages import to_points
from depth_two_stage.ros.mapping_node import NAME


@pytest.fixture
def start(ros_domain, ros_env, tmp_path):
    with mapping_nodes(tmp_path, ros_domain) as begin:
        yield begin


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


def state(rig: Rig) -> dict:
    answer = call(rig, Trigger, "state")
    assert answer.success and "\n" not in answer.message
    return json.loads(answer.message)


def worker_of(node: Process) -> int:
    """Process id of the map's worker, the only child of the node."""
    pid = node.child.pid
    tasks = FilePath(f"/proc/{pid}/task").glob("*/children")
    (child,) = [word for task in tasks for word in task.read_text().split()]
    return int(child)


def test_nav2_gets_a_grid_and_the_map_is_kept(rig, start, tmp_path):
    room = rendered_room(3)
    path = tmp_path / "map.npz"
    node = start(
        *("-p", "grid.floor:=-1.0", "-p", "grid.max_height:=1.5", "-p", f"map.save_path:={path}")
    )
    listen(rig, odom=Odometry, map__obstacles=PointCloud2)
    maps = latched(rig, "map")
    sender = Sender(rig)
    sender.connect()
    assert state(rig)["state"] == "waiting"
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

    # Saved as it is, in the background: who asks meanwhile is answered at once.
    worker = worker_of(node)
    os.kill(worker, signal.SIGSTOP)
    client = rig.node.create_client(Trigger, f"/{NAME}/save_map")
    assert rig.until(client.service_is_ready)
    first = client.call_async(Trigger.Request())
    assert rig.until(lambda: state(rig)["saving"] == [str(path)]), node.text()
    for service in ("save_map", "load_map", "clear"):
        refused = call(rig, Trigger, service)
        expected = "map.load: expected" if service == "load_map" else "expected no save under way"
        assert not refused.success and expected in refused.message
    os.kill(worker, signal.SIGCONT)
    assert rig.until(first.done), node.text()
    saved = first.result()
    assert saved.success and str(path) in saved.message and " MB in " in saved.message
    held = state(rig)
    assert held["last_save"]["path"] == str(path) and held["saving"] == []
    assert held["state"] == "mapping" and held["frames"] == 3 and held["map_blocks"] > 0

    # By period, somewhere else, as another format.
    assert rig.set_parameter("map.autosave_path", f"{tmp_path}/grid.yaml", node=NAME).successful
    assert rig.set_parameter("map.autosave_period", 0.2, node=NAME).successful
    assert rig.until(lambda: rig.count("autosaves") == 1)
    assert (tmp_path / "grid.yaml").is_file()
    assert rig.set_parameter("map.autosave_period", 0.0, node=NAME).successful

    # Cleared, and the saved map taken up again; what does not fit changes nothing.
    assert call(rig, Trigger, "clear").success
    assert state(rig)["map_blocks"] == 0
    assert rig.set_parameter("map.load", str(path), node=NAME).successful
    loaded = call(rig, Trigger, "load_map")
    assert loaded.success and str(path) in loaded.message, loaded.message
    assert state(rig)["map_blocks"] == held["map_blocks"]
    path.write_bytes(b"foreign")
    loaded = call(rig, Trigger, "load_map")
    assert not loaded.success and "expected a whole map file" in loaded.message
    assert state(rig)["map_blocks"] == held["map_blocks"]

    for stop, words in ((True, "paused"), (True, "paused already"), (False, "resumed")):
        assert call(rig, SetBool, "pause", data=stop).message == words
        assert state(rig)["state"] == ("paused" if stop else "mapping")
    sender.send(at(room[-1], room[-1].stamp + 10**8), frame="map")
    assert rig.until(lambda: rig.count("dropped: camera frame") == 1), node.text()
    assert "pose.map_frame: expected a frame other than the images', got 'map'" in node.text()
    assert node.end() == 0, node.text()
    assert "Traceback" not in node.text()
