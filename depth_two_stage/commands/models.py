# SPDX-License-Identifier: Apache-2.0
"""``depth-two-stage models``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from . import write_json

INPUTS = {
    "none": "RGB",
    "grey": "grey",
    "points": "sparse",
    "zeros": "RGB, sparse",
    "filled": "RGB, filled, distance",
    "smooth": "RGB, smooth, distance",
    "relative": "RGB, interpolated, distance, points",
}


def command(
    json_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", help="Write the table as JSON."),
    ] = None,
) -> None:
    """List the networks with paper, inputs, parameters and cost, and the shipped weights."""
    import torch
    from rich.table import Table
    from torch.utils.flop_counter import FlopCounterMode

    from depth_two_stage import files, networks, tables
    from depth_two_stage.networks.checkpoint import SHIPPED

    files.check_writable(json_file)
    shipped: dict[str, list[str]] = {}
    for name in sorted({networks.checkpoint.part_stem(p) for p in SHIPPED.glob("*.safetensors")}):
        facts = networks.checkpoint.read_header(networks.resolve(name))[0]
        shipped.setdefault(facts.get("recipe", {}).get("model"), []).append(name)
    table = Table()
    table.add_column("name", no_wrap=True)
    for column in ("paper", "inputs"):
        table.add_column(column)
    for column in ("parameters", "GFLOP"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("shipped weights")
    rows = []
    for name, spec in networks.MODELS.items():
        with torch.device("meta"):
            model = networks.build(spec).eval()
            x = torch.empty(1, model.settings.channels, *model.settings.input_size)
            with FlopCounterMode(display=False) as counter:
                model(x)
        row = {
            "name": name,
            "paper": spec["paper"],
            "input": list(x.shape[1:]),
            "sees": INPUTS[model.settings.sparse_input],
            "parameters": sum(p.numel() for p in model.parameters()),
            "gflop": counter.get_total_flops() / 1e9,
            "weights": shipped.get(name, []),
            "aliases": [alias for alias, of in networks.ALIASES.items() if of == name],
            "fixed_size": model.fixed_size,
        }
        rows.append(row)
        table.add_row(
            "\n".join((name, *(f"  = {alias}" for alias in row["aliases"]))),
            row["paper"],
            f"{'×'.join(map(str, row['input']))} {row['sees']}",
            f"{row['parameters']:,}",
            f"{row['gflop']:.1f}",
            ", ".join(row["weights"]) or "-",
        )
    tables.show(table)
    typer.echo(
        "Any of them, other weights, or a metric depth model of Hugging Face's transformers can "
        "be stage one: depth-two-stage plug hf:FOLDER -o FILE",
    )
    write_json(json_file, rows)
