# SPDX-License-Identifier: Apache-2.0
"""What the launch files share. `launch` is imported where it is used: the wheels have none."""

from __future__ import annotations

import atexit
import json
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from .. import share_path
from ..config import NODES, ConfigError, flatten, from_flat, load_yaml, read_yaml, reject_unknown
from .transports import use_profile

SWITCH = ["true", "false", "True", "False"]
# Launch configuration, JSON: what a bag demands of the nodes beyond the arguments.
BAG_SETTINGS = "bag_settings"
# s, text as launch wants it; a large map takes longer to save than launch's own 5 s. A node that is
# closing ignores SIGTERM; one that SIGINT did not reach (`kill -INT` of the launch alone, where a
# terminal is expected to send it to all) is not to wait for as long.
PATIENCE, UNHEARD = "60", "10"


def profile_environment() -> dict[str, str]:
    """Variables that point our nodes, and only them, to the Fast DDS profile."""
    environment = dict(os.environ)
    use_profile(environment)
    return {name: value for name, value in environment.items() if os.environ.get(name) != value}


def node_parameters(node: str, params_file: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """Dotted parameters of one node: of the file (empty: config/default.yaml), then overrides.

    Everything is checked, so that a wrong file ends the launch with one line (ConfigError). The
    values are not tied to a node's full name any more and hold in every namespace. Empty lists are
    left out: ROS has no type for them and the nodes' default is the empty list.
    """
    found = load_yaml(params_file or share_path("config/default.yaml"))
    reject_unknown(overrides, set(flatten(NODES[node])))
    found[node] |= overrides
    for each, values in found.items():  # not ours alone: the other node may have started already
        known = flatten(NODES[each])
        from_flat(NODES[each], {name: value for name, value in values.items() if name in known})
    values = found[node]
    return {name: value for name, value in values.items() if value not in ((), [])}


def simulated_time(given: dict[str, str]) -> bool:
    """Whether our nodes take the time from /clock; what works with them has to do the same."""
    if given["use_sim_time"]:
        return given["use_sim_time"].lower() == "true"
    return node_parameters("depth_node", given["params_file"], {}).get("use_sim_time", False)


def nav2_parameters(base: Path, params_file: str, namespace: str) -> str:
    """Path of a parameter file for Nav2: its own one (``base``) with ours laid over it.

    What is no node of ours in ``params_file`` is Nav2's. The file lives as long as the process.
    """
    import yaml

    try:
        content = read_yaml(base.read_text(encoding="utf-8"))
        ours = read_yaml(Path(params_file).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"params_file: expected readable YAML, got {error}") from error
    ours = {name: section for name, section in ours.items() if name not in NODES}
    handle, path = tempfile.mkstemp(prefix="nav2_", suffix=".yaml")
    atexit.register(Path(path).unlink, missing_ok=True)
    with open(handle, "w", encoding="utf-8") as stream:
        yaml.safe_dump(laid_over(content, _below(namespace, ours)), stream)
    return path


def laid_over(content: Any, ours: Any) -> Any:
    """Nested mappings with the values of ``ours`` where it has some; lists are replaced whole."""
    if not (isinstance(content, dict) and isinstance(ours, dict)):
        return ours
    return content | {name: laid_over(content.get(name), value) for name, value in ours.items()}


def _below(namespace: str, content: Any, name: str = "") -> Any:
    """The content with a namespace in front of absolute topics."""
    if isinstance(content, dict):
        return {key: _below(namespace, value, str(key)) for key, value in content.items()}
    if name.endswith("topic") and str(content).startswith("/") and namespace.strip("/"):
        return f"/{namespace.strip('/')}{content}"
    return content


def refuse_failure(name: str, event: Any, context: Any) -> None:
    """End the launch with 1 when a process has failed (not when the launch itself ended it)."""
    if event.returncode and not context.is_shutdown:
        raise RuntimeError(
            f"{name} ended with exit code {event.returncode}, its last line says why: "
            "everything is shut down"
        )


def shared_arguments() -> list:
    """Launch arguments of every launch file that starts a node."""
    from launch.actions import DeclareLaunchArgument

    return [
        DeclareLaunchArgument(
            "params_file",
            default_value="",
            description="ROS parameter file; empty: config/default.yaml of this package.",
        ),
        DeclareLaunchArgument(
            "device",
            default_value="",
            choices=["", "auto", "cuda", "cpu"],
            description="Where network and map run; empty: as params_file says.",
        ),
        DeclareLaunchArgument(
            "namespace", default_value="", description="Namespace of the nodes and topics."
        ),
        DeclareLaunchArgument(
            "use_sim_time",
            default_value="",
            choices=["", *SWITCH],
            description="Take the time from /clock; empty: as params_file says.",
        ),
    ]


def topic_arguments(inputs: dict[str, tuple[str, Any, str]]) -> list:
    """Launch arguments that name topics, from input → (argument, default, description)."""
    from launch.actions import DeclareLaunchArgument

    return [
        DeclareLaunchArgument(argument, default_value=default, description=description)
        for argument, default, description in inputs.values()
    ]


def node_action(
    node: str,
    inputs: dict[str, tuple[str, Any, str]],
    overrides: dict[str, str],
) -> Any:
    """Launch action that starts one of our nodes from the values of the arguments.

    ``overrides`` names the argument that, when given, replaces a parameter of the file. A bag would
    wait for a node that has failed: with one, the failure ends the launch; else the others go on.
    """
    from launch.actions import OpaqueFunction
    from launch_ros.actions import Node
    from launch_ros.parameter_descriptions import ParameterValue

    def start(context) -> list[Node]:
        given = context.launch_configurations
        bag = json.loads(given.get(BAG_SETTINGS, "{}"))
        replaced = {name: given[argument] for name, argument in overrides.items()}
        replaced = {name: value for name, value in replaced.items() if value}
        parameters = bag.get(node, {}) | node_parameters(node, given["params_file"], replaced)
        if given["use_sim_time"]:
            parameters["use_sim_time"] = given["use_sim_time"].lower() == "true"
        typed = {
            name: ParameterValue(value, value_type=str) if isinstance(value, str) else value
            for name, value in parameters.items()
        }
        topics = {source: given[item[0]] for source, item in inputs.items()}
        for name, target in bag.get("remappings", {}).items():
            if topics.get(name, name) == name:
                topics[name] = target
        return [
            Node(
                package="depth_two_stage",
                executable=node,
                name=node,
                namespace=given["namespace"] or None,
                parameters=[typed] if typed else None,
                remappings=list(topics.items()),
                additional_env=profile_environment(),
                on_exit=partial(refuse_failure, node) if bag else None,
                sigterm_timeout=UNHEARD,
                sigkill_timeout=PATIENCE,
                output="screen",
            )
        ]

    return OpaqueFunction(function=start)
