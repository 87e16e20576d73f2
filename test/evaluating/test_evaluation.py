# SPDX-License-Identifier: Apache-2.0
"""Evaluation on rendered rooms: figures of the frames."""

import json
from dataclasses import replace

import numpy as np
import pytest

from depth_two_stage import files
from depth_two_stage.boundaries import TrueEdges
from depth_two_stage.evaluation import Plan, default_sparse, evaluate
from depth_two_stage.evaluation_tables import evaluation_tables
from depth_two_stage.interpolation import linear, triangle_spread
from depth_two_stage.metrics import GROUPS, MEASURES, METRICS, chosen, score
from depth_two_stage.morphology import morphological
from depth_two_stage.scan_band import scan_band


def test_figures_are_those_of_the_estimator(estimator, room):
    report = evaluate(room, estimator, Plan(("lines:16", "bernoulli:100"), baselines=True))
    assert list(report["results"]) == ["lines:16", "bernoulli:100"]
    for row in report["results"].values():
        assert {"coarse", "refined", "nearest", "linear", "confidence"} <= set(row)
        for method in ("coarse", "refined", "nearest", "linear"):
            assert all(isinstance(row[method][name], float) for name in METRICS)
            assert row[method]["images"] == 4
    # One frame again by hand, from the same draw.
    one = evaluate(room[:1], estimator, Plan(("points",), baselines=True))["results"]["points"]
    sample = room[0]
    sparse = sample.camera.project(sample.points, sample.T_camera_lidar)
    estimate = estimator(sample.rgb, sparse, sample.camera)
    assert one["refined"]["rmse"] == pytest.approx(score(estimate.depth, sample.depth)["rmse"])
    assert one["coarse"]["rel"] == pytest.approx(score(estimate.coarse, sample.depth)["rel"])
    assert one["linear"]["mae"] == pytest.approx(score(linear(sparse), sample.depth)["mae"])
    json.dumps(files.plain(report), allow_nan=False)
    assert all(table.row_count for table in evaluation_tables(report))


def test_what_else_is_measured_of_a_frame_is_that_of_its_arrays(estimator, room):
    sample = room[0]
    report = evaluate(room[:1], estimator, Plan(("points", "none"), baselines=True))
    row, truth = report["results"]["points"], sample.depth
    sparse = sample.camera.project(sample.points, sample.T_camera_lidar)
    estimate = estimator(sample.rgb, sparse, sample.camera)
    answers = {"morphological": morphological(sparse), "refined": estimate.depth}
    band = scan_band(sparse)
    for name, answer in answers.items():
        assert row[name]["rmse"] == pytest.approx(score(answer, truth)["rmse"])
        for part, mask in (("inside", band), ("outside", ~band)):
            expected = score(answer, np.where(mask, truth, 0))
            assert row[name][part]["rmse"] == pytest.approx(expected["rmse"])
            assert row[name][part]["pixels"] == expected["pixels"] > 0
        edges = TrueEdges(truth, 160).compare(answer)
        assert (row[name]["dbe_acc"], row[name]["dbe_comp"]) == pytest.approx(edges)
    change = np.median(np.abs(estimate.depth - estimate.coarse))
    assert row["refined"]["change_median"] == pytest.approx(change, rel=1e-5)
    # Dropping the fifth of the refined depth that lies in the widest triangles.
    valid = truth > 0
    doubt, error = triangle_spread(sparse)[valid], (estimate.depth - truth)[valid]
    kept = np.argsort(doubt, kind="stable")[: round(0.8 * len(doubt))]
    left = np.sqrt(np.mean(error[kept] ** 2) / np.mean(error**2))
    assert row["confidence"]["triangle_spread_drop"] == pytest.approx(1 - left, rel=1e-4)
    assert len(row["confidence"]["bins"]) == 10 and "aligned_rmse" not in row["refined"]
    # Without points: the same, brought to the truth's scale.
    row, answer = report["results"]["none"], estimator(sample.rgb, None, sample.camera).depth
    assert "inside" not in row["refined"] and "triangle_spread_drop" not in row["confidence"]
    factor = np.median(truth[valid] / answer[valid])
    expected = score(answer * factor, truth)
    assert row["refined"]["aligned_rmse"] == pytest.approx(expected["rmse"], rel=1e-5)
    assert row["refined"]["aligned_rel"] == pytest.approx(expected["rel"], rel=1e-5)
    assert row["refined"]["aligned_rmse"] < row["refined"]["rmse"]
    titles = " ".join(table.title or "" for table in evaluation_tables(report))
    assert all(word in titles for word in ("scanned band", "depth edges", "truth's scale"))


def test_a_band_is_reported_of_scans_alone(estimator, room):
    report = evaluate(room[:1], estimator, Plan(("bernoulli:100",)))
    assert "inside" not in report["results"]["bernoulli:100"]["refined"]
    titles = " ".join(table.title or "" for table in evaluation_tables(report))
    assert "scanned band" not in titles and "depth edges" in titles


def test_disturbed_points_are_those_of_the_clean_pattern_and_the_truth_stays(estimator, room):
    patterns = ("bernoulli:100", "bernoulli:100,outliers=0.2", "bernoulli:100,shift=8")
    report = evaluate(room[:2], estimator, Plan(patterns, baselines=True))["results"]
    clean, wrong, moved = (report[text] for text in patterns)
    assert clean["points"] == wrong["points"] > moved["points"]
    assert clean["nearest"]["pixels"] == wrong["nearest"]["pixels"] == moved["nearest"]["pixels"]
    assert wrong["nearest"]["rmse"] > 1.5 * clean["nearest"]["rmse"]
    assert moved["linear"]["rmse"] > clean["linear"]["rmse"]


