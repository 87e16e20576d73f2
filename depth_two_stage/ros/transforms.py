# SPDX-License-Identifier: Apache-2.0
"""Transforms between frames: tf2 where it is installed; extrinsics from a parameter.

A transform that is not known raises TransformError with the reason; it is never the identity.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event
from typing import Protocol

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time

from ..messages import MessageError, matrix, to_transform
from . import build

_POLL = 0.005  # s between two looks into the buffer
_WITHOUT_TF2 = "tf2_ros is not installed"


class TransformError(RuntimeError):
    """A transform that is not known at that time, and why."""


class Transforms(Protocol):
    """What the nodes need of transforms; stamps are integer nanoseconds, timeouts seconds."""

    def lookup(self, target: str, source: str, stamp: int, timeout: float = 0.0) -> np.ndarray:
        """T_target_source (4, 4) at ``stamp``."""

    def lookup_moving(
        self,
        target: str,
        stamp: int,
        source: str,
        source_stamp: int,
        fixed: str,
        timeout: float = 0.0,
    ) -> np.ndarray:
        """T_target_source from ``source`` at its stamp to ``target`` at its own, by ``fixed``."""

    def top(self, frame: str, below: tuple[str, ...]) -> str:
        """The frame above ``frame`` that has no parent, or one of ``below``; itself if unknown."""

    def reset(self) -> None:
        """Forget what was heard: time has jumped."""


class Tf:
    """What is heard on /tf and /tf_static, kept by tf2_ros."""

    def __init__(self, node: Node, stopped: Event | None = None) -> None:
        import tf2_ros

        self._Error = tf2_ros.TransformException
        self._buffer = tf2_ros.Buffer()
        # Lookups poll from another thread than the executor's, which fills the buffer.
        self._listener = tf2_ros.TransformListener(self._buffer, node, spin_thread=False)
        self._stopped = stopped or Event()

    def lookup(self, target: str, source: str, stamp: int, timeout: float = 0.0) -> np.ndarray:
        """T_target_source (4, 4) at ``stamp``, waiting at most ``timeout`` (wall clock)."""
        at = Time(nanoseconds=stamp)
        return self._wait(
            lambda: self._buffer.lookup_transform(target, source, at),
            f"from '{source}' to '{target}'",
            timeout,
        )

    def lookup_moving(
        self,
        target: str,
        stamp: int,
        source: str,
        source_stamp: int,
        fixed: str,
        timeout: float = 0.0,
    ) -> np.ndarray:
        """T_target_source between two stamps by a frame that stands still."""
        at, source_at = Time(nanoseconds=stamp), Time(nanoseconds=source_stamp)
        return self._wait(
            lambda: self._buffer.lookup_transform_full(target, at, source, source_at, fixed),
            f"from '{source}' to '{target}' by '{fixed}'",
            timeout,
        )

    def _wait(self, look: Callable, what: str, timeout: float) -> np.ndarray:
        """Look until it is there, the time is over or the node stops.

        tf2's own waiting follows the node's clock, which stands still while a bag is paused.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                return to_transform(look())
            except MessageError as error:
                raise TransformError(f"no transform {what}: {error}") from error
            except self._Error as error:
                if time.monotonic() >= deadline or self._stopped.wait(_POLL):
                    reason = " ".join(str(error).split())
                    raise TransformError(f"no transform {what}: {reason}") from error

    def top(self, frame: str, below: tuple[str, ...]) -> str:
        """The frame above ``frame`` that has no parent, or one of ``below``; itself if unknown."""
        import yaml

        tree = yaml.safe_load(self._buffer.all_frames_as_yaml()) or {}
        for _ in tree:  # no more steps than frames, should they form a ring
            parent = tree.get(frame, {}).get("parent", "")
            if not parent or parent in below:
                break
            frame = parent
        return frame

    def reset(self) -> None:
        """Forget all but the static transforms."""
        self._buffer.clear()


class NoTransforms:
    """Neither tf2 nor extrinsics: every lookup says what is missing."""

    def lookup(self, target: str, source: str, stamp: int, timeout: float = 0.0) -> np.ndarray:
        """Raise TransformError."""
        raise TransformError(
            f"no transform from '{source}' to '{target}': {_WITHOUT_TF2} and lidar.extrinsics empty"
        )

    def lookup_moving(
        self,
        target: str,
        stamp: int,
        source: str,
        source_stamp: int,
        fixed: str,
        timeout: float = 0.0,
    ) -> np.ndarray:
        """Raise TransformError."""
        raise TransformError(_WITHOUT_TF2)

    def top(self, frame: str, below: tuple[str, ...]) -> str:
        """The frame itself: no parent was heard of."""
        return frame

    def reset(self) -> None:
        """Nothing was heard."""


def extrinsics(values: tuple[float, ...], name: str = "lidar.extrinsics") -> np.ndarray | None:
    """A parameter (x y z m, qx qy qz qw; checked by `config`) → (4, 4); None if it is empty."""
    return matrix(values[:3], values[3:], name) if values else None


def tf_listener(node: Node, stopped: Event | None = None) -> Tf | None:
    """A listener to /tf and /tf_static; None where tf2_ros is not installed."""
    try:
        return Tf(node, stopped)
    except ImportError:
        return None


def open_transforms(node: Node, stopped: Event | None = None) -> Transforms:
    """TF, or what says that there is none; the log says once what is off."""
    tf = tf_listener(node, stopped)
    if tf is not None:
        return tf
    node.get_logger().info(
        f"{_WITHOUT_TF2}: a LiDAR needs lidar.extrinsics, points are not moved to the image's stamp"
    )
    return NoTransforms()


class Broadcaster:
    """Sends transforms on /tf and /tf_static; ``available`` is False where tf2_ros is not."""

    def __init__(self, node: Node) -> None:
        try:
            import tf2_ros
            from tf2_msgs.msg import TFMessage
        except ImportError:
            self.available = False
            node.get_logger().info(f"{_WITHOUT_TF2}: no transforms are sent")
            return
        self.available = True
        self._moving = tf2_ros.TransformBroadcaster(node)
        # Not tf2_ros's: from Jazzy on it sends the first transform of a frame for ever, on Humble
        # those who come late hear the last frame alone.
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._static = node.create_publisher(TFMessage, "/tf_static", latched)
        self._kept = TFMessage()

    def send(self, T: np.ndarray, parent: str, child: str, stamp: int) -> None:
        """T_parent_child (4, 4) at ``stamp``, ns."""
        if self.available:
            self._moving.sendTransform(build.transform(T, parent, child, stamp))

    def send_static(self, T: np.ndarray, parent: str, child: str, stamp: int) -> None:
        """T_parent_child (4, 4) at all times, in place of an earlier one of the child; latched."""
        if self.available:
            others = [one for one in self._kept.transforms if one.child_frame_id != child]
            self._kept.transforms = [*others, build.transform(T, parent, child, stamp)]
            self._static.publish(self._kept)
