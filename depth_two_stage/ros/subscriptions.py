# SPDX-License-Identifier: Apache-2.0
"""Subscriptions that adopt their publishers' QoS, and messages joined by their stamps."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription

from .quality import adopted

LOOK_FOR_PUBLISHERS = 0.25  # s, until the first publisher is there
CHECK_QOS = 1.0  # s
_FORCED = {"reliable": ReliabilityPolicy.RELIABLE, "best_effort": ReliabilityPolicy.BEST_EFFORT}


def type_name(kind: type) -> str:
    """A message class's ROS name, as the graph gives it: sensor_msgs/msg/Image."""
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


def in_words(profile: QoSProfile) -> str:
    """Reliability and durability as a reader of the log expects them."""
    return f"{profile.reliability.name}, {profile.durability.name}".lower().replace("_", " ")


# Where rclpy hands out message numbers (Iron and later), losses are counted.
if hasattr(Subscription, "CallbackType"):
    _RECEIVES = attrgetter("_receive_with")
else:
    _RECEIVES = attrgetter("_receive")


class AdoptingSubscription:
    """One topic, read with the QoS of its publishers: several publishers, the weakest.

    Nothing is subscribed before a publisher of the right type is there or while ``wanted`` is
    False. ``follow`` is called by a timer, because nodes start before cameras.
    """

    def __init__(
        self,
        node: Node,
        kind: type,
        topic: str,
        callback: Callable[[Any], None],
        *,
        reliability: str | Callable[[], str] = "auto",
        depth: int = 1,
        group: CallbackGroup | None = None,
    ) -> None:
        self.node, self.kind, self.callback, self.group = node, kind, callback, group
        self.topic = node.resolve_topic_name(topic)
        self._reliability, self.depth = reliability, depth
        self.wanted = True
        self.received = 0
        self.missed = 0  # sent by a publisher, but overwritten or lost before it was taken
        self.last_received: float | None = None  # monotonic, s
        self.profile: QoSProfile | None = None
        self._subscription = None
        self._sequence: dict[Any, int] = {}  # last number by publisher

    @property
    def reliability(self) -> str:
        """The parameter, which may change: auto, reliable or best_effort."""
        return self._reliability() if callable(self._reliability) else self._reliability

    def publishers(self, *, any_type: bool = False) -> list:
        """Endpoints that publish this topic with our type (or any)."""
        found = self.node.get_publishers_info_by_topic(self.topic)
        return [item for item in found if any_type or item.topic_type == type_name(self.kind)]

    def follow(self) -> None:
        """Adopt what the publishers offer now; keep what there was when they are gone."""
        if not self.wanted:
            self._drop()
            return
        publishers = self.publishers()
        if not publishers:
            return
        profile = adopted(publishers, self.depth)
        profile.reliability = _FORCED.get(self.reliability, profile.reliability)
        if self._subscription is not None and in_words(profile) == in_words(self.profile):
            return
        self._drop()
        self.profile = profile
        self._subscription = self.node.create_subscription(
            self.kind, self.topic, _RECEIVES(self), profile, callback_group=self.group
        )
        origin = "parameter" if self.reliability != "auto" else "as its publisher"
        if len(publishers) > 1 and self.reliability == "auto":
            origin = f"the weakest of {len(publishers)} publishers"
        names = ", ".join(sorted({item.node_name for item in publishers}))
        self.node.get_logger().info(
            f"{self.topic} ({self.kind.__name__}) from {names}: {in_words(profile)} ({origin})"
        )

    @property
    def active(self) -> bool:
        """Whether the topic is subscribed."""
        return self._subscription is not None

    def _receive(self, message: Any) -> None:
        self.received += 1
        self.last_received = time.monotonic()
        self.callback(message)

    def _receive_with(self, message: Any, info: dict[str, Any]) -> None:
        """Count the gap in the publisher's numbers before the message is used."""
        number = info.get("publication_sequence_number")
        if number is not None:
            publisher = str(info.get("publisher_gid"))
            gap = number - self._sequence.get(publisher, number - 1) - 1
            # Without the publisher's name, the numbers of several cannot be told apart.
            if gap > 0 and (publisher != "None" or len(self.publishers()) == 1):
                self.missed += gap
            self._sequence[publisher] = number
        self._receive(message)

    def _drop(self) -> None:
        if self._subscription is not None:
            self.node.destroy_subscription(self._subscription)
            self._subscription = None


class Follower:
    """Keeps subscriptions at their publishers' QoS, on the steady clock, also without /clock."""

    def __init__(
        self,
        node: Node,
        subscriptions: list[AdoptingSubscription],
        group: CallbackGroup,
        choose: Callable[[], None] | None = None,
    ) -> None:
        self._subscriptions, self._checked, self._choose = subscriptions, 0.0, choose
        self.paused = False
        self._timer = node.create_timer(
            LOOK_FOR_PUBLISHERS,
            self._tick,
            callback_group=group,
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    def _tick(self) -> None:
        if self.paused:
            return
        if self._choose is not None:
            self._choose()
        everything = time.monotonic() - self._checked >= CHECK_QOS
        if everything:
            self._checked = time.monotonic()
        for subscription in self._subscriptions:
            if everything or not subscription.active:
                subscription.follow()


class StampPairing:
    """Joins messages of several topics by exactly equal stamps (ns).

    ``capacities`` {name: messages kept}; the first name is the main one. A complete set goes to
    ``ready(stamp, {name: message})``; a main message that leaves unpaired goes to ``unpaired``.
    """

    def __init__(
        self,
        capacities: dict[str, int],
        ready: Callable[[int, dict[str, Any]], None],
        unpaired: Callable[[int, list[str]], None],
    ) -> None:
        self._capacities, self._ready, self._unpaired = capacities, ready, unpaired
        self._main = next(iter(capacities))
        self._waiting: dict[str, OrderedDict[int, Any]] = {
            name: OrderedDict() for name in capacities
        }

    def add(self, name: str, stamp: int, message: Any) -> None:
        """Take one message; may call ``ready`` or ``unpaired``."""
        waiting = self._waiting[name]
        waiting[stamp] = message
        waiting.move_to_end(stamp)
        if all(stamp in others for others in self._waiting.values()):
            joined = {other: found.pop(stamp) for other, found in self._waiting.items()}
            for earlier in [s for s in self._waiting[self._main] if s < stamp]:
                self._leave(earlier)
            self._ready(stamp, joined)
            return
        if len(waiting) > self._capacities[name]:
            oldest = next(iter(waiting))
            if name == self._main:
                self._leave(oldest)
            else:
                del waiting[oldest]

    def restart(self) -> None:
        """Let go of the main messages that wait: time went back, and no older set may follow."""
        for stamp in list(self._waiting[self._main]):
            self._leave(stamp)

    def _leave(self, stamp: int) -> None:
        missing = [name for name, waiting in self._waiting.items() if stamp not in waiting]
        del self._waiting[self._main][stamp]
        self._unpaired(stamp, missing)

    def nearest(self, name: str, stamp: int) -> int | None:
        """The stamp (ns) of the waiting message of ``name`` nearest to ``stamp``; None: none."""
        return min(self._waiting[name], key=lambda other: abs(other - stamp), default=None)
