# SPDX-License-Identifier: Apache-2.0
"""Every parameter of the nodes, declared once: default, help, limits.

From here come the ROS declarations, the command-line flags, ``config/default.yaml`` and the
README's table. Nested groups become dotted names (``lidar.max_age``), as in ROS.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEFAULT_YAML_HEAD = (
    "# Written by `depth-two-stage config` from depth_two_stage/config.py: edit that file.\n"
)
ROS_OWN_NAMES = ("use_sim_time", "start_type_description_service")
ROS_OWN_GROUPS = ("qos_overrides.",)


class ConfigError(ValueError):
    """A parameter that is unknown, of the wrong type or out of range."""


@dataclass(frozen=True)
class Parameter:
    """One declared parameter: dotted name, type, default, help, limits."""

    name: str
    type: Any
    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] | None = None
    dynamic: bool = False

    def expected(self) -> str:
        """What a value has to be, in words."""
        if self.choices is not None:
            return "one of " + ", ".join(repr(choice) for choice in self.choices)
        words = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}
        text = words.get(self.type, "a list of numbers")
        if self.low is not None and self.high is not None:
            text += f" in [{self.low:g}, {self.high:g}]"
        elif self.low is not None:
            text += f" of at least {self.low:g}"
        return text

    def check(self, value: Any) -> Any:
        """The value in the declared type; an integer is taken for a number (float)."""
        wrong = ConfigError(f"{self.name}: expected {self.expected()}, got {value!r}")
        if self.type is list:
            if not isinstance(value, list | tuple):
                raise wrong
            return tuple(self._number(item, wrong) for item in value)
        if self.type is float:
            value = self._number(value, wrong)
        elif type(value) is not self.type:
            raise wrong
        if self.choices is not None and value not in self.choices:
            raise wrong
        if self.low is not None and value < self.low:
            raise wrong
        if self.high is not None and value > self.high:
            raise wrong
        return value

    @staticmethod
    def _number(value: Any, wrong: ConfigError) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong
        try:
            value = float(value)
        except OverflowError as error:
            raise wrong from error
        if not math.isfinite(value):
            raise wrong
        return value


def parameter(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
    dynamic: bool = False,
) -> Any:
    """Declare one parameter of a group; ``dynamic`` ones may change while the node runs."""
    metadata = {"help": help, "low": low, "high": high, "choices": choices, "dynamic": dynamic}
    return field(default=default, metadata=metadata)


def group(cls: type) -> Any:
    """Nest a group of parameters; its name becomes the prefix of theirs."""
    return field(default_factory=cls)


# --- the estimator -------------------------------------------------------------------------------


@dataclass(frozen=True)
class EstimatorParameters:
    """Which network runs, on what, and how its answer is tied to the points."""

    weights: str = parameter("default", "Name of shipped weights, or a checkpoint file.")
    device: str = parameter("auto", "Where the network runs.", choices=("auto", "cuda", "cpu"))
    engine: str = parameter(
        "auto",
        "What executes the network; auto is OpenVINO on the CPU when installed, else torch.",
        choices=("auto", "torch", "openvino", "onnxruntime"),
    )
    precision: str = parameter(
        "auto", "Arithmetic of the network.", choices=("auto", "fp32", "fp16", "bf16")
    )
    threads: int = parameter(0, "Threads of the engine; 0 is all cores but one.", low=0, high=256)
    anchor: str = parameter(
        "residual",
        "How the depth is tied to the points: not, by one scale, or by the interpolated error.",
        choices=("none", "scale", "residual"),
        dynamic=True,
    )


# --- depth_node ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class InputParameters:
    """How images come in."""

    transport: str = parameter(
        "auto",
        "Which image topic is read; auto takes the one that has a publisher.",
        choices=("auto", "raw", "compressed"),
        dynamic=True,
    )
    rectified: bool = parameter(
        False, "The image is rectified already: D and R are not applied.", dynamic=True
    )
    reliability: str = parameter(
        "auto",
        "QoS reliability of the inputs; auto adopts the publisher's.",
        choices=("auto", "reliable", "best_effort"),
        dynamic=True,
    )


@dataclass(frozen=True)
class LidarParameters:
    """How LiDAR points reach the image."""

    max_age: float = parameter(
        0.2,
        "Largest distance in time of a cloud from its image, s.",
        low=0.0,
        high=10.0,
        dynamic=True,
    )
    time_offset: float = parameter(
        0.0, "Added to the stamps of the clouds, s.", low=-10.0, high=10.0, dynamic=True
    )
    extrinsics: list[float] = parameter(
        (), "T_camera_lidar as x y z (m) qx qy qz qw; empty: from TF.", dynamic=True
    )
    fixed_frame: str = parameter(
        "odom",
        "Frame that stands still; if TF knows it, points move to the image's stamp. Empty: no.",
        dynamic=True,
    )
    tf_timeout: float = parameter(
        0.05, "Wait for a transform at the image's stamp, s.", low=0.0, high=5.0, dynamic=True
    )


@dataclass(frozen=True)
class OutputParameters:
    """How depth goes out."""

    encoding: str = parameter(
        "32FC1",
        "Depth in metres (32FC1) or millimetres (16UC1).",
        choices=("32FC1", "16UC1"),
        dynamic=True,
    )
    scale: float = parameter(
        1.0,
        "Size of the depth and of image_rect, as a part of the image's.",
        low=0.05,
        high=1.0,
        dynamic=True,
    )
    max_latency: float = parameter(
        2.0,
        "Depth older than this (node's clock) is not published, s; 0: no limit.",
        low=0.0,
        high=60.0,
        dynamic=True,
    )


@dataclass(frozen=True)
class CloudParameters:
    """The published cloud."""

    step: int = parameter(
        2, "Every n-th pixel of each row and column.", low=1, high=64, dynamic=True
    )
    min_range: float = parameter(0.1, "Nearest depth, m.", low=0.0, high=1000.0, dynamic=True)
    max_range: float = parameter(20.0, "Farthest depth, m.", low=0.0, high=1000.0, dynamic=True)
    organized: bool = parameter(
        False, "Keep the image's rows and columns, NaN where there is no depth.", dynamic=True
    )
    edge_jump: float = parameter(
        0.05,
        "Relative depth step beside which pixels are removed; 0 keeps all.",
        low=0.0,
        high=1.0,
        dynamic=True,
    )


@dataclass(frozen=True)
class WatchdogParameters:
    """What the node says when nothing appears."""

    period: float = parameter(
        5.0,
        "Time without output after which the missing link is named, s; 0: never.",
        low=0.0,
        high=3600.0,
        dynamic=True,
    )


@dataclass(frozen=True)
class DepthNodeParameters:
    """All parameters of depth_node."""

    estimator: EstimatorParameters = group(EstimatorParameters)
    input: InputParameters = group(InputParameters)
    lidar: LidarParameters = group(LidarParameters)
    output: OutputParameters = group(OutputParameters)
    cloud: CloudParameters = group(CloudParameters)
    watchdog: WatchdogParameters = group(WatchdogParameters)


# --- mapping_node --------------------------------------------------------------------------------


@dataclass(frozen=True)
class TsdfParameters:
    """The map."""

    device: str = parameter("auto", "Where the map lives.", choices=("auto", "cuda", "cpu"))
    voxel_size: float = parameter(0.02, "Edge of a voxel, m.", low=0.001, high=1.0)
    truncation: float = parameter(4.0, "Truncation distance in voxels.", low=1.0, high=32.0)
    min_range: float = parameter(0.2, "Nearest fused depth, m.", low=0.0, high=100.0)
    max_range: float = parameter(5.0, "Farthest fused depth, m.", low=0.1, high=200.0)
    memory_mb: float = parameter(
        512.0,
        "Bound of the map's blocks, MB, taken at once; the farthest blocks make room.",
        low=16.0,
        high=65536.0,
    )
    weight_threshold: float = parameter(
        0.5,
        "An extracted voxel weighs more than this, in frames of confidence 1.",
        low=0.0,
        high=100.0,
    )
    weight_cap: float = parameter(
        1000.0, "Largest weight of a voxel, in frames of confidence 1.", low=1.0, high=65535.0
    )


@dataclass(frozen=True)
class OdometryParameters:
    """Camera motion from the images."""

    reference: str = parameter(
        "keyframe", "What a frame is aligned with.", choices=("frame", "keyframe", "model")
    )
    method: str = parameter(
        "point_to_plane",
        "Residual that is minimised.",
        choices=("intensity", "hybrid", "point_to_plane"),
    )
    width: int = parameter(
        320, "Width to which images are reduced for tracking, px.", low=80, high=4096
    )
    max_range: float = parameter(5.0, "Farthest depth used for tracking, m.", low=0.1, high=200.0)
    min_fitness: float = parameter(
        0.8,
        "Least share of pixels that agree in depth, relative to what is usual.",
        low=0.0,
        high=1.0,
    )
    max_disagreement: float = parameter(
        0.05, "Largest distance between the motion forward and backward, m.", low=0.0, high=10.0
    )


@dataclass(frozen=True)
class SlamParameters:
    """Which frames are fused and which become keyframes."""

    keyframe_distance: float = parameter(
        0.3, "A new keyframe after so much translation, m.", low=0.01, high=100.0
    )
    keyframe_angle: float = parameter(
        20.0, "A new keyframe after so much rotation, degrees.", low=1.0, high=180.0
    )
    max_keyframes: int = parameter(60, "Keyframes that are kept for recovery.", low=1, high=10000)
    max_scale_residual: float = parameter(
        0.2, "Frames whose scale is off by more are not fused (share).", low=0.0, high=100.0
    )


@dataclass(frozen=True)
class MappingInputParameters:
    """How depth images come in."""

    confidence: bool = parameter(
        True, "Weight depth by depth/confidence while that topic has a publisher."
    )
    reliability: str = parameter(
        "auto",
        "QoS reliability of the inputs; auto adopts the publisher's.",
        choices=("auto", "reliable", "best_effort"),
    )


@dataclass(frozen=True)
class PoseParameters:
    """Where poses come from and which frames they join."""

    source: str = parameter(
        "own",
        "The camera's pose: own odometry, TF, or a topic.",
        choices=("own", "tf", "odometry", "pose"),
    )
    map_frame: str = parameter("map", "Frame of the map.")
    odom_frame: str = parameter("odom", "Frame of the odometry.")
    base_frame: str = parameter(
        "",
        "Robot frame that odom carries; empty: the top of the camera's tree in TF, or camera_link.",
    )
    camera_extrinsics: list[float] = parameter(
        (), "T_base_camera (optical) as x y z (m) qx qy qz qw; empty: from TF."
    )
    timeout: float = parameter(
        0.1, "Wait for the pose at the image's stamp, s.", low=0.0, high=5.0, dynamic=True
    )
    max_gap: float = parameter(
        0.25,
        "Largest time between two poses that are interpolated, s.",
        low=0.0,
        high=10.0,
        dynamic=True,
    )


@dataclass(frozen=True)
class MapParameters:
    """Publishing and keeping the map."""

    load: str = parameter("", "Map file that is loaded at start.")
    save_on_exit: str = parameter(
        "", "Map (.npz) or mesh (.ply) that is written when the node stops; empty: none."
    )
    save_path: str = parameter(
        "map.npz", "Map (.npz) or mesh (.ply) that the service save_map writes.", dynamic=True
    )
    publish_period: float = parameter(
        2.0, "Time between published meshes, s.", low=0.1, high=3600.0, dynamic=True
    )


@dataclass(frozen=True)
class MappingNodeParameters:
    """All parameters of mapping_node."""

    input: MappingInputParameters = group(MappingInputParameters)
    tsdf: TsdfParameters = group(TsdfParameters)
    odometry: OdometryParameters = group(OdometryParameters)
    slam: SlamParameters = group(SlamParameters)
    pose: PoseParameters = group(PoseParameters)
    map: MapParameters = group(MapParameters)


NODES: dict[str, type] = {
    "depth_node": DepthNodeParameters,
    "mapping_node": MappingNodeParameters,
}


# --- reading the declarations --------------------------------------------------------------------


def flatten(cls: type, prefix: str = "") -> dict[str, Parameter]:
    """Every parameter of a (nested) declaration by its dotted name."""
    found: dict[str, Parameter] = {}
    types = typing.get_type_hints(cls)
    for item in dataclasses.fields(cls):
        name, kind = prefix + item.name, types[item.name]
        if dataclasses.is_dataclass(kind):
            found.update(flatten(kind, name + "."))
        else:
            kind = typing.get_origin(kind) or kind  # list[float] → list
            found[name] = Parameter(name, kind, item.default, **item.metadata)
    return found


def from_flat(cls: type, values: dict[str, Any], prefix: str = "") -> Any:
    """An instance from dotted names; unknown names, types and ranges raise ConfigError."""
    if not prefix:
        reject_unknown(values, set(flatten(cls)))
    made: dict[str, Any] = {}
    types, declared = typing.get_type_hints(cls), flatten(cls, prefix)
    for item in dataclasses.fields(cls):
        name, kind = prefix + item.name, types[item.name]
        if dataclasses.is_dataclass(kind):
            made[item.name] = from_flat(kind, values, name + ".")
        elif name in values:
            made[item.name] = declared[name].check(values[name])
    return cls(**made)


def to_flat(instance: Any, prefix: str = "") -> dict[str, Any]:
    """The dotted values of an instance."""
    values: dict[str, Any] = {}
    for item in dataclasses.fields(instance):
        value = getattr(instance, item.name)
        if dataclasses.is_dataclass(value):
            values.update(to_flat(value, prefix + item.name + "."))
        else:
            values[prefix + item.name] = value
    return values


def reject_unknown(values: dict[str, Any], known: set[str]) -> None:
    """Raise on a name that is neither known nor ROS's own; suggests the nearest one."""
    import difflib

    for name in values:
        if name in known or name in ROS_OWN_NAMES or name.startswith(ROS_OWN_GROUPS):
            continue
        near = difflib.get_close_matches(name, sorted(known), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"{name}: expected a parameter of this package, got an unknown name{hint}"
        )


