# SPDX-License-Identifier: Apache-2.0
"""Arrays → messages. The header given is the one of the image that caused the output."""

from __future__ import annotations

from array import array

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, TransformStamped
from nav_msgs.msg import OccupancyGrid
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2, PointField
from std_msgs.msg import Header

from .. import laser_scan
from ..camera import Camera
from ..messages import SATURATED, translation_quaternion
from ..occupancy import Occupancy

SECOND = 1_000_000_000
_MILLIMETRES = 1000.0


def time(stamp: int) -> Time:
    """Nanoseconds → builtin_interfaces/Time."""
    return Time(sec=stamp // SECOND, nanosec=stamp % SECOND)


def header(stamp: int, frame_id: str) -> Header:
    """Stamp (ns) and frame → Header."""
    return Header(stamp=time(stamp), frame_id=frame_id)


def data(values: np.ndarray, code: str = "B") -> array:
    """An array's bytes as a ``uint8[]`` field takes them without looking at every element.

    ``code`` is the `array` type of other fields: "b" for ``int8[]``, "f" for ``float32[]``.
    """
    filled = array(code)
    filled.frombytes(np.ascontiguousarray(values).reshape(-1).view(np.uint8))
    return filled


def _image(values: np.ndarray, encoding: str, header: Header) -> Image:
    height, width = values.shape[:2]
    message = Image(header=header, height=height, width=width, encoding=encoding)
    message.step = values.itemsize * int(np.prod(values.shape[1:]))
    message.data = data(values)
    return message


def rgb(values: np.ndarray, header: Header) -> Image:
    """RGB uint8 (H, W, 3) → Image rgb8."""
    return _image(values, "rgb8", header)


def depth(values: np.ndarray, header: Header, encoding: str = "32FC1") -> Image:
    """Depth (H, W) m, 0 = none → Image 32FC1 (m, NaN = none) or 16UC1 (mm, 0 = none), REP 118.

    In 16UC1 a depth beyond 65.534 m has no value and becomes none: 65535 is read as none too.
    """
    if encoding == "32FC1":
        return _image(np.where(values > 0, values, np.float32(np.nan)), encoding, header)
    if encoding != "16UC1":
        raise ValueError(f"depth encoding: expected 32FC1 or 16UC1, got {encoding!r}")
    millimetres = np.rint(values * np.float32(_MILLIMETRES))
    fits = millimetres < SATURATED
    return _image(np.where(fits, millimetres, 0).astype(np.uint16), encoding, header)


def confidence(values: np.ndarray, header: Header) -> Image:
    """Confidence (H, W), 0…1 → Image 32FC1."""
    return _image(values.astype(np.float32, copy=False), "32FC1", header)


def camera_info(camera: Camera, header: Header) -> CameraInfo:
    """CameraInfo of a rectified image: no distortion, R = identity, P = [K 0]."""
    message = CameraInfo(header=header, height=camera.height, width=camera.width)
    message.distortion_model = "plumb_bob"
    message.d = [0.0] * 5
    message.k = camera.K.reshape(-1)
    message.r = np.eye(3).reshape(-1)
    message.p = np.hstack([camera.K, np.zeros((3, 1))]).reshape(-1)
    return message


def cloud(points: np.ndarray, colours: np.ndarray, header: Header) -> PointCloud2:
    """Points float32 (N, 3) or (H, W, 3) m, colours uint8 of that shape → x y z rgb.

    An organized cloud marks missing points by NaN and is not dense.
    """
    organized = points.ndim == 3
    height, width = points.shape[:2] if organized else (1, points.shape[0])
    packed = np.empty((height * width, 4), np.float32)
    packed[:, :3] = points.reshape(-1, 3)
    red, green, blue = colours.reshape(-1, 3).astype(np.uint32).T
    packed[:, 3] = (red << 16 | green << 8 | blue).view(np.float32)
    message = PointCloud2(header=header, height=height, width=width, is_dense=not organized)
    message.fields = [
        PointField(name=name, offset=4 * place, datatype=PointField.FLOAT32, count=1)
        for place, name in enumerate(("x", "y", "z", "rgb"))
    ]
    message.point_step, message.row_step = 16, 16 * width
    message.data = data(packed)
    return message


def scan(values: laser_scan.LaserScan, header: Header) -> LaserScan:
    """A scan, all of it at the header's time, in a frame of x forward, z up → LaserScan."""
    message = LaserScan(header=header, range_min=values.min_range, range_max=values.max_range)
    message.angle_min, message.angle_increment = values.start, values.increment
    message.angle_max = values.start + values.increment * (len(values.ranges) - 1)
    message.ranges = data(values.ranges, "f")
    return message


def occupancy(grid: Occupancy, header: Header) -> OccupancyGrid:
    """A grid whose axes are those of the header's frame → OccupancyGrid."""
    message = OccupancyGrid(header=header)
    message.info.map_load_time = header.stamp
    message.info.resolution = grid.resolution
    message.info.height, message.info.width = grid.data.shape
    message.info.origin.position.x, message.info.origin.position.y = grid.origin
    message.info.origin.orientation.w = 1.0
    message.data = data(grid.data, "b")
    return message


def pose(T: np.ndarray) -> Pose:
    """Rigid transform (4, 4) → Pose."""
    message = Pose()
    translation, quaternion = translation_quaternion(T)
    position, orientation = message.position, message.orientation
    position.x, position.y, position.z = (float(value) for value in translation)
    orientation.x, orientation.y, orientation.z, orientation.w = (float(q) for q in quaternion)
    return message


def transform(T: np.ndarray, parent: str, child: str, stamp: int) -> TransformStamped:
    """T_parent_child (4, 4) at ``stamp`` (ns) → TransformStamped."""
    message = TransformStamped(header=header(stamp, parent), child_frame_id=child)
    translation, quaternion = translation_quaternion(T)
    moved, turned = message.transform.translation, message.transform.rotation
    moved.x, moved.y, moved.z = (float(value) for value in translation)
    turned.x, turned.y, turned.z, turned.w = (float(value) for value in quaternion)
    return message
