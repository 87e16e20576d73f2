# SPDX-License-Identifier: Apache-2.0
"""The parameters of a node, declared from config.py; rclpy alone would let wrong ones pass.

rclpy ignores overrides that nobody declares and refuses an integer where a double is declared: here
unknown names are errors, and an integer is taken for a double.
"""

from __future__ import annotations

import atexit
import sys
import tempfile
from array import array
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from ..config import (
    NODES,
    ConfigError,
    flatten,
    from_flat,
    load_yaml,
    read_yaml,
    reject_unknown,
    to_flat,
)
from ..config import Parameter as Declared

_TYPES = {
    bool: Parameter.Type.BOOL,
    int: Parameter.Type.INTEGER,
    float: Parameter.Type.DOUBLE,
    str: Parameter.Type.STRING,
    list: Parameter.Type.DOUBLE_ARRAY,
}
_UNBOUNDED = {int: (-(2**63), 2**63 - 1), float: (-1e308, 1e308)}
_PARAMS_FILE = "--params-file"


def check_arguments(arguments: list[str]) -> list[str]:
    """Check the parameter files of a command line before rcl reads them; raises ConfigError.

    Returns the arguments as rcl can read them: it refuses a list such as [0, 0.1], which has to be
    [0.0, 0.1]. A file that holds one is replaced by a copy, which lives as long as the process.
    """
    checked = list(arguments)
    for place, (option, value) in enumerate(pairwise(arguments), start=1):
        if option == _PARAMS_FILE:
            load_yaml(value)
            with open(value, encoding="utf-8") as stream:
                content = read_yaml(stream)
            even = _even_lists(content)
            if repr(even) != repr(content):  # 0 == 0.0, but not in writing
                checked[place] = _copy(even)
        elif option in ("-p", "--param"):
            name, separator, text = value.partition(":=")
            given = _value(text)
            if separator and isinstance(given, list) and _even_lists(given) is not given:
                checked[place] = f"{name}:={_even_lists(given)}"
    return checked


def _even_lists(value: Any) -> Any:
    """The same content with whole numbers as floats in lists that hold both."""
    if isinstance(value, dict):
        return {key: _even_lists(item) for key, item in value.items()}
    if isinstance(value, list) and {type(item) for item in value} == {int, float}:
        return [float(item) for item in value]
    return value


def _value(text: str) -> Any:
    """A parameter's value as YAML reads it; None for what is not YAML, which rcl will say."""
    try:
        return read_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: a wrong date
        return None


def _copy(content: Any) -> str:
    """Write parameters to a file that is removed when the process ends; its path."""
    handle, path = tempfile.mkstemp(prefix="parameters_", suffix=".yaml")
    atexit.register(Path(path).unlink, missing_ok=True)
    with open(handle, "w", encoding="utf-8") as stream:
        yaml.safe_dump(content, stream)
    return path


class Parameters:
    """A node's parameters: ``values`` is the current instance of its dataclass.

    The instance is replaced as a whole when a dynamic parameter changes, so a thread that takes
    ``values`` once sees one consistent set.
    """

    def __init__(self, node: Node, cls: type) -> None:
        self._node, self._cls = node, cls
        # The one place where rclpy keeps what YAML and -p gave, declared by anybody or not.
        overrides = node._parameter_overrides
        reject_unknown(overrides, {name for other in NODES.values() for name in flatten(other)})
        declared = flatten(cls)
        given = {
            name: _plain(parameter.value)
            for name, parameter in overrides.items()
            # rcl gives an empty YAML list as "not set".
            if name in declared and parameter.type_ != Parameter.Type.NOT_SET
        }
        self.values = from_flat(cls, given)
        if _PARAMS_FILE in sys.argv and not overrides:  # use_sim_time alone is a section too
            node.get_logger().warning(
                "the parameter file has no section that holds for "
                f"{node.get_fully_qualified_name()}: everything is at its default"
            )
        for name, value in to_flat(self.values).items():
            overrides.pop(name, None)
            _declare(node, declared[name], value)
        node.add_on_set_parameters_callback(self._on_set)
        if hasattr(node, "add_pre_set_parameters_callback"):  # since Iron
            node.add_pre_set_parameters_callback(self._integers_to_doubles)

    def _integers_to_doubles(self, changes: list[Parameter]) -> list[Parameter]:
        declared = flatten(self._cls)
        return [
            Parameter(change.name, Parameter.Type.DOUBLE, float(change.value))
            if change.type_ == Parameter.Type.INTEGER
            and change.name in declared
            and declared[change.name].type is float
            else change
            for change in changes
        ]

    def _on_set(self, changes: list[Parameter]) -> SetParametersResult:
        declared = flatten(self._cls)
        changed = {item.name: _plain(item.value) for item in changes if item.name in declared}
        try:
            values = from_flat(self._cls, to_flat(self.values) | changed)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self.values = values
        for name, value in changed.items():
            self._node.get_logger().info(f"{name} is now {value!r}")
        return SetParametersResult(successful=True)


def _plain(value: Any) -> Any:
    """Give a list for rclpy's array.array."""
    return value.tolist() if isinstance(value, array) else value


def _declare(node: Node, declared: Declared, value: Any) -> None:
    """Declare one parameter with type, description, limits; read-only unless dynamic."""
    expected = declared.expected()
    descriptor = ParameterDescriptor(
        name=declared.name,
        type=_TYPES[declared.type].value,
        description=declared.help,
        additional_constraints=f"expected: {expected}",
        read_only=not declared.dynamic,
    )
    if declared.type in _UNBOUNDED and (declared.low is not None or declared.high is not None):
        low, high = _UNBOUNDED[declared.type]
        low = declared.type(low if declared.low is None else declared.low)
        high = declared.type(high if declared.high is None else declared.high)
        if declared.type is int:
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
        else:
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    if declared.type is not list:
        node.declare_parameter(declared.name, value, descriptor)
        return
    # The type of an empty list cannot be told from its value: declare the type, then set it.
    node.declare_parameter(declared.name, _TYPES[list])
    node.set_parameters([Parameter(declared.name, _TYPES[list], [float(item) for item in value])])
    node.set_descriptor(declared.name, descriptor)
