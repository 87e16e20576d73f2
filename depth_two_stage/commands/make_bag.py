# SPDX-License-Identifier: Apache-2.0
"""``depth-two-stage make-bag``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from . import write_json


def command(
    dataset: Annotated[str, typer.Argument(help="nyu, tum, sevenscenes, folder, rendered, …")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The new bag folder.")],
    root: Annotated[Path, typer.Option("--root", help="Where the data set lies.")] = Path("."),
    split: Annotated[
        Optional[str],  # noqa: UP045  (typer on Python 3.10 reads this at run time)
        typer.Option("--split", help="Part of the data set."),
    ] = None,
    start: Annotated[int, typer.Option("--start", min=0, help="First frame.")] = 0,
    limit: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--limit", min=1, help="Number of frames; all by default."),
    ] = None,
    quality: Annotated[int, typer.Option("--quality", help="JPEG quality, 1 to 100.")] = 80,
    depth_every: Annotated[
        int, typer.Option("--depth-every", help="True depth in every n-th frame; 0: none.")
    ] = 5,
    beams: Annotated[
        int, typer.Option("--beams", help="Beams of the LiDAR simulated from depth; 0: none.")
    ] = 16,
    up: Annotated[
        str,
        typer.Option(
            "--up",
            help="Axis of the poses' world that points up, by which base_link is levelled: "
            "x, y, z, -x, -y, -z or none; auto is z for tum.",
        ),
    ] = "auto",
    source: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--source", help="Attribution for the bag's metadata."),
    ] = None,
    json_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", help="Write the table as JSON."),
    ] = None,
) -> None:
    """Make a bag of a data set: colour, camera_info, LiDAR, /tf_static, poses, true depth.

    The shipped bag is made by
    depth-two-stage make-bag tum --root tum_fr1_xyz --limit 150 -o tum_fr1_xyz_15s
    """
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from depth_two_stage.datasets import open_dataset
    from depth_two_stage.datasets.bag_reader import RawBag
    from depth_two_stage.datasets.make_bag import make_bag
    from depth_two_stage.files import check_writable

    check_writable(output, folder=True)
    check_writable(json_file)
    frames = open_dataset(dataset, root, split)
    frames = frames[start : None if limit is None else start + limit]
    if not len(frames):
        raise ValueError(f"--start: expected a frame of the data set, got {start}")
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("frames", total=len(frames))
        make_bag(
            frames,
            output,
            quality=quality,
            depth_every=depth_every,
            beams=beams,
            up=up,
            source=source,
            progress=lambda done: progress.update(task, completed=done),
        )
    megabytes = sum(file.stat().st_size for file in output.iterdir()) / 1e6
    with RawBag(output) as bag:
        seconds = (bag.end - bag.start) / 1e9
        rows = [{"topic": t.name, "type": t.type, "messages": t.count} for t in bag.topics.values()]
    table = Table(
        "topic", "type", "messages", title=f"{output}: {seconds:.1f} s, {megabytes:.1f} MB"
    )
    for row in rows:
        table.add_row(row["topic"], row["type"], str(row["messages"]))
    Console().print(table)
    write_json(
        json_file,
        {"bag": str(output), "seconds": seconds, "megabytes": megabytes, "topics": rows},
    )
