# SPDX-License-Identifier: Apache-2.0
"""Starts mapping_node: depth and colour in; odometry, path and the TSDF map out.

The topics default to depth_node's; those of a depth camera serve as well.
"""

from launch import LaunchDescription

from depth_two_stage.ros.launching import node_action, shared_arguments, topic_arguments

INPUTS = {
    "depth/image_rect": ("depth", "depth/image_rect", "Topic of the depth image."),
    "depth/camera_info": (
        "depth_camera_info",
        "depth/camera_info",
        "Topic of the depth image's CameraInfo.",
    ),
    "depth/confidence": (
        "confidence",
        "depth/confidence",
        "Topic of the depth's confidence; it may stay silent.",
    ),
    "image_rect": (
        "color",
        "image_rect",
        "Topic of the rectified colour image of the depth's size and stamp.",
    ),
    "odometry": (
        "odometry",
        "odometry",
        "Topic of an Odometry, read when pose.source is odometry.",
    ),
    "pose": ("pose", "pose", "Topic of a PoseStamped, read when pose.source is pose."),
}


def generate_launch_description() -> LaunchDescription:
    """Arguments and the node."""
    return LaunchDescription(
        [
            *topic_arguments(INPUTS),
            *shared_arguments(),
            node_action("mapping_node", INPUTS, {"tsdf.device": "device"}),
        ]
    )
