# SPDX-License-Identifier: Apache-2.0
"""Publishes an open bag: when, with which stamps, and when to wait for the nodes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rosgraph_msgs.msg import Clock

from ..datasets.bag_reader import BagError, RawBag
from ..datasets.bag_topics import CLOUD, IMAGE, recognise
from .lockstep import Lockstep, Readiness
from .node_settings import Errand, extrinsics, sim_time
from .quality import offered
from .sources import lidar_extrinsics, tf_is_installed
from .stamps import (
    SECOND,
    TRANSFORMS,
    StampShift,
    message_class,
    read_stamp,
    shift_transforms,
    starts_with_header,
    write_stamp,
)

CLOCK_PERIOD = 0.01  # s; at least 50 Hz also on a busy machine
ALONE = SECOND // 10  # ns between the laps of a bag that holds a single moment
SETTLE = 1.0  # s: a writer knows of a reader before that knows of it; messages would be lost
POINTS_COME_AS = (CLOUD, IMAGE)  # or as sparse depth images
Message = tuple[str, int, bytes]  # topic, time of recording (ns), serialised message
OWN_TOPICS = ("/clock", "/rosout", "/parameter_events")  # never played: the nodes have their own


@dataclass(frozen=True)
class ReplayOptions:
    """What `replay` is told; see the command line's help."""

    bag: str
    rate: float = 1.0
    lockstep: bool = False
    loop: bool = False
    restamp: bool = False
    topics: tuple[str, ...] = ()
    wait: float = 0.0
    nodes: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()
    timeout: float = 30.0
    times: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1000:
            raise ValueError(f"rate: expected a number in (0, 1000], got {self.rate:g}")
        if self.lockstep and self.rate != 1.0:
            raise ValueError("lockstep: expected no rate beside it (the nodes set the pace)")


