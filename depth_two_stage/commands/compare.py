# SPDX-License-Identifier: Apache-2.0
"""``depth-two-stage compare``."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, List, Optional  # noqa: UP035  (typer on Python 3.10)

import typer


def command(
    models: Annotated[
        Optional[List[str]],  # noqa: UP006, UP045
        typer.Argument(help="Models of the table; without any the plan's rows and claims."),
    ] = None,
    root: Annotated[Path, typer.Option("--root", help="Folder of the data set.")] = Path("."),
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder of the results; what is there is kept.")
    ] = Path("runs/compare"),
    plan_name: Annotated[
        str, typer.Option("--plan", help="A plan of the package, or a YAML file.")
    ] = "papers",
    recipe: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--recipe", help="Recipe that all rows share."),
    ] = None,
    budget: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--budget", min=1, help="Images that each stage sees."),
    ] = None,
    dataset: Annotated[str, typer.Option("--dataset", help="Data set to train on.")] = "nyu",
    train_split: Annotated[str, typer.Option("--train-split", help="Part to train on.")] = "train",
    split: Annotated[str, typer.Option("--split", help="Part to measure on.")] = "val",
    limit: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--limit", min=1, help="Measure only the first N frames."),
    ] = None,
    rows: Annotated[bool, typer.Option(help="Train the table's rows.")] = True,
    claims: Annotated[bool, typer.Option(help="Train the rows of the claims.")] = True,
    seeds: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--seeds", min=1, help="Seeds of each claim's rows; the plan's without it."),
    ] = None,
    report_only: Annotated[
        bool, typer.Option("--report", help="Train nothing: write what is there.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the weights of every row.")] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cuda or cpu.")] = "auto",
    threads: Annotated[int, typer.Option("--threads", min=0, help="Threads; 0 is all.")] = 0,
    page: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--page", help="The Markdown page; OUT/results.md without it."),
    ] = None,
    json_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", help="Also write the report here; it is OUT/results.json anyway."),
    ] = None,
) -> None:
    """Train models under one budget on the same images; one table (Markdown, JSON) and plots.

    Interrupt it at any moment: called again with the same folder it goes on. OUT/rows keeps one
    file a trained network; with them alone the report is written anew.
    """
    import dataclasses

    import torch

    from depth_two_stage import evaluation, files, recipes, tables
    from depth_two_stage.comparison import baselines, lock, plots, report, runs
    from depth_two_stage.comparison import claims as judged
    from depth_two_stage.comparison import plan as plans
    from depth_two_stage.datasets import open_dataset

    files.check_writable(out, folder=True)
    page = page or out / "results.md"
    for path in (page, json_file):
        files.check_writable(path)
    plan = plans.load(plan_name)
    if models:
        plan = plans.of_models(models, recipe or plan.recipe, budget or plan.budget)
    if budget:
        plan = dataclasses.replace(plan, budget=budget)
    if recipe:
        plan = dataclasses.replace(plan, recipe=recipe)
    if seeds:
        plan = dataclasses.replace(plan, seeds=tuple(range(seeds)))
    if threads:
        torch.set_num_threads(threads)
    recipes.load(plan.recipe)
    data = {
        "device": device,
        "data.dataset": dataset,
        "data.root": str(root),
        "data.split": train_split or None,
        "data.validation_split": split or None,
    }
    # A report needs what was measured and nothing else: neither data set nor weights.
    done = [runs.read_row(out, row) for row in plan.runs()] if report_only else []
    measured = next((row for row in done if row is not None), None)
    frames = None if measured else open_dataset(dataset, root, split or None)[:limit]
    samples = {
        row.label: claim.samples
        for claim in plan.claims
        if claim.kind == "samples"
        for row in claim.rows
    }
    if measured:
        counts = {name: measured[name] for name in ("training_frames", "frames")}
    else:
        trained = open_dataset(dataset, root, train_split or None)
        counts = {"training_frames": len(trained), "frames": len(frames)}
    for row in plan.runs():  # what is there already, before hours go into what is not
        runs.check_row(row, plan, data, counts["frames"], out, measured is None)
    where = {"dataset": dataset, "split": split, "split_trained": train_split, **counts}
    with tables.Bars() as bars:
        if not report_only:
            mean = evaluation.mean_depth(dataset, root, bars.track, train_split or None)
            baselines.measure(frames, mean, out, where, bars.track)
        for row in () if report_only else plan.runs(rows, claims):
            extra = samples.get(row.label, ()) if claims else ()
            try:
                runs.run_row(row, plan, data, frames, out, extra, keep, bars.track)
            except lock.RowTaken as taken:  # the report says what is still to come
                typer.echo(f"depth-two-stage compare: {taken}", err=True)
    for claim in plan.claims:
        path = judged.speed_file(claim, out)
        if claim.kind == "speed" and claims and not report_only and not path.exists():
            files.write_json(path, judged.measure_speed(claim))
    facts = {
        **where,
        "command": shlex.join(["depth-two-stage", *(a for a in sys.argv[1:] if a != "--report")]),
    }
    found = report.collect(plan, out, facts)
    files.write_json(out / "results.json", found)
    drawn = plots.draw(found, out)
    links = [os.path.relpath(out / name, page.parent) for name in drawn]
    with files.atomic_write(page, "w") as stream:
        stream.write(report.markdown(found, links))
    if json_file is not None:
        files.write_json(json_file, found)
    tables.show(*tables.comparison_tables(found))
