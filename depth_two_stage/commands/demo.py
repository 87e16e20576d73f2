# SPDX-License-Identifier: Apache-2.0
"""``depth-two-stage demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from . import write_json


def command(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the results.")] = Path(
        "out/demo"
    ),
    bag: Annotated[
        Optional[Path],  # noqa: UP045  (typer on Python 3.10 reads this at run time)
        typer.Option("--bag", help="Another bag than the shipped one."),
    ] = None,
    parameters: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("-p", metavar="NAME=VALUE", help="Parameter of the nodes; may be repeated."),
    ] = None,
    json_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", help="Write the report as JSON here too."),
    ] = None,
) -> None:
    """Play the shipped bag through the real nodes, separate processes over DDS, and report.

    It is played in lockstep, so that every frame counts, and again in real time, where frames that
    come too fast are dropped. Pictures, mesh, trajectory, bag and report go to the output folder.
    """
    from rich.console import Console

    from depth_two_stage.files import check_writable

    check_writable(output, folder=True)
    check_writable(json_file)
    from depth_two_stage.ros.demo import run

    console = Console()
    report = run(
        output, bag, tuple(parameters or ()), lambda line: console.print(line, style="dim")
    )
    for table in tables(report):
        console.print(table)
    console.print(
        f"{report['seconds']:.0f} s; in {output}: pictures/, mesh.ply, mesh.png, trajectory.txt, "
        "bag/, report.json"
    )
    write_json(json_file, report)


def tables(report: dict[str, Any]) -> list:
    """The report as rich tables."""
    from rich.table import Table

    frames = Table("", "every frame", "real time", title="Frames")
    columns = list(report["frames"].values())
    frames.add_row("sent", *(str(column["in"]) for column in columns))
    frames.add_row("depth published", *(str(column["depth"]) for column in columns))
    frames.add_row("dropped by depth_node", *(_reasons(c["depth dropped"]) for c in columns))
    frames.add_row("poses published", *(str(column["poses"]) for column in columns))
    frames.add_row("fused into the map", *(str(column["fused"]) for column in columns))
    frames.add_row("dropped by mapping_node", *(_reasons(c["map dropped"]) for c in columns))

    depth = Table("stage", "images", "rel", "RMSE m", "log10", "δ1", title="Depth error")
    for stage, found in report["depth"].items():
        errors = (_number(found[name]) for name in ("rel", "rmse", "log10", "delta1"))
        depth.add_row(stage, str(found["images"]), *errors)

    latency = Table("", "median ms", "p95 ms", title="Latency, real time")
    for name, found in report["latency_ms"].items():
        latency.add_row(name, _number(found["median"], 0), _number(found["p95"], 0))
    for node, steps in report["steps_ms"].items():
        for name, found in steps.items():
            latency.add_row(f"{node}: {name}", *(_number(v, 1) for v in found.values()))

    result = Table("", "", title="Trajectory and map", show_header=False)
    way, built = report["trajectory"], report["map"]
    result.add_row("poses, compared with truth", f"{way['poses']}, {way['compared']}")
    result.add_row("ATE, m", _number(way["ate_rmse"]))
    result.add_row("RPE, m a frame", _number(way["rpe_rmse"]))
    result.add_row("map, MB", _number(built["map_used_mb"], 1))
    result.add_row("map, blocks of 16³ voxels", _number(built["map_blocks"], 0))
    result.add_row("mesh, triangles", str(built["triangles"]))
    return [frames, depth, latency, result]


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items() if count) or "0"
