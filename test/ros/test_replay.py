# SPDX-License-Identifier: Apache-2.0
"""`replay` over DDS: a process plays, this one listens."""

import itertools
import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("rclpy")
import numpy as np
import rclpy
import small_bag
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import SetParametersResult
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rig import PATIENCE
from rosbags.rosbag2 import StoragePlugin, Writer
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from depth_two_stage.datasets.bag_reader import BagError, RawBag
from depth_two_stage.datasets.bag_topics import recognise
from depth_two_stage.messages import stamp_ns
from depth_two_stage.ros import node_settings
from depth_two_stage.ros.node_settings import Errand, sim_time
from depth_two_stage.ros.sources import tf_is_installed

QUEUE = 1000  # messages: all of a bag's, should this process be held up


def spin_until(node, done) -> None:
    deadline = time.monotonic() + 2 * PATIENCE
    while not done():
        assert time.monotonic() < deadline, "nothing came in time"
        rclpy.spin_once(node, timeout_sec=0.05)


class Listener:
    """Keeps what arrives."""

    def __init__(self, node, reliability=ReliabilityPolicy.BEST_EFFORT) -> None:
        self.node, self.images, self.infos, self.clouds, self.clock = node, [], [], [], []
        profile = QoSProfile(depth=QUEUE, reliability=reliability)
        node.create_subscription(Image, "/camera/image_raw", self.images.append, profile)
        node.create_subscription(CameraInfo, "/camera/camera_info", self.infos.append, QUEUE)
        node.create_subscription(PointCloud2, "/lidar/points", self.clouds.append, QUEUE)
        node.create_subscription(Clock, "/clock", self._tick, QUEUE)

    def _tick(self, message: Clock) -> None:
        self.clock.append(message.clock.sec * 10**9 + message.clock.nanosec)

    def until(self, done) -> None:
        spin_until(self.node, done)

    def until_end(self, process: subprocess.Popen) -> str:
        """Listen until the process ends; what it wrote to stderr."""
        self.until(lambda: process.poll() is not None)
        return process.communicate()[1]


@pytest.fixture
def node():
    rclpy.init()
    made = rclpy.create_node("listener")
    yield made
    made.destroy_node()
    rclpy.shutdown()


@pytest.fixture
def replay():
    """Starts replay processes and ends those that still run."""
    started = []

    def start(*arguments) -> subprocess.Popen:
        command = [sys.executable, "-m", "depth_two_stage.ros.replay", *map(str, arguments)]
        started.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def played(node, replay, bag, *arguments: str, count: int) -> Listener:
    """What is heard of a bag with so many images; again if one, best effort, was lost."""
    for _ in range(3):
        heard = Listener(node)
        process = replay(bag, *arguments, "--wait", 60)
        error = heard.until_end(process)
        assert process.returncode == 0, error
        for _ in range(40):  # what has arrived is taken one by one
            rclpy.spin_once(node, timeout_sec=0.05)
        if len(heard.images) == len(heard.infos) == len(heard.clouds) == count:
            break
    return heard


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_plays_as_recorded(tmp_path, node, replay, plugin):
    bag = small_bag.write(tmp_path / "bag", frames=10, plugin=plugin)
    heard = played(node, replay, bag, count=10)
    stamps = [small_bag.BEGIN + i * small_bag.STEP for i in range(10)]
    assert [stamp_ns(m) for m in heard.images] == stamps
    assert [stamp_ns(m) for m in heard.infos] == stamps
    assert len(heard.clouds) == 10
    assert heard.images[3].data[0] == 15
    times = heard.clock
    assert times == sorted(times)
    assert times[0] >= small_bag.BEGIN and times[-1] <= stamps[-1] + small_bag.STEP


def test_offers_the_recorded_quality_of_service(tmp_path, node, replay):
    replay(small_bag.write(tmp_path / "bag", frames=40), "--loop")
    topics = {
        "/camera/image_raw": (ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE),
        "/lidar/points": (ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE),
        "/marks": (ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL),
    }
    heard = Listener(node)
    heard.until(lambda: all(node.count_publishers(topic) for topic in topics))
    for topic, expected in topics.items():
        profile = node.get_publishers_info_by_topic(topic)[0].qos_profile
        assert (profile.reliability, profile.durability) == expected, topic


