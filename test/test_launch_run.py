# SPDX-License-Identifier: Apache-2.0
"""Launch files as `launch` reads them, and as `ros2 launch` runs them."""

import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from depth_two_stage import share_path
from depth_two_stage.ros import launching

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def launch():
    return pytest.importorskip("launch.actions", reason="`launch` is not on PyPI: needs a ROS 2")


def loaded(name: str):
    """A launch file as a module."""
    spec = importlib.util.spec_from_file_location("launch_file", ROOT / "launch" / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def description(name: str):
    return loaded(name).generate_launch_description()


def nodes_of(name: str, **given: str) -> dict:
    """The Node actions that a launch file makes with these arguments, by executable."""
    import launch
    from launch_ros.actions import Node

    context = launch.LaunchContext()
    context._set_asyncio_loop(asyncio.new_event_loop())
    context.launch_configurations.update(given)
    found, waiting = {}, [description(name)]
    while waiting:
        entity = waiting.pop(0)
        if isinstance(entity, Node):
            found[entity.node_executable] = entity
        else:
            waiting = [*(entity.visit(context) or []), *waiting]
    return found


def test_arguments_name_topics_files_device_mapping_rviz_and_bag(launch):
    declared = {argument.name for argument in description("live.launch.py").get_launch_arguments()}
    assert declared >= {
        *("image", "image_compressed", "camera_info", "lidar", "sparse_depth"),
        *("params_file", "device", "engine", "namespace", "use_sim_time"),
        *("mapping", "rviz", "bag", "rate", "loop"),
        *("depth", "confidence", "odometry", "pose"),
    }


def test_mapping_and_bag_are_switches(launch):
    assert set(nodes_of("live.launch.py")) == {"depth_node", "mapping_node"}
    assert set(nodes_of("live.launch.py", mapping="false")) == {"depth_node"}
    assert set(nodes_of("mapping.launch.py")) == {"mapping_node"}
    assert set(nodes_of("replay.launch.py", bag="x")) == {"replay"}


def test_nav2_that_is_not_installed_is_said(launch):
    from ament_index_python.packages import get_packages_with_prefixes

    if "nav2_bringup" in get_packages_with_prefixes():
        assert {"depth_node", "mapping_node"} <= set(nodes_of("nav2.launch.py"))
    else:
        with pytest.raises(RuntimeError, match="nav2_bringup: expected it to be installed"):
            nodes_of("nav2.launch.py")


def test_nav2_is_looked_for_before_a_node_starts(launch):
    from launch.actions import IncludeLaunchDescription, OpaqueFunction

    kinds = [type(entity) for entity in description("nav2.launch.py").entities]
    assert kinds.index(OpaqueFunction) < kinds.index(IncludeLaunchDescription)


@pytest.fixture
def stand_in_nav2(launch, tmp_path, monkeypatch):
    """A package nav2_bringup with no content, first in the ament index."""
    share = tmp_path / "share"
    for name in ("launch/navigation_launch.py", "params/nav2_params.yaml"):
        file = share / "nav2_bringup" / name
        file.parent.mkdir(parents=True)
        file.write_text("")
    index = share / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "nav2_bringup").touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path), prepend=os.pathsep)


@pytest.mark.parametrize(("namespace", "above"), [("", ""), ("/robot1/", "/robot1")])
def test_nav2_and_our_nodes_share_one_tf(stand_in_nav2, launch, namespace, above):
    from launch import LaunchContext
    from launch_ros.actions import SetRemap

    context = LaunchContext()
    context.launch_configurations["params_file"] = str(ROOT / "config" / "nav2.yaml")
    context.launch_configurations["namespace"] = namespace
    actions = loaded("nav2.launch.py").prepare(context)
    remaps = [action for action in actions if isinstance(action, SetRemap)]
    for remap in remaps:
        remap.execute(context)
    found = context.launch_configurations.get("ros_remaps", [])
    expected = [(f"/{name}", f"{above}/{name}") for name in ("tf", "tf_static")]
    assert found == (expected if above else [])


@pytest.mark.parametrize(("namespace", "above"), [("", None), ("robot1", "/robot1")])
def test_nav2s_nodes_are_where_their_parameters_are(stand_in_nav2, launch, namespace, above):
    """Up to Kilted navigation_launch.py puts its parameters below `namespace`, not its nodes."""
    from launch import LaunchContext
    from launch.actions import IncludeLaunchDescription

    context = LaunchContext()
    given = {"namespace": namespace, "use_sim_time": "false", "autostart": "true"}
    given["params_file"] = str(ROOT / "config" / "nav2.yaml")
    context.launch_configurations.update(given)
    file = loaded("nav2.launch.py")
    for action in file.prepare(context):
        action.execute(context)
    (group,) = file.navigation(context)
    included = []
    for action in group.execute(context):
        if isinstance(action, IncludeLaunchDescription):
            included.append((context.launch_configurations.get("ros_namespace"), action))
        else:
            action.execute(context)
    ((pushed, navigation),) = included
    assert pushed == above
    assert dict(navigation.launch_arguments)["namespace"] == (above or "")


