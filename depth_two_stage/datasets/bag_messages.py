# SPDX-License-Identifier: Apache-2.0
"""Arrays → messages of rosbags' Humble types, for writing bags without ROS.

Stamps are integer nanoseconds, lengths metres.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from depth_two_stage.camera import Lens
from depth_two_stage.datasets import DatasetError
from depth_two_stage.messages import translation_quaternion


@lru_cache(maxsize=1)
def typestore() -> Any:
    """Message types as Humble and everything later knows them."""
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_HUMBLE)


def decoded(raw: bytes, kind: str, name: str) -> Any:
    """A serialised message of a bag; DatasetError, naming its topic or bag, if it is damaged."""
    from rosbags.serde import SerdeError

    try:
        return typestore().deserialize_cdr(raw, kind)
    except (SerdeError, AssertionError, IndexError, ValueError, struct.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(f"{name}: expected a {kind}, got bad data: {reason}") from error


def message(kind: str, **fields: Any) -> Any:
    """Build one message, e.g. ``message("geometry_msgs/msg/Point", x=0.0, y=0.0, z=0.0)``."""
    return typestore().types[kind](**fields)


def header(stamp: int, frame: str) -> Any:
    """Header of a stamp in ns and a frame name."""
    sec, nanosec = divmod(int(stamp), 1_000_000_000)
    time = message("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
    return message("std_msgs/msg/Header", stamp=time, frame_id=frame)


def jpeg(stamp: int, frame: str, rgb: np.ndarray, quality: int) -> Any:
    """RGB uint8 (H, W, 3) → CompressedImage."""
    bgr = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGR)
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    return message(
        "sensor_msgs/msg/CompressedImage",
        header=header(stamp, frame),
        format="rgb8; jpeg compressed bgr8",
        data=cv2.imencode(".jpg", bgr, flags)[1].reshape(-1),
    )


def depth_image(stamp: int, frame: str, depth: np.ndarray) -> Any:
    """Depth (H, W) m → Image 16UC1 in millimetres; beyond 65.534 m there is none."""
    millimetres = np.rint(depth * 1000)
    millimetres = np.where(millimetres < 65535, millimetres, 0).astype("<u2")
    return message(
        "sensor_msgs/msg/Image",
        header=header(stamp, frame),
        height=depth.shape[0],
        width=depth.shape[1],
        encoding="16UC1",
        is_bigendian=0,
        step=2 * depth.shape[1],
        data=millimetres.reshape(-1).view(np.uint8),
    )


def camera_info(stamp: int, frame: str, lens: Lens) -> Any:
    """CameraInfo of a lens, its distortion and rectified camera included."""
    P = np.zeros((3, 4))
    P[:, :3] = lens.rectified.K
    zero = dict.fromkeys(("x_offset", "y_offset", "height", "width"), 0)
    return message(
        "sensor_msgs/msg/CameraInfo",
        header=header(stamp, frame),
        height=lens.height,
        width=lens.width,
        distortion_model=lens.model,
        d=lens.D if lens.D.size else np.zeros(4 if lens.model == "equidistant" else 5),
        k=lens.K.reshape(-1),
        r=lens.R.reshape(-1),
        p=P.reshape(-1),
        binning_x=0,
        binning_y=0,
        roi=message("sensor_msgs/msg/RegionOfInterest", **zero, do_rectify=False),
    )


def cloud(stamp: int, frame: str, points: np.ndarray) -> Any:
    """Points (N, 3) → PointCloud2 of float32 x y z."""
    fields = [
        message("sensor_msgs/msg/PointField", name=name, offset=4 * i, datatype=7, count=1)
        for i, name in enumerate("xyz")
    ]
    return message(
        "sensor_msgs/msg/PointCloud2",
        header=header(stamp, frame),
        height=1,
        width=len(points),
        fields=fields,
        is_bigendian=False,
        point_step=12,
        row_step=12 * len(points),
        data=np.ascontiguousarray(points, "<f4").reshape(-1).view(np.uint8),
        is_dense=True,
    )


def pose(stamp: int, frame: str, T: np.ndarray) -> Any:
    """T_frame_camera (4, 4) → PoseStamped."""
    position, orientation = _parts("Point", T)
    value = message("geometry_msgs/msg/Pose", position=position, orientation=orientation)
    return message("geometry_msgs/msg/PoseStamped", header=header(stamp, frame), pose=value)


def transforms(stamp: int, tree: list[tuple[str, str, np.ndarray]]) -> Any:
    """(parent, child, T_parent_child (4, 4)), … → TFMessage."""
    items = []
    for parent, child, T in tree:
        translation, rotation = _parts("Vector3", T)
        items.append(
            message(
                "geometry_msgs/msg/TransformStamped",
                header=header(stamp, parent),
                child_frame_id=child,
                transform=message(
                    "geometry_msgs/msg/Transform", translation=translation, rotation=rotation
                ),
            )
        )
    return message("tf2_msgs/msg/TFMessage", transforms=items)


def _parts(kind: str, T: np.ndarray) -> tuple[Any, Any]:
    t, q = translation_quaternion(T)
    place = message(f"geometry_msgs/msg/{kind}", **dict(zip("xyz", map(float, t), strict=True)))
    turn = dict(zip("xyzw", map(float, q), strict=True))
    return place, message("geometry_msgs/msg/Quaternion", **turn)
