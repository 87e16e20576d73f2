# SPDX-License-Identifier: Apache-2.0
"""Plans of comparisons: the papers' holds every network, wrong ones are named."""

import pytest

from depth_two_stage import networks, training_plan
from depth_two_stage.comparison import plan, runs


def test_the_papers_plan_holds_every_network_once():
    papers = plan.load("papers")
    papers_own = {name for name in networks.MODELS if not name.startswith("anchored")}
    assert sorted(row.model for row in papers.rows) == sorted(papers_own)
    assert set(papers.figures) <= set(networks.MODELS)
    keys = [row.key for row in papers.runs()]
    assert len(keys) == len(set(keys))
    # A claim's seed 0 is the table's row: nothing is trained twice.
    assert papers.runs(claims=False) == papers.runs()[: len(papers.rows)]
    for row in papers.rows:
        recipe = runs.recipe_of(row, papers, {})
        assert training_plan.specification(recipe)[0]["settings"]["max_depth"] == 10.0
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
