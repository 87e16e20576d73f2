# SPDX-License-Identifier: Apache-2.0
"""Listens to running nodes from another process: when depth came, which poses, what they report."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Collection
from threading import Event, Thread

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from ..messages import stamp_ns
from .lockstep import DEPTH, DIAGNOSTICS, ODOM
from .stamps import read_stamp

COARSE = "depth/coarse"
_QUEUE = 10


class Observer:
    """Arrivals (monotonic ns) by stamp, kept images, odometry and the newest diagnostics.

    ``kept`` holds {topic: {stamp: Image}} for the stamps asked for; ``arrivals`` {topic: {stamp:
    ns}}; ``poses`` the Odometry messages; ``values`` {node: {key: value}}. Use as a context
    manager; callbacks run on a thread of its own.
    """

    def __init__(self, image_topics: Collection[str] = (DEPTH,), keep: Collection[int] = ()):
        self._topics, self._keep = tuple(image_topics), frozenset(keep)
        self.kept: dict[str, dict[int, Image]] = {topic: {} for topic in self._topics}
        self.arrivals: dict[str, dict[int, int]] = {topic: {} for topic in (*self._topics, ODOM)}
        self.poses: list[Odometry] = []
        self.values: dict[str, dict[str, str]] = {}
        self._context, self._stopped = Context(), Event()

    def as_readers(self) -> list[str]:
        """Arguments with which `replay` waits until all of this is connected."""
        return ["--readers", *(f"observer:{topic}" for topic in (*self._topics, ODOM))]

    def __enter__(self) -> Observer:
        """Begin to listen."""
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("observer", context=self._context, enable_rosout=False)
        for topic in self._topics:
            self._node.create_subscription(
                Image, topic, lambda raw, topic=topic: self._image(topic, raw), _QUEUE, raw=True
            )
        self._node.create_subscription(Odometry, ODOM, self._odometry, _QUEUE)
        self._node.create_subscription(DiagnosticArray, DIAGNOSTICS, self._diagnostics, _QUEUE)
        self._thread = Thread(target=self._spin, name="observer", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop listening; what was heard stays."""
        self._stopped.set()
        self._thread.join()
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _spin(self) -> None:
        executor = SingleThreadedExecutor(context=self._context)
        executor.add_node(self._node)
        try:
            while not self._stopped.is_set():
                executor.spin_once(timeout_sec=0.1)
        except ExternalShutdownException:
            return
        finally:
            executor.shutdown()

    def _image(self, topic: str, raw: bytes) -> None:
        stamp = read_stamp(raw)
        self.arrivals[topic].setdefault(stamp, time.monotonic_ns())
        if stamp in self._keep:
            self.kept[topic][stamp] = deserialize_message(raw, Image)

    def _odometry(self, message: Odometry) -> None:
        self.arrivals[ODOM].setdefault(stamp_ns(message), time.monotonic_ns())
        self.poses.append(message)

    def _diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.values[status.name.rsplit("/", 1)[-1]] = {
                item.key: item.value for item in status.values
            }

    def number(self, node: str, key: str) -> float | None:
        """A number of a node's diagnostics; None if it is not there."""
        text = self.values.get(node, {}).get(key)
        try:
            return None if text is None else float(text)
        except ValueError:
            return None

    def dropped(self, node: str) -> dict[str, int]:
        """Frames that a node has dropped, by reason."""
        mark = "dropped: "
        found = self.values.get(node, {}).items()
        return {key.removeprefix(mark): int(n) for key, n in found if key.startswith(mark)}

    def steps(self, node: str) -> dict[str, tuple[float, float]]:
        """Median and 95th percentile (ms) of a node's steps."""
        found = {}
        for key in self.values.get(node, {}):
            median = self.number(node, key)
            if key.endswith(" ms") and not key.endswith((" p95 ms", " age ms")):
                name = key.removesuffix(" ms")
                high = self.number(node, f"{name} p95 ms")
                if median is not None and high is not None:
                    found[name] = (median, high)
        return found


def own_domain() -> int:
    """Set this process and its children apart: this machine only, and a ROS domain nobody uses."""
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    if os.environ.get("ROS_DISTRO") == "humble":
        os.environ["ROS_LOCALHOST_ONLY"] = "1"
    for offset in range(100):
        domain = 1 + (os.getpid() + offset) % 100
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("0.0.0.0", 7400 + 250 * domain + 10))  # its first participant's port
            except OSError:
                continue
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        return domain
    raise RuntimeError("ROS_DOMAIN_ID: expected a free domain among 1 to 100, got none")
