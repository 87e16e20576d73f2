# SPDX-License-Identifier: Apache-2.0
"""A comparison's pictures: learning curves, error against depth and points, depth side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from depth_two_stage import files, pictures


def draw(report: dict[str, Any], out: Path) -> list[str]:
    """Write the plots of what there is; their names in ``out``."""
    import matplotlib

    matplotlib.use("Agg")
    drawn = []
    if report["rows"]:
        drawn += [_curves(report["rows"], out), _by_depth(report["rows"], out)]
        drawn += _pictures(report["rows"], out)
    for claim in report["claims"]:
        if claim["kind"] == "samples" and "rows" in claim:
            drawn.append(_samples(claim, out))
    return drawn


def _axes(title: str, x: str, y: str):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure, out: Path, name: str) -> str:
    with files.atomic_path(out / name) as path:
        figure.savefig(path, dpi=90)
    return name


def _style(index: int) -> dict[str, Any]:
    return {"color": f"C{index % 10}", "linestyle": ("-", "--", ":", "-.")[index // 10 % 4]}


def _curves(rows: list[dict], out: Path) -> str:
    figure, axes = _axes("Learning curves of the first stage", "images seen", "training loss")
    for index, row in enumerate(rows):
        losses = row["curve"]["loss"]
        stage = next(iter(losses), None)
        if stage is None:
            continue
        seen = (np.arange(len(losses[stage])) + 0.5) / len(losses[stage]) * row["images"][stage]
        axes.plot(seen, losses[stage], label=row["label"], **_style(index))
    axes.set_yscale("log")
    axes.legend(fontsize=6, ncols=2)
    return _save(figure, out, "learning_curves.png")


def _by_depth(rows: list[dict], out: Path) -> str:
    figure, axes = _axes("Error against depth", "true depth, m", "RMSE, m")
    for index, row in enumerate(rows):
        for pattern, bins in row["bins"].items():
            if pattern not in ("none", "bernoulli:200"):
                continue
            edges, seen = np.array(bins["edges"]), np.array(bins["pixels"]) > 0
            middle = (edges[:-1] + edges[1:]) / 2
            label = row["label"] + ("" if pattern == "none" else ", 200 points")
            style = _style(index)
            axes.plot(middle[seen], np.array(bins["rmse"])[seen], label=label, **style)
    axes.legend(fontsize=6, ncols=2)
    return _save(figure, out, "error_by_depth.png")


def _samples(claim: dict, out: Path) -> str:
    figure, axes = _axes("Error against the number of points", "points", "RMSE, m")
    rows = {int(name.split()[0]): each for name, each in claim["rows"].items()}
    counts = sorted(rows)
    means = [rows[n]["mean"] for n in counts]
    axes.errorbar(counts, means, [rows[n]["std"] or 0 for n in counts], marker="o", capsize=3)
    axes.axhline(means[0] / 2, linestyle=":", label="half of the error without points")
    axes.set_xscale("symlog", linthresh=10)
    axes.set_ylim(bottom=0)
    axes.legend()
    return _save(figure, out, "error_by_points.png")


def _pictures(rows: list[dict], out: Path) -> list[str]:
    """Every network's depth of the same frames, one row each, in one scale."""
    panels = []
    for row in rows:
        path = out / "pictures" / f"{row['key']}.png"
        if path.exists():
            strip = files.read_depth(path, 100.0)
            panels.append(pictures.Panel(row["label"], strip, 0.5, 6.0))
    if not panels:
        return []
    width = 456
    columns = 3
    lines = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    files.write_image(out / "pictures.jpg", pictures.grid(lines, width))
    return ["pictures.jpg"]
