# SPDX-License-Identifier: Apache-2.0
"""``depth-two-stage train``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, List, Optional  # noqa: UP035  (typer on Python 3.10)

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
    pack: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--pack",
            help="Train nothing: write the recipe's training and validation frames into this "
            "folder, in parts of at most 24 MiB; -p data.dataset=packed --root FOLDER opens it.",
        ),
    ] = None,
    pack_width: Annotated[
        int, typer.Option("--pack-width", min=16, help="Wider frames are reduced to it, px.")
    ] = 320,
    pack_quality: Annotated[
        int,
        typer.Option(
            "--pack-quality",
            min=1,
            max=100,
            help="JPEG quality; files that are JPEG and fit go in unchanged.",
        ),
    ] = 95,
    pack_depth_scale: Annotated[
        float,
        typer.Option(
            "--pack-depth-scale",
            min=1,
            help="Depth units per metre; 200 (5 mm) takes about a half of 1000.",
        ),
    ] = 1000,
) -> None:
    """Train stage one, then stage two, by a recipe; several processes by torch's own launcher.

    One process: depth-two-stage train anchored --root DATA. Several: torchrun --nproc-per-node 2
    -m depth_two_stage.cli train anchored --root DATA.
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
    if pack is not None:
        _pack(loaded, pack, pack_width, pack_quality, pack_depth_scale)
        return
    out = out or Path("runs") / Path(recipe).stem
    files.check_writable(out, folder=True)
    run = Run(loaded, out, resume)
    weights = run.train()
    if int(os.environ.get("RANK", 0)) == 0:
        typer.echo(f"{weights}: written, {run.metrics}")


def _pack(recipe: Any, out: Path, width: int, quality: int, depth_scale: float) -> None:
    from depth_two_stage import files, tables
    from depth_two_stage.datasets.packed import Coding, write_pack
    from depth_two_stage.training_data import to_pack

    files.check_writable(out, folder=True)
    with tables.Bars() as bars:
        coding = Coding(width, quality, depth_scale)
        made = write_pack(out, to_pack(recipe.data), coding, track=bars.track)
    for packed in made:
        sizes = [part["bytes"] for part in packed["parts"]]
        typer.echo(
            f"{out}: {packed['title']}: {len(packed['frames'])} frames in {len(sizes)} parts, "
            f"{sum(sizes) / 1e6:.1f} MB; list hash {packed['source']['list_hash']}"
        )
    for mixed in recipe.data.mix:
        if mixed.root is not None:
            typer.echo(f"{out}: not in it: {mixed.dataset} of data.mix, which keeps its own root")
