# SPDX-License-Identifier: Apache-2.0
"""Records topics as they come, serialised, into an MCAP bag that every rosbag2 tool can read."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.signals import SignalHandlerOptions

from .executables import SIGNALS
from .quality import adopted, recorded
from .stamps import message_class
from .transports import use_profile

MEGABYTE = 1_000_000
LOOK_PERIOD = 0.25  # s between looks for publishers of topics that are not recorded yet
QUEUE = 30


class Recorder:
    """Subscribes to topics once they have publishers and writes what arrives.

    QoS is adopted from the publishers; the type comes from the graph. Beyond ``max_bytes`` of
    serialised messages nothing more is written, which is said once. With use_sim_time, what comes
    before the first /clock is kept and written at that time.
    """

    def __init__(self, node, writer, topics: list[str], max_bytes: int) -> None:
        from rosbags.typesys import Stores, get_typestore

        self._store = get_typestore(Stores.ROS2_JAZZY)
        self._node, self._writer, self._max_bytes = node, writer, max_bytes
        self._missing = [node.resolve_topic_name(topic) for topic in topics]
        self._connections: dict = {}
        self.written, self.messages, self.full = 0, 0, False
        self.problem = ""
        self._early: list[tuple[str, bytes]] = []  # what came before the first /clock
        # Not the node's clock: with use_sim_time that one stands still until the bag is played,
        # and the first messages would come before we look for them.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        node.create_timer(LOOK_PERIOD, self.look, clock=steady)
        self.look()

    def look(self) -> None:
        """Subscribe to those missing topics that have a publisher by now."""
        for topic in list(self._missing):
            publishers = self._node.get_publishers_info_by_topic(topic)
            if not publishers:
                continue
            self._missing.remove(topic)
            type_name = publishers[0].topic_type
            cls = message_class(type_name)
            if cls is None or type_name not in self._store.fielddefs:
                self._node.get_logger().warning(f"{topic}: {type_name} is not known: not recorded")
                continue
            profile = adopted(publishers, QUEUE)
            self._connections[topic] = self._writer.add_connection(
                topic, type_name, typestore=self._store, offered_qos_profiles=[recorded(profile)]
            )
            self._node.create_subscription(
                cls, topic, lambda raw, topic=topic: self._write(topic, raw), profile, raw=True
            )

    def _write(self, topic: str, raw: bytes) -> None:
        if self.full or self.problem:
            return
        if self.written + len(raw) > self._max_bytes:
            self.full = True
            self._node.get_logger().warning(
                f"record: {self._max_bytes / MEGABYTE:g} MB reached, the rest is not recorded"
            )
            return
        self.written += len(raw)
        self._early.append((topic, raw))
        now = self._node.get_clock().now().nanoseconds
        if now:  # 0: use_sim_time, and nothing on /clock yet
            self.flush(now)

    def flush(self, now: int) -> None:
        """Write what waits, as of ``now`` (ns)."""
        waiting, self._early = self._early, []
        try:
            for topic, raw in waiting:
                self._writer.write(self._connections[topic], now, raw)
                self.messages += 1
        except OSError as error:
            self.problem = f"record: expected room for the bag, got {error.strerror or error}"


def record(
    out: Path, topics: list[str], max_mb: float = 1e6, ros_arguments: list[str] | None = None
) -> int:
    """Record until a signal ends it; the exit code (1: the bag could not be written)."""
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
    from rosbags.rosbag2.errors import WriterError

    use_profile()
    stopped: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, _: stopped.append(number))
        for number in SIGNALS
    }
    rclpy.init(args=ros_arguments, signal_handler_options=SignalHandlerOptions.NO)
    node, recorder = rclpy.create_node("record"), None
    try:
        writer = Writer(out, version=8, storage_plugin=StoragePlugin.MCAP)
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        with writer:
            recorder = Recorder(node, writer, topics, int(max_mb * MEGABYTE))
            while not stopped and not recorder.problem:
                rclpy.spin_once(node, timeout_sec=0.1)
            _drain(node)
            recorder.flush(node.get_clock().now().nanoseconds or time.time_ns())
        if recorder.problem:
            print(recorder.problem, file=sys.stderr)
            return 1
        node.get_logger().info(f"{out}: {recorder.messages} messages recorded")
        return 0
    except (WriterError, OSError) as error:  # closing a bag on a full disk fails again
        problem = recorder.problem if recorder is not None else ""
        expected = f"record: expected a new folder that can be written, got {error}"
        print(problem or expected, file=sys.stderr)
        return 1
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _drain(node, seconds: float = 0.3) -> None:
    """Take in what has arrived already."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        rclpy.spin_once(node, timeout_sec=0.01)


def main(arguments: list[str] | None = None) -> int:
    """Record OUT TOPIC…; ROS arguments follow `--ros-args`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="record", description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the bag, which must not exist yet")
    parser.add_argument("topics", nargs="+")
    parser.add_argument("--max-mb", type=float, default=1e6, help="stop writing beyond this, MB")
    given = parser.parse_args(rclpy.utilities.remove_ros_args(["record", *arguments])[1:])
    return record(given.out, given.topics, given.max_mb, ["record", *arguments])


if __name__ == "__main__":
    sys.exit(main())
