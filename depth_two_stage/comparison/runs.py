# SPDX-License-Identifier: Apache-2.0
"""Trains and measures the rows of a comparison; what is done is kept, what was cut off goes on."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from depth_two_stage import __version__, files, networks, recipes
from depth_two_stage.datasets import Sample
from depth_two_stage.recipes.limits import LOSS_NAMES
from depth_two_stage.training import Run
from depth_two_stage.training_data import open_training
from depth_two_stage.training_plan import specification
from depth_two_stage.training_stages import calculates_bf16, refuse_untrained, uses_cuda

from . import sharing
from .lock import alone
from .measuring import Progress, measure
from .plan import Plan, Row

CURVE = 40  # points kept of a learning curve
STAGES = ("one", "two", "three")
SHARED, SOURCE = "stage_one", "source.json"


class ComparisonError(RuntimeError):
    """A comparison that cannot go on: a row of other data, of another budget."""


def recipe_of(row: Row, plan: Plan, data: dict[str, Any]) -> recipes.Recipe:
    """What trains a row: the plan's recipe, the row's changes, its seed, the budget.

    Networks with fully connected layers keep the size that they are made for. Where a processor
    would only emulate bf16, the arithmetic is fp32; each row says what it was.
    """
    changes = {**dict(row.set), **data, "model": row.model, "seed": row.seed, "budget": plan.budget}
    with torch.device("meta"):
        fixed = networks.build(networks.architecture(row.model)).fixed_size
    if fixed:
        changes |= {"input_size": None, "focal": None}
    recipe = recipes.load(plan.recipe, changes)
    if recipe.precision == "bf16" and not uses_cuda(recipe) and not calculates_bf16():
        return dataclasses.replace(recipe, precision="fp32")
    return recipe


def row_file(out: Path, row: Row) -> Path:
    """Where what was measured of a row is kept."""
    return out / "rows" / f"{row.key}.json"


def read_row(out: Path, row: Row) -> dict[str, Any] | None:
    """What was measured of a row; None before."""
    path = row_file(out, row)
    return files.read_json(path) if path.exists() else None


def run_row(
    row: Row,
    plan: Plan,
    data: dict[str, Any],
    frames: Sequence[Sample],
    out: Path,
    samples: Sequence[int] = (),
    keep: bool = False,
    progress: Progress = lambda items, _: items,
) -> dict[str, Any]:
    """Train a row (or go on with it), measure it, write its file; what was done is only read.

    ``frames`` are those that are measured, ``samples`` further numbers of points for networks that
    take points. Weights and states are removed afterwards unless ``keep``.
    """
    recipe = recipe_of(row, plan, data)
    known = check_row(row, plan, data, len(frames), out)
    if known is not None:
        missing = [s for s in patterns(recipe, samples) if s not in known["results"]]
        if not missing:
            return known
    if not any(sample.depth is not None for sample in frames):  # stops at the first that has some
        raise ComparisonError("frames: expected depth in some frame to measure, got none in any")
    with alone(out / "runs" / row.key):
        meanwhile = check_row(row, plan, data, len(frames), out)
        if meanwhile != known:  # another process has just ended it
            return meanwhile
        return _train_and_measure(row, recipe, plan, frames, out, samples, keep, progress)


def _train_and_measure(
    row: Row,
    recipe: recipes.Recipe,
    plan: Plan,
    frames: Sequence[Sample],
    out: Path,
    samples: Sequence[int],
    keep: bool,
    progress: Progress,
) -> dict[str, Any]:
    folder, facts = out / "runs" / row.key, _facts(recipe)
    weights = folder / "weights"
    if not (folder / "weights.json").exists():
        weights = _train(row, recipe, folder, plan)
    _, checkpoint = networks.load(str(weights))
    _same(folder / "weights.json", _comparable(checkpoint.facts["recipe"]), facts)
    result = {
        "key": row.key,
        "label": row.label,
        "model": row.model,
        "seed": row.seed,
        "recipe": facts,
        "precision": checkpoint.facts["recipe"]["precision"],
        "data_hash": checkpoint.facts["data_hash"],
        "training_frames": checkpoint.facts["frames"],
        "code_version": __version__,
        "images": checkpoint.facts["images"],
        "seconds": checkpoint.facts["seconds"],
        "stage_one_of": _stage_one_of(folder),
        "curve": curve(folder / "log.jsonl"),
        **cost(recipe),
        **measure(
            weights,
            frames,
            patterns(recipe, samples),
            out,
            row,
            progress,
            recipe.data.farthest or np.inf,
        ),
    }
    files.write_json(row_file(out, row), _rounded(result))
    if all(row_file(out, other).exists() for other in plan.runs()):
        shutil.rmtree(out / "runs" / SHARED, ignore_errors=True)
    if not keep:
        # The header first: cut off in between, what is left is not taken for weights.
        for path in (*folder.glob("weights*.json"), *folder.glob("*.safetensors")):
            path.unlink()
    return files.read_json(row_file(out, row))


def _train(row: Row, recipe: recipes.Recipe, folder: Path, plan: Plan) -> Path:
    """Train a row, or go on with it; a stage one that another row has trained alike is taken."""
    run = Run(recipe, folder, resume=True)
    file = sharing.shared_file(folder.parent / SHARED, run, _facts(recipe))
    fresh = not run.state_file.exists()
    source = sharing.take(run, file) if fresh and file is not None else None
    if fresh:
        files.write_json(folder / SOURCE, {"stage_one_of": source})
    weights = run.train()
    out = folder.parent.parent
    if file is not None and not all(
        row_file(out, other).exists() for other in sharing.alike(row, plan)
    ):
        sharing.keep(run, file, row.key)
    return weights


def _stage_one_of(folder: Path) -> str | None:
    """The row whose stage one was taken; None: the row trained its own."""
    source = folder / SOURCE
    return files.read_json(source)["stage_one_of"] if source.exists() else None


def check_row(
    row: Row,
    plan: Plan,
    data: dict[str, Any],
    frames: int,
    out: Path,
    at_hand: bool = True,
) -> dict[str, Any] | None:
    """What was measured of a row, if it belongs to this comparison; None before.

    Another recipe or budget, other frames, other training images are another comparison: refused.
    ``frames`` are the number of those that are measured. Where the data set is not ``at_hand`` it
    is not asked whether it has the same training images, and nothing is going to be trained. What
    is going to be must leave no stage untrained (TrainingError).
    """
    known, path, recipe = read_row(out, row), row_file(out, row), recipe_of(row, plan, data)
    if known is None:
        if at_hand:
            refuse_untrained(recipe, specification(recipe)[0])
        return None
    try:
        _same(path, _completed(known["recipe"]), _facts(recipe))
        what = "number of measured frames"
        _same(path, {what: known["frames"]}, {what: frames})
        if at_hand:
            what = "training images"
            _same(path, {what: known["data_hash"]}, {what: open_training(recipe.data).list_hash})
    except KeyError as error:
        raise ComparisonError(f"{path}: expected {error} in a row's file, got none") from error
    return known


def _same(path: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    if theirs != ours:
        names = ", ".join(recipes.different(ours, theirs))
        raise ComparisonError(
            f"{path}: expected the same {names} as now, got a row of another comparison: name "
            "another folder"
        )


def _facts(recipe: recipes.Recipe) -> dict[str, Any]:
    """What makes two rows comparable: the recipe without the machine, its files and arithmetic."""
    return _comparable(json.loads(json.dumps(dataclasses.asdict(recipe))))


def _comparable(facts: dict[str, Any]) -> dict[str, Any]:
    machine = ("device", "precision", "save_every")
    kept = {k: v for k, v in facts.items() if k not in machine}
    data = {k: v for k, v in facts["data"].items() if k != "root"}
    data["mix"] = [{k: v for k, v in other.items() if k != "root"} for other in data["mix"]]
    return {**kept, "data": data}


def _completed(facts: dict[str, Any]) -> dict[str, Any]:
    """A row's recipe with the defaults of what recipes could not yet say when it was trained."""
    return _comparable(recipes.completed(facts))


