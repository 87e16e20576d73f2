# SPDX-License-Identifier: Apache-2.0
"""Stage one of rows that train the same one: trained once, taken by the others.

A refining stage is trained on a frozen stage one, whose training knows nothing of what follows.
Rows that agree in its architecture, data, recipe and seed would train it to the same weights.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from depth_two_stage import networks
from depth_two_stage.training import STAGES, Run
from depth_two_stage.training_state import read_tensors, write_tensors

from .plan import Plan, Row

ONE = STAGES[0]
PREFIX = "model/stage_one."


def shared_file(folder: Path, run: Run, facts: dict[str, Any]) -> Path | None:
    """Where a run's trained stage one is kept for others; None: it trains none.

    ``facts`` are what makes two rows comparable. All of them count but the model's name and what
    only later stages read.
    """
    if ONE not in run.stages:
        return None
    recipe = {name: value for name, value in facts.items() if name not in ("model", "stage_two")}
    same = {
        "stage_one": run.spec["stage_one"],
        "settings": run.spec["settings"],
        "recipe": recipe,
        "precision": run.recipe.precision,
        "data": run.data.list_hash,
    }
    text = json.dumps(same, sort_keys=True)
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.safetensors"


def alike(row: Row, plan: Plan) -> list[Row]:
    """Other rows of a plan that may train the same stage one (`shared_file` tells whether)."""
    mine = networks.architecture(row.model)["stage_one"]
    return [
        other
        for other in plan.runs()
        if (other.seed, other.set) == (row.seed, row.set)
        and other.key != row.key
        and networks.architecture(other.model)["stage_one"] == mine
    ]


def take(run: Run, file: Path) -> str | None:
    """Begin a new run after the stage one of a file → the row that trained it; None: no such file.

    Looks at the validation images during stage one are of its own depth.
    """
    if not file.exists():
        return None
    facts, tensors = read_tensors(file)
    run.model.stage_one.load_state_dict(
        {name.removeprefix(PREFIX): value for name, value in tensors.items()}
    )
    lines = [_of_stage_one(json.loads(line)) for line in facts["log"]]
    run.log_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name in ("images", "seconds", "empty", "invalid"):
        getattr(run, name)[ONE] = facts[name]
    looks = [line for line in lines if "coarse_rmse_0" in line]
    if looks:
        run.metrics = {name: value for name, value in looks[-1].items() if "_rmse_" in name}
    run.stage, run.step = 1, 0
    return facts["row"]


def keep(run: Run, file: Path, row: str) -> None:
    """Keep a trained run's stage one for other rows, unless it is kept already."""
    if file.exists() or not run.state_file.exists():
        return
    facts, tensors = read_tensors(run.state_file, PREFIX)
    lines = run.log_file.read_text().splitlines()
    log = [line for line in lines if json.loads(line)["stage"] == ONE]
    counts = {name: facts[name][ONE] for name in ("images", "seconds", "empty", "invalid")}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(file, tensors, {"row": row, "log": log, **counts})


def _of_stage_one(line: dict[str, Any]) -> dict[str, Any]:
    coarse = {name: value for name, value in line.items() if name.startswith("coarse_")}
    return line | {name.replace("coarse", "refined"): value for name, value in coarse.items()}
