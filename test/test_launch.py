# SPDX-License-Identifier: Apache-2.0
"""Launch files, parameter files, RViz view: what holds without `launch`."""

import ast
import re
from pathlib import Path

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
