# SPDX-License-Identifier: Apache-2.0
"""One file a command: its options, and the call of the room that does the work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def parse_assignments(items: list[str] | None) -> dict[str, Any]:
    """``NAME=VALUE`` options → values as YAML reads them."""
    from depth_two_stage.config import parse_value

    found: dict[str, Any] = {}
    for item in items or []:
        name, sign, value = item.partition("=")
        if not sign or not name:
            raise ValueError(f"-p: expected NAME=VALUE, got {item!r}")
        found[name] = parse_value(value, f"-p {name}") if value else None
    return found


def write_json(path: Path | None, report: Any) -> None:
    """Write a report for ``--json FILE``; nothing without a file."""
    if path is not None:
        from depth_two_stage.files import atomic_write

        with atomic_write(path, "w") as stream:
            stream.write(json.dumps(report, indent=1, allow_nan=False) + "\n")
