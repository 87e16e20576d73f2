# SPDX-License-Identifier: Apache-2.0
"""The recorder over DDS: what it writes is what was sent, with types and QoS."""

import os
import resource
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("rclpy")
import numpy as np
import yaml
from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rig import PATIENCE, Rig
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from depth_two_stage.datasets.bag_reader import RawBag


@pytest.fixture
def rig():
    made = Rig(int(os.environ["ROS_DOMAIN_ID"]), name="sender")
    yield made
    made.close()


@pytest.fixture
def record():
    started = []

    def start(*arguments, largest_file: int = resource.RLIM_INFINITY) -> subprocess.Popen:
        command = [sys.executable, "-m", "depth_two_stage.ros.record", *map(str, arguments)]
        limits = (largest_file, resource.RLIM_INFINITY)
        started.append(
            subprocess.Popen(
                command,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits),
            )
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def connected(rig, publisher, process) -> None:
    assert rig.until(lambda: publisher.get_subscription_count() or process.poll() is not None)
    assert process.poll() is None


def test_records_raw_messages_with_types_and_qos(tmp_path, rig, record):
    out = tmp_path / "bag"
    process = record(out, "depth/image_rect", "/weak", "/latched", "/never")
    profiles = {
        "/depth/image_rect": QoSProfile(depth=40),
        "/weak": QoSProfile(depth=40, reliability=ReliabilityPolicy.BEST_EFFORT),
        "/latched": QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL),
    }
    publishers = {
        topic: rig.node.create_publisher(Image if "image" in topic else Header, topic, profile)
        for topic, profile in profiles.items()
    }
    images, weak, latched = publishers.values()
    latched.publish(Header(frame_id="once"))
    for publisher in publishers.values():
        connected(rig, publisher, process)
    for number in range(12):
        images.publish(Image(height=1, width=2, step=2, data=[number, 7], encoding="mono8"))
        weak.publish(Header(frame_id=str(number)))
        time.sleep(0.02)
    for publisher in (images, latched):
        assert publisher.wait_for_all_acked(Duration(seconds=PATIENCE))
    rig.handled("record")
    process.send_signal(signal.SIGHUP)  # its terminal was closed
    assert process.wait(PATIENCE) == 0
    with RawBag(out) as bag:
        assert set(bag.topics) == set(profiles)
        raw = {topic: [] for topic in profiles}
        for topic, _, message in bag.messages():
            raw[topic].append(message)
        assert bag.problem is None
        for topic, profile in profiles.items():
            (offer,) = bag.topics[topic].qos
            assert offer.reliability.name == profile.reliability.name
            assert offer.durability.name == profile.durability.name
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)

    def read(topic: str, kind: str) -> list:
        return [store.deserialize_cdr(one, kind) for one in raw[topic]]

    pixels = [image.data[0] for image in read("/depth/image_rect", "sensor_msgs/msg/Image")]
    assert pixels == list(range(12))
    arrived = [int(header.frame_id) for header in read("/weak", "std_msgs/msg/Header")]
    assert arrived and arrived == sorted(set(arrived))  # best effort: some may be lost
    assert [header.frame_id for header in read("/latched", "std_msgs/msg/Header")] == ["once"]
    metadata = yaml.safe_load((out / "metadata.yaml").read_text())
    assert metadata["rosbag2_bagfile_information"]["version"] == 8


def test_what_comes_before_the_first_clock_is_kept(tmp_path, rig, record):
    process = record(tmp_path / "bag", "/early", "--ros-args", "-p", "use_sim_time:=true")
    headers = rig.node.create_publisher(Header, "/early", 10)
    connected(rig, headers, process)  # it looks for publishers although its clock stands still
    for number in range(3):
        headers.publish(Header(frame_id=str(number)))
    rig.handled("record")
    clock = rig.node.create_publisher(Clock, "/clock", 10)
    # To the end: it is heard best effort, and nothing tells when.
    rig.node.create_timer(0.03, lambda: clock.publish(Clock(clock=Time(sec=5))))
    connected(rig, clock, process)
    rig.spin(1.0)
    headers.publish(Header(frame_id="3"))
    rig.handled("record")
    process.send_signal(signal.SIGTERM)
    assert rig.until(lambda: process.poll() is not None)
    assert process.returncode == 0
    with RawBag(tmp_path / "bag") as bag:
        found = [(when, raw[12:].rstrip(b"\0")) for _, when, raw in bag.messages()]
    assert [when for when, _ in found] == [5 * 10**9] * 4
    assert [text[-1:] for _, text in found] == [b"0", b"1", b"2", b"3"]


def test_stops_writing_at_the_bound(tmp_path, rig, record):
    process = record(tmp_path / "bag", "depth/image_rect", "--max-mb", 0.05)
    images = rig.node.create_publisher(Image, "depth/image_rect", 40)
    connected(rig, images, process)
    for _ in range(10):
        images.publish(Image(height=1, width=10000, step=10000, data=bytes(10000)))
        time.sleep(0.02)
    rig.handled("record")
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0
    assert "0.05 MB reached" in error
    with RawBag(tmp_path / "bag") as bag:
        assert bag.topics["/depth/image_rect"].count == 4


def test_an_existing_folder_is_not_overwritten(tmp_path, record):
    process = record(tmp_path, "depth/image_rect")
    error = process.communicate(timeout=PATIENCE)[1].strip()
    assert process.returncode == 1
    assert len(error.splitlines()) == 1 and "record: expected a new folder" in error


def test_a_full_disk_is_said_in_one_line(tmp_path, rig, record):
    process = record(tmp_path / "bag", "depth/image_rect", largest_file=40_000_000)
    images = rig.node.create_publisher(Image, "depth/image_rect", 40)
    connected(rig, images, process)
    rng = np.random.default_rng(0)

    def send_noise() -> None:
        noise = rng.integers(0, 255, 2_000_000, np.uint8).tobytes()
        images.publish(Image(height=1, width=2_000_000, step=2_000_000, data=noise))

    assert rig.repeat(send_noise, lambda: process.poll() is not None, 0.05)
    error = process.communicate(timeout=PATIENCE)[1].strip()
    assert process.returncode == 1
    assert error.splitlines()[-1].startswith("record: expected room for the bag, got")
    assert "Traceback" not in error