def test_loop_shifts_stamps_forward_and_sigint_ends_it(tmp_path, node, replay):
    bag = small_bag.write(tmp_path / "bag", frames=5)
    heard = Listener(node)
    process = replay(bag, "--loop", "--rate", 2, "--wait", 60)

    def ticks() -> bool:
        """Whether the clock, twice as fast, came at 50 Hz; a busy machine may hold it at times."""
        steps = np.diff(heard.clock[-30:])
        return len(steps) > 20 and np.median(steps) < 40_000_000

    heard.until(lambda: len(heard.images) >= 18 and ticks())
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0
    for kept in (heard.images, heard.infos, heard.clouds):
        stamps = [stamp_ns(message) for message in kept]
        assert all(a < b for a, b in itertools.pairwise(stamps))

    def stamps_of(messages) -> set[int]:
        return {stamp_ns(message) for message in messages}

    newest = max(stamps_of(heard.infos))  # the end may have come between it and its image
    images = {stamp for stamp in stamps_of(heard.images) if stamp <= newest}
    heard.until(lambda: images <= stamps_of(heard.infos))
    times = heard.clock
    assert times == sorted(times)


def test_restamp_writes_the_present_and_keeps_pairs(tmp_path, node, replay):
    bag = small_bag.write(tmp_path / "bag", frames=8)
    heard = played(node, replay, bag, "--restamp", count=8)
    stamps = [stamp_ns(message) for message in heard.images]
    assert stamps == [stamp_ns(message) for message in heard.infos]
    assert len(stamps) == 8
    assert abs(stamps[-1] - time.time_ns()) < PATIENCE * 1e9
    assert not heard.clock


def test_lockstep_waits_for_depth_and_odometry(tmp_path, node, replay):
    bag = small_bag.write(tmp_path / "bag", frames=4, cloud_lag=500_000)  # before its image
    heard = Listener(node, ReliabilityPolicy.RELIABLE)
    depth = node.create_publisher(Image, "depth/image_rect", 5)
    odom = node.create_publisher(Odometry, "odom", 5)
    process = replay(bag, "--lockstep", "--wait", 60)
    for count in range(1, 5):
        heard.until(lambda count=count: len(heard.images) == count)
        header = heard.images[-1].header
        depth.publish(Image(header=header))
        for _ in range(6):  # odometry is missing: no further image may come
            rclpy.spin_once(node, timeout_sec=0.05)
        assert len(heard.images) == count
        # Nor points later than the image: they would be taken for its own.
        assert [stamp_ns(cloud) for cloud in heard.clouds] == list(map(stamp_ns, heard.images))
        odom.publish(Odometry(header=header))
    assert process.wait(PATIENCE) == 0


def test_lockstep_without_an_answer_says_so(tmp_path, node, replay):
    bag = small_bag.write(tmp_path / "bag", frames=4)
    heard = Listener(node, ReliabilityPolicy.RELIABLE)
    process = replay(bag, "--lockstep", "--timeout", 1, "--wait", 60)
    error = heard.until_end(process).strip().splitlines()[-1]
    assert process.returncode == 1
    assert "lockstep: expected depth/image_rect for the image stamped 1700000000.000" in error
    assert len(heard.images) == 1


