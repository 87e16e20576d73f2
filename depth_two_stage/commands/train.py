# SPDX-License-Identifier: Apache-2.0
"""``depth-two-stage train``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, List, Optional  # noqa: UP035  (typer on Python 3.10)

import typer

from . import parse_assignments


def command(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe of the package, or a YAML file.")],
    root: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--root", help="Folder of the data set (data.root of the recipe)."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("-o", "--out", help="Folder of the run; runs/RECIPE without it."),
    ] = None,
    assignment: Annotated[
        Optional[List[str]],  # noqa: UP006, UP045
        typer.Option("-p", metavar="NAME=VALUE", help="Override a value of the recipe."),
    ] = None,
    budget: Annotated[
        int,
        typer.Option(
            "--budget",
            min=0,
            help="Images that each stage sees at most; its schedule is pressed together. 0: all.",
        ),
    ] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the folder's last state.")
    ] = False,
    threads: Annotated[int, typer.Option("--threads", min=0, help="Threads; 0 is all.")] = 0,
) -> None:
    """Train stage one, then stage two, by a recipe; several processes by torch's own launcher.

    One process: depth-two-stage train default --root DATA. Several: torchrun --nproc-per-node 2
    -m depth_two_stage.cli train default --root DATA.
    """
    import torch

    from depth_two_stage import files, recipes
    from depth_two_stage.training import Run

    overrides = parse_assignments(assignment)
    if root is not None:
        overrides["data.root"] = str(root)
    if budget:
        overrides["budget"] = budget
    if threads:
        torch.set_num_threads(threads)
    loaded = recipes.load(recipe, overrides)
    out = out or Path("runs") / Path(recipe).stem
    files.check_writable(out, folder=True)
    run = Run(loaded, out, resume)
    weights = run.train()
    if int(os.environ.get("RANK", 0)) == 0:
        typer.echo(f"{weights}: written, {run.metrics}")
