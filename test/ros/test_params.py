# SPDX-License-Identifier: Apache-2.0
"""Declaring parameters: names, types, limits, and what may change."""

import pytest

pytest.importorskip("rclpy")

import rclpy
from rclpy.parameter import Parameter

from depth_two_stage.config import NODES, ConfigError, flatten
from depth_two_stage.ros.params import Parameters, check_arguments


@pytest.fixture
def context(ros_domain):
    made = rclpy.Context()
    rclpy.init(context=made, domain_id=ros_domain)
    yield made
    rclpy.try_shutdown(context=made)


@pytest.fixture
def node(context):
    """Makes a node with overrides as if they came from YAML or -p."""

    def make(name="depth_node", **overrides):
        given = [Parameter(key, value=value) for key, value in overrides.items()]
        return rclpy.create_node(name, context=context, parameter_overrides=given)

    return make


@pytest.mark.parametrize("name", NODES)
def test_every_parameter_is_declared_with_type_description_and_limits(name, node):
    made = node(name)
    Parameters(made, NODES[name])
    for key, declared in flatten(NODES[name]).items():
        descriptor = made.describe_parameter(key)
        assert descriptor.description == declared.help
        assert descriptor.read_only is not declared.dynamic
        value = made.get_parameter(key).value
        assert (list(value) if declared.type is list else value) == (
            list(declared.default) if declared.type is list else declared.default
        )
        ranges = [*descriptor.floating_point_range, *descriptor.integer_range]
        bounded = declared.type in (int, float) and declared.low is not None
        assert [r.from_value for r in ranges] == ([declared.low] if bounded else [])


def test_integers_are_taken_for_doubles(node):
    made = node(**{"lidar.max_age": 1, "lidar.extrinsics": [0, 0, 0, 0, 0, 0, 1]})
    parameters = Parameters(made, NODES["depth_node"])
    assert parameters.values.lidar.max_age == 1.0
    assert parameters.values.lidar.extrinsics == (0, 0, 0, 0, 0, 0, 1)
    assert made.get_parameter("lidar.max_age").type_ == Parameter.Type.DOUBLE
    assert made.set_parameters([Parameter("lidar.max_age", value=2)])[0].successful
    assert parameters.values.lidar.max_age == 2.0


def test_names_of_the_other_node_and_of_ros_pass_others_do_not(node):
    foreign = {"tsdf.voxel_size": 0.05, "use_sim_time": False}
    foreign["qos_overrides./points.publisher.depth"] = 3
    Parameters(node(**foreign), NODES["depth_node"])
    with pytest.raises(ConfigError, match=r"cloud\.stepp: .*did you mean 'cloud.step'"):
        Parameters(node(**{"cloud.stepp": 2}), NODES["depth_node"])


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("cloud.step", 0, r"cloud\.step: expected an integer in \[1, 64\], got 0"),
        ("cloud.step", 2.5, r"cloud\.step: expected an integer in \[1, 64\], got 2.5"),
        (
            "output.encoding",
            "8UC1",
            "output.encoding: expected one of '32FC1', '16UC1', got '8UC1'",
        ),
        ("cloud.organized", "yes", "cloud.organized: expected true or false, got 'yes'"),
    ],
)
def test_wrong_values_are_named(node, name, value, expected):
    with pytest.raises(ConfigError, match=expected):
        Parameters(node(**{name: value}), NODES["depth_node"])


def test_a_change_is_whole_or_nothing(node):
    made = node()
    parameters = Parameters(made, NODES["depth_node"])
    before = parameters.values
    result = made.set_parameters_atomically(
        [Parameter("cloud.step", value=4), Parameter("estimator.anchor", value="glue")]
    )
    assert not result.successful
    assert parameters.values is before
    result = made.set_parameters_atomically(
        [Parameter("cloud.step", value=4), Parameter("estimator.anchor", value="scale")]
    )
    assert result.successful
    assert (parameters.values.cloud.step, parameters.values.estimator.anchor) == (4, "scale")
    result = made.set_parameters([Parameter("estimator.weights", value="other")])[0]
    assert not result.successful
    assert "read-only" in result.reason


def test_lists_of_whole_and_other_numbers_are_written_as_ros_reads_them(tmp_path):
    import yaml

    path = tmp_path / "params.yaml"
    path.write_text("/**:\n  ros__parameters:\n    lidar.extrinsics: [0, 0.1, 0, 0, 0, 0, 1]\n")
    given = ["--params-file", str(path), "-p", "lidar.extrinsics:=[1, 0.5]", "-p", "cloud.step:=2"]
    made = check_arguments(given)
    assert made[2:] == ["-p", "lidar.extrinsics:=[1.0, 0.5]", "-p", "cloud.step:=2"]
    assert made[1] != str(path)
    with open(made[1]) as stream:
        values = yaml.safe_load(stream)["/**"]["ros__parameters"]["lidar.extrinsics"]
    assert [type(value) for value in values] == [float] * 7
    path.write_text("/**:\n  ros__parameters:\n    cloud.step: 2\n")
    assert check_arguments(given)[1] == str(path)


def test_parameter_files_are_checked_before_ros_reads_them(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("depth_node:\n  ros__parameters:\n    lidar:\n      max_agee: 0.1\n")
    with pytest.raises(ConfigError, match="max_agee"):
        check_arguments(["depth_node", "--ros-args", "--params-file", str(path)])
    path.write_text("camera_node:\n  ros__parameters:\n    anything: 1\n")
    check_arguments(["depth_node", "--ros-args", "--params-file", str(path)])


@pytest.mark.parametrize(("given", "said"), [({}, 1), ({"use_sim_time": False}, 0)])
def test_a_file_that_holds_for_the_node_is_no_file_for_others(
    given, said, node, monkeypatch, capfd
):
    """A launch file gives use_sim_time alone to a node for which the user's file has nothing."""
    monkeypatch.setattr("sys.argv", ["depth_node", "--ros-args", "--params-file", "p.yaml"])
    Parameters(node(**given), NODES["depth_node"])
    assert capfd.readouterr().err.count("no section that holds for /depth_node") == said
