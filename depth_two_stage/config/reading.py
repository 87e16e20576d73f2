# SPDX-License-Identifier: Apache-2.0
"""Values from ROS parameter files and from command lines, checked against the declarations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from .declaring import ConfigError, check_ros_own, flatten, is_ros_own, reject_unknown
from .nodes import NODES

# 1e-3 and 2E5 are text in YAML 1.1, which wants a point in a number with an exponent; they are
# numbers in YAML 1.2, for rcl, and for whoever writes them.
_NUMBER = re.compile(r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$")


@cache
def _loader() -> type:
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+0123456789"))
    return Loader


def read_yaml(stream: Any) -> Any:
    """YAML text or stream → content, as `yaml.safe_load` does, but 1e-3 is a number."""
    import yaml

    return yaml.load(stream, _loader())


def parse_value(text: str, name: str) -> Any:
    """What stands behind NAME= on a command line, as YAML; no text is the empty string."""
    import yaml

    try:
        return read_yaml(text) if text else ""
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a wrong date
        raise ConfigError(f"{name}: expected a YAML value, got {text!r:.80}") from error


def of_package(values: dict[str, Any]) -> dict[str, Any]:
    """The values without ROS's own (use_sim_time, qos_overrides.*)."""
    return {name: value for name, value in values.items() if not is_ros_own(name)}


def load_yaml(path: str | Path) -> dict[str, dict[str, Any]]:
    """A ROS parameter file → {node: {dotted name: value}}, all names and values checked.

    ``/**`` is given to every node that declares the name; a node may be written with a leading
    slash or a namespace. A node of another package in the file is left alone.
    """
    import yaml

    path = Path(path)
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
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
    sections = dict(_sections(content))
    for key in sorted(sections, key=lambda key: "*" not in str(key)):
        values = _section(path, key, sections[key])
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
                elif is_ros_own(name):
                    found[target][name] = check_ros_own(name, value)
    return found


def _sections(content: dict, above: str = "") -> Iterator[tuple[str, Any]]:
    """Nodes' full names and what stands below them; namespaces may be nested mappings."""
    for key, value in content.items():
        name = f"{above}{key}"
        nested = isinstance(value, dict) and value and "ros__parameters" not in value
        if nested and all(isinstance(inner, dict) for inner in value.values()):
            yield from _sections(value, f"{name}/")
        else:
            yield name, value


def _section(path: Path, key: Any, section: Any) -> dict[str, Any]:
    """The dotted values below one node's name."""
    if not isinstance(section, dict) or set(section) != {"ros__parameters"}:
        raise ConfigError(f"{path}: expected {key}: ros__parameters: …, got {section!r:.80}")
    values = section["ros__parameters"] or {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected names and values below {key}, got {values!r:.80}")
    return dict(_dotted(values))


def _dotted(values: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
