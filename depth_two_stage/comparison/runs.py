# SPDX-License-Identifier: Apache-2.0
"""Trains and measures the rows of a comparison; what is done is kept, what was cut off goes on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from depth_two_stage import __version__, files, networks, recipes
from depth_two_stage.datasets import Sample, open_dataset
from depth_two_stage.datasets.sparse import SparsePattern
from depth_two_stage.estimator import DepthEstimator
from depth_two_stage.metrics import Accumulator, score
from depth_two_stage.training import Run, specification
from depth_two_stage.training_stages import refuse_untrained

from .grid import grid_pattern
from .lock import alone
from .plan import Plan, Row

Progress = Callable[[Iterable, str], Iterable]
EDGES = (0.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0, 10.0)  # m, bins of error against depth
CURVE = 40  # points kept of a learning curve
PICTURES = (0.1, 0.5, 0.9)  # places in the recording of the frames that are shown
STAGES = ("one", "two", "three")


class ComparisonError(RuntimeError):
    """A comparison that cannot go on: a row of other data, of another budget."""


def recipe_of(row: Row, plan: Plan, data: dict[str, Any]) -> recipes.Recipe:
    """What trains a row: the plan's recipe, the row's changes, its seed, the budget.

    Networks with fully connected layers keep the size that they are made for.
    """
    changes = {**dict(row.set), **data, "model": row.model, "seed": row.seed, "budget": plan.budget}
    with torch.device("meta"):
        fixed = networks.build(networks.architecture(row.model)).fixed_size
    if fixed:
        changes |= {"input_size": None, "focal": None}
    return recipes.load(plan.recipe, changes)


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
        return _train_and_measure(row, recipe, frames, out, samples, keep, progress)


def _train_and_measure(
    row: Row,
    recipe: recipes.Recipe,
    frames: Sequence[Sample],
    out: Path,
    samples: Sequence[int],
    keep: bool,
    progress: Progress,
) -> dict[str, Any]:
    folder, facts = out / "runs" / row.key, _facts(recipe)
    weights = folder / "weights"
    if not (folder / "weights.json").exists():
        weights = Run(recipe, folder, resume=True).train()
    _, checkpoint = networks.load(str(weights))
    _same(folder / "weights.json", _comparable(checkpoint.facts["recipe"]), facts)
    result = {
        "key": row.key,
        "label": row.label,
        "model": row.model,
        "seed": row.seed,
        "recipe": facts,
        "data_hash": checkpoint.facts["data_hash"],
        "training_frames": checkpoint.facts["frames"],
        "code_version": __version__,
        "images": checkpoint.facts["images"],
        "seconds": checkpoint.facts["seconds"],
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
    if not keep:
        # The header first: cut off in between, what is left is not taken for weights.
        for path in (*folder.glob("weights*.json"), *folder.glob("*.safetensors")):
            path.unlink()
    return files.read_json(row_file(out, row))


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
            part = recipe.data.limit or None
            images = open_dataset(recipe.data.dataset, recipe.data.root, recipe.data.split)[:part]
            what = "training images"
            _same(path, {what: known["data_hash"]}, {what: images.list_hash})
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
    """What makes two rows comparable: the recipe without where its files lie."""
    return _comparable(json.loads(json.dumps(dataclasses.asdict(recipe))))


def _comparable(facts: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in facts.items() if k not in ("device", "save_every")}
    return {**kept, "data": {k: v for k, v in facts["data"].items() if k != "root"}}


def _completed(facts: dict[str, Any]) -> dict[str, Any]:
    """A row's recipe with the defaults of what recipes could not yet say when it was trained."""
    whole = _facts(recipes.Recipe())
    for name, value in facts.items():
        inner = isinstance(value, dict) and isinstance(whole.get(name), dict)
        whole[name] = {**whole[name], **value} if inner else value
    return whole


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
        losses = [name for name in entry if name in recipes.LOSS_NAMES]
        if losses:
            stages.setdefault(entry["stage"], []).append(entry[losses[0]])
        elif "refined_rmse_0" in entry:
            looks.append([entry["stage"], entry["step"], entry["refined_rmse_0"]])
    thin = {
        name: [float(np.mean(part)) for part in np.array_split(values, min(CURVE, len(values)))]
        for name, values in stages.items()
    }
    return {"loss": thin, "looks": looks}


