# SPDX-License-Identifier: Apache-2.0
"""Claims judged by hand-made rows, and what the page says of them."""

import dataclasses
import itertools
import json
import re

import pytest

from depth_two_stage.comparison import claims, plan, plots, report, runs


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
