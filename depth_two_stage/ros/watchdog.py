# SPDX-License-Identifier: Apache-2.0
"""Names the missing link when nothing comes out: used by depth_node and by the doctor."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy

from ..config import NODES
from .inputs import Inputs
from .reports import Drops
from .subscriptions import AdoptingSubscription, in_words

_SILENT = (
    "if it does publish, the transports differ: compare FASTDDS_BUILTIN_TRANSPORTS, the Fast DDS "
    "profile and RMW_IMPLEMENTATION on both sides"
)
NOBODY = "subscriber: nobody subscribes to an output, so nothing is computed"
_MINUTE = 60.0  # s
_REMEDY = (
    "make the camera reliable, or start it with config/fastdds.xml of this package as "
    "FASTDDS_DEFAULT_PROFILES_FILE, or read its compressed images"
)


def missing_link(inputs: Inputs, drops: Drops, since: float) -> str | None:
    """The first broken link from the camera to this node since ``since`` (monotonic), one line."""
    return (
        _no_publisher(inputs)
        or _no_image(inputs, since)
        or _stamps(drops, since)
        or _no_camera_info(inputs, since)
        or _dropped(drops, since)
    )


def missing_points(inputs: Inputs, unused: Drops, since: float) -> str | None:
    """Why no points are used although someone publishes them, one line; None: nobody does."""
    for subscription in (inputs.lidar, inputs.sparse_depth):
        if not subscription.publishers():
            for other in subscription.publishers(any_type=True):
                return (
                    f"points: expected {subscription.kind.__name__} on {subscription.topic}, "
                    f"{other.node_name} publishes {other.topic_type} there"
                )
            continue
        if not _arrived(subscription, since):
            return f"points: {_not_arriving(subscription)}"
        latest = unused.latest(since)
        if latest:
            return f"points: {latest[1]}"
        return (
            f"points: what arrives on {subscription.topic} is farther than lidar.max_age from the "
            "images in time: compare the stamps (clocks of both sensors, lidar.time_offset)"
        )
    return None


class LossWatch:
    """Notices a best-effort camera of which most images are lost on the way."""

    def __init__(self) -> None:
        self._since, self._received, self._missed = time.monotonic(), 0, 0

    def check(self, inputs: Inputs, period: float) -> str | None:
        """The line to say, at most once in ``period`` s (0: never)."""
        now = time.monotonic()
        if period <= 0 or now - self._since < period:
            return None
        received, missed = inputs.received - self._received, inputs.missed - self._missed
        self._since, self._received, self._missed = now, inputs.received, inputs.missed
        weak = [s for s in inputs.images if s.active and in_words(s.profile).startswith("best")]
        if not weak or missed <= received:
            return None
        return (
            f"transports: {missed} of {missed + received} images on {weak[0].topic} were lost on "
            f"the way: {_REMEDY}"
        )


def foreign_publisher(node: Node, topic: str, meant: str) -> str | None:
    """The line to say if another node publishes on a topic that is our output."""
    name = node.resolve_topic_name(topic)
    for other in node.get_publishers_info_by_topic(name):
        if (other.node_name, other.node_namespace) != (node.get_name(), node.get_namespace()):
            return (
                f"{topic}: {other.node_name} publishes on {name} too, which is an output of this "
                f"node: its input is {meant}, remap that instead"
            )
    return None


def _no_publisher(inputs: Inputs) -> str | None:
    if any(subscription.publishers() for subscription in inputs.images):
        return None
    for subscription in inputs.images:
        for other in subscription.publishers(any_type=True):
            right = "; remap image/compressed to it" if "Compressed" in other.topic_type else ""
            return (
                f"image: expected {subscription.kind.__name__} on {subscription.topic}, "
                f"{other.node_name} publishes {other.topic_type} there{right}"
            )
    topics = " or ".join(subscription.topic for subscription in inputs.images)
    found = _image_topics(inputs.raw.node)
    hint = f"; images are on {', '.join(found)}: remap" if found else "; no images on any topic"
    return (
        f"image: no publisher on {topics}{hint} (a camera with another ROS_DOMAIN_ID or with "
        "FASTDDS_BUILTIN_TRANSPORTS set is not seen at all)"
    )


def _image_topics(node: Node) -> list[str]:
    """Topics on which nodes of others publish images."""
    own = {node.get_name(), *NODES}
    kinds = {"sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"}
    return [
        topic
        for topic, types in node.get_topic_names_and_types()
        if kinds & set(types)
        and any(other.node_name not in own for other in node.get_publishers_info_by_topic(topic))
    ]


def _no_image(inputs: Inputs, since: float) -> str | None:
    silent = [s for s in inputs.images if s.publishers() and not _arrived(s, since)]
    if any(_arrived(s, since) for s in inputs.images) or not silent:
        return None
    return f"image: {_not_arriving(silent[0])}"


def _not_arriving(subscription: AdoptingSubscription) -> str:
    """Why a topic that has a publisher brings nothing."""
    publishers = subscription.publishers()
    weak = [p for p in publishers if p.qos_profile.reliability != ReliabilityPolicy.RELIABLE]
    if weak and subscription.reliability == "reliable":
        return (
            f"QoS: {weak[0].node_name} publishes {subscription.topic} best effort and "
            "input.reliability asks for reliable: set it to auto"
        )
    if subscription.last_received is not None:
        ago = time.monotonic() - subscription.last_received
        return f"nothing arrives on {subscription.topic} any more, the last came {ago:.0f} s ago"
    start = f"nothing arrives on {subscription.topic} although {publishers[0].node_name} offers it"
    if weak:
        return (
            f"{start}; it is best effort, and large messages are lost on default transports: "
            f"{_REMEDY} ({_SILENT})"
        )
    return f"{start}; {_SILENT}"


def _stamps(drops: Drops, since: float) -> str | None:
    latest = drops.latest(since)
    return latest[1] if latest and latest[0].startswith("stamp") else None


def _no_camera_info(inputs: Inputs, since: float) -> str | None:
    if inputs.paired_since(since):
        return None
    info = inputs.info
    if not info.publishers():
        others = {p.topic_type for p in info.publishers(any_type=True)}
        wrong = f" (but {', '.join(others)})" if others else ""
        return f"camera_info: no publisher on {info.topic}{wrong}"
    if not _arrived(info, since):
        return f"camera_info: {_not_arriving(info)}"
    return inputs.why_unpaired(inputs.newest)


def _dropped(drops: Drops, since: float) -> str | None:
    latest = drops.latest(since)
    return latest[1] if latest else None


def _arrived(subscription: AdoptingSubscription, since: float) -> bool:
    return subscription.last_received is not None and subscription.last_received >= since


class Watchdog:
    """Says one line after ``period`` s without output, and again when the reason changes.

    The same line is repeated every minute; that nobody subscribes is no fault and said once.
    """

    def __init__(self, say: Callable[[str], None], what: str = "output") -> None:
        self._say, self._what = say, what
        self._fed = time.monotonic()
        self._said: tuple[str, float] | None = None

    @property
    def fed(self) -> float:
        """When there was output last, monotonic, s."""
        return self._fed

    def feed(self) -> None:
        """There is output."""
        self._fed, self._said = time.monotonic(), None

    def check(self, period: float, reason: Callable[[float], str | None]) -> None:
        """Ask for the reason and say it, if there was nothing for ``period`` s (0: never)."""
        now = time.monotonic()
        if period <= 0 or now - self._fed < period:
            return
        line = reason(now - period)
        if line is None:
            return
        # Numbers in the line change from time to time; its beginning tells the reason.
        key = line.split(",")[0]
        repeat = float("inf") if line.startswith(NOBODY) else _MINUTE
        if self._said is None or self._said[0] != key or now - self._said[1] >= repeat:
            self._said = key, now
            self._say(f"no {self._what} for {now - self._fed:.0f} s: {line}")