def test_rviz_that_is_not_installed_is_said(launch):
    from ament_index_python.packages import get_packages_with_prefixes

    if "rviz2" in get_packages_with_prefixes():
        assert "rviz2" in nodes_of("live.launch.py", rviz="true")
    else:
        assert set(nodes_of("live.launch.py", rviz="true")) == {"depth_node", "mapping_node"}


def test_rviz_and_nav2_take_the_clock_of_the_nodes(tmp_path):
    simulated = launching.simulated_time
    file = tmp_path / "mine.yaml"
    file.write_text("/**: {ros__parameters: {use_sim_time: true}}", encoding="utf-8")
    for argument, params_file, expected in (
        ("", "", False),
        ("", str(file), True),
        ("false", str(file), False),
        ("True", "", True),
    ):
        assert simulated({"use_sim_time": argument, "params_file": params_file}) is expected


def test_a_failure_ends_the_launch_unless_it_is_ending():
    failed = SimpleNamespace(returncode=1)
    running, ending = SimpleNamespace(is_shutdown=False), SimpleNamespace(is_shutdown=True)
    launching.refuse_failure("depth_node", failed, ending)
    launching.refuse_failure("depth_node", SimpleNamespace(returncode=0), running)
    with pytest.raises(RuntimeError, match="depth_node ended with exit code 1"):
        launching.refuse_failure("depth_node", failed, running)


def test_a_player_that_fails_fails_the_launch(launch):
    from launch.actions import Shutdown

    ended = loaded("replay.launch.py").ended
    running, ending = SimpleNamespace(is_shutdown=False), SimpleNamespace(is_shutdown=True)
    for code, context in ((0, running), (0, ending), (1, ending), (-2, ending)):
        (action,) = ended(SimpleNamespace(returncode=code), context)
        assert isinstance(action, Shutdown)
    with pytest.raises(RuntimeError, match="replay ended with exit code 1"):
        ended(SimpleNamespace(returncode=1), running)


@pytest.fixture
def ros2_launch(launch, ros_env):
    """Starts `ros2 launch` of one of our files, as installed; skips where that is not there."""
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    if shutil.which("ros2") is None:
        pytest.skip("needs a ROS 2 with `ros2 launch`")
    try:
        get_package_prefix("depth_two_stage")
    except PackageNotFoundError:
        pytest.skip("depth_two_stage is not in the ament index: colcon build, then source it")

    def start(*arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            ["ros2", "launch", "depth_two_stage", *arguments],
            env=ros_env,
            # Where the suite runs in the background of a shell, SIGINT is ignored: not here.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def test_ros2_launch_of_a_wrong_topic_ends_with_one_and_says_why(ros2_launch):
    bag = f"bag:={share_path('resource/bags/tum_fr1_xyz_15s')}"
    process = ros2_launch("replay.launch.py", bag, "topics:=/nowhere")
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 1, text
    assert "replay: topics: expected some of" in text
    assert "replay ended with exit code 1, its last line says why" in text


def test_ros2_launch_without_nav2_says_so_and_leaves_no_node_behind(ros2_launch):
    from ament_index_python.packages import get_packages_with_prefixes

    if "nav2_bringup" in get_packages_with_prefixes():
        pytest.skip("nav2_bringup is installed")
    process = ros2_launch("nav2.launch.py")
    text = process.communicate(timeout=60)[0]  # a node left behind would hold the pipe open
    assert process.returncode == 1, text
    assert "nav2_bringup: expected it to be installed" in text


def test_ros2_launch_starts_mapping_node_and_ends_it_cleanly(ros2_launch, tmp_path):
    file = tmp_path / "of_the_other.yaml"
    file.write_text("depth_node: {ros__parameters: {cloud.step: 3}}")
    process = ros2_launch("mapping.launch.py", "depth:=/cam/depth", f"params_file:={file}")
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if "/cam/depth" in line:  # the node says where it listens
                process.send_signal(signal.SIGINT)
                break
        said.append(process.communicate(timeout=90)[0])
    finally:
        process.kill()
    text = "".join(said)
    assert "process has finished cleanly" in text, text
    assert "no section that holds" not in text  # the file is read here, the node gets its own
    assert process.returncode == 0


def test_ros2_launch_ends_when_a_node_fails_for_which_the_bag_waits(ros2_launch, tmp_path):
    file = tmp_path / "no_weights.yaml"
    file.write_text("depth_node: {ros__parameters: {estimator.weights: /nowhere.json}}")
    bag = f"bag:={share_path('resource/bags/tum_fr1_xyz_15s')}"
    process = ros2_launch("live.launch.py", bag, f"params_file:={file}", "mapping:=false")
    text = process.communicate(timeout=120)[0]
    assert process.returncode == 1, text
    assert "depth_node ended with exit code 1, its last line says why" in text
    assert "/nowhere.json" in text
