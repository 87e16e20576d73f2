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
    SetLaunchConfiguration,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import PushRosNamespace, SetRemap

from depth_two_stage import share_path
from depth_two_stage.ros.launching import SWITCH, nav2_parameters, simulated_time

NAVIGATION, PARAMETERS = "nav2_navigation", "nav2_parameters"  # launch configurations, paths
TF_TOPICS = ("tf", "tf_static")


def prepare(context: LaunchContext) -> list[Action]:
    """Find Nav2 and write its parameters, ours over its own.

    Before our nodes: a launch that fails while processes start leaves them running.
    """
    given = context.launch_configurations
    space = given["namespace"].strip("/")
    try:
        bringup = Path(get_package_share_directory("nav2_bringup"))
    except PackageNotFoundError as error:
        raise RuntimeError(
            "nav2_bringup: expected it to be installed (ros-$ROS_DISTRO-nav2-bringup), got none"
        ) from error
    file = bringup / "launch" / "navigation_launch.py"
    if not file.is_file():
        raise RuntimeError(f"nav2_bringup: expected {file}, got no such file")
    parameters = nav2_parameters(
        bringup / "params" / "nav2_params.yaml", given["params_file"], given["namespace"]
    )
    return [
        SetLaunchConfiguration(NAVIGATION, str(file)),
        SetLaunchConfiguration(PARAMETERS, parameters),
        # In a namespace Nav2's nodes have a TF of their own: our nodes and a bag join it.
        *(SetRemap(f"/{topic}", f"/{space}/{topic}") for topic in TF_TOPICS if space),
    ]


def navigation(context: LaunchContext) -> list[Action]:
    """Nav2's navigation_launch.py with what was prepared, by the clock of our nodes."""
    given = context.launch_configurations
    space = given["namespace"].strip("/")
    # Absolute: up to Kilted bringup_launch.py alone moves the nodes into the namespace that their
    # parameters are put under; later navigation_launch.py does it itself and is not to do it twice.
    above = f"/{space}" if space else ""
    arguments = {
        "params_file": given[PARAMETERS],
        "namespace": above,
        "use_sim_time": str(simulated_time(given)),
        "autostart": given["autostart"],
    }
    file = PythonLaunchDescriptionSource(given[NAVIGATION])
    # A scope of its own: our launch files have a params_file, too.
    return [
        GroupAction(
            [
                *([PushRosNamespace(above)] if above else []),
                IncludeLaunchDescription(file, launch_arguments=list(arguments.items())),
            ]
        )
    ]


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
            DeclareLaunchArgument(
                "namespace", default_value="", description="Namespace of the nodes and topics."
            ),
            OpaqueFunction(function=prepare),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(live)),
            OpaqueFunction(function=navigation),
        ]
    )
