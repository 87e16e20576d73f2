# SPDX-License-Identifier: Apache-2.0
"""What a user writes behind -p and -r, checked and in the form in which nodes take it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ..config import NODES, ConfigError, check_ros_own, flatten, parse_value, reject_unknown

# What may stand in a remapping: topics, node names, and rcl's own patterns and prefixes.
_TOPIC = re.compile(r"[\w/~{}:.*?\\-]+", re.ASCII)


def values_of(pairs: tuple[str, ...], nodes: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """``NAME=VALUE`` or ``NODE:NAME=VALUE`` → {node: {name: value}}; raises ConfigError."""
    found: dict[str, dict[str, Any]] = {node: {} for node in nodes}
    declared = {node: flatten(NODES[node]) for node in nodes}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not (name and separator):
            raise ConfigError(f"-p: expected NAME=VALUE, got {pair!r}")
        value = parse_value(text, name)
        node, colon, inner = name.partition(":")
        if colon and node not in NODES:
            raise ConfigError(f"-p: expected one of {', '.join(NODES)} before ':', got {node!r}")
        targets = [node] if colon else [n for n in nodes if inner or name in declared[n]]
        name = inner if colon else name
        if not any(name in declared.get(target, ()) for target in targets):
            reject_unknown({name: value}, {n for cls in NODES.values() for n in flatten(cls)})
            if name in {n for other in declared.values() for n in other}:
                raise ConfigError(f"{name}: expected a parameter of {node}, got one of another")
        if not any(name in declared.get(target, ()) for target in targets):
            check_ros_own(name, value)
        for target in targets or nodes:
            if target in found and (name in declared[target] or not targets):
                found[target][name] = value
    return found


def remapping_rules(given: tuple[str, ...], found: dict[str, str]) -> list[str]:
    """ROS arguments of the remappings: those found in the bag, the user's before them."""
    rules = dict(found)
    for rule in given:
        source, separator, target = rule.partition(":=")
        if not (separator and _TOPIC.fullmatch(source) and _TOPIC.fullmatch(target)):
            raise ConfigError(f"-r: expected FROM:=TO, got {rule!r}")
        rules[source] = target
    return [part for pair in rules.items() for part in ("-r", ":=".join(pair))]


def write_parameters(folder: Path, node: str, values: dict[str, Any]) -> str:
    """A parameter file that holds for the node under any name (JSON is YAML)."""
    path = folder / f"{node}.yaml"
    path.write_text(json.dumps({"/**": {"ros__parameters": values}}), encoding="utf-8")
    return str(path)