def test_the_network_sees_other_colours_the_truth_and_the_points_stay(estimator, room):
    plan = Plan(("bernoulli:100",), baselines=True, colours="inverted")
    report = evaluate(room[:1], estimator, plan)
    row, sample = report["results"]["bernoulli:100"], room[0]
    plain = evaluate(room[:1], estimator, Plan(("bernoulli:100",), True))["results"]
    assert report["colours"] == "inverted" and row["linear"] == plain["bernoulli:100"]["linear"]
    none = evaluate([sample], estimator, replace(plan, sparse=("none",)))["results"]["none"]
    answer = estimator(255 - sample.rgb, None, sample.camera).depth
    assert none["refined"]["rmse"] == pytest.approx(score(answer, sample.depth)["rmse"])


def test_from_frame_to_frame(estimator, room):
    report = evaluate(room[:3], estimator, Plan(("bernoulli:100", "none"), temporal=True))
    drawn, none = (report["results"][text]["temporal"] for text in ("bernoulli:100", "none"))
    assert drawn["pairs"] == none["pairs"] == 2
    assert set(drawn["warped_rel"]) == {"refined", "linear"}  # without --baselines too
    assert set(none["warped_rel"]) == {"refined"} and none["refined_to_linear"] is None
    ratios = []
    for sample in room[:3]:
        answer = estimator(sample.rgb, None, sample.camera).depth
        ratios.append(np.median((answer / np.maximum(sample.depth, 1e-9))[sample.depth > 0]))
    assert none["ratio_std"]["refined"] == pytest.approx(np.std(ratios), rel=1e-4)
    assert "refined" in [list(t.columns[1].cells) for t in evaluation_tables(report)][-1]
    lost = [replace(sample, T_world_camera=None) for sample in room[:2]]
    with pytest.raises(ValueError, match="temporal: expected true poses of consecutive frames"):
        evaluate(lost, estimator, Plan(("none",), temporal=True))


def test_two_runs_are_identical_and_the_seed_matters(estimator, room):
    def run(seed):
        result = evaluate(room[:2], estimator, Plan(("bernoulli:50",), True, seed=seed))
        row = result["results"]["bernoulli:50"]
        return {name: row[name] for name in ("coarse", "refined", "nearest", "confidence")}

    assert run(1) == run(1)
    assert run(1)["nearest"]["rmse"] != run(2)["nearest"]["rmse"]


def test_the_order_of_settings_changes_no_draw(estimator, room):
    a = evaluate(room[:1], estimator, Plan(("bernoulli:50", "bernoulli:20")))["results"]
    b = evaluate(room[:1], estimator, Plan(("bernoulli:20",)))["results"]
    assert a["bernoulli:20"]["refined"] == b["bernoulli:20"]["refined"]


def test_without_truth_half_of_the_points_is_truth(estimator, room):
    blind = [replace(sample, depth=None) for sample in room[:2]]
    row = evaluate(blind, estimator, Plan(("points",), baselines=True))["results"]["points"]
    total = [np.count_nonzero(s.camera.project(s.points, s.T_camera_lidar)) for s in blind]
    assert row["points"] == pytest.approx(np.mean(total) / 2, rel=0.15)
    assert row["refined"]["pixels"] + 2 * row["points"] == sum(total)
    assert 0 < row["nearest"]["rmse"] < 2
    assert default_sparse(blind) == "points"
    none = evaluate(blind, estimator, Plan(("none",)))["results"]["none"]
    assert "refined" not in none and none["confidence"] is None


def test_without_points_the_mean_depth_is_the_baseline(estimator, room):
    mean = np.full((12, 16), 2.5, np.float32)
    plan = Plan(("none", "bernoulli:50"), baselines=True)
    rows = evaluate(room[:1], estimator, plan, mean)["results"]
    expected = np.abs(room[0].depth - 2.5).mean()
    assert rows["none"]["mean"]["mae"] == pytest.approx(expected, rel=1e-4)
    assert "nearest" not in rows["none"] and "mean" not in rows["bernoulli:50"]


def test_tables_show_the_measures_asked_for(estimator, room):
    report = evaluate(room[:1], estimator, Plan(("none",)))
    assert set(MEASURES) <= set(report["results"]["none"]["refined"])

    def columns(table):
        return tuple(column.header for column in table.columns)[3:-1]

    assert columns(evaluation_tables(report)[0]) == METRICS
    assert columns(evaluation_tables(report, chosen("D"))[0]) == GROUPS["D"]
    report = evaluate(room[:1], estimator, Plan(("none",), protocol="D-kitti"))
    table = evaluation_tables(report)[0]
    assert columns(table) == GROUPS["D"]
    assert "protocol D-kitti: paper D, Table 2: KITTI at 94x310" in table.caption
    assert "per image, then over images" in table.title
    every = evaluation_tables(report, chosen("all"))[:2]  # too many to be read in one table
    assert columns(every[0]) + columns(every[1]) == tuple(MEASURES)
    assert every[0].title and not every[1].title and every[1].caption == table.caption
    per_pixel = evaluate(room[:1], estimator, Plan(("none",), pooled=True))
    assert "mean per pixel" in evaluation_tables(per_pixel)[0].title
