# SPDX-License-Identifier: Apache-2.0
"""Declarations of parameters as frozen dataclasses, and their values by dotted names."""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass, field
from typing import Any

from .forms import Form

ROS_OWN_NAMES = ("use_sim_time", "start_type_description_service")
ROS_OWN_GROUPS = ("qos_overrides.",)


class ConfigError(ValueError):
    """A parameter that is unknown, of the wrong type or out of range."""


@dataclass(frozen=True)
class Parameter:
    """One declared parameter: dotted name, type, default, help, limits.

    ``below`` names the parameter of the same group that has to be larger.
    """

    name: str
    type: Any
    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] | None = None
    form: Form | None = None
    below: str = ""
    dynamic: bool = False

    def expected(self) -> str:
        """What a value has to be, in words."""
        if self.choices is not None:
            return "one of " + ", ".join(repr(choice) for choice in self.choices)
        if self.form is not None:
            return self.form.words
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
            value = tuple(self._number(item, wrong) for item in value)
        elif self.type is float:
            value = self._number(value, wrong)
        elif type(value) is not self.type:
            raise wrong
        if self.choices is not None and value not in self.choices:
            raise wrong
        if self.form is not None and not self.form.accepts(value):
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
    form: Form | None = None,
    below: str = "",
    dynamic: bool = False,
) -> Any:
    """Declare one parameter of a group; ``dynamic`` ones may change while the node runs."""
    metadata = {
        "help": help,
        "low": low,
        "high": high,
        "choices": choices,
        "form": form,
        "below": below,
        "dynamic": dynamic,
    }
    return field(default=default, metadata=metadata)


def group(cls: type) -> Any:
    """Nest a group of parameters; its name becomes the prefix of theirs."""
    return field(default_factory=cls)


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
    instance = cls(**made)
    _check_order(instance, prefix)
    return instance


def _check_order(instance: Any, prefix: str) -> None:
    """Raise if a parameter of the group is not below the one that has to be larger."""
    for item in dataclasses.fields(instance):
        larger = item.metadata.get("below")
        if not larger:
            continue
        value, bound = getattr(instance, item.name), getattr(instance, larger)
        if value >= bound:
            raise ConfigError(
                f"{prefix}{item.name}: expected a number below {prefix}{larger} = {bound:g}, "
                f"got {value:g}"
            )


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
        if name in known or is_ros_own(name):
            continue
        near = difflib.get_close_matches(name, sorted(known), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"{name}: expected a parameter of this package, got an unknown name{hint}"
        )


def check_ros_own(name: str, value: Any) -> Any:
    """The value of a parameter of ROS's own, whose switches have to be true or false."""
    if name in ROS_OWN_NAMES and not isinstance(value, bool):
        raise ConfigError(f"{name}: expected true or false, got {value!r}")
    return value


def is_ros_own(name: str) -> bool:
    """Whether every ROS node has a parameter of this name (use_sim_time, qos_overrides.*)."""
    return name in ROS_OWN_NAMES or name.startswith(ROS_OWN_GROUPS)
