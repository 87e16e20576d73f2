# SPDX-License-Identifier: Apache-2.0
"""``depth-two-stage import-weights``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Optional

import typer

from .models import INPUTS


def command(
    file: Annotated[
        Path,
        typer.Argument(
            help="The authors' file: FCRN's .npy or .ckpt (prefix, .index or folder), "
            "sparse-to-dense's model_best.pth.tar, torchvision's .pth or .safetensors.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The checkpoint to write.")],
    layout: Annotated[
        str,
        typer.Option(
            "--layout",
            help="auto (by content), fcrn-npy, fcrn-ckpt, sparse-to-dense or torchvision.",
        ),
    ] = "auto",
    source: Annotated[
        str, typer.Option("--source", help="Where the file is from, to be remembered: a URL.")
    ] = "",
    model: Annotated[
        Optional[str],  # noqa: UP045  (typer on Python 3.10 reads this at run time)
        typer.Option(
            "--model",
            help="The network an ImageNet encoder is for; default: FCRN of its kind on RGB.",
        ),
    ] = None,
    fourth: Annotated[
        str,
        typer.Option(
            "--fourth",
            help="What a stem's channels beyond RGB start at: mean (of the three) or zero.",
        ),
    ] = "mean",
    json_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", help="Write the summary as JSON."),
    ] = None,
) -> None:
    """Make a checkpoint of public weights; nothing in the file is run, and all of it is checked."""
    from rich.console import Console
    from rich.table import Table

    from depth_two_stage import files
    from depth_two_stage.checkpoints.importing import import_weights

    files.check_writable(output)
    files.check_writable(json_file)
    with ending_on_sigterm():
        summary = import_weights(file, output, layout, source, model, fourth)
    table = Table("imported", "", show_header=False)
    for name, value in rows(summary):
        table.add_row(name, value)
    Console().print(table)
    # Not in the table, where it would be cut into lines: to be copied.
    typer.echo(f"check with: {summary['check']}")
    if json_file is not None:
        files.write_json(json_file, summary)


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into an exit that clears up what is half written."""

    def leave(*_: object) -> None:
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def rows(summary: dict) -> list[tuple[str, str]]:
    """The lines of the table."""
    stage_one = summary["architecture"]["stage_one"]
    settings = summary["architecture"]["settings"]
    left_out = [f"{summary[k]} {k}" for k in ("ignored", "dropped") if summary[k]]
    found = [
        ("layout", f"{summary['layout']}: {summary['title']}"),
        ("files", "\n".join(summary["files"])),
        ("sha256", summary["sha256"]),
        ("source", summary["source"] or "not given"),
        ("date", summary["date"]),
        ("network", ", ".join(str(v) for k, v in stage_one.items() if k != "name")),
        (
            "input",
            f"{INPUTS[settings['sparse_input']]}, {' x '.join(map(str, settings['input_size']))}",
        ),
        ("tensors", ", ".join((f"{summary['tensors']:,} all found", *left_out))),
        ("values", f"{summary['values']:,}"),
        ("output", summary["output"]),
        ("published", summary["published"] or "no figure for this one"),
    ]
    if summary.get("untrained"):
        found[-1] = ("untrained", f"{summary['untrained']}: train {summary['model']} from here")
    return found
