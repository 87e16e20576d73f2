# SPDX-License-Identifier: Apache-2.0
"""Camera → depth → map → Nav2: live.launch.py, and nav2_bringup's navigation on what it publishes.

No map_server and no amcl: mapping_node publishes the map and localises in it.
"""

from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch import Action, LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource

from depth_two_stage import share_path
from depth_two_stage.ros.launching import SWITCH, nav2_parameters, simulated_time


def navigation(context: LaunchContext) -> list[Action]:
    """Nav2's navigation_launch.py with its own parameters and ours over them."""
    given = context.launch_configurations
    try:
        bringup = Path(get_package_share_directory("nav2_bringup"))
    except PackageNotFoundError as error:
        raise RuntimeError(
            "nav2_bringup: expected it to be installed (ros-$ROS_DISTRO-nav2-bringup), got none"
        ) from error
    arguments = {
        "params_file": nav2_parameters(
            bringup / "params" / "nav2_params.yaml", given["params_file"], given["namespace"]
        ),
        "namespace": given["namespace"],
        "use_sim_time": str(simulated_time(given)),
        "autostart": given["autostart"],
    }
    file = PythonLaunchDescriptionSource(str(bringup / "launch" / "navigation_launch.py"))
    # A scope of its own: our launch files have a params_file, too.
    return [GroupAction([IncludeLaunchDescription(file, launch_arguments=list(arguments.items()))])]


def generate_launch_description() -> LaunchDescription:
    """Arguments, our nodes, then Nav2."""
    live = str(Path(__file__).resolve().parent / "live.launch.py")
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "params_file",
                default_value=str(share_path("config/nav2.yaml")),
                description="ROS parameter file of our nodes and of what differs in Nav2's.",
            ),
            DeclareLaunchArgument(
                "autostart",
                default_value="true",
                choices=SWITCH,
                description="Configure and activate Nav2's nodes.",
            ),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(live)),
            OpaqueFunction(function=navigation),
        ]
    )
