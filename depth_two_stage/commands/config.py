# SPDX-License-Identifier: Apache-2.0
"""``depth-two-stage config``: the parameters, printed, written or checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from depth_two_stage import config

from . import write_json


def command(
    check: Annotated[
        Optional[Path],  # noqa: UP045  (typer on Python 3.10 reads this at run time)
        typer.Option("--check", help="Check a ROS parameter file: names, types, ranges."),
    ] = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("-o", "--output", help="Write config/default.yaml here."),
    ] = None,
    json_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", help="Write the table, or the checked values, as JSON."),
    ] = None,
    yaml: Annotated[bool, typer.Option("--yaml", help="Print the defaults as YAML.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the README's table.")] = False,
) -> None:
    """Print all parameters, write their defaults, or check a parameter file."""
    if check is not None:
        values = config.load_yaml(check)
        for node, given in values.items():
            # A file may leave everything at its default; each instance is checked as a whole.
            config.from_flat(config.NODES[node], config.of_package(given))
            typer.echo(f"{check}: {node}: {len(given)} parameters, all known and in range")
        write_json(json_file, values)
        return
    if output is not None:
        from depth_two_stage.files import atomic_write

        with atomic_write(output, "w") as stream:
            stream.write(config.default_yaml())
        return
    if yaml:
        typer.echo(config.default_yaml(), nl=False)
        return
    if markdown:
        typer.echo(config.markdown_table(), nl=False)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("node", "parameter", "default", "expected", "at run time", "what it does")
    rows = []
    for node, cls in config.NODES.items():
        for item in config.flatten(cls).values():
            rows.append(
                {
                    "node": node,
                    "name": item.name,
                    "default": item.default,
                    "expected": item.expected(),
                    "dynamic": item.dynamic,
                    "help": item.help,
                }
            )
            shown = "" if item.default in ("", ()) else str(item.default)
            changes = "changes" if item.dynamic else "read-only"
            table.add_row(node, item.name, shown, item.expected(), changes, item.help)
    Console().print(table)
    write_json(json_file, rows)
