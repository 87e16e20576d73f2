# SPDX-License-Identifier: Apache-2.0
"""What a comparison found, as one Markdown page and one JSON file."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

from depth_two_stage import networks

from . import baselines
from .claims import judge
from .plan import Plan
from .runs import read_row

MEASURES = ("rel", "rmse", "log10", "delta1", "delta2", "delta3")
BASELINES = {
    "mean": "mean depth of the training images",
    "nearest": "nearest point",
    "linear": "linear interpolation",
    "smooth": "smooth interpolation",
}
HEADS = ("rel", "RMSE m", "log10", "δ1", "δ2", "δ3")


def collect(plan: Plan, out: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Everything measured so far: baselines, rows, claims, and what is still to come."""
    rows, missing = [], []
    for row in plan.rows:
        found = read_row(out, row)
        if found is None:
            missing.append(row.label)
        else:
            name = networks.ALIASES.get(row.model, row.model)
            rows.append({**found, "paper": plan.figures.get(name)})
    claims = [judge(claim, plan, out) for claim in plan.claims]
    return {
        **facts,
        "budget": plan.budget,
        "baselines": (baselines.read(out) or {}).get("results", {}),
        "rows": rows,
        "missing": missing,
        "claims": claims,
    }


def markdown(report: dict[str, Any], plots: list[str]) -> str:
    """The report as a page; ``plots`` are names of pictures beside it."""
    lines = [
        "# Networks beside each other",
        "",
        f"Every network was trained from scratch on the same {report['training_frames']} images "
        f"({report['dataset']} {report['split_trained']}), each stage on {report['budget']:,} "
        f"images drawn from them, and measured on {report['frames']} images ({report['dataset']} "
        f"{report['split']}), full frame, not anchored, mean of per-image values. The papers' own "
        "figures stand beside: other data (the papers' training sets are 10 to 100 times as large "
        "and start from ImageNet encoders), so they are a guide and no target.",
        "",
        f"Command: `{report['command']}`",
        "",
        "| model | paper | M parameters | GFLOP | points | "
        + " | ".join(HEADS)
        + " | paper's rel | RMSE | δ1 | on |",
        "|---|---|---|---|---|" + "---|" * (len(HEADS) + 4),
    ]
    for pattern, methods in report["baselines"].items():
        for name, scores in methods.items():
            cells = (f"*{BASELINES[name]}*", *"–––", _points(pattern), *_scores(scores), *"––––")
            lines.append(f"| {' | '.join(cells)} |")
    for row in report["rows"]:
        lines += _rows(row)
    arithmetic = Counter(_precision(row) for row in report["rows"])
    if arithmetic:
        counted = ", ".join(f"{name} in {count} rows" for name, count in arithmetic.items())
        lines += ["", f"Arithmetic of the training, as the machine's processor has it: {counted}."]
    if report["missing"]:
        lines += ["", f"Still to come: {', '.join(report['missing'])}."]
    lines += ["", "## What the papers claim", ""]
    for claim in report["claims"]:
        lines += _claim(claim)
    if plots:
        lines += ["## Pictures", "", *(f"![{Path(p).stem}]({p})" for p in plots)]
    return "\n".join(lines).rstrip() + "\n"


def _rows(row: dict[str, Any]) -> list[str]:
    """One line a sparse setting."""
    paper = row["paper"] or {}
    printed = [_number(paper.get(name)) for name in ("rel", "rmse", "delta1")]
    if "rmse_fraction" in paper:  # never a bare number beside metres
        printed[1] = f"{_number(paper['rmse_fraction'])} of 0…1"
    lines = []
    for pattern, methods in row["results"].items():
        scores = methods["refined"]
        points = _points(pattern)
        if points not in ("–", "200"):
            continue  # the claim on samples has its own table
        cells = [
            _cell(row["label"]),
            networks.architecture(row["model"])["paper"],
            f"{row['parameters'] / 1e6:.1f}",
            f"{row['gflop']:.1f}",
            points,
            *_scores(scores),
            *printed,
            paper.get("data", "–"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _precision(row: dict[str, Any]) -> str:
    """Arithmetic that a row was trained in; older rows have it in their recipe."""
    return row["precision"] if "precision" in row else row["recipe"]["precision"]


def _points(pattern: str) -> str:
    return pattern.partition(":")[2] or "–"


def _scores(scores: dict[str, Any]) -> list[str]:
    return [_number(scores[name]) for name in MEASURES]


def _claim(claim: dict[str, Any]) -> list[str]:
    verdict = claim["verdict"][0].upper() + claim["verdict"][1:]
    said = ": ".join(filter(None, (claim["paper"], claim["says"])))
    lines = [
        f"### {claim['name']}",
        "",
        f"{said}. **{verdict}.**" if said else f"**{verdict}.**",
        "",
    ]
    if "missing" in claim:
        return [*lines, f"Missing: {claim['missing']}.", ""]
    if "rows" not in claim:
        return lines
    if claim["kind"] == "speed":
        lines += ["| | plain, ms | fast, ms | plain ÷ fast |", "|---|---|---|---|"]
        for name, row in claim["rows"].items():
            cells = (name, f"{row['plain_ms']:.1f}", f"{row['fast_ms']:.1f}", f"{row['ratio']:.2f}")
            lines.append(f"| {' | '.join(cells)} |")
        return [*lines, ""]
    measure = {"rmse": "RMSE m", "grid": "grid, m RMS"}.get(claim["measure"], claim["measure"])
    lines += [f"| | {measure}, mean ± standard deviation | seeds |", "|---|---|---|"]
    for name, row in claim["rows"].items():
        deviation = "" if row["std"] is None else f" ± {_number(row['std'])}"
        mean, seeds = _number(row["mean"]), len(row["values"])
        lines.append(f"| {_cell(name)} | {mean}{deviation} | {seeds} |")
    lines.append("")
    for pair in claim.get("pairs", ()):
        p = "one seed" if pair["seeds"] < 2 else "a figure is missing"
        p = p if pair["p"] is None else f"p = {pair['p']:.3f}"
        lines.append(
            f"- {pair['better']} against {pair['worse']}: {_difference(pair['difference'])} "
            f"({p}): {pair['verdict']}"
        )
    if claim["kind"] == "samples":
        half = claim["halved_at"]
        lines.append(
            f"- half of the error without points is reached at {half} points"
            if half
            else "- none of these numbers halves the error without points"
        )
        if math.isfinite(claim.get("reduction_at_100", math.nan)):
            lines.append(f"- 100 points lower it by {100 * claim['reduction_at_100']:.0f} %")
    return [*lines, ""]


def _difference(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{_number(abs(value))} {'larger' if value < 0 else 'smaller'}"


def _number(value: float | None) -> str:
    return f"{value:.3f}" if value is not None and math.isfinite(value) else "–"


def _cell(text: str) -> str:
    """A text that ends no cell of a table."""
    return text.replace("|", "\\|")
