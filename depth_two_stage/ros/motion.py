# SPDX-License-Identifier: Apache-2.0
"""The camera's motion as ROS wants it: odom, path and transforms with one parent per frame."""

from __future__ import annotations

import time
from collections import deque

import numpy as np
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry, Path
from rclpy.node import Node

from ..config import ConfigError, PoseParameters
from . import build
from .transforms import Broadcaster, TransformError, Transforms

CAMERA_LINK = "camera_link"
LOOK_FOR_PARENT = 1.0  # s
PATH_PERIOD = 0.5  # s
PATH_LENGTH = 10_000  # poses; beyond it every second one goes
_UNKNOWN = -1.0  # first element of a covariance that says nothing (as in sensor_msgs/Imu)

# Body axes (x forward, y left, z up) from optical ones (x right, y down, z forward), REP 103.
T_LINK_OPTICAL = np.array(
    [[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)


def check_frames(pose: PoseParameters) -> None:
    """Raise ConfigError where what moves and what it moves in would be one frame."""
    moving = pose.base_frame or CAMERA_LINK
    for name in ("map_frame", *(["odom_frame"] if pose.source == "own" else [])):
        if getattr(pose, name) == moving:
            raise ConfigError(
                f"pose.{name}: expected another frame than pose.base_frame, got {moving!r} for both"
            )


class Mount:
    """Where the camera sits in the frame that moves through the world."""

    def __init__(
        self, node: Node, pose: PoseParameters, T_given: np.ndarray | None, transforms: Transforms
    ) -> None:
        self.frame = pose.base_frame or CAMERA_LINK
        self._node, self._pose = node, pose
        self._T_given, self._transforms = T_given, transforms
        self._said = False
        self._look_due = 0.0 if T_given is None and not pose.base_frame else np.inf

    def attach(self, camera_frame: str) -> None:
        """Without a base frame: move the top of the camera's tree, so that none has two parents.

        A driver's camera_link, or the robot above it; `camera_link` while TF knows no parent.
        """
        now = time.monotonic()
        if now < self._look_due:
            return
        self._look_due = now + LOOK_FOR_PARENT
        top = self._transforms.top(camera_frame, (self._pose.odom_frame, self._pose.map_frame))
        if top == camera_frame:
            return
        self._look_due = np.inf
        if top != self.frame:
            self._node.get_logger().info(
                f"'{camera_frame}' hangs below '{top}': that is taken for the frame that moves "
                "(pose.base_frame can name another)"
            )
            self.frame = top

    def top(self) -> str:
        """The frame above the one that moves that has no parent; itself if there is none."""
        return self._transforms.top(self.frame, ())

    def first_pose(self, camera_frame: str, stamp: int) -> np.ndarray:
        """T_world_camera (4, 4) of a start with the base frame level at the origin.

        Where only the camera is known, it is the camera that is taken to be level.
        """
        self.attach(camera_frame)
        try:
            T_base_camera = self.T_base_camera(camera_frame, stamp)
        except TransformError:  # said when the pose is published
            T_base_camera = T_LINK_OPTICAL
        level = camera_frame if T_base_camera is T_LINK_OPTICAL else self.frame
        self._node.get_logger().info(f"the map is level if '{level}' is level now", once=True)
        return T_base_camera

    def T_base_camera(self, camera_frame: str, stamp: int, frame: str = "") -> np.ndarray:
        """T_base_camera (4, 4), optical; of ``frame`` in place of the base. TransformError."""
        if self._T_given is not None:
            return self._T_given
        try:
            return self._transforms.lookup(frame or self.frame, camera_frame, stamp, 0.0)
        except TransformError as error:
            if frame or self._pose.base_frame:
                raise TransformError(f"{error}; pose.camera_extrinsics can give it") from error
            if not self._said:
                self._said = True
                self._node.get_logger().info(
                    f"no transform from '{camera_frame}' to '{CAMERA_LINK}': taken as its optical "
                    f"frame by REP 103"
                )
            return T_LINK_OPTICAL


class Motion:
    """Publishes odom, path and, for own odometry, the transforms.

    Own odometry: map → odom (identity until a loop is closed) and odom → base frame; where none is
    given, the top of the camera's tree, or camera_link where there is no tree. The optical frame
    gets no parent here: drivers and URDFs give it one. A base frame that has a parent already gets
    no second one: nothing is sent then.
    """

    def __init__(self, node: Node, pose: PoseParameters, mount: Mount) -> None:
        self._node, self._pose, self._mount = node, pose, mount
        self._own = pose.source == "own"
        self._odom = node.create_publisher(Odometry, "odom", 10)
        self._path = node.create_publisher(Path, "path", 2)
        self._poses: deque[PoseStamped] = deque()
        self._path_due = 0.0
        self._broadcaster = Broadcaster(node) if self._own else None
        self._free: dict[str, bool] = {}  # frame that moves → no parent of others
        self._T_map_odom = np.eye(4)
        self._corrects = (
            self._broadcaster is not None
            and self._broadcaster.available
            and pose.map_frame != pose.odom_frame
        )
        if self._corrects:
            self._broadcaster.send_static(np.eye(4), pose.map_frame, pose.odom_frame, 0)

    def correct(self, T_map_odom: np.ndarray) -> None:
        """Let map → odom (4, 4) take up what corrects the map: odom must not jump (REP 105).

        Where that transform is not sent (no tf2_ros, or one frame is both) the odometry jumps.
        """
        if self._corrects and not np.array_equal(T_map_odom, self._T_map_odom):
            self._T_map_odom = T_map_odom
            pose = self._pose
            self._broadcaster.send_static(T_map_odom, pose.map_frame, pose.odom_frame, 0)

    def publish(
        self,
        T_world_camera: np.ndarray,
        covariance: np.ndarray | None,
        stamp: int,
        camera_frame: str,
        world_frame: str,
    ) -> None:
        """Publish one pose of the camera; a frame that is lost is not published. TransformError."""
        if self._own:
            self._mount.attach(camera_frame)
        T_base_camera = self._mount.T_base_camera(camera_frame, stamp)
        T_world_base = T_world_camera @ np.linalg.inv(T_base_camera)
        if self._corrects:
            T_world_base = np.linalg.inv(self._T_map_odom) @ T_world_base
        if self._broadcaster and self._is_free(world_frame):
            self._broadcaster.send(T_world_base, world_frame, self._mount.frame, stamp)
        message = Odometry(header=build.header(stamp, world_frame))
        message.child_frame_id = self._mount.frame
        message.pose.pose = build.pose(T_world_base)
        if covariance is None:
            message.pose.covariance[0] = _UNKNOWN
        else:
            message.pose.covariance = np.asarray(covariance, np.float64).reshape(-1)
        message.twist.covariance[0] = _UNKNOWN
        self._odom.publish(message)
        self._poses.append(PoseStamped(header=message.header, pose=message.pose.pose))
        if len(self._poses) > PATH_LENGTH:
            self._poses = deque(list(self._poses)[::2])
        now = time.monotonic()
        if now >= self._path_due and self._path.get_subscription_count():
            self._path_due = now + PATH_PERIOD
            self._path.publish(Path(header=message.header, poses=list(self._poses)))

    def _is_free(self, world_frame: str) -> bool:
        """Whether the moving frame has no parent of others; asked before ours is heard too."""
        frame = self._mount.frame
        if frame not in self._free:
            top = self._mount.top()
            self._free[frame] = top == frame
            if top != frame:
                self._node.get_logger().warning(
                    f"pose.base_frame: expected a frame without a parent in TF, '{frame}' hangs "
                    f"below '{top}' already: {world_frame} → {frame} is not sent (pose.source: tf "
                    "takes the poses from TF)"
                )
        return self._free[frame]

    def clear(self) -> None:
        """Begin a new path."""
        self._poses.clear()
