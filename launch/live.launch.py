# SPDX-License-Identifier: Apache-2.0
"""Camera → depth → map in one start; with a bag, the same from a recording.

The arguments of depth.launch.py, mapping.launch.py and replay.launch.py hold here too.
"""

import json
import sys
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import Action, Condition, LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    SetLaunchConfiguration,
)
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from depth_two_stage import share_path
from depth_two_stage.ros.launching import BAG_SETTINGS, SWITCH, simulated_time

INPUTS = {  # of depth_node → argument of depth.launch.py
    "image": "image",
    "image/compressed": "image_compressed",
    "camera_info": "camera_info",
    "lidar": "lidar",
}


def settings_of_bag(context: LaunchContext) -> list[Action]:
    """The bag's topics, clock and extrinsics, where the user has not said otherwise."""
    given = context.launch_configurations
    if not given["bag"]:
        return []
    try:
        from depth_two_stage.ros.sources import open_source
    except ImportError as error:
        raise RuntimeError(
            f"bag: expected what this package requires in {sys.executable}, got "
            f"{error}; `depth-two-stage live --bag` of the environment that has them does the same"
        ) from error
    source = open_source(given["bag"])
    inputs = {INPUTS[name]: to for name, to in source.remappings.items() if name in INPUTS}
    settings = {
        "remappings": {name: to for name, to in source.remappings.items() if name not in INPUTS},
        "depth_node": {"lidar.extrinsics": source.extrinsics} if source.extrinsics else {},
    }
    nodes = "depth_node mapping_node" if given["mapping"].lower() == "true" else "depth_node"
    found = inputs | {"use_sim_time": "true", "topics": " ".join(source.topics), "nodes": nodes}
    return [
        *(LogInfo(msg=remark) for remark in source.remarks),
        SetLaunchConfiguration(BAG_SETTINGS, json.dumps(settings)),
        *(
            SetLaunchConfiguration(name, value)
            for name, value in found.items()
            if not given.get(name)
        ),
    ]


def rviz(context: LaunchContext) -> list[Action]:
    """RViz with our view, or one line that it is not installed."""
    given = context.launch_configurations
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        return [LogInfo(msg="rviz: rviz2 is not installed; the nodes run without it")]
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            name="rviz2",
            namespace=given["namespace"] or None,
            arguments=["-d", given["rviz_config"]],
            parameters=[{"use_sim_time": simulated_time(given)}],
            output="log",
        )
    ]


def included(name: str, **options) -> IncludeLaunchDescription:
    """Another launch file of this folder; it sees the arguments given to this one."""
    path = str(Path(__file__).resolve().parent / name)
    return IncludeLaunchDescription(PythonLaunchDescriptionSource(path), **options)


def generate_launch_description() -> LaunchDescription:
    """Arguments, the nodes, and on request RViz and a bag."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "bag",
                default_value="",
                description="Bag that is played instead of a camera (rosbag2, sqlite3 or MCAP).",
            ),
            DeclareLaunchArgument(
                "mapping", default_value="true", choices=SWITCH, description="Start mapping_node."
            ),
            DeclareLaunchArgument(
                "rviz", default_value="false", choices=SWITCH, description="Start RViz."
            ),
            DeclareLaunchArgument(
                "rviz_config",
                default_value=str(share_path("rviz/live.rviz")),
                description="View that RViz opens.",
            ),
            OpaqueFunction(function=settings_of_bag),
            included("depth.launch.py"),
            included("mapping.launch.py", condition=IfCondition(LaunchConfiguration("mapping"))),
            OpaqueFunction(function=rviz, condition=IfCondition(LaunchConfiguration("rviz"))),
            included(
                "replay.launch.py",
                launch_arguments={"bag": LaunchConfiguration("bag")}.items(),
                condition=Condition(
                    predicate=lambda context: bool(context.launch_configurations["bag"])
                ),
            ),
        ]
    )
