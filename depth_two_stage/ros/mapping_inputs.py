# SPDX-License-Identifier: Apache-2.0
"""The inputs of mapping_node: depth, its camera_info, colour and confidence joined by stamp."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from ..config import MappingInputParameters
from ..messages import MessageError, stamp_ns, to_camera, to_depth, to_rgb
from ..slam import Frame
from .inputs import StampGuard
from .reports import Drops
from .subscriptions import AdoptingSubscription, Follower, StampPairing
from .upstream import Upstream

DEPTH, INFO, IMAGE = "depth/image_rect", "depth/camera_info", "image_rect"
CONFIDENCE = "depth/confidence"
_WAITING = {DEPTH: 4, INFO: 50, IMAGE: 8, CONFIDENCE: 8}  # messages kept until their set is whole
_QUEUE = 2


class MappingInputs:
    """Subscribes and hands out whole sets, as they come, by ``deliver(stamp ns, messages)``.

    Confidence belongs to the set while its topic has a publisher.
    """

    def __init__(
        self,
        node: Node,
        parameters: MappingInputParameters,
        others: list[AdoptingSubscription],
        drops: Drops,
        group: CallbackGroup,
        deliver: Callable[[int, dict[str, Any]], None],
        jumped: Callable[[str], None],
    ) -> None:
        self._drops, self._deliver = drops, deliver
        self._confidence = parameters.confidence
        self.joined = 0
        self.subscriptions = {
            topic: AdoptingSubscription(
                node,
                CameraInfo if topic == INFO else Image,
                topic,
                lambda message, topic=topic: self._take(topic, message),
                reliability=parameters.reliability,
                depth=_QUEUE,
                group=group,
            )
            for topic in _WAITING
        }
        self._jumped = jumped
        self._guard = StampGuard(drops, self._restart)
        self._pairing = self._new_pairing(False)
        self._with_confidence = False
        self._upstream = Upstream(node, group)
        every = [*self.subscriptions.values(), *others]
        self._follower = Follower(node, every, group, self._choose)

    def _new_pairing(self, confidence: bool) -> StampPairing:
        wanted = {
            topic: count for topic, count in _WAITING.items() if confidence or topic != CONFIDENCE
        }
        return StampPairing(wanted, self._ready, self._unpaired)

    def _choose(self) -> None:
        """Take confidence into the sets when it gets a publisher, and out when it loses it."""
        topic = self.subscriptions[CONFIDENCE]
        confidence = self._confidence and bool(topic.publishers())
        topic.wanted = self._confidence
        if confidence != self._with_confidence:
            self._with_confidence = confidence
            self._pairing = self._new_pairing(confidence)

    def _take(self, topic: str, message: Any) -> None:
        stamp = stamp_ns(message)
        if topic == CONFIDENCE and not self._with_confidence:
            return
        if topic != DEPTH or self._guard.accepts(stamp):
            self._pairing.add(topic, stamp, message)

    def _restart(self, reason: str) -> None:
        self._pairing.restart()
        self._jumped(reason)

    def _ready(self, stamp: int, messages: dict[str, Any]) -> None:
        self.joined += 1
        self._upstream.close()
        self._deliver(stamp, messages)

    def _unpaired(self, stamp: int, missing: list[str]) -> None:
        names = " and ".join(missing)
        self._drops.add("unpaired", f"depth: expected {names} of the same stamp, got none")

    @property
    def received(self) -> int:
        """Depth images received so far."""
        return self.subscriptions[DEPTH].received

    def loading(self) -> str:
        """Which node offers the depth and is not ready for it yet, in words; empty: none."""
        status = self._upstream.status(self.subscriptions[DEPTH].publishers())
        if status is None or status.level != DiagnosticStatus.STALE:
            return ""
        return f"waiting for {status.name}: {status.message}"

    def missing(self) -> str:
        """What keeps frames from coming, in words; empty if nothing is known."""
        for topic, subscription in self.subscriptions.items():
            if topic == CONFIDENCE:
                continue
            publishers = subscription.publishers()
            if not publishers:
                return f"no publisher on {subscription.topic}"
            if not subscription.received:
                status = self._upstream.status(publishers)
                says = f"; {status.name} says: {status.message}" if status else ""
                return f"nothing received on {subscription.topic}{says}"
        return "" if self.joined else "depth, camera_info and image_rect have no stamp in common"


def decode(stamp: int, messages: dict[str, Any]) -> Frame:
    """Messages of one stamp → Frame; raises MessageError."""
    depth = to_depth(messages[DEPTH], DEPTH)
    rgb = to_rgb(messages[IMAGE], IMAGE)
    if rgb.shape[:2] != depth.shape:
        raise MessageError(
            f"{IMAGE}: expected the depth's size {depth.shape[0]}x{depth.shape[1]}, "
            f"got {rgb.shape[0]}x{rgb.shape[1]}"
        )
    camera = to_camera(messages[INFO], depth.shape, INFO)
    confidence = None
    if CONFIDENCE in messages:
        confidence = to_depth(messages[CONFIDENCE], CONFIDENCE)
        if confidence.shape != depth.shape:
            raise MessageError(
                f"{CONFIDENCE}: expected the depth's size {depth.shape[0]}x{depth.shape[1]}, "
                f"got {confidence.shape[0]}x{confidence.shape[1]}"
            )
    return Frame(rgb, depth, camera, stamp, confidence)
