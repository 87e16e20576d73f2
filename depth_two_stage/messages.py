# SPDX-License-Identifier: Apache-2.0
"""Decodes whatever has a ROS message's fields, rclpy's and rosbags' alike; imports no ROS.

Images (`to_rgb`, `to_depth`) are views of the message's buffer where a view can be, so they may be
read-only, strided or reversed in the last axis. NaN ends here: inside the package "no depth" is 0.
Bad content raises `MessageError`, one line that names the part.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .camera import DISTORTION_MODELS, Camera, Lens
from .encodings import (
    COLOUR_ENCODINGS,
    DEPTH_ENCODINGS,
    SATURATED,
    MessageError,
    buffer,
    to_depth,
    to_rgb,
)

__all__ = [
    "COLOUR_ENCODINGS",
    "DEPTH_ENCODINGS",
    "SATURATED",
    "MessageError",
    "matrix",
    "stamp_ns",
    "to_camera",
    "to_depth",
    "to_lens",
    "to_points",
    "to_rgb",
    "to_transform",
    "translation_quaternion",
]


_FLOATS = {7: "f4", 8: "f8"}  # sensor_msgs/PointField FLOAT32, FLOAT64


def stamp_ns(header: Any) -> int:
    """Stamp of a header, or of a message that has one, in integer nanoseconds."""
    stamp = getattr(header, "header", header).stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def to_points(message: Any, name: str = "points") -> np.ndarray:
    """PointCloud2 → float32 (N, 3) m in the cloud's frame.

    Points that are NaN, infinite or exactly (0, 0, 0), how drivers say "no return", are dropped.
    """
    height, width, step = int(message.height), int(message.width), int(message.point_step)
    if height * width == 0:
        return np.empty((0, 3), np.float32)
    fields = {field.name: field for field in message.fields}
    if not {"x", "y", "z"} <= fields.keys():
        raise MessageError(f"{name}: expected fields x, y, z, got {', '.join(fields) or 'none'}")
    if step < 1:
        raise MessageError(f"{name}: expected point_step above 0, got {step}")
    if message.row_step < width * step:
        raise MessageError(
            f"{name}: expected row_step of at least width * point_step = {width * step}, "
            f"got {message.row_step}"
        )
    data = buffer(message.data)
    if data.size < message.row_step * height:
        raise MessageError(
            f"{name}: expected row_step * height = {message.row_step * height} bytes, "
            f"got {data.size}"
        )
    order = ">" if message.is_bigendian else "<"
    strides = (int(message.row_step), step)
    points = np.empty((height, width, 3), np.float32)
    for axis, key in enumerate("xyz"):
        field = fields[key]
        if field.datatype not in _FLOATS:
            raise MessageError(
                f"{name}.{key}: expected datatype 7 (float32) or 8 (float64), got {field.datatype}"
            )
        dtype = np.dtype(order + _FLOATS[field.datatype])
        if dtype.itemsize > step:
            raise MessageError(
                f"{name}: expected point_step of at least {dtype.itemsize} ({key}), got {step}"
            )
        if field.offset + dtype.itemsize > step:
            raise MessageError(
                f"{name}.{key}: expected an offset of at most {step - dtype.itemsize} "
                f"(point_step {step}), got {field.offset}"
            )
        column = np.ndarray((height, width), dtype, data, int(field.offset), strides)
        with np.errstate(over="ignore", invalid="ignore"):
            points[..., axis] = column
    points = points.reshape(-1, 3)
    with np.errstate(invalid="ignore"):  # some drivers' NaN are signalling ones
        return points[np.isfinite(points).all(axis=1) & points.any(axis=1)]


def to_lens(info: Any, size: tuple[int, int] | None = None, name: str = "camera_info") -> Lens:
    """CameraInfo → Lens of the image as sent: ROI and binning applied to size, K and P.

    ``size`` (height, width) of the image that came with it is compared when given.
    """
    K, P = _matrix(info, "k", (3, 3), name), _matrix(info, "p", (3, 4), name)
    D, R = _matrix(info, "d", (-1,), name), _matrix(info, "r", (3, 3), name)
    for part, matrix in (("k", K), ("p", P[:, :3])):
        if (part == "k" or matrix.any()) and min(matrix[0, 0], matrix[1, 1]) <= 0:
            raise MessageError(
                f"{name}.{part}: expected focal lengths above 0, got fx = {matrix[0, 0]:g}, "
                f"fy = {matrix[1, 1]:g} (is the camera calibrated?)"
            )
    model = {"fisheye": "equidistant", "": "plumb_bob", "none": "plumb_bob"}.get(
        info.distortion_model, info.distortion_model
    )
    if model not in DISTORTION_MODELS:
        raise MessageError(
            f"{name}.distortion_model: expected one of {', '.join(DISTORTION_MODELS)}, "
            f"got {info.distortion_model!r}"
        )
    window, height, width = _window(info, name)
    if size is not None and (height, width) != tuple(size):
        raise MessageError(
            f"{name}: expected the image's size {size[0]}x{size[1]}, got {height}x{width}"
        )
    R = R if R.any() else np.eye(3)
    rectified = window @ P[:, :3] if P.any() else None
    try:
        return Lens(width, height, window @ K, D, model, R, rectified)
    except ValueError as error:
        raise MessageError(f"{name}: {error}") from error


def to_camera(info: Any, size: tuple[int, int] | None = None, name: str = "camera_info") -> Camera:
    """CameraInfo → the pinhole camera of its rectified image (P; K where P is zero)."""
    return to_lens(info, size, name).rectified


def to_transform(message: Any, name: str = "transform") -> np.ndarray:
    """Transform, Pose, PoseStamped, TransformStamped or Odometry → float64 (4, 4).

    Transforms points of the child frame into the parent frame (header.frame_id).
    """
    while hasattr(message, "pose") or hasattr(message, "transform"):
        message = message.pose if hasattr(message, "pose") else message.transform
    if hasattr(message, "translation"):
        position, rotation = message.translation, message.rotation
    else:
        position, rotation = message.position, message.orientation
    translation = (position.x, position.y, position.z)
    return matrix(translation, (rotation.x, rotation.y, rotation.z, rotation.w), name)


def matrix(translation: Any, quaternion: Any, name: str = "transform") -> np.ndarray:
    """Join translation (x, y, z) m and quaternion (x, y, z, w) → float64 (4, 4)."""
    t, q = np.asarray(translation, np.float64), np.asarray(quaternion, np.float64)
    norm = np.linalg.norm(q)
    if not np.isfinite(t).all():
        raise MessageError(f"{name}: expected a finite translation, got {t.tolist()}")
    if not np.isfinite(norm) or norm < 1e-6:
        raise MessageError(f"{name}: expected a quaternion of norm 1, got {q.tolist()}")
    x, y, z, w = q / norm
    T = np.eye(4)
    T[0, :3] = 1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)
    T[1, :3] = 2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)
    T[2, :3] = 2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)
    T[:3, 3] = t
    return T


def translation_quaternion(T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rigid transform (4, 4) → translation (3,) m, unit quaternion (x, y, z, w) with w ≥ 0."""
    R = np.asarray(T, np.float64)[:3, :3]
    # Four times the outer product of the quaternion with itself; its largest row is the
    # best-conditioned multiple of the quaternion.
    xx, yy, zz = np.diag(R)
    products = np.array(
        [
            [1 + xx - yy - zz, R[0, 1] + R[1, 0], R[0, 2] + R[2, 0], R[2, 1] - R[1, 2]],
            [R[0, 1] + R[1, 0], 1 - xx + yy - zz, R[1, 2] + R[2, 1], R[0, 2] - R[2, 0]],
            [R[0, 2] + R[2, 0], R[1, 2] + R[2, 1], 1 - xx - yy + zz, R[1, 0] - R[0, 1]],
            [R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1], 1 + xx + yy + zz],
        ]
    )
    q = products[np.argmax(np.diag(products))]
    q = q / np.linalg.norm(q)
    return np.array(T[:3, 3], np.float64), -q if q[3] < 0 else q


