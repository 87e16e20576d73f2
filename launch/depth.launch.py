# SPDX-License-Identifier: Apache-2.0
"""Starts depth_node: camera and, when there is one, LiDAR in; depth, cloud and confidence out."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration

from depth_two_stage.ros.launching import node_action, shared_arguments, topic_arguments

INPUTS = {
    "image": ("image", "image", "Topic of the raw image (Image)."),
    "image/compressed": (
        "image_compressed",
        [LaunchConfiguration("image"), "/compressed"],
        "Topic of the compressed image (CompressedImage), read where the raw one has no publisher.",
    ),
    "camera_info": ("camera_info", "camera_info", "Topic of the image's CameraInfo."),
    "lidar": ("lidar", "lidar", "Topic of the LiDAR's PointCloud2; it may stay silent."),
    "sparse_depth": (
        "sparse_depth",
        "sparse_depth",
        "Topic of a sparse depth Image (16UC1 or 32FC1) registered to the camera.",
    ),
}


def generate_launch_description() -> LaunchDescription:
    """Arguments and the node."""
    return LaunchDescription(
        [
            *topic_arguments(INPUTS),
            *shared_arguments(),
            DeclareLaunchArgument(
                "engine",
                default_value="",
                choices=["", "auto", "torch", "openvino", "onnxruntime"],
                description="What executes the network; empty: as params_file says.",
            ),
            node_action(
                "depth_node", INPUTS, {"estimator.device": "device", "estimator.engine": "engine"}
            ),
        ]
    )
