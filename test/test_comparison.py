# SPDX-License-Identifier: Apache-2.0
"""Comparisons: rows that go on where they were cut off, claims judged by hand, the page."""

import dataclasses
import itertools
import json
import re
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from depth_two_stage import networks, training
from depth_two_stage.comparison import claims, grid, lock, measuring, plan, plots, report, runs
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


def test_the_papers_plan_holds_every_network_once():
    papers = plan.load("papers")
    assert sorted(row.model for row in papers.rows) == sorted(networks.MODELS.keys() - {"anchored"})
    assert set(papers.figures) <= set(networks.MODELS)
    keys = [row.key for row in papers.runs()]
    assert len(keys) == len(set(keys))
    # A claim's seed 0 is the table's row: nothing is trained twice.
    assert papers.runs(claims=False) == papers.runs()[: len(papers.rows)]
    for row in papers.rows:
        recipe = runs.recipe_of(row, papers, {})
        assert training.specification(recipe)[0]["settings"]["max_depth"] == 10.0
        assert recipe.input_size in ((114, 152), None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "expected a mapping"),
        ("{budget: 0, rows: []}", "budget: expected a number of images"),
        ("{budget: 5, rows: [nothing]}", "model: expected one of"),
        ("{budget: 5, speed: 1}", "expected some of recipe"),
        ("{budget: 5, seeds: 3}", "seeds: expected a list"),
        ("{budget: 5, claims: {a: {kind: who}}}", r"claims.a.kind: expected one of order"),
        ("{budget: 5, claims: {a: {rows: [c-grey]}}}", r"claims.a.rows: expected at least 2"),
        (
            "{budget: 5, rows: [c-grey, {model: c-grey, set: {width: 0.5}}]}",
            "label: expected one network each",
        ),
        ("a: b: c", "expected YAML"),
        ("{budget: 5, rows: c-grey}", "rows: expected a list of models, got 'c-grey'"),
        ("{budget: 5, rows: [3]}", "rows: expected a mapping, got 3"),
        ("{budget: 5, rows: [{model: [c-grey]}]}", "rows: expected the name of a model"),
        ("{budget: 5, recipe: 3}", "recipe: expected the name of a recipe, got 3"),
        ("{budget: 5, seeds: [1, 1]}", "seeds: expected a list of different integers"),
        ("{budget: 5, seeds: [-1]}", "seeds: expected a list of different integers from 0"),
        ("{budget: 5, set: {stage_one: {loss: l2}}, rows: [c-grey]}", "expected stage_one.NAME"),
        ("{budget: 5, rows: [{model: c-grey, set: {stage_one.loss: l3}}]}", "c-grey: stage_one.lo"),
        ("{budget: 5, claims: {a: {rows: [c-grey, c-grey]}}}", "a.rows: expected at least 2"),
        ("{budget: 5, claims: {a: {kind: stages, rows: [c-grey]}}}", "a.order: expected two or"),
        (
            "{budget: 5, claims: {a: {kind: stages, order: [2, 3], rows: [two-stage-rgb]}}}",
            r"a.order: expected two or more stages of two-stage-rgb \(it has 1, 2\), got \[2, 3",
        ),
        ("{budget: 5, claims: {a: {kind: samples, samples: 5}}}", "a.samples: expected a list"),
        ("{budget: 5, claims: {a: {kind: samples, rows: [c-grey]}}}", "that takes points"),
        (
            "{budget: 5, claims: {a: {kind: samples, rows: [fcrn18-rgbd, fcrn50-rgbd]}}}",
            "a.rows: expected one network, got 2",
        ),
    ],
)
def test_wrong_plans_are_named(tmp_path, content, words):
    (tmp_path / "p.yaml").write_text(content)
    with pytest.raises(ValueError, match=words):
        plan.load(str(tmp_path / "p.yaml"))
    with pytest.raises(plan.PlanError, match="papers"):
        plan.load("nothing")


# --- verdicts, by hand ---------------------------------------------------------------------------


def write_rows(out, name, values, **more):
    row = plan.Row(name, "c-grey")
    for seed, value in enumerate(values):
        result = {"none": {"refined": {"rmse": value}, "coarse": {"rmse": 1.0}}}
        content = {"seed": seed, "label": name, "results": result, "grid": value, **more}
        path = runs.row_file(out, dataclasses.replace(row, seed=seed))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return row


def verdict(tmp_path, a, b, **claim):
    rows = (write_rows(tmp_path, "a", a), write_rows(tmp_path, "b", b))
    asked = claims.Claim("x", "E", "a is better than b", rows=rows, **claim)
    empty = plan.Plan("compare", 1, ())
    return claims.judge(asked, empty, tmp_path)


def test_an_order_is_judged_by_pairs_of_seeds(tmp_path):
    # Differences 0.1, 0.11, 0.09: mean 0.1, s = 0.01, t = 0.1 / (0.01 / √3) = 17.3, p = 0.0033.
    found = verdict(tmp_path, [1.0, 2.0, 3.0], [1.1, 2.11, 3.09])
    (pair,) = found["pairs"]
    assert pair["difference"] == pytest.approx(0.1) and pair["p"] == pytest.approx(0.0033, abs=1e-4)
    assert found["verdict"] == claims.HOLDS
    assert found["rows"]["a"] == {"mean": 2.0, "std": 1.0, "values": [1.0, 2.0, 3.0]}
    assert verdict(tmp_path, [1.1, 2.11, 3.09], [1.0, 2.0, 3.0])["verdict"] == claims.REVERSED
    assert verdict(tmp_path, [1.0, 2.0, 3.0], [1.2, 1.9, 3.1])["verdict"] == claims.UNDECIDED


