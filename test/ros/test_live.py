# SPDX-License-Identifier: Apache-2.0
"""`live`: real nodes in processes of their own, started, fed from a bag and ended together."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("rclpy")
import small_bag
from rig import PATIENCE, tiny_weights

from depth_two_stage.config import ConfigError
from depth_two_stage.datasets.bag_messages import typestore
from depth_two_stage.datasets.bag_reader import BagError, RawBag
from depth_two_stage.ros.arguments import remapping_rules, values_of
from depth_two_stage.ros.live import Child, Live, LiveOptions, live
from depth_two_stage.ros.sources import open_source, tf_is_installed
from depth_two_stage.ros.stamps import read_stamp

PROGRAM = (
    "import sys; from depth_two_stage.ros.live import LiveOptions, live; "
    "sys.exit(live(LiveOptions(**eval(sys.argv[1]))))"
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    return str(tiny_weights(tmp_path_factory.mktemp("weights")))


@pytest.fixture
def start(ros_env, tmp_path):
    """Starts live in a process; ends what is left of it."""
    started = []

    def begin(**options) -> subprocess.Popen:
        log = (tmp_path / "log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, repr(options)], env=ros_env, stdout=log, stderr=log
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(PATIENCE)


def children(process: subprocess.Popen) -> dict[str, int]:
    """Process ids of the started nodes by name."""
    found = {}
    task = f"/proc/{process.pid}/task/{process.pid}/children"
    with open(task) as file:
        pids = [int(pid) for pid in file.read().split()]
    for pid in pids:
        with open(f"/proc/{pid}/cmdline") as file:
            words = file.read().split("\0")
        if "-m" in words:  # python -m depth_two_stage.ros.executables NAME
            found[words[words.index("-m") + 2]] = pid
    return found


def wait_for(condition, seconds: float = 2 * PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie has)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_bag_to_recorded_depth_and_the_end_of_the_bag_ends_it(tmp_path, start, weights):
    bag = small_bag.write(tmp_path / "bag", frames=6)
    process = start(
        bag=str(bag),
        mapping=False,
        record=str(tmp_path / "out"),
        values=(f"estimator.weights={weights}", "estimator.engine=torch", "output.encoding=16UC1"),
        remappings=("depth/image_rect:=/camera/depth",),
        record_topics=("/camera/depth", "depth/camera_info", "/diagnostics"),
        replay=("--lockstep",),
    )
    assert process.wait(4 * PATIENCE) == 0, (tmp_path / "log").read_text()
    stamps = [small_bag.BEGIN + i * small_bag.STEP for i in range(6)]
    with RawBag(tmp_path / "out") as recorded:
        raw = {topic: [] for topic in recorded.topics}
        for topic, when, message in recorded.messages():
            raw[topic].append(message)
            assert abs(when - small_bag.BEGIN) < 60e9  # the bag's time, not the present
    for topic in ("/camera/depth", "/depth/camera_info"):
        assert [read_stamp(message) for message in raw[topic]] == stamps
    depth = typestore().deserialize_cdr(raw["/camera/depth"][-1], "sensor_msgs/msg/Image")
    assert depth.encoding == "16UC1" and (depth.height, depth.width) == (48, 64)
    # The points lie at 2 and 2.5 m in front of the LiDAR, 5 cm before the camera.
    values = depth.data.view("<u2")
    assert set(values[values > 0]) & {2050, 2550}
    log = (tmp_path / "log").read_text()
    if not tf_is_installed():  # else the bag's /tf_static is played
        assert "lidar.extrinsics: from the bag's /tf_static" in log
    assert "mode: rgb+lidar" in log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_with_zero(tmp_path, start, weights, number):
    bag = small_bag.write(tmp_path / "bag", frames=4)
    process = start(
        bag=str(bag),
        mapping=False,
        values=(f"estimator.weights={weights}", "estimator.engine=torch"),
        replay=("--loop",),
    )
    wait_for(lambda: "model tiny" in (tmp_path / "log").read_text())
    nodes = children(process)
    assert set(nodes) == {"depth_node", "replay"}
    process.send_signal(number)
    assert process.wait(PATIENCE) == 0, (tmp_path / "log").read_text()
    assert all(gone(pid) for pid in nodes.values())


def test_a_node_that_dies_is_named_and_ends_the_others(tmp_path, start, weights):
    process = start(mapping=True, values=(f"estimator.weights={weights}",))
    wait_for(lambda: "depth_node" in children(process))
    nodes = children(process)
    os.kill(nodes["depth_node"], signal.SIGKILL)
    assert process.wait(PATIENCE) == 1
    last = (tmp_path / "log").read_text().strip().splitlines()[-1]
    assert last == "live: depth_node ended by SIGKILL"
    assert all(gone(pid) for pid in nodes.values())


def test_nothing_is_left_behind_when_live_is_killed(start, weights):
    process = start(mapping=False, values=(f"estimator.weights={weights}",))
    wait_for(lambda: "depth_node" in children(process))
    time.sleep(0.5)
    nodes = children(process)
    process.kill()
    process.wait()
    wait_for(lambda: all(gone(pid) for pid in nodes.values()))


def test_what_a_child_leaves_behind_is_ended_too():
    """A child that ends well while a process that it started goes on."""
    code = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True)"
    child = subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE, text=True
    )
    left = int(child.stdout.readline())
    assert child.wait(PATIENCE) == 0 and not gone(left)
    session = Live(print)
    session.children.append(Child("node", child))
    session.stop()
    assert session.problem == ""
    wait_for(lambda: gone(left))


def test_everything_is_checked_before_anything_starts(tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("depth_node:\n  ros__parameters:\n    lidar: {max_aeg: 1.0}\n")
    bag = small_bag.write(tmp_path / "bag", frames=1)
    for options, message in (
        ({"params": str(wrong)}, "lidar.max_aeg: expected a parameter .* did you mean 'lidar.max"),
        ({"values": ("lidar.max_age=50",)}, r"lidar.max_age: expected a number in \[0, 10\]"),
        ({"values": ("lidar.max_aeg=1",)}, "lidar.max_aeg: expected a parameter of this package"),
        ({"values": ("tsdf.voxel_size=0.05",), "mapping": False}, "tsdf.voxel_size"),
        ({"values": ("no_equals",)}, "-p: expected NAME=VALUE"),
        ({"remappings": ("image",)}, "-r: expected FROM:=TO"),
        ({"record": str(tmp_path)}, "record: expected a folder that does not exist"),
    ):
        with pytest.raises(ConfigError, match=message):
            live(LiveOptions(bag=str(bag), **options))
    with pytest.raises(BagError, match="bag: expected"):
        live(LiveOptions(bag=str(tmp_path / "none")))


def test_values_go_to_the_nodes_that_declare_them():
    nodes = ("depth_node", "mapping_node")
    found = values_of(("lidar.max_age=1", "tsdf.voxel_size=0.05", "input.reliability=auto"), nodes)
    assert found["depth_node"] == {"lidar.max_age": 1, "input.reliability": "auto"}
    assert found["mapping_node"] == {"tsdf.voxel_size": 0.05, "input.reliability": "auto"}
    found = values_of(("mapping_node:input.reliability=reliable",), nodes)
    assert found == {"depth_node": {}, "mapping_node": {"input.reliability": "reliable"}}
    assert values_of(("use_sim_time=true",), nodes)["depth_node"] == {"use_sim_time": True}
    for wrong, words in (("use_sim_time=maybe", "use_sim_time: expected true"), ("=1", "-p: expe")):
        with pytest.raises(ConfigError, match=words):
            values_of((wrong,), nodes)


def test_explicit_remappings_win_over_those_of_the_bag():
    rules = remapping_rules(("image:=/mine",), {"image": "/bag", "camera_info": "/info"})
    assert rules == ["-r", "image:=/mine", "-r", "camera_info:=/info"]
    named = "depth_node:~/image:=/a/b_1"
    assert remapping_rules((named,), {}) == ["-r", named]
    for wrong in ("image", ":=x", "image:=", "a b:=c", "a:=b:=c"):
        with pytest.raises(ConfigError, match="-r: expected FROM:=TO, got"):
            remapping_rules((wrong,), {})


def test_the_source_says_what_the_nodes_have_to_know(tmp_path):
    source = open_source(small_bag.write(tmp_path / "bag", frames=1))
    assert source.remappings["lidar"] == "/lidar/points"
    assert source.extrinsics in ((), pytest.approx((0.0, -0.1, 0.05, 0.0, 0.0, 0.0, 1.0)))
