# SPDX-License-Identifier: Apache-2.0
"""The doctor's look at the running system: the same inputs and the same words as depth_node's."""

from __future__ import annotations

import time

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import LoggingSeverity
from rclpy.node import Node

from ..config import InputParameters
from ..messages import MessageError, to_points
from .doctor import Check
from .frames import Frame, FrameDecoder
from .inputs import Inputs
from .reports import Drops
from .sparse_input import SparseInput
from .transforms import NoTransforms
from .watchdog import missing_link

_ENOUGH = 20  # images
_OURS = ("depth_node", "mapping_node")  # the nodes whose diagnostics are shown
_DISCOVERY = 4.0  # s until DDS participants that do not talk to each other know of each other


class _Silent:
    """A logger for Drops: the doctor says it in its table."""

    def warning(self, text: str) -> None:
        """Say nothing."""


class CameraCheck(Node):
    """Subscribes what depth_node would, decodes what comes, hears depth_node's diagnostics."""

    def __init__(self) -> None:
        super().__init__("depth_doctor")
        self.get_logger().set_level(LoggingSeverity.ERROR)
        self.drops = Drops(_Silent())
        self._decoder = FrameDecoder()
        self._group = MutuallyExclusiveCallbackGroup()  # rclpy itself holds it weakly
        self.inputs = Inputs(
            self,
            InputParameters,
            self.drops,
            SparseInput(NoTransforms(), self.drops),
            self._group,
            self._decode,
        )
        self.inputs.lidar.callback = self._decode_cloud
        self.inputs.start()
        self.usable, self.points, self.size = 0, 0, ""
        self.statuses: dict[str, DiagnosticStatus] = {}
        self.create_subscription(DiagnosticArray, "/diagnostics", self._hear, 10)

    def _decode(self, frame: Frame) -> None:
        try:
            rgb, _, camera = self._decoder(frame)
        except MessageError as error:
            self.drops.add("unusable image", str(error))
            return
        self.usable += 1
        self.size = f"{rgb.shape[1]}x{rgb.shape[0]}, focal length {camera.fx:.0f} px"

    def _decode_cloud(self, message) -> None:
        try:
            self.points = len(to_points(message, "lidar"))
        except MessageError as error:
            self.drops.add("lidar malformed", str(error))

    def satisfied(self, listened: float) -> bool:
        """Whether waiting longer than the ``listened`` seconds would tell nothing new."""
        return (
            listened >= _DISCOVERY
            and self.usable >= _ENOUGH
            and (self.points > 0 or not self.inputs.lidar.publishers())
            and not self._unheard()
        )

    def _unheard(self) -> list[str]:
        """Our nodes that offer diagnostics of which none has come yet: they send once a second."""
        offering = {info.node_name for info in self.get_publishers_info_by_topic("/diagnostics")}
        return [
            name
            for name in offering
            if name.endswith(_OURS) and not any(name in heard for heard in self.statuses)
        ]

    def _hear(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.statuses[status.name] = status


def examine_camera(
    seconds: float, arguments: list[str] | None = None, *, required: bool = False
) -> list[Check]:
    """Listen as depth_node would, at most so long, until enough has come.

    ``arguments`` are ROS's (--ros-args -r …); ``required`` makes a usable camera essential.
    """
    rclpy.init(args=arguments)
    node = CameraCheck()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    began = time.monotonic()
    try:
        while (listened := time.monotonic() - began) < seconds and not node.satisfied(listened):
            executor.spin_once(timeout_sec=0.1)
        return _checks(node, began, required)
    except ExternalShutdownException:
        return [Check("camera", False, "interrupted", required)]
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def _checks(node: CameraCheck, began: float, required: bool) -> list[Check]:
    inputs, took = node.inputs, time.monotonic() - began
    if node.usable:
        rate = (inputs.received + inputs.missed) / took
        lost = inputs.missed / max(1, inputs.received + inputs.missed)
        message = f"{node.usable} images with camera_info in {took:.0f} s, {node.size}"
        message += f", {rate:.1f} Hz, {lost:.0%} lost on the way"
    else:
        message = missing_link(inputs, node.drops, began) or "no usable image"
    checks = [Check("camera", node.usable > 0, message, required)]
    lidar = inputs.lidar
    if lidar.publishers():
        latest = node.drops.latest(began)
        message = f"{lidar.received} clouds, {node.points} points in the last"
        if not lidar.received:
            message = latest[1] if latest else f"nothing arrives on {lidar.topic}"
        checks.append(Check("lidar", node.points > 0, message, essential=False))
    for name, status in sorted(node.statuses.items()):
        if any(ours in name for ours in _OURS):
            fine = status.level == DiagnosticStatus.OK
            checks.append(Check(name, fine, status.message, essential=False))
    return checks