def test_one_seed_or_equal_figures_decide_nothing(tmp_path):
    for name in ("one", "equal"):
        (tmp_path / name).mkdir()
    assert verdict(tmp_path / "one", [1.0], [2.0])["verdict"] == claims.UNDECIDED
    assert verdict(tmp_path / "equal", [1.0, 2.0], [1.0, 2.0])["verdict"] == claims.UNDECIDED


def test_a_chain_holds_when_every_link_does():
    assert claims.together([claims.HOLDS, claims.HOLDS]) == claims.HOLDS
    assert claims.together([claims.HOLDS, claims.UNDECIDED]) == claims.UNDECIDED
    assert claims.together([claims.UNDECIDED, claims.REVERSED]) == claims.REVERSED


def test_what_is_missing_is_named(tmp_path):
    row = write_rows(tmp_path, "a", [1.0])
    asked = claims.Claim("x", "", "", rows=(row, plan.Row("b", "c-grey")))
    found = claims.judge(asked, plan.Plan("compare", 1, ()), tmp_path)
    assert found["verdict"] == claims.MISSING and found["missing"] == "b"
    page = report.markdown(
        {
            **dict.fromkeys(("dataset", "split", "split_trained", "command"), "x"),
            "training_frames": 1,
            "frames": 1,
            "budget": 1,
            "baselines": {},
            "rows": [],
            "missing": ["b"],
            "claims": [found],
        },
        [],
    )
    assert "Still to come: b." in page and "Missing: b." in page


def test_a_figure_that_is_missing_decides_nothing(tmp_path):
    found = verdict(tmp_path, [1.0, None, 3.0], [2.0, 2.0, 4.0])
    assert found["verdict"] == claims.UNDECIDED and found["pairs"][0]["p"] is None
    page = "\n".join(report._claim(found))
    assert "(a figure is missing)" in page and "nan" not in page
    grid_of = verdict(tmp_path / "g", [1.0, None], [2.0, 2.0], measure="grid")
    assert grid_of["verdict"] == claims.UNDECIDED


def test_the_page_says_which_way_a_difference_goes(tmp_path):
    page = "\n".join(report._claim(verdict(tmp_path, [1.1, 2.11, 3.09], [1.0, 2.0, 3.0])))
    assert "- a against b: 0.100 larger (p = 0.003): does not hold here" in page
    page = "\n".join(report._claim(verdict(tmp_path, [1.0, 2.0, 3.0], [1.1, 2.11, 3.09])))
    assert "- a against b: 0.100 smaller (p = 0.003): holds" in page


def test_lines_of_the_table():
    scores = dict.fromkeys(report.MEASURES, 0.5) | {"rmse": None}
    row = {
        **{"model": "c-grey", "label": "c|grey wide", "parameters": 2e6, "gflop": 1.0},
        "results": {
            name: {"refined": scores} for name in ("none", "bernoulli:20", "bernoulli:200")
        },
        "paper": {"rmse_fraction": 0.1301, "data": "KITTI, 0…1"},
    }
    lines = report._rows(row)
    assert len(lines) == 2  # the claim on samples has the others
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]
    heads = 5 + len(report.HEADS) + 4
    assert all(len(line) == heads + 2 for line in cells)
    assert cells[0][1] == "c\\|grey wide" and cells[0][5] == "–" and cells[1][5] == "200"
    assert cells[0][7] == "–"  # no figure
    # D's figures are shares of the largest depth: never a bare number beside metres.
    assert cells[0][13] == "0.130 of 0…1"


def test_points_that_halve_the_error(tmp_path):
    rmse = {"none": 1.0, "bernoulli:20": 0.8, "bernoulli:100": 0.55, "bernoulli:200": 0.5}
    row = plan.Row("a", "fcrn18-rgbd")
    path = runs.row_file(tmp_path, row)
    path.parent.mkdir()
    results = {text: {"refined": {"rmse": value}} for text, value in rmse.items()}
    path.write_text(json.dumps({"seed": 0, "results": results}))
    asked = claims.Claim("x", "A", "", "samples", (row,), samples=(20, 100))
    found = claims.judge(asked, plan.Plan("compare", 1, ()), tmp_path)
    assert found["halved_at"] == 200 and found["reduction_at_100"] == pytest.approx(0.45)
    assert found["verdict"] == claims.HOLDS
    # Another seed that was not measured everywhere: what both have is judged.
    second = dataclasses.replace(row, seed=1)
    less = {text: results[text] for text in results if text != "bernoulli:20"}
    runs.row_file(tmp_path, second).write_text(json.dumps({"seed": 1, "results": less}))
    both = claims.judge(asked, plan.Plan("compare", 1, ()), tmp_path)
    assert both["rows"].keys() == {"0 points", "100 points", "200 points"}
    assert both["reduction_at_100"] == pytest.approx(0.45)
    (tmp_path / "plots").mkdir()
    assert plots.draw({"rows": [], "claims": [found]}, tmp_path / "plots") == [
        "error_by_points.png"
    ]


def test_speed_is_a_ratio_of_medians():
    # A clock that gives the plain form 2 s and the fast one 1 s, in turn.
    ticks = itertools.cycle([0.0, 2.0, 2.0, 3.0])
    found = claims.measure_speed(claims.Claim("x", "E", "", "speed"), 3, lambda: next(ticks))
    for row in found["rows"].values():
        assert (row["plain_ms"], row["fast_ms"], row["ratio"]) == (2000.0, 1000.0, 2.0)
    assert found["verdict"] == claims.HOLDS


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
