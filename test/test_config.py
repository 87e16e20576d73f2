# SPDX-License-Identifier: Apache-2.0
"""Declarations, YAML files and their errors."""

from pathlib import Path

import pytest

from depth_two_stage import config

ROOT = Path(__file__).resolve().parents[1]


def test_default_yaml_is_written_from_the_declarations():
    assert (ROOT / "config/default.yaml").read_text() == config.default_yaml()


def test_default_yaml_gives_the_defaults(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text(config.default_yaml())
    for node, values in config.load_yaml(file).items():
        assert config.from_flat(config.NODES[node], values) == config.NODES[node]()


@pytest.mark.parametrize("node", config.NODES)
def test_every_parameter_is_described_and_its_default_is_legal(node):
    for item in config.flatten(config.NODES[node]).values():
        assert item.help.endswith((".", "?")), item.name
        item.check(item.default)


def test_flat_round_trip():
    changed = config.from_flat(config.DepthNodeParameters, {"lidar.max_age": 1, "cloud.step": 4})
    assert changed.lidar.max_age == 1.0 and type(changed.lidar.max_age) is float
    assert config.from_flat(config.DepthNodeParameters, config.to_flat(changed)) == changed


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("lidar.max_age", -1.0, r"lidar.max_age: expected a number in \[0, 10\], got -1.0"),
        ("lidar.max_age", "soon", "expected a number"),
        ("lidar.max_age", float("nan"), "expected a number"),
        ("lidar.max_age", True, "expected a number"),
        ("cloud.step", 2.5, "expected an integer"),
        ("cloud.step", True, "expected an integer"),
        ("estimator.device", "tpu", "expected one of 'auto', 'cuda', 'cpu', got 'tpu'"),
        ("lidar.max_agee", 1.0, "did you mean 'lidar.max_age'"),
        ("lidar.extrinsics", "x", "expected 7 numbers x y z qx qy qz qw"),
        ("lidar.extrinsics", [0.0] * 3, "the last four of norm 1, or none, got"),
        ("lidar.extrinsics", [0.0] * 6 + [0.9], "the last four of norm 1, or none, got"),
        ("lidar.extrinsics", [0.0] * 6 + [float("inf")], "the last four of norm 1"),
        ("lidar.fixed_frame", "/odom", "no leading slash"),
        ("cloud.min_range", 20.0, "expected a number below cloud.max_range = 20, got 20"),
        ("input.rectified", 1, "true or false"),
    ],
)
def test_wrong_values_name_the_parameter(name, value, words):
    with pytest.raises(config.ConfigError, match=words):
        config.from_flat(config.DepthNodeParameters, {name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pose.camera_extrinsics", [0.0] * 7),
        ("pose.map_frame", ""),
        ("map.save_on_exit", "map.txt"),
        ("map.save_path", ""),
        ("tsdf.min_range", 5.0),
    ],
)
def test_wrong_values_of_mapping_node_are_found_before_it_runs(name, value):
    with pytest.raises(config.ConfigError, match=f"{name}: expected .*, got"):
        config.from_flat(config.MappingNodeParameters, {name: value})


@pytest.mark.parametrize("text", ["1e-3", "+1E-3", "0.001", "1.0e-3"])
def test_a_number_with_an_exponent_is_a_number(tmp_path, text):
    assert config.parse_value(text, "x") == 0.001
    file = tmp_path / "p.yaml"
    file.write_text(f"depth_node: {{ros__parameters: {{lidar.tf_timeout: {text}}}}}\n")
    assert config.load_yaml(file)["depth_node"] == {"lidar.tf_timeout": 0.001}


def test_what_only_looks_like_a_number_stays_text():
    assert [config.parse_value(text, "x") for text in ("e3", "1e", "1e3m", "")] == [
        "e3",
        "1e",
        "1e3m",
        "",
    ]


def test_yaml_wildcards_namespaces_and_foreign_nodes(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text(
        "/robot/depth_node: {ros__parameters: {lidar: {max_age: 1}}}\n"
        "/**: {ros__parameters: {use_sim_time: true, lidar.max_age: 0.5,"
        " tsdf: {voxel_size: 0.05}}}\n"
        "other_node: {ros__parameters: {whatever: 3}}\n"
        "local_costmap: {local_costmap: {ros__parameters: {width: 3}}}\n"
        "robot: {front: {mapping_node: {ros__parameters: {pose.timeout: 0.2}}}}\n"
    )
    values = config.load_yaml(file)
    assert values["depth_node"] == {"use_sim_time": True, "lidar.max_age": 1.0}
    assert values["mapping_node"] == {
        "use_sim_time": True,
        "tsdf.voxel_size": 0.05,
        "pose.timeout": 0.2,
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/**: {ros__parameters: {voxel: 1}}", "unknown name"),
        ("depth_node: {ros__parameters: {tsdf.voxel_size: 1}}", "unknown name"),
        ("depth_node: {lidar.max_age: 1}", "ros__parameters"),
        ("[1, 2]", "expected a mapping"),
        ("/**: {ros__parameters: {use_sim_time: maybe}}", "use_sim_time: expected true or false"),
        ("a: b: c", "expected YAML"),
        ("depth_node: {ros__parameters: {cloud.step: 0}}", r"in \[1, 64\]"),
        ("depth_node: {ros__parameters: 5}", "names and values below depth_node, got 5"),
        ("depth_node: {ros__parameters: {cloud.max_range: 1" + "0" * 400 + "}}", "a number in"),
        ("a: 2020-13-45", "expected YAML, got month"),
        ("[" * 5000, "expected YAML"),
    ],
)
def test_wrong_files_are_named(tmp_path, text, words):
    file = tmp_path / "p.yaml"
    file.write_text(text)
    with pytest.raises(config.ConfigError, match=words):
        config.load_yaml(file)


def test_missing_file(tmp_path):
    with pytest.raises(config.ConfigError, match="expected a readable parameter file"):
        config.load_yaml(tmp_path / "none.yaml")


def test_readme_shows_the_declared_parameters():
    assert config.markdown_table() in (ROOT / "README.md").read_text()