def _matrix(info: Any, part: str, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Take a matrix of CameraInfo by its ROS 2 name (k) or its ROS 1 name (K)."""
    values = getattr(info, part) if hasattr(info, part) else getattr(info, part.upper())
    values = np.array(values, np.float64)
    if not np.isfinite(values).all():
        raise MessageError(f"{name}.{part}: expected finite numbers, got {values.tolist()}")
    return values.reshape(shape)


def _window(info: Any, name: str) -> tuple[np.ndarray, int, int]:
    """ROI and binning → (3, 3) from full-resolution pixels to the image's; height, width."""
    if info.width < 1 or info.height < 1:
        raise MessageError(f"{name}: expected a size above 0, got {info.height}x{info.width}")
    roi, bx, by = info.roi, max(1, int(info.binning_x)), max(1, int(info.binning_y))
    x, y, width, height = 0, 0, int(info.width), int(info.height)
    if roi.width and roi.height:
        x, y, width, height = (int(v) for v in (roi.x_offset, roi.y_offset, roi.width, roi.height))
        if x + width > info.width or y + height > info.height:
            raise MessageError(
                f"{name}.roi: expected a window inside {info.height}x{info.width}, "
                f"got {height}x{width} at row {y}, column {x}"
            )
    if width < bx or height < by:
        raise MessageError(f"{name}.binning: expected at most {width}x{height}, got {bx}x{by}")
    # Centres of the binned pixels: (u - x + 0.5) / b - 0.5.
    window = np.array(
        [[1 / bx, 0, (0.5 - x) / bx - 0.5], [0, 1 / by, (0.5 - y) / by - 0.5], [0, 0, 1]]
    )
    return window, height // by, width // bx
