# SPDX-License-Identifier: Apache-2.0
"""The optional half of the input: LiDAR clouds or sparse depth images, whatever there is."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from threading import Lock
from typing import Any

import cv2
import numpy as np

from ..camera import Camera, Lens
from ..config import LidarParameters
from ..messages import MessageError, stamp_ns, to_depth, to_points
from .build import SECOND
from .reports import Drops
from .transforms import TransformError, Transforms, extrinsics

_KEPT = 10  # newest messages of each kind; the nearest in time may not be the newest


@dataclass(frozen=True)
class Sparse:
    """Sparse depth float32 (H, W) m, 0 = none, or None; the mode it makes; points in view."""

    depth: np.ndarray | None
    mode: str
    points: int
    age: float | None = None  # s, how much later the image is than its points


NOTHING = Sparse(None, "rgb", 0)


class SparseInput:
    """Keeps the newest clouds and sparse depth images and finds those of an image.

    Messages come in on the executor's thread and are decoded on the worker's, only when used.
    """

    def __init__(self, transforms: Transforms, unused: Drops) -> None:
        self._transforms, self._unused = transforms, unused
        self._lock = Lock()
        self._clouds: deque[tuple[int, Any]] = deque(maxlen=_KEPT)
        self._depths: deque[tuple[int, Any]] = deque(maxlen=_KEPT)
        self._decoded: tuple[Any, np.ndarray] | None = None
        self._moves = True  # the fixed frame was heard last time: worth waiting for

    def add_cloud(self, message: Any) -> None:
        """Keep a PointCloud2."""
        self._keep(self._clouds, message, "lidar")

    def add_depth(self, message: Any) -> None:
        """Keep a sparse depth image."""
        self._keep(self._depths, message, "sparse_depth")

    def _keep(self, kept: deque, message: Any, name: str) -> None:
        stamp = stamp_ns(message)
        if stamp <= 0:
            self._unused.add(f"{name} stamp", f"{name}: expected a stamp above 0, got {stamp}")
            return
        with self._lock:
            if kept and stamp < kept[-1][0] - SECOND:  # a bag begins again
                kept.clear()
            kept.append((stamp, message))

    def reset(self) -> None:
        """Forget moving transforms: time has jumped (messages of before are too far away now)."""
        self._transforms.reset()

    def at(
        self, stamp: int, frame: str, lens: Lens, camera: Camera, parameters: LidarParameters
    ) -> Sparse:
        """Find what there is for the image of that stamp (ns) and frame, as ``camera`` sees it."""
        found = self._cloud_at(stamp, frame, camera, parameters)
        return found or self._depth_at(stamp, lens, camera, parameters) or NOTHING

    def _near(self, kept: deque, stamp: int, p: LidarParameters) -> list[tuple[int, Any]]:
        """(stamp, message) within max_age, the nearest first."""
        offset, limit = round(p.time_offset * SECOND), p.max_age * SECOND
        with self._lock:
            near = [(when + offset, message) for when, message in kept]
        near = [item for item in near if abs(item[0] - stamp) <= limit]
        return sorted(near, key=lambda item: abs(item[0] - stamp))

    def _cloud_at(
        self, stamp: int, frame: str, camera: Camera, p: LidarParameters
    ) -> Sparse | None:
        for when, message in self._near(self._clouds, stamp, p):
            try:
                points = self._points(message)
            except MessageError as error:
                self._forget(self._clouds, message)
                self._unused.add("lidar malformed", str(error))
                continue
            try:
                T = self._T_camera_lidar(stamp, frame, when, message.header.frame_id, p)
            except TransformError as error:
                self._unused.add("lidar transform", f"lidar: {error}; going on without points")
                return None
            depth = camera.project(points, T)
            in_view = int(np.count_nonzero(depth))
            if not in_view:
                self._unused.add(
                    "lidar out of view",
                    f"lidar: none of {len(points)} points of '{message.header.frame_id}' is in view"
                    f" of '{frame}' (empty cloud, or wrong extrinsics?)",
                )
                return None
            return Sparse(depth, "rgb+lidar", in_view, (stamp - when) / SECOND)
        return None

    def _depth_at(
        self, stamp: int, lens: Lens, camera: Camera, p: LidarParameters
    ) -> Sparse | None:
        for when, message in self._near(self._depths, stamp, p):
            try:
                depth = to_depth(message, "sparse_depth")
                if depth.shape != (lens.height, lens.width):
                    raise MessageError(
                        f"sparse_depth: expected the image's size {lens.height}x{lens.width}, "
                        f"got {depth.shape[0]}x{depth.shape[1]}"
                    )
            except MessageError as error:
                self._forget(self._depths, message)
                self._unused.add("sparse_depth malformed", str(error))
                continue
            depth = camera.project(_seen_points(depth, lens))
            in_view = int(np.count_nonzero(depth))
            if in_view:
                return Sparse(depth, "rgb+sparse_depth", in_view, (stamp - when) / SECOND)
            self._unused.add("sparse_depth empty", "sparse_depth: expected some depth, got none")
            return None
        return None

    def _points(self, message: Any) -> np.ndarray:
        """Decode points (N, 3) m of a cloud, once for all images that use it."""
        if self._decoded is None or self._decoded[0] is not message:
            self._decoded = message, to_points(message, "lidar")
        return self._decoded[1]

    def _forget(self, kept: deque, message: Any) -> None:
        with self._lock:
            remaining = [item for item in kept if item[1] is not message]
            kept.clear()
            kept.extend(remaining)

    def _T_camera_lidar(
        self, stamp: int, camera: str, when: int, lidar: str, p: LidarParameters
    ) -> np.ndarray:
        """T_camera_lidar between the image's stamp and the cloud's, by odometry if it is heard.

        Without odometry in TF the sensors count as still between the stamps.
        """
        fixed = extrinsics(p.extrinsics)
        if p.fixed_frame and when != stamp:
            # With extrinsics only the camera's own motion comes from TF. Waiting is worth while
            # only where it helped: odometry made from this node's depth is never there before it.
            source, timeout = (lidar if fixed is None else camera), p.tf_timeout * self._moves
            try:
                moved = self._transforms.lookup_moving(
                    camera, stamp, source, when, p.fixed_frame, timeout
                )
                self._moves = True
                return moved if fixed is None else moved @ fixed
            except TransformError as error:
                self._moves = False
                self._unused.add("lidar not moved", f"lidar: not moved to its image: {error}")
        if fixed is not None:
            return fixed
        return self._transforms.lookup(camera, lidar, stamp, p.tf_timeout)


def _seen_points(depth: np.ndarray, lens: Lens) -> np.ndarray:
    """Sparse depth (H, W) m behind a lens → points (N, 3) m in the rectified optical frame.

    Each point goes through the lens by itself: resampling the image would lose single pixels.
    """
    rows, columns = np.nonzero(depth)
    if not len(rows):
        return np.empty((0, 3))
    pixels = np.stack([columns, rows], axis=1).astype(np.float64)[:, None]
    D = lens.D if lens.D.size else np.zeros(4)
    undistort = cv2.fisheye.undistortPoints if lens.model == "equidistant" else cv2.undistortPoints
    rays = undistort(pixels, lens.K, D)[:, 0]
    z = depth[rows, columns].astype(np.float64)[:, None]
    return np.hstack([rays * z, z]) @ lens.R.T
