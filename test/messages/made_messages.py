# SPDX-License-Identifier: Apache-2.0
"""Messages with any maker: images, camera_info, clouds."""

import array
import importlib

import numpy as np
from rosbags.typesys import Stores, get_typestore

STORES = {"humble": Stores.ROS2_HUMBLE, "ros1": Stores.ROS1_NOETIC}


class Rosbags:
    """Builds messages as rosbags' deserialiser does: ndarray fields."""

    def __init__(self, store):
        self.types = get_typestore(store).types
        self.ros1 = store is Stores.ROS1_NOETIC

    def __call__(self, kind, /, **fields):
        cls = self.types[kind]
        if self.ros1 and kind.endswith("CameraInfo"):
            fields = {k.upper() if k in "dkrp" else k: v for k, v in fields.items()}
        if self.ros1 and kind == "std_msgs/msg/Header":
            fields["seq"] = 0
        for key, value in fields.items():
            if isinstance(value, bytes):
                fields[key] = np.frombuffer(value, np.uint8)
        return cls(**fields)


class Rclpy:
    """Builds messages as rclpy does: array.array fields."""

    def __call__(self, kind, /, **fields):
        package, _, cls = kind.split("/")
        message = getattr(importlib.import_module(f"{package}.msg"), cls)()
        for key, value in fields.items():
            if isinstance(value, bytes):
                value = array.array("B", value)
            elif isinstance(value, np.ndarray):
                value = value.tolist()
            setattr(message, key, value)
        return message


def header(make, sec=3, nanosec=4, frame="camera"):
    stamp = make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
    return make("std_msgs/msg/Header", stamp=stamp, frame_id=frame)


def image(make, encoding, values, pad=0, big=0, **changes):
    """Build an Image of ``values`` (H, W[, C]) whose rows end in ``pad`` bytes of rubbish."""
    values = values.astype(values.dtype.newbyteorder(">" if big else "<"))
    rows = values.reshape(len(values), -1).view(np.uint8).reshape(len(values), -1)
    rows = np.pad(rows, ((0, 0), (0, pad)), constant_values=0xEE)
    fields = {
        "header": header(make),
        "height": values.shape[0],
        "width": values.shape[1],
        "encoding": encoding,
        "is_bigendian": big,
        "step": rows.shape[1],
        "data": rows.tobytes(),
    }
    return make("sensor_msgs/msg/Image", **{**fields, **changes})


def compressed(make, fmt, data):
    return make("sensor_msgs/msg/CompressedImage", header=header(make), format=fmt, data=data)


def camera_info(make, **changes):
    roi = {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False}
    roi |= changes.pop("roi", {})
    fields = {
        "header": header(make),
        "height": 480,
        "width": 640,
        "distortion_model": "plumb_bob",
        "d": np.zeros(5),
        "k": np.array([500.0, 0, 320, 0, 510, 240, 0, 0, 1]),
        "r": np.eye(3).ravel(),
        "p": np.array([500.0, 0, 320, 0, 0, 510, 240, 0, 0, 0, 1, 0]),
        "binning_x": 0,
        "binning_y": 0,
        "roi": make("sensor_msgs/msg/RegionOfInterest", **roi),
    }
    return make("sensor_msgs/msg/CameraInfo", **{**fields, **changes})


def cloud(make, dtype, values, row_pad=0, height=1, **changes):
    """Build a PointCloud2 with the fields of a structured dtype."""
    kinds = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
    dtype = np.dtype(dtype)
    fields = [
        make(
            "sensor_msgs/msg/PointField",
            name=name,
            offset=offset,
            datatype=kinds[sub.str[1:]],
            count=1,
        )
        for name, (sub, offset) in ((n, dtype.fields[n][:2]) for n in dtype.names)
    ]
    points = np.zeros(len(values), dtype)
    for axis, name in enumerate("xyz"):
        if name in dtype.names:
            points[name] = values[:, axis]
    width = len(values) // height
    rows = points.view(np.uint8).reshape(height, -1) if len(values) else np.zeros((1, 0), np.uint8)
    rows = np.pad(rows, ((0, 0), (0, row_pad)), constant_values=0xEE)
    given = {
        "header": header(make),
        "height": height,
        "width": width,
        "fields": fields,
        "is_bigendian": any(dtype.fields[n][0].str[0] == ">" for n in dtype.names),
        "point_step": dtype.itemsize,
        "row_step": rows.shape[1],
        "data": rows.tobytes(),
        "is_dense": True,
    }
    return make("sensor_msgs/msg/PointCloud2", **{**given, **changes})
