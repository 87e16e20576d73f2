# SPDX-License-Identifier: Apache-2.0
"""Launch files, parameter files, RViz view: first what holds without `launch`."""

import ast
import asyncio
import importlib.util
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from depth_two_stage import config, share_path
from depth_two_stage.config import ConfigError
from depth_two_stage.ros import launching
from depth_two_stage.ros.transports import HUMBLE_VARIABLE, VARIABLE

ROOT = Path(__file__).resolve().parent.parent
LAUNCH_FILES = sorted((ROOT / "launch").glob("*.launch.py"))
PRESETS = ["indoor", "outdoor"]


def sources() -> list[Path]:
    return sorted((ROOT / "depth_two_stage" / "ros").glob("*.py"))


@pytest.fixture
def launch():
    return pytest.importorskip("launch.actions", reason="`launch` is not on PyPI: needs a ROS 2")


def test_launch_files_are_those_of_the_design_and_navigation():
    names = [path.name.removesuffix(".launch.py") for path in LAUNCH_FILES]
    assert names == ["depth", "live", "mapping", "nav2", "replay"]


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_launch_file_compiles_and_has_the_entry_point(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert "generate_launch_description" in functions


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_every_launch_argument_is_described(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "DeclareLaunchArgument":
            assert "description" in {keyword.arg for keyword in call.keywords}, ast.unparse(call)


def topics_of_nodes() -> set[str]:
    """String constants of the nodes' code: the topic names are among them."""
    found = set()
    for path in sources():
        if path.name != "launching.py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
    return found


@pytest.mark.parametrize("name", ["depth.launch.py", "mapping.launch.py"])
def test_remapped_inputs_are_topics_of_the_nodes(name: str):
    tree = ast.parse((ROOT / "launch" / name).read_text(encoding="utf-8"))
    (inputs,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "INPUTS"
    ]
    missing = {key.value for key in inputs.keys} - topics_of_nodes()
    assert not missing


def test_rviz_shows_what_the_nodes_publish():
    view = yaml.safe_load((ROOT / "rviz" / "live.rviz").read_text(encoding="utf-8"))
    manager = view["Visualization Manager"]
    assert manager["Global Options"]["Fixed Frame"] == "map"
    shown = {
        display["Topic"]["Value"]: display["Class"].rsplit("/", 1)[1]
        for display in manager["Displays"]
        if "Topic" in display
    }
    assert shown == {
        "image_rect": "Image",
        "depth/image_rect": "Image",
        "overlay": "Image",
        "points": "PointCloud2",
        "map/mesh": "Marker",
        "map/points": "PointCloud2",
        "map": "Map",
        "path": "Path",
        "odom": "Odometry",
    }
    assert set(shown) <= topics_of_nodes()
    # A reader that wants more than our publishers offer would see nothing, without a word.
    wanted = {
        display["Topic"]["Value"]: display["Topic"]["Durability Policy"]
        for display in manager["Displays"]
        if "Topic" in display
    }
    latched = [topic for topic, durability in wanted.items() if durability != "Volatile"]
    assert latched == ["map"]
    assert "TF" in {display["Class"].rsplit("/", 1)[1] for display in manager["Displays"]}


@pytest.mark.parametrize("name", PRESETS)
def test_preset_holds_only_what_differs(name: str):
    values = config.load_yaml(share_path(f"config/{name}.yaml"))
    assert any(values.values())
    for node, cls in config.NODES.items():
        declared = config.flatten(cls)
        same = [key for key, value in values[node].items() if value == declared[key].default]
        assert not same, f"{node}: {same} are the defaults"


@pytest.mark.parametrize("name", PRESETS)
def test_every_value_of_a_preset_says_why(name: str):
    for line in (ROOT / "config" / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if re.match(r"\s+\w+: \S", line):
            assert "# " in line, line


def test_parameters_come_from_the_file_then_from_the_arguments(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "/**:\n  ros__parameters:\n    estimator: {device: cuda, anchor: scale}\n"
        "/front/depth_node:\n  ros__parameters:\n    use_sim_time: true\n    cloud.max_range: 7\n"
        "    lidar.extrinsics: []\n",
        encoding="utf-8",
    )
    found = launching.node_parameters("depth_node", str(file), {"estimator.device": "cpu"})
    assert found == {
        "estimator.device": "cpu",
        "estimator.anchor": "scale",
        "use_sim_time": True,
        "cloud.max_range": 7.0,
    }
    assert launching.node_parameters("mapping_node", str(file), {}) == {}


@pytest.mark.parametrize("node", config.NODES)
def test_default_file_reaches_the_node(node: str):
    written = config.load_yaml(share_path("config/default.yaml"))[node]
    assert written
    expected = {name: value for name, value in written.items() if value != ()}
    assert launching.node_parameters(node, "", {}) == expected


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        ("depth_node: {ros__parameters: {cloud.stepp: 2}}", {}, "cloud.stepp"),
        ("depth_node: {ros__parameters: {cloud.step: 0}}", {}, "cloud.step: expected"),
        ("mapping_node: {ros__parameters: {tsdf.voxel_size: big}}", {}, "tsdf.voxel_size"),
        # Of the other node, which would start all the same: nothing of a wrong file starts.
        ("mapping_node: {ros__parameters: {grid.min_height: 3.0}}", {}, "grid.min_height"),
        ("{}", {"estimator.device": "tpu"}, "estimator.device: expected one of"),
        ("{}", {"estimator.devise": "cpu"}, "estimator.devise"),
    ],
)
def test_wrong_parameters_end_the_launch(tmp_path, text, overrides, said):
    file = tmp_path / "wrong.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(said)):
        launching.node_parameters("depth_node", str(file), overrides)


def test_profile_goes_to_our_nodes_only(monkeypatch):
    for name in (VARIABLE, HUMBLE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    assert launching.profile_environment() == {VARIABLE: str(share_path("config/fastdds.xml"))}
    monkeypatch.setenv(VARIABLE, "/home/robot/mine.xml")
    assert launching.profile_environment() == {}


def test_nav2_gets_its_own_parameters_with_ours_over_them(tmp_path):
    base = tmp_path / "nav2_params.yaml"
    base.write_text(
        "controller_server: {ros__parameters: {controller_frequency: 20.0}}\n"
        "local_costmap: {local_costmap: {ros__parameters: {robot_radius: 0.22, width: 3,"
        " plugins: [a, b], voxel_layer: {plugin: x, scan: {topic: /front/scan}}}}}\n"
    )
    written = launching.nav2_parameters(base, str(ROOT / "config" / "nav2.yaml"), "robot")
    content = yaml.safe_load(Path(written).read_text())
    assert content["controller_server"]["ros__parameters"] == {"controller_frequency": 20.0}
    local = content["local_costmap"]["local_costmap"]["ros__parameters"]
    assert (local["robot_radius"], local["width"]) == (0.22, 4)
    assert local["plugins"] == ["voxel_layer", "inflation_layer"]
    assert local["voxel_layer"]["scan"]["topic"] == "/robot/scan"
    assert local["voxel_layer"]["obstacles"]["sensor_frame"] == "base_link"
    assert local["keepout_filter"]["enabled"] is False
    assert content["bt_navigator"]["ros__parameters"]["odom_topic"] == "/robot/odom"
    assert "mapping_node" not in content
    with pytest.raises(ConfigError, match="params_file: expected readable YAML"):
        launching.nav2_parameters(base, str(tmp_path / "none.yaml"), "")


# --- with launch ---------------------------------------------------------------------------------


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
