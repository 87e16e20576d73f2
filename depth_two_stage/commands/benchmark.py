# SPDX-License-Identifier: Apache-2.0
"""``depth-two-stage benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer


def command(
    engine: Annotated[
        Optional[list[str]],  # noqa: UP045  (typer on Python 3.10 reads this at run time)
        typer.Option(
            "--engine",
            help="torch, openvino or onnxruntime; may be given several times. Default: all that "
            "are installed. Each is compared with eager torch in fp32 in the same run.",
        ),
    ] = None,
    weights: Annotated[
        str, typer.Option("--weights", help="Name of shipped weights, or a file.")
    ] = "default",
    threads: Annotated[
        int, typer.Option("--threads", min=0, help="Of the engines; 0 is all cores but one.")
    ] = 0,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Interleaved rounds.")] = 15,
    live: Annotated[
        float,
        typer.Option(
            "--live",
            metavar="SECONDS",
            help="Also run the nodes over DDS, mapping on, on the shipped bag that loops for so "
            "long; 0: not.",
        ),
    ] = 30.0,
    recording: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--slam",
            metavar="FOLDER",
            help="Also run the SLAM core over a recording with sensor depth, beside Open3D's "
            "legacy volume and its dense SLAM model.",
        ),
    ] = None,
    frames: Annotated[
        int, typer.Option("--slam-frames", min=2, help="Frames of that recording.")
    ] = 60,
    parameters: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "-p",
            metavar="NAME=VALUE",
            help="Parameter of the nodes and of the SLAM core; may be repeated.",
        ),
    ] = None,
    json_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", help="Write the table as JSON."),
    ] = None,
) -> None:
    """Time conversion, estimator by engine, cloud, map and the nodes: medians, with ratios.

    The nodes run as processes of their own while the shipped bag loops; their rates, latencies and
    memory are those of a live camera on this machine.
    """
    from depth_two_stage import benchmark, files, runtimes, slam_benchmark, tables
    from depth_two_stage.datasets import open_dataset

    files.check_writable(json_file)
    mapping = mapping_parameters(parameters)
    for name in engine or ():  # before minutes have passed
        runtimes.pick(name, "auto", "auto")
    recorded = None if recording is None else open_dataset("folder", recording)[:frames]
    more, found = None, {}
    if live > 0:
        # First of all: a wrong machine or parameter is said before minutes have passed.
        from depth_two_stage.ros import live_benchmark

        values = (f"estimator.weights={weights}", f"estimator.threads={threads}")
        found = live_benchmark.measure(live, values=(*values, *(parameters or ())), say=_quiet)
        more = lambda: live_benchmark.rows(found)  # noqa: E731
    with tables.Bars() as bars:
        report = benchmark.benchmark(weights, engine or (), threads, rounds, bars.track, more)
        if recorded is not None:
            report["rows"] += slam_benchmark.slam_rows(recorded, mapping, bars.track)
    tables.show(tables.benchmark_table(report))
    if found:
        tables.show(*live_tables(found))
        report["live"] = found
    if json_file is not None:
        files.write_json(json_file, report)


def mapping_parameters(assign: list[str] | None):
    """Return those that are the mapping node's; ConfigError for a name of neither node."""
    from depth_two_stage import config

    from . import parse_assignments

    values, mapping = parse_assignments(assign), config.flatten(config.MappingNodeParameters)
    config.reject_unknown(values, {*mapping, *config.flatten(config.DepthNodeParameters)})
    own = {name: value for name, value in values.items() if name in mapping}
    return config.from_flat(config.MappingNodeParameters, own)


def _quiet(line: str) -> None:
    """What the starter says is in its documentation; the nodes' own lines stay."""


def live_tables(found: dict) -> list:
    """The nodes' rates, latencies and memory as rich tables."""
    from rich.table import Table

    flow = Table("", "", title=f"Nodes over DDS, {found['seconds']:g} s", show_header=False)
    for name in ("sent", "depth", "pose"):
        flow.add_row(f"{name}, Hz", _text(found[f"{name}_hz"], 2))
    if found["processing_ms"]:
        flow.add_row("depth_node's median, ms", _text(found["processing_ms"][0]))
        flow.add_row("latency allowed (2 medians + a frame), ms", _text(found["latency_bound_ms"]))
    for name, values in found["latency_ms"].items():
        pair = f"{_text(values['median'])}, {_text(values['p95'])}"
        flow.add_row(f"image to {name}: median, p95, ms", pair)
    for node, counts in found["dropped"].items():
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
        flow.add_row(f"dropped by {node}", reasons or "0")
    memory = Table("process", "MB at 20 s", "MB at the end", "growth", title="Resident memory")
    for name, values in found["memory"].items():
        growth = values["growth_percent"]
        percent = "-" if growth is None else f"{growth:+.1f} %"
        memory.add_row(name, _text(values["start_mb"]), _text(values["end_mb"]), percent)
    return [flow, memory]


def _text(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
