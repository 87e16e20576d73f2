# SPDX-License-Identifier: Apache-2.0
"""The report of evaluate as tables for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from depth_two_stage.metrics import GROUPS
from depth_two_stage.tables import number

__all__ = ["calibration_line", "evaluation_tables"]

COLUMNS = 10  # of measures in one table; more are shown below it

METHODS = ("mean", "nearest", "linear", "smooth", "morphological", "coarse", "refined")
#: tables of single figures: title, then (key or path in a method's scores, column)
PLACES = (
    "inside and outside the scanned band",
    ("inside.rmse", "RMSE inside"),
    ("inside.rel", "rel inside"),
    ("outside.rmse", "RMSE outside"),
    ("outside.rel", "rel outside"),
)
COMMON = (
    "on the pixels that every method answers",
    ("common.rmse", "RMSE"),
    ("common.rel", "rel"),
    ("common.delta1", "delta1"),
    ("common.pixels", "pixels"),
)
EDGES = (
    "depth edges (jumps > 10 %) between neighbours, and 4 apart; pixels of 640 across, at most 10",
    ("dbe_acc", "accuracy"),
    ("dbe_comp", "completeness"),
    ("dbe_acc_160", "accuracy, 4 apart"),
    ("dbe_comp_160", "completeness, 4 apart"),
    ("edge_images", "images"),
    ("without_edges", "without edges"),
    ("change_median", "change by stage two m"),
)
ALIGNED = (
    "each image brought to the truth's scale by the median ratio",
    ("aligned_rmse", "RMSE"),
    ("aligned_rel", "rel"),
)
TRAJECTORY = (
    ("ate_rmse", "ATE m"),
    ("rpe_rmse", "RPE m/frame"),
    ("rpe_second_rmse", "RPE m/s"),
    ("lost_frames", "lost"),
    ("fused_frames", "fused"),
    ("slam_frames", "frames"),
    ("frames_without_pose", "without pose"),
)
#: of own odometry on predicted depth, whose scale is a guess without points
SCALED = (
    ("ate_rmse_scaled", "ATE scaled m"),
    ("trajectory_scale", "scale"),
)


def evaluation_tables(report: dict, measures: Sequence[str] | None = None) -> list[Table]:
    """Return the depth table, and with SLAM those of trajectories and meshes.

    `measures` are the columns; without them those that the protocol's authors report.
    """
    terms = report["protocol_terms"]
    measures = measures or GROUPS[terms["measures"]]
    title = (
        f"{report['dataset']} {report['split'] or ''}: {report['frames']} frames, "
        f"{report['weights']} ({report['engine']} {report['precision']}), anchor "
        f"{report['anchor']}, protocol {report['protocol']}, mean {report['averaging']}"
    )
    rows = -(-len(measures) // COLUMNS)  # of columns, one table each, alike in width
    share = -(-len(measures) // rows)
    depths = [
        _errors(report, measures[start : start + share], title if start == 0 else None)
        for start in range(0, len(measures), share)
    ]
    left_out = {
        text: row["frames_without_depth"]
        for text, row in report["results"].items()
        if "frames_without_depth" in row
    }
    notes = [f"protocol {report['protocol']}: {terms['help']}"]
    if left_out:
        counts = ", ".join(f"{text} {count}" for text, count in left_out.items())
        notes.append(f"left out, frames without depth: {counts}")
    notes += _counts(report)
    depths[-1].caption = "\n".join(notes)
    tables = [*depths, *(_figures(report, *one) for one in (COMMON, PLACES, EDGES, ALIGNED))]
    tables += [_confidence(report), _temporal(report)]
    if any("ate_rmse" in row for row in report["results"].values()):
        tables += [_trajectories(report), _maps(report)]
    return [table for table in tables if table.row_count]


def _errors(report: dict, measures: Sequence[str], title: str | None) -> Table:
    table = Table(title=title)
    for name in ("sparse", "points", "method", *measures, "coverage"):
        table.add_column(name, justify="left" if name in ("sparse", "method") else "right")
    for text, row in report["results"].items():
        for method in (m for m in METHODS if m in row):
            scores = row[method]
            table.add_row(
                text,
                number(row["points"], 0),
                method,
                *(number(scores[name]) for name in measures),
                number(scores["coverage"]),
                style="bold" if method == "refined" else None,
            )
    return table


def _counts(report: dict) -> list[str]:
    """Return what was left out of the figures of the refined depth, where anything was."""
    named = {
        "missing": "predictions missing where truth stands",
        "invalid_targets": "pixels of truth that are no depth (NaN, infinite, negative)",
        "empty": "images without a pixel to compare",
    }
    notes = []
    for key, name in named.items():
        counts = {
            t: row["refined"][key] for t, row in report["results"].items() if "refined" in row
        }
        if any(counts.values()):
            found = ", ".join(f"{text} {count}" for text, count in counts.items())
            notes.append(f"left out, {name}: {found}")
    return notes


def _figures(report: dict, title: str, *columns: tuple[str, str]) -> Table:
    """Return a row a method that has the first of the figures."""
    table = Table(title=title)
    for name in ("sparse", "method", *(label for _, label in columns)):
        table.add_column(name, justify="left" if name in ("sparse", "method") else "right")
    for text, row in report["results"].items():
        for method in (m for m in METHODS if m in row):
            figures = [_at(row[method], key) for key, _ in columns]
            if figures[0] is not None:
                bold = "bold" if method == "refined" else None
                table.add_row(text, method, *(number(f) for f in figures), style=bold)
    return table


def _at(scores: dict, path: str):
    """Return what stands at "inside.rmse", or None."""
    for key in path.split("."):
        scores = (scores or {}).get(key)
    return scores


def _confidence(report: dict) -> Table:
    table = Table(title="confidence: probability of depth within 5 % of the truth")
    for name in (
        "sparse",
        "mean confidence",
        "share within 5 %",
        "RMSE",
        "RMSE of the surest 80 %",
        "by triangle spread",
        "bins off by",
        "at most",
        "monotone",
    ):
        table.add_column(name, justify="right")
    for text, row in report["results"].items():
        c = row["confidence"]
        if c:
            drop = c.get("triangle_spread_drop")
            table.add_row(
                text,
                number(c["mean"]),
                number(c["within_5_percent"]),
                number(c["rmse_all"]),
                f"{number(c['rmse_most_confident_80_percent'])} ({-c['reduction']:+.0%})",
                "-" if drop is None else f"{-drop:+.0%}",
                f"{c['calibration_error_median']:.0%}",
                f"{c['calibration_error_max']:.0%}",
                "yes" if c["monotone"] else f"falls by {c['largest_fall']:.1%}",
            )
    return table


def _temporal(report: dict) -> Table:
    table = Table(title="frame to frame: median ratio to truth; depth moved into the next view")
    for name in ("sparse", "method", "ratio", "its deviation", "moved rel", "to linear", "pairs"):
        table.add_column(name, justify="left" if name in ("sparse", "method") else "right")
    for text, row in report["results"].items():
        found = row.get("temporal", {"ratio_mean": {}, "warped_rel": {}})
        for method in (m for m in METHODS if m in found["ratio_mean"] | found["warped_rel"]):
            table.add_row(
                text,
                method,
                number(found["ratio_mean"].get(method)),
                number(found["ratio_std"].get(method), 4),
                number(found["warped_rel"].get(method), 4),
                number(found["refined_to_linear"]) if method == "refined" else "",
                number(found["pairs"]),
            )
    return table


def _trajectories(report: dict) -> Table:
    depth, poses = report["slam_depth"], report["slam_poses"]
    table = Table(title=f"trajectory, {depth} depth, poses from {poses}")
    columns = TRAJECTORY
    if (depth, poses) == ("predicted", "odometry"):
        columns = (*TRAJECTORY[:1], *SCALED, *TRAJECTORY[1:])
    for name in ("sparse", "depth", *(label for _, label in columns)):
        table.add_column(name, justify="right")
    for text, row in report["results"].items():
        runs = {"refined" if depth == "predicted" else depth: row, "linear": row.get("linear_slam")}
        for method, run in runs.items():
            if run is not None:
                table.add_row(text, method, *(number(run[key]) for key, _ in columns))
    table.caption = "\n".join(
        f"{text}, kidnapped: frames from each return to recovery "
        f"{', '.join('never' if n is None else str(n) for n in found['frames_to_recovery'])}; "
        f"{found['wrong_fusions']} of {found['compared_fusions']} fused poses off by > 10 cm"
        for text, row in report["results"].items()
        if (found := row.get("kidnappings"))
    )
    return table


def _maps(report: dict) -> Table:
    what = {
        "sensor": "the mesh of sensor depth from true poses",
        "surfaces": "the surfaces that the frames saw",
    }
    table = Table(title=f"map against {what[report['slam_reference']]}, at 5 cm")
    names = ("fscore", "precision", "recall", "accuracy", "completeness")
    for name in ("sparse", "depth", *names):
        table.add_column(name, justify="right")
    for text, row in report["results"].items():
        for method, scores in row["map"].items():
            table.add_row(text, method.replace("_", " "), *(number(scores[name]) for name in names))
    return table


def calibration_line(report: dict) -> str:
    """Return where the calibration went and what it does on the other half."""
    c = report["results"]["bernoulli:200"]["confidence"]
    return (
        f"wrote {report['calibration']}; other half, 200 samples: dropping the least confident "
        f"20 % lowers RMSE by {c['reduction']:.1%}"
    )