def patterns(recipe: recipes.Recipe, samples: Sequence[int] = ()) -> list[str]:
    """The sparse settings that a network is measured at: without points, and with where it can."""
    takes = specification(recipe)[0]["settings"].get("sparse_input", "zeros")
    if takes in ("none", "grey"):
        return ["none"]
    counts = sorted({200, *samples} - {0})
    return ["none", *(f"bernoulli:{count}" for count in counts)]


def cost(recipe: recipes.Recipe) -> dict[str, Any]:
    """Parameters and GFLOP of one image at the size that it is trained at."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model = networks.build(specification(recipe)[0]).eval()
        x = torch.empty(1, model.settings.channels, *model.settings.input_size)
        with FlopCounterMode(display=False) as counter:
            model(x)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "gflop": counter.get_total_flops() / 1e9,
        "input_size": list(model.settings.input_size),
        "refined_size": list(model.settings.refined_size),
    }


def curve(log: Path) -> dict[str, list]:
    """Learning curves of a run: per stage the first loss's mean over equal parts of the images."""
    stages: dict[str, list[float]] = {}
    looks: list[list[Any]] = []
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        losses = [name for name in entry if name in LOSS_NAMES]
        if losses:
            stages.setdefault(entry["stage"], []).append(entry[losses[0]])
        elif "refined_rmse_0" in entry:
            looks.append([entry["stage"], entry["step"], entry["refined_rmse_0"]])
    thin = {
        name: [float(np.mean(part)) for part in np.array_split(values, min(CURVE, len(values)))]
        for name, values in stages.items()
    }
    return {"loss": thin, "looks": looks}


def _rounded(content: Any) -> Any:
    """Floats to six figures: a row's file is read by people and kept in the repository."""
    if isinstance(content, dict):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_rounded(value) for value in content]
    return float(f"{content:.6g}") if isinstance(content, float) else content
