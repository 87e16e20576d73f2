# SPDX-License-Identifier: Apache-2.0
"""Given poses of the camera: from TF, Odometry or PoseStamped, at an image's stamp."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Condition
from typing import Any, Protocol

import numpy as np
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node

from ..config import MappingNodeParameters, PoseParameters
from ..messages import MessageError, stamp_ns, to_transform
from .build import SECOND
from .motion import Mount
from .reports import Drops
from .subscriptions import AdoptingSubscription
from .transforms import Transforms

_KEPT = 500  # poses: some seconds of a fast odometry
_QUEUE = 20


class PoseError(RuntimeError):
    """The pose at an image's stamp is not known, and why."""


class Poses(Protocol):
    """Where the camera's pose comes from."""

    subscriptions: list[AdoptingSubscription]
    frame: str  # of the poses; empty while it is not known

    def at(self, stamp: int, camera_frame: str) -> np.ndarray | None:
        """T_world_camera (4, 4) at the stamp (ns); None: by own odometry; PoseError: unknown."""

    def reset(self) -> None:
        """Forget what was heard: time has jumped."""


class OwnOdometry:
    """No given poses."""

    def __init__(self, frame: str) -> None:
        self.subscriptions: list[AdoptingSubscription] = []
        self.frame = frame

    def at(self, stamp: int, camera_frame: str) -> np.ndarray | None:
        """Leave it to the odometry."""
        return None

    def reset(self) -> None:
        """Nothing was heard."""


class TfPoses:
    """The camera's frame in the map's frame, as TF has it; raises TransformError."""

    def __init__(
        self, transforms: Transforms, parameters: Callable[[], MappingNodeParameters]
    ) -> None:
        self.subscriptions: list[AdoptingSubscription] = []
        self._transforms, self._parameters = transforms, parameters
        self.frame = parameters().pose.map_frame

    def at(self, stamp: int, camera_frame: str) -> np.ndarray:
        """T_world_camera at the stamp, waiting for it; raises TransformError."""
        timeout = self._parameters().pose.timeout
        return self._transforms.lookup(self.frame, camera_frame, stamp, timeout)

    def reset(self) -> None:
        """Forget what was heard."""
        self._transforms.reset()


class TopicPoses:
    """Poses of a topic, interpolated to the image's stamp.

    ``odometry``: the pose of the message's child frame; ``pose``: that of the base frame; of the
    camera itself where neither is named. The camera sits in that frame by `Mount`. All poses are
    in the frame of the first one; others are refused.
    """

    def __init__(
        self,
        node: Node,
        mount: Mount,
        parameters: Callable[[], MappingNodeParameters],
        group: CallbackGroup,
        drops: Drops,
    ) -> None:
        self._drops = drops
        self._kind = kind = parameters().pose.source
        self._mount, self._parameters = mount, parameters
        self.frame = ""
        self._known: deque[tuple[int, np.ndarray, str]] = deque(maxlen=_KEPT)
        self._news = Condition()
        self._topic = AdoptingSubscription(
            node,
            Odometry if kind == "odometry" else PoseStamped,
            kind,
            self._take,
            reliability=parameters().input.reliability,
            depth=_QUEUE,
            group=group,
        )
        self.subscriptions = [self._topic]

    def _take(self, message: Any) -> None:
        pose = message.pose.pose if self._kind == "odometry" else message.pose
        child = message.child_frame_id if self._kind == "odometry" else ""
        stamp = stamp_ns(message)
        try:
            T = to_transform(pose, self._kind)
        except MessageError as error:
            self._drops.add("malformed pose", str(error))
            return
        frame = message.header.frame_id
        if not frame or frame != (self.frame or frame):
            wanted = repr(self.frame) if self.frame else "a name"
            self._drops.add(
                "pose frame", f"{self._kind}: expected the frame {wanted}, got {frame!r}"
            )
            return
        with self._news:
            if self._known and stamp <= self._known[-1][0]:
                if stamp > self._known[-1][0] - SECOND:
                    return  # out of order
                self._known.clear()
            self._known.append((stamp, T, child))
            self.frame = frame
            self._news.notify_all()

    def at(self, stamp: int, camera_frame: str) -> np.ndarray:
        """T_world_camera at the stamp, waiting for a pose behind it; raises PoseError."""
        pose: PoseParameters = self._parameters().pose
        with self._news:
            self._news.wait_for(
                lambda: bool(self._known) and self._known[-1][0] >= stamp, pose.timeout
            )
            known = list(self._known)
        if not known:
            raise PoseError(f"{self._kind}: expected poses, got nothing on {self._topic.topic}")
        T, child = interpolated(known, stamp, round(pose.max_gap * SECOND), self._kind)
        moving = child or pose.base_frame
        if not moving or moving == camera_frame:
            return T  # of the camera itself
        return T @ self._mount.T_base_camera(camera_frame, stamp, moving)

    def reset(self) -> None:
        """Forget what was heard."""
        with self._news:
            self._known.clear()


def interpolated(
    known: list[tuple[int, np.ndarray, str]], stamp: int, max_gap: int, name: str
) -> tuple[np.ndarray, str]:
    """Pose and frame at a stamp (ns) between two poses at most ``max_gap`` ns apart.

    Translation is linear, rotation the shortest arc. Nothing is extrapolated.
    """
    stamps = [item[0] for item in known]
    behind = int(np.searchsorted(stamps, stamp))
    if behind < len(known) and stamps[behind] == stamp:
        return known[behind][1], known[behind][2]
    if behind in (0, len(known)):
        off = abs(stamp - stamps[-1 if behind else 0]) / 1e6
        last = f"the newest {off:.0f} ms before" if behind else f"the oldest {off:.0f} ms after"
        raise PoseError(f"{name}: expected poses on both sides of the image's stamp, got {last} it")
    (first, A, child), (second, B, _) = known[behind - 1], known[behind]
    if second - first > max_gap:
        raise PoseError(
            f"{name}: expected poses at most {max_gap / 1e6:.0f} ms apart, "
            f"got {(second - first) / 1e6:.0f} ms"
        )
    return between(A, B, (stamp - first) / (second - first)), child


def between(A: np.ndarray, B: np.ndarray, share: float) -> np.ndarray:
    """The pose at ``share`` (0…1) of the way from A to B, (4, 4) each."""
    import cv2

    turn = cv2.Rodrigues(A[:3, :3].T @ B[:3, :3])[0]
    T = np.eye(4)
    T[:3, :3] = A[:3, :3] @ cv2.Rodrigues(turn * share)[0]
    T[:3, 3] = A[:3, 3] + share * (B[:3, 3] - A[:3, 3])
    return T
