# SPDX-License-Identifier: Apache-2.0
"""Waiting for the nodes: whether they are there, what has become of the image sent last."""

from __future__ import annotations

import time
from collections.abc import Callable

from .reports import READERS
from .stamps import SECOND, message_class, read_stamp

DEPTH, ODOM, DIAGNOSTICS = "depth/image_rect", "odom", "/diagnostics"
MATCHING = 10.0  # s; a reader that asks for another QoS is never matched
GRACE = 0.2  # s: diagnostics are small and overtake images
LAST_STAMP = "last stamp"  # diagnostics: the newest image a node is done with, published or not


class LockstepTimeout(RuntimeError):
    """The nodes did not answer an image in time."""


class Lockstep:
    """Holds back the next image until the nodes are done with the last one.

    An image is done with when `depth/image_rect` carries its stamp and, if some node publishes
    `odom`, that does too; or when the node's diagnostics name its stamp (or a later one) as the
    last it was done with, which covers dropped and lost frames.
    """

    def __init__(self, node, timeout: float) -> None:
        self.node, self.timeout = node, timeout
        self._answered: dict[str, int] = {DEPTH: -1, ODOM: -1}
        self._reported: dict[str, int] = {DEPTH: -1, ODOM: -1}
        self._reported_at = 0.0
        for topic, type_name in ((DEPTH, "sensor_msgs/msg/Image"), (ODOM, "nav_msgs/msg/Odometry")):
            node.create_subscription(
                message_class(type_name),
                topic,
                lambda raw, topic=topic: self._seen(topic, read_stamp(raw)),
                5,
                raw=True,
            )
        node.create_subscription(
            message_class("diagnostic_msgs/msg/DiagnosticArray"), DIAGNOSTICS, self._diagnostics, 20
        )

    def _seen(self, topic: str, stamp: int) -> None:
        self._answered[topic] = max(self._answered[topic], stamp)

    def _diagnostics(self, message) -> None:
        for status in message.status:
            topic = ODOM if "mapping" in status.name else DEPTH
            for item in status.values:
                if item.key == LAST_STAMP and item.value.isdigit():
                    if int(item.value) > self._reported[topic]:
                        self._reported_at = time.monotonic()
                    self._reported[topic] = max(self._reported[topic], int(item.value))

    def _missing(self, stamp: int) -> list[str]:
        """Topics that still have to carry the stamp; a dropped frame has nothing to wait for."""
        if self._answered[DEPTH] < stamp:
            if self._reported[DEPTH] < stamp or time.monotonic() < self._reported_at + GRACE:
                return [DEPTH]
            return []
        wanted = self.node.count_publishers(ODOM) > 0
        done = max(self._answered[ODOM], self._reported[ODOM]) >= stamp
        return [ODOM] if wanted and not done else []

    def wait(self, stamp: int, spin: Callable[[], bool]) -> None:
        """Spin until the image stamped ``stamp`` (ns) is done with, or raise LockstepTimeout.

        ``spin`` serves callbacks for some milliseconds; False from it ends the waiting.
        """
        deadline = time.monotonic() + self.timeout
        while missing := self._missing(stamp):
            if not spin():
                return
            if time.monotonic() > deadline:
                raise LockstepTimeout(
                    f"lockstep: expected {' and '.join(missing)} for the image stamped "
                    f"{stamp / SECOND:.3f} within {self.timeout:g} s, got none; are the nodes "
                    f"running and do they read this image topic?"
                )


class Readiness:
    """What is still to come before the first message of a bag may be sent.

    The nodes, by their /diagnostics (stale: still loading); the ``readers`` ("NODE:TOPIC") of
    topics that are published; and that the nodes know all readers of what they publish: DDS drops
    what is sent before both sides know of each other.
    """

    def __init__(self, node, names: tuple[str, ...], readers: tuple[str, ...]) -> None:
        self._node = node
        pairs = (reader.partition(":") for reader in readers)
        self._expected = [(name, node.resolve_topic_name(topic)) for name, _, topic in pairs]
        self._names, self._waiting = frozenset(names), set(names)
        self._matched: dict[str, int] = {}  # readers of the nodes' topics, as they count them
        self._ready_at: float | None = None
        if names:
            kind = message_class("diagnostic_msgs/msg/DiagnosticArray")
            self._stale = message_class("diagnostic_msgs/msg/DiagnosticStatus").STALE
            node.create_subscription(kind, DIAGNOSTICS, self._heard, 20)

    def _heard(self, message) -> None:
        for status in message.status:
            name = status.name.rsplit("/", 1)[-1]
            if name not in self._names:
                continue
            if status.level != self._stale:
                self._waiting.discard(name)
            for item in status.values:
                if item.key == READERS:
                    counts = (entry.rsplit(" ", 1) for entry in item.value.split(", "))
                    self._matched |= {topic: int(count) for topic, count in counts}

    def missing(self) -> list[str]:
        """What has not come yet, in words."""
        return sorted(self._waiting) or self._unread() or self._unmatched()

    def _unread(self) -> list[str]:
        return [
            f"{name} reading {topic}"
            for name, topic in self._expected
            if self._node.count_publishers(topic)
            and name not in {reader.node_name for reader in self._readers(topic)}
        ]

    def _unmatched(self) -> list[str]:
        late = [
            topic
            for topic, count in self._matched.items()
            if topic != DIAGNOSTICS and len(self._readers(topic)) > count
        ]
        now = time.monotonic()
        self._ready_at = self._ready_at or now
        if late and now > self._ready_at + MATCHING:
            self._node.get_logger().warning(
                f"readers of {', '.join(late)}: expected to be connected within {MATCHING:g} s, "
                f"got some that are not (another QoS?); going on without them"
            )
            return []
        return [f"all readers of {topic}" for topic in late]

    def _readers(self, topic: str) -> list:
        return self._node.get_subscriptions_info_by_topic(topic)
