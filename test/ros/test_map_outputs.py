# SPDX-License-Identifier: Apache-2.0
"""When the map goes out: to whoever begins to read it, and as it grows, by the present period."""

import time

import pytest

pytest.importorskip("rclpy")
from sensor_msgs.msg import PointCloud2
from small_maps import CAMERA, PARAMETERS, pose, wall
from std_msgs.msg import Header

from depth_two_stage.meshing import MapWorker
from depth_two_stage.ros.map_outputs import MapOutputs
from depth_two_stage.ros.reports import Drops
from depth_two_stage.tsdf import TsdfMap

TOPIC = "map/points"


@pytest.fixture(scope="module")
def worker():
    map = TsdfMap(PARAMETERS)
    map.integrate(*wall(), CAMERA, pose())
    with MapWorker(map) as made:
        yield made


@pytest.fixture
def outputs(rig, worker):
    return MapOutputs(rig.node, worker, Drops(rig.node.get_logger()), list)


def read(rig):
    """A reader that has been found, and what it hears."""
    heard = []
    reader = rig.node.create_subscription(PointCloud2, TOPIC, heard.append, 5)
    (publisher,) = (p for p in rig.node.publishers if p.topic_name == f"/{TOPIC}")
    assert rig.until(lambda: publisher.get_subscription_count() == 1)
    return reader, heard, publisher


def test_a_reader_who_comes_back_gets_a_map_that_stands_still(rig, outputs):
    def tick():
        outputs.tick(1, 3600.0, Header)

    for _ in range(2):
        reader, heard, publisher = read(rig)
        assert rig.repeat(tick, lambda heard=heard: heard)
        rig.spin(0.2)
        tick()
        rig.spin(0.2)
        assert len(heard) == 1, "it has it already"
        rig.node.destroy_subscription(reader)
        assert rig.until(lambda p=publisher: p.get_subscription_count() == 0)
        tick()


def test_a_shorter_period_holds_at_once(rig, outputs):
    _, heard, _ = read(rig)
    assert rig.repeat(lambda: outputs.tick(1, 3600.0, Header), lambda: heard)
    outputs.tick(2, 3600.0, Header)
    rig.spin(0.2)
    assert len(heard) == 1
    time.sleep(0.02)
    outputs.tick(2, 0.01, Header)
    assert rig.until(lambda: len(heard) == 2)
