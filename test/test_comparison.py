# SPDX-License-Identifier: Apache-2.0
"""Comparisons: rows that are trained and measured, and go on where they were cut off."""

import dataclasses
import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from depth_two_stage import training
from depth_two_stage.comparison import claims, grid, lock, measuring, plan, runs
from depth_two_stage.datasets import open_dataset

TINY = {"width": 1 / 32, "input_size": [57, 76], "refined_size": [64, 64], "focal": 65.0}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Twelve training frames and three to measure, in the folders' layout of NYU."""
    root = tmp_path_factory.mktemp("nyu")
    rng = np.random.default_rng(0)
    for split, count, size in (("train", 12, (120, 160)), ("val", 3, (240, 320))):
        for kind in ("rgb", "depth"):
            (root / split / kind).mkdir(parents=True)
        for index in range(count):
            ramp = np.linspace(1000, 4000, size[1]) + 100 * index
            depth = (ramp + np.linspace(0, 500, size[0])[:, None]).astype(np.uint16)
            rgb = np.dstack([depth // 24, depth // 48, rng.integers(0, 255, size)]).astype(np.uint8)
            cv2.imwrite(str(root / split / "depth" / f"{index:04d}.png"), depth)
            cv2.imwrite(str(root / split / "rgb" / f"{index:04d}.jpg"), rgb)
    return root


@pytest.fixture(scope="module")
def plan_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "tiny.yaml"
    content = {
        "recipe": "compare",
        "budget": 20,
        "seeds": [0, 1],
        "set": TINY,
        "rows": ["fcrn18-rgb", "three-stage-rgb"],
        "claims": {
            "loss": {
                "paper": "E",
                "says": "berHu is better",
                "rows": [
                    {"model": "fcrn18-rgb"},
                    {"model": "fcrn18-rgb", "label": "L2", "set": {"stage_one.loss": "l2"}},
                ],
            },
            "stages": {"kind": "stages", "order": [2, 1], "rows": ["three-stage-rgb"]},
            "samples": {"kind": "samples", "samples": [20, 100], "rows": ["fcrn18-rgbd"]},
        },
    }
    path.write_text(json.dumps(content))  # JSON is YAML
    return path


def compare(plan_file, root, out, *more):
    command = [sys.executable, "-m", "depth_two_stage.cli", "compare", "--plan", str(plan_file)]
    command += ["--root", str(root), "-o", str(out), "--threads", "1", *more]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_plan_is_trained_measured_and_reported(plan_file, root, tmp_path):
    done = compare(plan_file, root, tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    assert [row["label"] for row in found["rows"]] == ["fcrn18-rgb", "three-stage-rgb"]
    assert found["missing"] == []
    assert found["rows"][0]["images"] == {"stage_one": 20, "stage_two": 0, "stage_three": 0}
    assert found["rows"][1]["images"] == {"stage_one": 20, "stage_two": 20, "stage_three": 20}
    assert {"coarse", "refined", "two"} == set(found["rows"][1]["results"]["none"])
    assert found["rows"][1]["paper"]["rmse"] == 1.150  # B, Table 3
    by_name = {claim["name"]: claim for claim in found["claims"]}
    assert by_name["loss"]["rows"].keys() == {"fcrn18-rgb", "L2"}
    assert len(by_name["loss"]["rows"]["L2"]["values"]) == 2
    assert by_name["stages"]["rows"].keys() == {"stage one", "stage two"}
    assert by_name["samples"]["rows"].keys() == {f"{n} points" for n in (0, 20, 100, 200)}
    # Without a network: the mean of the twelve training ramps on the three that are measured.
    assert {name: set(row) for name, row in found["baselines"].items()} == {
        "none": {"mean"},
        "bernoulli:200": {"nearest", "linear", "smooth"},
    }
    error = np.sqrt(np.mean((0.1 * (5.5 - np.arange(3))) ** 2))  # 100 mm from frame to frame
    mean = found["baselines"]["none"]["mean"]
    assert mean["mse"] == pytest.approx(error**2, rel=0.02)
    assert found["baselines"]["bernoulli:200"]["linear"]["rmse"] < 0.05 < mean["rmse"]
    # Each row's file is the source: its figure is the claim's.
    row = json.loads((tmp_path / "rows" / "l2-s1.json").read_text())
    assert row["recipe"]["stage_one"]["loss"] == "l2" and row["seed"] == 1
    assert by_name["loss"]["rows"]["L2"]["values"][1] == row["results"]["none"]["refined"]["rmse"]
    page = (tmp_path / "results.md").read_text()
    assert f"| *mean depth of the training images* | – | – | – | – | {mean['rel']:.3f} |" in page
    assert f"{row['precision']} in 2 rows." in page
    assert "| fcrn18-rgb | E's frame, ResNet-18 |" in page and "compare --plan" in page
    for name in ("learning_curves.png", "error_by_depth.png", "error_by_points.png"):
        assert cv2.imread(str(tmp_path / name)) is not None and name in page
    assert cv2.imread(str(tmp_path / "pictures.jpg")) is not None
    # Weights and states are gone, rows alone are enough for the report.
    assert not list(tmp_path.rglob("*.safetensors"))
    before = found["claims"]
    # (Without the data set too: what was measured is all that a report needs.)
    places = ("--json", str(tmp_path / "again.json"), "--page", str(tmp_path / "docs" / "page.md"))
    again = compare(plan_file, tmp_path / "no data", tmp_path, "--report", *places)
    assert again.returncode == 0, again.stderr
    assert "(../error_by_depth.png)" in (tmp_path / "docs" / "page.md").read_text()
    assert json.loads((tmp_path / "again.json").read_text())["claims"] == before
    # Another budget is another comparison.
    page = (tmp_path / "results.md").read_text()
    for options, name in (
        (("--budget", "30"), "budget"),
        (("--budget", "30", "--report"), "budget"),
        (("--limit", "1"), "number of measured frames"),
        (("--split", "train"), "data.validation_split"),
    ):
        other = compare(plan_file, root, tmp_path, *options)
        assert other.returncode == 1 and f"expected the same {name} as now" in other.stderr
        assert len(other.stderr.strip().splitlines()) == 1
    assert (tmp_path / "results.md").read_text() == page


def test_a_row_that_was_cut_off_goes_on_and_gives_the_same(plan_file, root, tmp_path, monkeypatch):
    read = plan.load(str(plan_file))
    row = dataclasses.replace(read.rows[0], set=(*read.rows[0].set, ("save_every", 1)))
    data = {"data.root": str(root), "data.split": "train", "data.validation_split": "val"}
    frames = open_dataset("nyu", root, "val")
    whole = runs.run_row(row, read, data, frames, tmp_path / "whole")
    kept = training.Run._save_state

    def cut(self, update):
        kept(self, update)
        raise InterruptedError

    monkeypatch.setattr(training.Run, "_save_state", cut)
    with pytest.raises(InterruptedError):
        runs.run_row(row, read, data, frames, tmp_path / "broken")
    monkeypatch.undo()
    assert runs.read_row(tmp_path / "broken", row) is None
    broken = runs.run_row(row, read, data, frames, tmp_path / "broken")
    assert broken["results"] == whole["results"] and broken["bins"] == whole["bins"]


def test_a_stage_one_that_two_rows_train_alike_is_trained_once(root, tmp_path, monkeypatch):
    tiny = tuple(TINY.items())
    rows = {name: plan.Row(name, name, 3, tiny) for name in ("two-stage-rgb", "three-stage-rgb")}
    other_seed = dataclasses.replace(rows["three-stage-rgb"], seed=4)
    both = plan.Plan("compare", 20, (*rows.values(), other_seed))
    alone = plan.Plan("compare", 20, (rows["three-stage-rgb"],))
    data = {"data.root": str(root), "data.split": "train", "data.validation_split": "val"}
    frames = open_dataset("nyu", root, "val")
    steps, whole = [], training.CoarseStep.__call__

    def counted(self, x, target):
        steps.append(1)
        return whole(self, x, target)

    monkeypatch.setattr(training.CoarseStep, "__call__", counted)
    own = runs.run_row(alone.rows[0], alone, data, frames, tmp_path / "alone")
    assert len(steps) == 4 and own["stage_one_of"] is None
    first = runs.run_row(both.rows[0], both, data, frames, tmp_path / "both")
    assert len(steps) == 8 and first["stage_one_of"] is None
    taken = runs.run_row(both.rows[1], both, data, frames, tmp_path / "both")
    assert len(steps) == 8 and taken["stage_one_of"] == "two-stage-rgb-s3"
    # It changes nothing: depth after each stage, losses, images. (Looks are of stage one's depth.)
    for name in ("results", "bins", "images", "recipe", "data_hash", "grid"):
        assert taken[name] == own[name]
    assert taken["curve"]["loss"] == own["curve"]["loss"]
    assert taken["seconds"]["stage_one"] == first["seconds"]["stage_one"]
    # Another seed is another stage one; with the last row nothing is left to share.
    assert runs.run_row(both.rows[2], both, data, frames, tmp_path / "both")["seed"] == 4
    assert len(steps) == 12
    assert not list(tmp_path.rglob("*.safetensors"))


def test_weights_of_another_comparison_are_not_measured(plan_file, root, tmp_path, monkeypatch):
    read = plan.load(str(plan_file))
    row, data = read.rows[0], {"data.root": str(root), "data.validation_split": "val"}
    frames = open_dataset("nyu", root, "val")
    # Cut off when it was trained, before it was measured.
    monkeypatch.setattr(runs, "measure", lambda *_: (_ for _ in ()).throw(InterruptedError))
    with pytest.raises(InterruptedError):
        runs.run_row(row, read, data, frames, tmp_path)
    monkeypatch.undo()
    with pytest.raises(runs.ComparisonError, match=r"weights.json: expected the same budget"):
        runs.run_row(row, dataclasses.replace(read, budget=10), data, frames, tmp_path)
    monkeypatch.setattr(runs.Run, "train", lambda self: pytest.fail("trained again"))
    made = runs.run_row(row, read, data, frames[:1], tmp_path)
    assert made["frames"] == 1
    # Other training images under the same name of a split.
    fewer = {**data, "data.root": str(_without_first(root, tmp_path))}
    with pytest.raises(runs.ComparisonError, match="expected the same training images as now"):
        runs.run_row(row, read, fewer, frames[:1], tmp_path)
    path = runs.row_file(tmp_path, row)
    path.write_text("{}")
    with pytest.raises(runs.ComparisonError, match="expected 'recipe' in a row's file"):
        runs.run_row(row, read, data, frames[:1], tmp_path)


def test_a_row_that_another_process_trains_is_left_to_it(plan_file, root, tmp_path):
    read = plan.load(str(plan_file))
    for row in read.runs(claims=False)[:1]:
        with lock.alone(tmp_path / "runs" / row.key):
            done = compare(plan_file, root, tmp_path, "--no-claims")
    assert done.returncode == 0, done.stderr
    assert f"{row.key}: left to the process that is training it" in done.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["missing"] == ["fcrn18-rgb"]
    assert [made["label"] for made in found["rows"]] == ["three-stage-rgb"]


def _without_first(root, tmp_path):
    copied = tmp_path / "fewer"
    shutil.copytree(root, copied)
    for kind in ("rgb", "depth"):
        sorted((copied / "train" / kind).iterdir())[0].unlink()
    return copied


def test_frames_without_truth_are_left_out_and_refused_alone(plan_file, root, tmp_path):
    read = plan.load(str(plan_file))
    row, data = read.rows[0], {"data.root": str(root), "data.validation_split": "val"}
    frame = open_dataset("nyu", root, "val")[0]
    bare = dataclasses.replace(frame, depth=None)
    with pytest.raises(runs.ComparisonError, match="frames: expected depth in some frame"):
        runs.run_row(row, read, data, [bare, bare], tmp_path)
    found = runs.run_row(row, read, data, [bare, frame, bare], tmp_path)
    assert found["results"]["none"]["refined"]["images"] == 1
    # The truth beyond the recipe's farthest is none, as in training.
    cut = dataclasses.replace(row, label="cut", set=(*row.set, ("data.farthest", 2.0)))
    near = runs.run_row(cut, read, data, [frame], tmp_path)
    below = np.count_nonzero((frame.depth > 0) & (frame.depth < 2))
    assert near["results"]["none"]["refined"]["pixels"] == below
    assert sum(near["bins"]["none"]["pixels"]) == below
    # Without a pixel of truth there is no figure, in a file that is JSON.
    empty = dataclasses.replace(frame, depth=frame.depth * 0)
    none = runs.run_row(dataclasses.replace(row, label="empty"), read, data, [empty], tmp_path)
    assert none["results"]["none"]["refined"]["rmse"] is None
    assert np.isnan(claims.figure(none, "rmse"))


def test_rows_from_before_a_recipe_could_say_more_still_count():
    facts = runs._facts(runs.recipes.load("compare", {"data.root": "here"}))
    older = {name: value for name, value in facts.items() if name != "plug"}
    older["stage_one"] = {k: v for k, v in facts["stage_one"].items() if k != "lam"}
    assert runs._completed(older) == facts
    older["precision"] = "bf16"  # rows of another processor's arithmetic stand beside each other
    assert runs._completed(older) == facts
    other = {**older, "stage_one": {**older["stage_one"], "rate": 1.0}}
    assert runs._completed(other) != facts


@pytest.mark.parametrize(("has", "precision"), [(True, "bf16"), (False, "fp32")])
def test_bf16_is_not_emulated(monkeypatch, has, precision):
    monkeypatch.setattr(runs, "calculates_bf16", lambda: has)  # two kinds of processor
    row = plan.Row("a", "fcrn18-rgb")
    recipe = runs.recipe_of(row, plan.Plan("compare", 1, ()), {"device": "cpu"})
    assert recipe.precision == precision


def test_models_by_name_and_unknown_ones(root, tmp_path):
    twice = plan.of_models(["resnet-upproj", "fcrn50-rgb"], "compare", 1)
    assert [row.label for row in twice.rows] == ["fcrn50-rgb"]  # an alias and its model
    chosen = plan.of_models(["fcrn18-rgb", "c-grey", "c-grey"], "compare", 10)
    assert [row.key for row in chosen.runs()] == ["fcrn18-rgb-s0", "c-grey-s0"]
    done = compare("papers", root, tmp_path, "fcrn18-rgg")
    assert done.returncode == 1 and "nearest: fcrn18-rgb" in done.stderr


def test_a_recipe_that_leaves_a_stage_untrained_is_refused_first(root, tmp_path):
    models = ("fcrn18-rgb", "two-stage-rgb")
    done = compare("papers", root, tmp_path, *models, "--recipe", "paper-e-nyu")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "stage_two.epochs: expected at least 1 for a model with a stage two" in done.stderr
    assert not (tmp_path / "runs").exists()  # nothing was trained, the one before neither


# --- measures ------------------------------------------------------------------------------------


def test_the_grid_is_what_alternates_in_a_fixed_phase():
    y, x = np.mgrid[:64, :96].astype(np.float64)
    assert grid.alternating(2 + 0.03 * x - 0.02 * y) < 1e-12  # a slope
    assert grid.alternating(np.where(x < 41, 1.0, 3.0)) < 0.1  # one edge
    checker = 0.1 * (-1) ** (x + y)
    assert grid.alternating(2 + 0.03 * x + checker) == pytest.approx(0.1, rel=1e-6)
    corners = np.where((x % 2 == 0) & (y % 2 == 0), 0.4, 0.0)  # unpooling's own pattern
    assert grid.alternating(corners) == pytest.approx(0.1 * np.sqrt(3), rel=1e-6)
    noise = np.random.default_rng(0).normal(0, 0.1, (64, 96))
    assert grid.alternating(noise) < 0.03  # no fixed phase
    with pytest.raises(ValueError, match="image: expected at least 16×16"):
        grid.alternating(np.zeros((8, 40)))


def test_errors_by_depth_are_sums_over_bins():
    truth = np.array([[1.0, 1.0, 2.2, 0.0, 9.0, 12.0]], np.float32)
    depth = np.array([[1.5, 1.0, 2.0, 5.0, 0.0, 3.0]], np.float32)
    sums = measuring.by_depth(depth, truth)
    assert sums[0].tolist() == [2, 0.25, 0.5]
    assert sums[2] == pytest.approx([1, 0.04, 0.2 / 2.2], rel=1e-5)
    assert sums[[1, *range(3, 10)]].sum() == 0