def of_package(values: dict[str, Any]) -> dict[str, Any]:
    """The values without ROS's own (use_sim_time, qos_overrides.*)."""
    return {
        name: value
        for name, value in values.items()
        if name not in ROS_OWN_NAMES and not name.startswith(ROS_OWN_GROUPS)
    }


def load_yaml(path: str | Path) -> dict[str, dict[str, Any]]:
    """A ROS parameter file → {node: {dotted name: value}}, all names and values checked.

    ``/**`` is given to every node that declares the name; a node may be written with a leading
    slash or a namespace. A node of another package in the file is left alone.
    """
    import yaml

    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected a readable parameter file, got {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a wrong date
        raise ConfigError(f"{path}: expected YAML, got {' '.join(str(error).split())}") from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of node names, got {type(content).__name__}")
    found: dict[str, dict[str, Any]] = {node: {} for node in NODES}
    own = {node: flatten(cls) for node, cls in NODES.items()}
    # Wildcards go first, so that a node's own section wins whatever the order in the file.
    for key in sorted(content, key=lambda key: "*" not in str(key)):
        values = _section(path, key, content[key])
        node = str(key).rsplit("/", 1)[-1]
        if node in NODES:
            reject_unknown(values, set(own[node]))
            targets = (node,)
        elif "*" in str(key):
            reject_unknown(values, set().union(*own.values()))
            targets = tuple(NODES)
        else:
            continue
        for target in targets:
            for name, value in values.items():
                if name in own[target]:
                    found[target][name] = own[target][name].check(value)
                elif name in ROS_OWN_NAMES or name.startswith(ROS_OWN_GROUPS):
                    found[target][name] = value
    return found


def _section(path: Path, key: Any, section: Any) -> dict[str, Any]:
    """The dotted values below one node's name."""
    if not isinstance(section, dict) or set(section) != {"ros__parameters"}:
        raise ConfigError(f"{path}: expected {key}: ros__parameters: …, got {section!r:.80}")
    values = section["ros__parameters"] or {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected names and values below {key}, got {values!r:.80}")
    return dict(_dotted(values))


def _dotted(values: dict, prefix: str = "") -> typing.Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def default_yaml() -> str:
    """All parameters with defaults, help and limits, in ROS's layout."""
    lines = [DEFAULT_YAML_HEAD.rstrip()]
    for node, cls in NODES.items():
        lines += [f"{node}:", "  ros__parameters:"]
        before: tuple[str, ...] = ()
        for item in flatten(cls).values():
            *groups, leaf = item.name.split(".")
            for depth, name in enumerate(groups):
                if before[: depth + 1] != tuple(groups[: depth + 1]):
                    lines.append("    " + "  " * depth + f"{name}:")
            before = tuple(groups)
            indent = "    " + "  " * len(groups)
            lines.append(f"{indent}# {item.help} Expected: {item.expected()}.")
            lines.append(f"{indent}{leaf}: {_yaml_value(item.default)}")
    return "\n".join(lines) + "\n"


def markdown_table() -> str:
    """The README's table of parameters."""
    lines = ["| node | parameter | default | what it does |", "|---|---|---|---|"]
    for node, cls in NODES.items():
        for item in flatten(cls).values():
            changes = " *At run time.*" if item.dynamic else ""
            lines.append(
                f"| {node} | `{item.name}` | `{_yaml_value(item.default)}` "
                f"| {item.help} Expected: {item.expected()}.{changes} |"
            )
    return "\n".join(lines) + "\n"


def _yaml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(str(float(item)) for item in value) + "]"
    return str(value)
