# SPDX-License-Identifier: Apache-2.0
"""config/nav2.yaml asks for what the nodes publish: topics, types, frames, QoS."""

from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy")
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from depth_two_stage import config
from depth_two_stage.ros import map_outputs, outputs

FILE = Path(__file__).resolve().parents[2] / "config" / "nav2.yaml"
CONTENT = yaml.safe_load(FILE.read_text(encoding="utf-8"))
COSTMAPS = {
    name: CONTENT[name][name]["ros__parameters"] for name in ("local_costmap", "global_costmap")
}
OURS = config.from_flat(config.MappingNodeParameters, config.load_yaml(FILE)["mapping_node"])
DEPTH = config.from_flat(config.DepthNodeParameters, config.load_yaml(FILE)["depth_node"])


def layers(costmap: dict) -> list[dict]:
    return [costmap[name] for name in costmap["plugins"]]


def sources(costmap: dict) -> dict[str, dict]:
    """Observation sources of a costmap's layers, by topic."""
    return {
        layer[name]["topic"]: layer[name]
        for layer in layers(costmap)
        for name in layer.get("observation_sources", "").split()
    }


@pytest.mark.parametrize("name", COSTMAPS)
def test_sources_are_topics_of_ours_of_that_type(name):
    published = {f"/{topic}": kind.__name__ for topic, kind in outputs.TYPES.items()}
    published[f"/{map_outputs.OBSTACLES}"] = "PointCloud2"
    found = sources(COSTMAPS[name])
    assert found
    for topic, source in found.items():
        assert source["data_type"] == published[topic], topic
        assert source["marking"] and source["max_obstacle_height"] > 0, topic
        reach = max(source["obstacle_max_range"], source.get("raytrace_max_range", 0.0))
        assert source["data_type"] != "LaserScan" or reach <= DEPTH.scan.max_range


def test_frames_are_those_of_mapping_node():
    pose = OURS.pose
    for name, frame in (("local_costmap", pose.odom_frame), ("global_costmap", pose.map_frame)):
        assert COSTMAPS[name]["global_frame"] == frame
        assert COSTMAPS[name]["robot_base_frame"] == pose.base_frame
    navigator = CONTENT["bt_navigator"]["ros__parameters"]
    assert navigator["global_frame"] == pose.map_frame
    assert navigator["robot_base_frame"] == pose.base_frame
    monitor = CONTENT["collision_monitor"]["ros__parameters"]
    assert monitor["base_frame_id"] == pose.base_frame
    assert monitor["odom_frame_id"] == pose.odom_frame
    obstacles = sources(COSTMAPS["local_costmap"])["/map/obstacles"]
    assert obstacles["sensor_frame"] == pose.base_frame and not obstacles["clearing"]


def test_the_static_layer_asks_for_the_latched_map():
    (static,) = [layer for layer in layers(COSTMAPS["global_costmap"]) if "map_topic" in layer]
    assert static["plugin"] == "nav2_costmap_2d::StaticLayer"
    assert static["map_topic"] == f"/{map_outputs.MAP}"
    latched = map_outputs.LATCHED["durability"] == DurabilityPolicy.TRANSIENT_LOCAL
    assert static["map_subscribe_transient_local"] is latched is True
    assert map_outputs.LATCHED["reliability"] == ReliabilityPolicy.RELIABLE
    assert not static["subscribe_to_updates"]


def test_the_voxels_reach_as_high_as_the_grid():
    (voxels,) = [layer for layer in layers(COSTMAPS["local_costmap"]) if "z_voxels" in layer]
    top = voxels["origin_z"] + voxels["z_resolution"] * voxels["z_voxels"]
    assert voxels["z_voxels"] <= 16 and top >= OURS.grid.floor + OURS.grid.max_height
    assert COSTMAPS["global_costmap"]["resolution"] == OURS.grid.resolution