def measure(
    weights: Path,
    frames: Sequence[Sample],
    sparse: Sequence[str],
    out: Path,
    row: Row,
    progress: Progress,
    farthest: float = np.inf,
) -> dict[str, Any]:
    """Every frame through the estimator, not anchored, in fp32: what the network itself says.

    Depth is clipped to the network's range, so that nobody's worst pixels are left out.
    ``results[pattern][stage]`` hold the measures after each stage (coarse after the first, refined
    after the last, ``two`` between them), ``bins`` RMSE and rel by true depth, both of truth below
    ``farthest`` m (E, Make3D: 70), ``grid`` the checkerboard of stage one's output.
    """
    estimators = {"": Clipped(weights)}
    model, checkpoint = networks.load(str(weights))
    if model.stage_three is not None:  # the same network as it was before its third stage
        spec = {**checkpoint.facts["architecture"], "stage_three": None}
        model.stage_three = None
        between = weights.with_name("weights-two")
        networks.save(between, model, spec, {"recipe": checkpoint.facts["recipe"]})
        estimators["two"] = Clipped(between)
    shown = {int(share * len(frames)) for share in PICTURES}
    results, bins, strip = {}, {}, []
    # Of the same number outdoors, where depth goes further.
    edges = [edge * max(1.0, model.settings.max_depth / EDGES[-1]) for edge in EDGES]
    for text in sparse:
        pattern, scores = SparsePattern.parse(text), {}
        sums = np.zeros((len(edges) - 1, 3))
        for index, sample in enumerate(progress(frames, f"{row.label}: {text}")):
            if sample.depth is None:
                continue
            truth = np.where(sample.depth < farthest, sample.depth, np.float32(0))
            seed = [0, index, 0 if pattern.kind == "none" else int(text.partition(":")[2])]
            points = pattern(sample, np.random.default_rng(seed))
            coarse, refined = estimators[""](sample, points)
            depths = {"coarse": coarse, "refined": refined}
            if "two" in estimators:
                depths["two"] = estimators["two"](sample, points)[1]
            for name, depth in depths.items():
                scores.setdefault(name, Accumulator()).add(score(depth, truth))
            sums += by_depth(refined, truth, edges)
            if index in shown and text == sparse[-1]:
                strip.append(cv2.resize(refined, (152, 114), interpolation=cv2.INTER_AREA))
        results[text] = {name: each.result() for name, each in scores.items()}
        n = np.maximum(sums[:, 0], 1)
        bins[text] = {
            "edges": edges,
            "pixels": sums[:, 0].tolist(),
            "rmse": np.sqrt(sums[:, 1] / n).tolist(),
            "rel": (sums[:, 2] / n).tolist(),
        }
    if strip:
        # Depth in centimetres, losslessly: the report draws them all in one scale.
        files.write_depth(out / "pictures" / f"{row.key}.png", np.hstack(strip), 100.0)
    found = {"results": results, "bins": bins, "frames": len(frames)}
    if model.stage_one is not None:
        found["grid"] = float(np.mean([grid_pattern(model, frames[i]) for i in sorted(shown)]))
    return found


class Clipped:
    """The estimator in fp32 without anchor, whose answer is clipped to the network's range.

    Called with (sample, points): coarse and refined depth, float32 (H, W) m.
    """

    def __init__(self, weights: Path) -> None:
        options = {"engine": "torch", "precision": "fp32", "anchor": "none"}
        self.estimator = DepthEstimator(str(weights), **options)
        self.range = self.estimator.settings.min_depth, self.estimator.settings.max_depth
        # The estimator itself would leave out what lies beyond.
        everything = {"min_depth": 0.0, "max_depth": 1000.0}
        self.estimator.settings = dataclasses.replace(self.estimator.settings, **everything)

    def __call__(self, sample: Sample, points: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Coarse and refined depth."""
        estimate = self.estimator(sample.rgb, points, sample.camera)
        return np.clip(estimate.coarse, *self.range), np.clip(estimate.depth, *self.range)


def by_depth(depth: np.ndarray, truth: np.ndarray, edges: Sequence[float] = EDGES) -> np.ndarray:
    """Per bin of true depth: pixels, sums of squared error (m²) and of rel; (bins, 3)."""
    valid = (truth > 0) & (depth > 0)
    t, error = truth[valid].astype(np.float64), (depth - truth)[valid].astype(np.float64)
    place = np.digitize(t, edges) - 1
    inside = (place >= 0) & (place < len(edges) - 1)
    place, t, error = place[inside], t[inside], error[inside]
    columns = (np.ones_like(t), error**2, np.abs(error) / t)
    return np.column_stack([np.bincount(place, column, len(edges) - 1) for column in columns])


def _rounded(content: Any) -> Any:
    """Floats to six figures: a row's file is read by people and kept in the repository."""
    if isinstance(content, dict):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_rounded(value) for value in content]
    return float(f"{content:.6g}") if isinstance(content, float) else content
