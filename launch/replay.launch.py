# SPDX-License-Identifier: Apache-2.0
"""Plays a bag with our `replay`, /clock included; the launch ends when the bag has ended."""

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.events.process import ProcessExited
from launch_ros.actions import Node

from depth_two_stage.ros.launching import SWITCH, profile_environment, refuse_failure


def ended(event: ProcessExited, context: LaunchContext) -> list[Action]:
    """The end of the bag ends the launch; a player that failed lets it end with 1."""
    refuse_failure("replay", event, context)
    return [Shutdown(reason="the bag has ended")]


def replay(context: LaunchContext) -> list[Node]:
    """The player, from the values of the arguments."""
    given = context.launch_configurations
    options = ["--rate", given["rate"], "--wait", given["wait"]]
    options += ["--topics", *given["topics"].split()] if given["topics"].strip() else []
    options += ["--nodes", *given["nodes"].split()] if given["nodes"].strip() else []
    options += ["--loop"] if given["loop"].lower() == "true" else []
    return [
        Node(
            package="depth_two_stage",
            executable="replay",
            arguments=[given["bag"], *options],
            additional_env=profile_environment(),
            on_exit=ended,
            output="screen",
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Arguments and the player."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="rosbag2 folder or file (sqlite3 or MCAP)."),
            DeclareLaunchArgument(
                "topics",
                default_value="",
                description="Play only these, with blanks between them; empty: all.",
            ),
            DeclareLaunchArgument("rate", default_value="1.0", description="1 is as recorded."),
            DeclareLaunchArgument(
                "loop",
                default_value="false",
                choices=SWITCH,
                description="Play again and again, stamps shifted forward.",
            ),
            DeclareLaunchArgument(
                "wait",
                default_value="180.0",
                description="Wait so long for a subscriber of the image, s.",
            ),
            DeclareLaunchArgument(
                "nodes",
                default_value="",
                description="Wait for these nodes too, with blanks between them.",
            ),
            OpaqueFunction(function=replay),
        ]
    )
