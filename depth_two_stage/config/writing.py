# SPDX-License-Identifier: Apache-2.0
"""The declarations as ``config/default.yaml`` and as the README's table."""

from __future__ import annotations

from typing import Any

from .declaring import flatten
from .nodes import NODES

HEAD = "# Written by `depth-two-stage config` from depth_two_stage/config/: edit the files there."


def default_yaml() -> str:
    """All parameters with defaults, help and limits, in ROS's layout."""
    lines = [HEAD]
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