def test_topics_play_alone_and_unknown_ones_are_answered_with_the_list(tmp_path, node, replay):
    bag = small_bag.write(tmp_path / "bag", frames=5)
    heard = Listener(node)
    process = replay(bag, "--topics", "/lidar/points", "--wait", 60)
    heard.until_end(process)
    heard.until(lambda: len(heard.clouds) == 5)
    assert not heard.images
    process = replay(bag, "--topics", "/lidar/point")
    error = process.communicate(timeout=PATIENCE)[1].strip()
    assert process.returncode == 1
    assert len(error.splitlines()) == 1
    assert "/lidar/points" in error and "/camera/image_raw" in error


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_truncated_bag_plays_what_is_readable(tmp_path, node, replay, plugin):
    bag = small_bag.write(tmp_path / "bag", frames=300, plugin=plugin)
    (file,) = (path for path in bag.iterdir() if path.suffix in (".mcap", ".db3"))
    os.truncate(file, file.stat().st_size * 7 // 10)
    heard = Listener(node)
    process = replay(bag, "--rate", 10, "--wait", 60)
    error = [line for line in heard.until_end(process).splitlines() if "replay: " in line]
    heard.until(lambda: len(heard.clouds) > 50)
    assert process.returncode == 1
    assert len(error) == 1 and "damaged bag" in error[0]
    assert len(heard.clouds) < 300


def test_what_is_no_bag_is_said_in_one_line(tmp_path, replay):
    (tmp_path / "noise.mcap").write_bytes(b"no bag at all" * 40)
    for path in (tmp_path / "missing", tmp_path / "noise.mcap", tmp_path):
        with pytest.raises(BagError, match="bag: expected"), RawBag(path):
            pass
    process = replay(tmp_path / "missing")
    error = process.communicate(timeout=PATIENCE)[1].strip()
    assert process.returncode == 1 and len(error.splitlines()) == 1


def test_a_bag_without_anything_to_play_is_said_in_one_line(tmp_path, replay):
    with Writer(tmp_path / "empty", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection("/image", "sensor_msgs/msg/Image", typestore=small_bag.STORE)
    process = replay(tmp_path / "empty", "--loop", "--wait", 60)
    error = process.communicate(timeout=PATIENCE)[1].strip()
    assert process.returncode == 1 and len(error.splitlines()) == 1
    assert "bag: expected messages that can be played in" in error and "got /image" in error


def test_a_wrong_remapping_is_said_in_one_line(tmp_path, replay):
    process = replay(small_bag.write(tmp_path / "bag"), "--ros-args", "-r", "a b:=c")
    error = process.communicate(timeout=PATIENCE)[1].strip()
    assert process.returncode == 2 and len(error.splitlines()) == 1
    assert error.startswith("replay: ") and "a b:=c" in error


def test_a_single_moment_is_looped_at_its_own_pace(tmp_path, node, replay):
    bag = small_bag.write(tmp_path / "bag", frames=1)
    heard = Listener(node)
    process = replay(bag, "--loop", "--wait", 60)
    heard.until(lambda: len(heard.clouds) >= 5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    stamps = [stamp_ns(message) for message in heard.clouds]
    assert min(b - a for a, b in itertools.pairwise(stamps)) >= 2_000_000


def test_running_nodes_get_the_bags_clock_and_extrinsics(tmp_path, node, replay):
    bag = small_bag.write(tmp_path / "bag", frames=20)
    depth_node = rclpy.create_node("depth_node", use_global_arguments=False)
    depth_node.declare_parameter("lidar.extrinsics", rclpy.Parameter.Type.DOUBLE_ARRAY)
    empty = rclpy.Parameter("lidar.extrinsics", rclpy.Parameter.Type.DOUBLE_ARRAY, [])
    depth_node.set_parameters([empty])

    process = replay(bag, "--loop")
    spin_until(depth_node, lambda: depth_node.get_parameter("use_sim_time").value)
    if not tf_is_installed():  # else the bag's /tf_static is played
        spin_until(depth_node, lambda: depth_node.get_parameter("lidar.extrinsics").value)
        value = list(depth_node.get_parameter("lidar.extrinsics").value)
        assert value == pytest.approx([0.0, -0.1, 0.05, 0.0, 0.0, 0.0, 1.0])
    process.send_signal(signal.SIGHUP)  # its terminal was closed
    spin_until(depth_node, lambda: process.poll() is not None)
    assert process.returncode == 0
    spin_until(depth_node, lambda: not depth_node.get_parameter("use_sim_time").value)
    depth_node.destroy_node()


def test_a_clock_that_is_not_confirmed_yet_is_taken_back(node):
    """A signal may come between the request and its answer."""
    depth_node = rclpy.create_node("depth_node", use_global_arguments=False)
    values = []

    def given(parameters) -> SetParametersResult:
        values.extend(parameter.value for parameter in parameters)
        return SetParametersResult(successful=True)

    depth_node.add_on_set_parameters_callback(given)
    errand = Errand(node, sim_time()[0])
    deadline = time.monotonic() + PATIENCE
    while len(values) < 2:
        assert time.monotonic() < deadline, values
        if errand.changed:
            errand.undo()
            errand.changed = False
        elif not values:
            errand.tick()
        rclpy.spin_once(node, timeout_sec=0.05)
        rclpy.spin_once(depth_node, timeout_sec=0.05)
    assert values == [True, False]
    depth_node.destroy_node()


def test_an_answer_that_does_not_come_is_asked_for_again(node, monkeypatch):
    """A node that does not know its client yet sends none."""
    depth_node = rclpy.create_node("depth_node", use_global_arguments=False)
    values = []

    def given(parameters) -> SetParametersResult:
        values.extend(parameter.value for parameter in parameters)
        return SetParametersResult(successful=True)

    depth_node.add_on_set_parameters_callback(given)
    errand = Errand(node, sim_time()[0])

    def spin(*nodes) -> None:
        for each in nodes:
            rclpy.spin_once(each, timeout_sec=0.02)

    spin_until(node, lambda: errand.tick() or errand.changed or spin(depth_node))
    monkeypatch.setattr(node_settings, "ANSWER", 0.2)
    silent = time.monotonic() + 0.5
    while time.monotonic() < silent:
        errand.tick()
        spin(node)
    spin_until(node, lambda: errand.tick() or errand.done or spin(depth_node))
    assert values[:2] == [True, True]
    depth_node.destroy_node()


def test_topics_are_recognised_by_type(tmp_path):
    with RawBag(small_bag.write(tmp_path / "bag", frames=2)) as bag:
        found = recognise(bag)
    assert found.remappings() == {
        "image": "/camera/image_raw",
        "camera_info": "/camera/camera_info",
        "lidar": "/lidar/points",
    }
