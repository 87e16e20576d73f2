# SPDX-License-Identifier: Apache-2.0
"""Reports of predict, benchmark and compare as tables for people, and how tables are shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

__all__ = [
    "Bars",
    "benchmark_table",
    "comparison_tables",
    "number",
    "prediction_table",
    "show",
]

WIDTH = 160  # of tables that go into a file or a pipe


def show(*things) -> None:
    """Print tables and lines on stdout; outside a terminal nothing is cut to 80 columns."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    for thing in things:
        console.print(thing, soft_wrap=isinstance(thing, str), highlight=False)


class Bars:
    """Progress bars on stderr, one for each thing that is walked through."""

    def __enter__(self) -> Bars:
        """Begin to draw, on a terminal only: elsewhere an error stays the one line on stderr."""
        console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.progress.start()
        return self

    def __exit__(self, *_) -> None:
        """Clear what was drawn."""
        self.progress.stop()

    def track(self, items: Iterable, description: str) -> Iterator:
        """Walk through items (with a length) and show how far."""
        task = self.progress.add_task(description, total=len(items))
        for item in items:
            yield item
            self.progress.advance(task)
        self.progress.remove_task(task)


def number(value, digits: int = 3) -> str:
    """Return a figure for a table; a dash where there is none."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, (int, str)) else f"{value:.{digits}f}"


def prediction_table(rows: list[dict]) -> Table:
    """Return one row an image."""
    table = Table(title="predicted")
    for name in ("image", "points", "with depth", "median m", "left at the points", "ms"):
        table.add_column(name, justify="left" if name == "image" else "right")
    for row in rows:
        table.add_row(
            row["image"],
            number(row["points"]),
            f"{row['depth_share']:.1%}",
            number(row["median_depth"]),
            f"{row['scale_residual']:.2%}",
            number(row["milliseconds"], 1),
        )
    return table


def benchmark_table(report: dict) -> Table:
    """Return medians in milliseconds, and ratios to the row that each is compared with."""
    table = Table(title=f"medians of {report['rounds']} interleaved rounds, {report['machine']}")
    for name in ("what", "median ms", "p95 ms", "ratio", "to"):
        table.add_column(name, justify="left" if name in ("what", "to") else "right")
    for row in report["rows"]:
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}x"
        table.add_row(
            row["what"], number(row["median"], 2), number(row["p95"], 2), ratio, row["to"] or ""
        )
    return table


def comparison_tables(report: dict) -> Iterator[Table]:
    """Return the tables of `comparison.report.collect`: rows, then claims."""
    table = Table("model", "points", "rel", "RMSE m", "log10", "δ1", "images", "minutes")
    for row in report["rows"]:
        for pattern, methods in row["results"].items():
            scores = methods["refined"]
            table.add_row(
                row["label"],
                pattern.partition(":")[2] or "-",
                *(number(scores[name]) for name in ("rel", "rmse", "log10", "delta1")),
                str(max(row["images"].values())),
                f"{sum(row['seconds'].values()) / 60:.1f}",
            )
    yield table
    if report["claims"]:
        claims = Table("claim", "paper", "says", "verdict")
        for claim in report["claims"]:
            claims.add_row(claim["name"], claim["paper"], claim["says"], claim["verdict"])
        yield claims
