# SPDX-License-Identifier: Apache-2.0
"""Writes a tiny but complete rosbag2: camera, LiDAR, static transforms, poses; no ROS needed."""

from pathlib import Path

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from depth_two_stage.datasets.bag_writer import offered_qos

STORE = get_typestore(Stores.ROS2_KILTED)
T = STORE.types
BEGIN = 1_700_000_000_000_000_000  # ns
STEP = 50_000_000  # 20 Hz


def header(stamp: int, frame: str):
    time = T["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    return T["std_msgs/msg/Header"](stamp=time, frame_id=frame)


def image(stamp: int, number: int):
    pixels = np.full((48, 64, 3), number * 5 % 256, np.uint8)
    return T["sensor_msgs/msg/Image"](
        header=header(stamp, "camera_optical"),
        height=48,
        width=64,
        encoding="rgb8",
        is_bigendian=0,
        step=192,
        data=pixels.reshape(-1),
    )


def camera_info(stamp: int):
    K = np.array([60.0, 0, 31.5, 0, 60, 23.5, 0, 0, 1])
    return T["sensor_msgs/msg/CameraInfo"](
        header=header(stamp, "camera_optical"),
        height=48,
        width=64,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=K,
        r=np.eye(3).reshape(-1),
        p=np.array([60.0, 0, 31.5, 0, 0, 60, 23.5, 0, 0, 0, 1, 0]),
        binning_x=0,
        binning_y=0,
        roi=T["sensor_msgs/msg/RegionOfInterest"](
            x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        ),
    )


def cloud(stamp: int):
    points = np.array([[0.0, 0.1, 2.0], [0.2, 0.0, 2.5]], np.float32)
    field = T["sensor_msgs/msg/PointField"]
    return T["sensor_msgs/msg/PointCloud2"](
        header=header(stamp, "lidar"),
        height=1,
        width=2,
        fields=[
            field(name=name, offset=4 * i, datatype=7, count=1) for i, name in enumerate("xyz")
        ],
        is_bigendian=False,
        point_step=12,
        row_step=24,
        data=points.view(np.uint8).reshape(-1),
        is_dense=True,
    )


def transforms(stamp: int):
    vector, quaternion = T["geometry_msgs/msg/Vector3"], T["geometry_msgs/msg/Quaternion"]
    transform = T["geometry_msgs/msg/Transform"](
        translation=vector(x=0.0, y=-0.1, z=0.05), rotation=quaternion(x=0.0, y=0.0, z=0.0, w=1.0)
    )
    stamped = T["geometry_msgs/msg/TransformStamped"](
        header=header(stamp, "camera_optical"), child_frame_id="lidar", transform=transform
    )
    return T["tf2_msgs/msg/TFMessage"](transforms=[stamped])


def write(
    path: Path,
    frames: int = 10,
    plugin: StoragePlugin = StoragePlugin.MCAP,
    cloud_lag: int = 2_000_000,
) -> Path:
    """Write the bag: /camera/image_raw (best effort), camera_info, /lidar/points, /tf_static.

    Images are recorded 1 ms after their stamp, clouds ``cloud_lag`` ns.
    """
    reliable, best_effort = offered_qos(7), offered_qos(7, "BEST_EFFORT")
    latched = offered_qos(7, durability="TRANSIENT_LOCAL")
    with Writer(path, version=8, storage_plugin=plugin) as writer:

        def topic(name, kind, profile):
            return writer.add_connection(
                name, kind, typestore=STORE, offered_qos_profiles=[profile]
            )

        def write(connection, stamp, message):
            raw = STORE.serialize_cdr(message, connection.msgtype)
            writer.write(connection, stamp, raw)

        static = topic("/tf_static", "tf2_msgs/msg/TFMessage", latched)
        info = topic("/camera/camera_info", "sensor_msgs/msg/CameraInfo", reliable)
        images = topic("/camera/image_raw", "sensor_msgs/msg/Image", best_effort)
        clouds = topic("/lidar/points", "sensor_msgs/msg/PointCloud2", reliable)
        marks = topic("/marks", "sensor_msgs/msg/PointCloud2", latched)
        write(static, BEGIN, transforms(BEGIN))
        write(marks, BEGIN, cloud(BEGIN))
        for number in range(frames):
            stamp = BEGIN + number * STEP
            write(info, stamp, camera_info(stamp))
            write(images, stamp + 1_000_000, image(stamp, number))
            write(clouds, stamp + cloud_lag, cloud(stamp))
    return path