class Player:
    """Publishes the messages of an open bag; times are ns, monotonic ones seconds.

    It stops when something comes into ``signals``.
    """

    def __init__(self, node, bag: RawBag, options: ReplayOptions, signals: list[int]) -> None:
        self.node, self.bag, self.options, self._signals = node, bag, options, signals
        self.sent: dict[str, int] = {}
        self.image_times: list[tuple[int, int]] = []
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(node)
        self.shift = StampShift()
        self.clock = None if options.restamp else node.create_publisher(Clock, "/clock", 10)
        self._now, self._clock_due = 0, 0.0
        self._last_image = self._recorded_image = -1  # its stamp as sent, as in the bag
        self.headers: dict[str, bool] = {}
        self.publishers = dict(self._publishers())
        if not any(bag.topics[name].count for name in self.publishers):
            found = ", ".join(sorted(bag.topics)) or "no topics"
            raise BagError(f"bag: expected messages that can be played in {bag.path}, got {found}")
        found = recognise(bag)
        self.image = found.image
        wishes = [] if options.restamp else sim_time()
        if found.image and found.cloud in self.publishers and not tf_is_installed():
            values = lidar_extrinsics(bag, found)
            wishes += [extrinsics(values)] if values else []
        self.errands = [Errand(node, wish) for wish in wishes]
        self.lockstep = Lockstep(node, options.timeout) if options.lockstep else None

    @property
    def stopped(self) -> bool:
        """Whether the user has ended it."""
        return bool(self._signals)

    def _publishers(self):
        unknown = [name for name in self.options.topics if name not in self.bag.topics]
        if unknown:
            found = ", ".join(sorted(self.bag.topics)) or "none"
            raise ValueError(f"topics: expected some of {found}, got {', '.join(unknown)}")
        for name, topic in sorted(self.bag.topics.items()):
            if name in OWN_TOPICS or (self.options.topics and name not in self.options.topics):
                continue
            cls = message_class(topic.type)
            if cls is None:
                self.node.get_logger().warning(f"{name}: {topic.type} is not installed: not played")
                continue
            self.headers[name] = starts_with_header(cls)
            # In lockstep a lost image would never be answered.
            yield name, self.node.create_publisher(cls, name, offered(topic, self.options.lockstep))

    def serve(self, seconds: float = CLOCK_PERIOD) -> bool:
        """Serve callbacks and the clock for a moment; False once the player is stopped."""
        for errand in self.errands:
            errand.tick()
        if self.lockstep or any(errand.waiting for errand in self.errands):
            self.executor.spin_once(timeout_sec=seconds)
        elif seconds > 0:
            time.sleep(seconds)
        if time.monotonic() >= self._clock_due:
            self._tell_time()
        return not self.stopped

    def _tell_time(self) -> None:
        if self.clock and self._now:
            self._clock_due = time.monotonic() + CLOCK_PERIOD
            message = Clock()
            message.clock.sec, message.clock.nanosec = divmod(self._now, SECOND)
            self.clock.publish(message)

    def wait_until_heard(self) -> None:
        """Wait until someone reads the image topic (without one, any) and the nodes are ready.

        And until the expected readers read those of their topics that are published.
        """
        wanted = [self.image] if self.image in self.publishers else list(self.publishers)
        ready = Readiness(self.node, self.options.nodes, self.options.readers)
        deadline = time.monotonic() + self.options.wait
        while True:
            missing = ready.missing()
            if not any(self.publishers[name].get_subscription_count() for name in wanted):
                missing = [f"a subscriber of {wanted[0]}", *missing]
            if not missing:
                self.pause(SETTLE)
                return
            if not self.serve(0.02):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"wait: expected {' and '.join(missing)} within {self.options.wait:g} s, "
                    f"got none"
                )
            self.executor.spin_once(timeout_sec=0.0)

    def pause(self, seconds: float) -> None:
        """Serve for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.serve(0.02):
            continue

    def finish(self, seconds: float) -> None:
        """Give the nodes their own clock back; let the last messages leave."""
        for errand in self.errands:
            errand.undo()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def play(self) -> None:
        """All messages of the bag, once or, with loop, until stopped."""
        length = self.bag.end - self.bag.start
        frames = self.bag.topics[self.image].count if self.image else 100
        pause = length // max(1, frames - 1) or ALONE  # between laps: one frame
        offset = 0
        while not self.stopped:
            self.shift.new_lap(offset)
            self._play_once(offset)
            if self.lockstep and self._last_image >= 0 and not self.stopped:
                self.lockstep.wait(self._last_image, self.serve)
            if not self.options.loop or self.bag.problem:
                return
            offset += length + pause
            if not self.lockstep:
                self.pause(pause / SECOND / self.options.rate)

    def _play_once(self, offset: int) -> None:
        begun, start = time.monotonic(), self.bag.start
        for topic, recorded, raw in image_last(
            self.bag.messages(tuple(self.publishers)), self.image
        ):
            if offset and self._latched(topic):
                continue
            if not self.lockstep:
                due = begun + (recorded - start) / SECOND / self.options.rate
                while (left := due - time.monotonic()) > 0:
                    passed = time.monotonic() - begun
                    self._now = offset + start + int(passed * self.options.rate * SECOND)
                    if not self.serve(min(left, CLOCK_PERIOD / 2)):
                        return
            self._now = offset + recorded
            if not self.serve(0.0):
                return
            if self.lockstep and self._last_image >= 0 and self._waits(topic, raw):
                self.lockstep.wait(self._last_image, self.serve)
            self._publish(topic, recorded, raw)

    def _waits(self, topic: str, raw: bytes) -> bool:
        """Whether, in lockstep, a message goes only after the answer to the last image.

        The next image does, and points later than the last one: they would take the place of those
        that belong to it, if the node has not looked at it yet.
        """
        if topic == self.image:
            return True
        points = self.bag.topics[topic].type in POINTS_COME_AS and self._stamped(topic, raw)
        return points and read_stamp(raw) > self._recorded_image

    def _stamped(self, topic: str, raw: bytes) -> bool:
        return self.headers[topic] and len(raw) >= 12

    def _latched(self, topic: str) -> bool:
        profile = self.publishers[topic].qos_profile
        return profile.durability == rclpy.qos.DurabilityPolicy.TRANSIENT_LOCAL

    def _publish(self, topic: str, recorded: int, raw: bytes) -> None:
        stamp = -1
        if self.options.restamp:
            self.shift.anchor_to_present(recorded)
        if self._stamped(topic, raw):
            written = read_stamp(raw)
            stamp = self.shift(written)
            if topic == self.image:
                self._recorded_image = written
            if self.shift.offset:
                raw = write_stamp(raw, stamp)
        elif self.bag.topics[topic].type == TRANSFORMS and self.shift.offset:
            raw = shift_transforms(raw, self.shift, topic)
        if topic == self.image:
            self._tell_time()  # else its stamp would lie in the nodes' future
        now = time.monotonic_ns()
        self.publishers[topic].publish(raw)
        self.sent[topic] = self.sent.get(topic, 0) + 1
        if topic == self.image:
            self._last_image = stamp
            if self.options.times:  # else a loop would fill the memory
                self.image_times.append((stamp, now))


def image_last(messages: Iterator[Message], image: str) -> Iterator[Message]:
    """Of messages recorded at the same time the image goes last: what belongs to it is there."""
    for _, group in itertools.groupby(messages, key=lambda message: message[1]):
        yield from sorted(group, key=lambda message: message[0] == image)
