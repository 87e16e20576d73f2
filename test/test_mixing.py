# SPDX-License-Identifier: Apache-2.0
"""A mix of data sets: shares, new frames every epoch, one hash; without a mix all is as before."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from depth_two_stage import files, networks, recipes, training
from depth_two_stage.comparison import runs
from depth_two_stage.datasets import DatasetError, open_dataset
from depth_two_stage.datasets.mixing import Mix, Mixture
from depth_two_stage.training_data import Batches, open_training
from depth_two_stage.training_state import write_state

ROOMS = "frames:40,size:32x48,scenes:2"
SETTINGS = networks.NetworkSettings(input_size=(24, 32), focal=30.0, sparse_input="zeros")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Twelve small frames: red images of a wall at 2 m."""
    root = tmp_path_factory.mktemp("wall") / "wall"
    camera = {"width": 48, "height": 32, "fx": 40, "fy": 40, "cx": 23.5, "cy": 15.5}
    files.write_json(root / "camera.json", {**camera, "depth_scale": 1000})
    rgb = np.zeros((32, 48, 3), np.uint8)
    rgb[..., 0] = 250
    for index in range(12):
        files.write_image(root / "rgb" / f"{index:02d}.png", rgb)
        files.write_depth(root / "depth" / f"{index:02d}.png", np.full((32, 48), 2.0))
    return root


def recipe(root, *mix, **changes):
    data = {"dataset": "folder", "root": str(root), "split": None, "validation_split": None}
    data |= {"mix": list(mix), "validation_limit": 0}
    view = {"scale": [1.0, 1.0], "rotation": 0.0, "colour": 0.0}
    return recipes.load("two-stage-rgbd-18", {"data": data, "view": view, **changes})


def rooms(share, split=ROOMS):
    return {"dataset": "rendered", "split": split, "share": share}


def others(batch):
    """Which images of a batch do not come from the red wall."""
    x, _ = batch
    return ~(x[:, 1] == x[:, 1].amin()).flatten(1).all(1).numpy()


def test_without_a_mix_nothing_is_different(root):
    chosen = recipe(root)
    assert recipes.Recipe().data.mix == () == chosen.data.mix
    data = open_training(chosen.data)
    plain = open_dataset("folder", root)
    assert type(data) is type(plain) and data.list_hash == plain.list_hash
    mixed = open_training(recipe(root, rooms(0.5)).data)
    with_none = Batches(data, chosen, SETTINGS, 0, 12)
    with_some = Batches(mixed, recipe(root, rooms(0.5)), SETTINGS, 0, 12)
    x, target = with_none.make(3)
    x2, target2 = with_some.make(3)
    # Places that stay the main set's get the very views and points that they got without a mix.
    stayed = ~others((x2, target2))
    assert 2 < stayed.sum() < 11
    assert torch.equal(x[stayed], x2[stayed]) and torch.equal(target[stayed], target2[stayed])


def test_the_others_have_their_share_and_every_epoch_draws_anew(root):
    chosen = recipe(root, rooms(0.2), rooms(0.15, "frames:30,size:32x48,seed:9"))
    batches = Batches(open_training(chosen.data), chosen, SETTINGS, 0, 12)
    share = np.mean([others(batches.make(step)).mean() for step in range(40)])
    assert share == pytest.approx(0.35, abs=0.06)
    mixture, rng = batches.mixture, np.random.default_rng(0)
    drawn = [mixture.draw(rng) for _ in range(4000)]
    which = [None if place is None else place[0] for place in drawn]
    assert which.count(0) / 4000 == pytest.approx(0.2, abs=0.02)
    assert which.count(1) / 4000 == pytest.approx(0.15, abs=0.02)
    assert {place[1] for place in drawn if place and place[0] == 1} == set(range(30))
    frames = {(e, i): batches._frame(e, i).name for e in range(6) for i in range(12)}
    seen = [name for name in frames.values() if name.startswith("hand-")]
    assert len(set(seen)) > 0.6 * len(seen)  # 70 frames, and not the same for a place each time


def test_batches_are_functions_of_seed_stage_and_step(root):
    chosen = recipe(root, rooms(0.5))
    make = lambda **changes: Batches(  # noqa: E731
        open_training(chosen.data), dataclasses.replace(chosen, **changes), SETTINGS, 0, 12
    ).make(5)
    assert torch.equal(make()[0], make()[0])
    assert not torch.equal(make()[0], make(seed=1)[0])
    data = open_training(chosen.data)
    shares = [Batches(data, chosen, SETTINGS, 0, 12, rank, 2).make(5)[0] for rank in (0, 1)]
    assert torch.equal(torch.stack(shares, 1).flatten(0, 1), make()[0])


def test_everything_else_goes_by_the_main_set(root):
    data = open_training(recipe(root, rooms(0.5), **{"data.limit": 7}).data)
    assert len(data) == 7 and [sample.name for sample in data] == [f"{i:02d}" for i in range(7)]


def test_the_hash_covers_every_set_its_frames_and_its_share(root):
    main = open_dataset("folder", root)
    kinds = [
        [rooms(0.5)],
        [rooms(0.4)],
        [rooms(0.5, "frames:40,size:32x48,scenes:2,noise:5")],  # the same names, another look
        [rooms(0.5, "frames:41,size:32x48,scenes:2")],
        [rooms(0.25), rooms(0.25)],
        [{"dataset": "folder", "root": str(root), "share": 0.5}],
    ]
    hashes = {Mixture(main, [Mix(**entry) for entry in mix]).list_hash for mix in kinds}
    assert len(hashes | {main.list_hash}) == 7
    assert Mixture(main[:5], [Mix(**rooms(0.5))]).list_hash not in hashes


def test_a_run_with_a_mix_says_so_and_resumes_only_with_it(root, tmp_path):
    small = {"model": "fcrn18-rgb", "width": 1 / 32, "input_size": [57, 76], "budget": 4}
    small |= {"stage_one.batch": 4, "stage_one.epochs": 1}
    run = training.Run(recipe(root, rooms(0.5), **small), tmp_path / "run")
    _, found = networks.load(run.train())
    assert found.facts["frames"] == 12
    assert found.facts["data_hash"] == open_training(run.recipe.data).list_hash
    assert found.facts["recipe"]["data"]["mix"] == [{**rooms(0.5), "root": None}]
    assert (
        recipes.load("two-stage-rgbd-18", {"data": found.facts["recipe"]["data"]}).data
        == run.recipe.data
    )
    with pytest.raises(training.TrainingError, match="expected the same data_hash"):
        training.Run(recipe(root, rooms(0.4), **small), tmp_path / "run", resume=True)


def test_what_older_recipes_could_not_say_has_its_default(root, tmp_path):
    chosen = recipe(root, model="fcrn18-rgb", width=1 / 32, input_size=[57, 76], budget=4)
    run = training.Run(chosen, tmp_path / "run")
    facts = json.loads(json.dumps(run._facts()))
    older = facts["recipe"]
    del older["photometry"], older["data"]["mix"], older["sparse"]["corruption"]
    del older["sparse"]["half"]
    assert recipes.completed(older) == json.loads(json.dumps(run._facts()["recipe"]))
    state = {"stage": 0, "step": 0, "seconds": {}, "metrics": {}, "images": {}, "empty": {}}
    modules = {"model": run.model, "discriminator": run.discriminator}
    write_state(run.state_file, modules, {}, {**facts, **state, "log_bytes": 0})
    training.Run(chosen, tmp_path / "run", resume=True)
    older["sparse"]["beams"] = 0.5
    write_state(run.state_file, modules, {}, {**facts, **state, "log_bytes": 0})
    with pytest.raises(training.TrainingError, match=r"got another one: sparse\.beams$"):
        training.Run(chosen, tmp_path / "run", resume=True)


def test_rows_of_a_comparison_do_not_mind_where_the_others_lie(root):
    here, there = (
        runs._facts(recipe(folder, {"dataset": "folder", "root": folder, "share": 0.5}))
        for folder in (str(root), "/elsewhere")
    )
    assert here == there and here["data"]["mix"] == [
        {"dataset": "folder", "split": None, "share": 0.5}
    ]


def test_the_recipe_that_the_readme_shows_is_one(tmp_path):
    text = (Path(__file__).parent.parent / "README.md").read_text()
    (tmp_path / "shown.yaml").write_text(text.partition("```yaml\n")[2].partition("```")[0])
    shown = recipes.load(str(tmp_path / "shown.yaml"))
    (mix,) = shown.data.mix
    rendered = open_dataset(mix.dataset, ".", mix.split)
    assert len(rendered) == 100_000 and rendered.camera is None and mix.share == 0.3
    assert shown.sparse.corruption.shift == 0.3 and shown.photometry.jpeg == 0.2


@pytest.mark.parametrize(
    ("mix", "error", "words"),
    [
        (
            [{"dataset": "nyu", "share": 0.5}],
            DatasetError,
            r"mix\[0\].root: expected the folder of",
        ),
        ([rooms(0.5), rooms(0.6)], DatasetError, "shares of at most 1 together, got 1.1"),
        ([rooms(0.5, "seed:-1")], DatasetError, r"data.mix\[0\]: split seed: expected a number"),
        ([rooms(0.2), {"dataset": "moon", "root": ".", "share": 0.1}], DatasetError, r"mix\[1\]"),
        ([rooms(1.5)], recipes.RecipeError, "data.mix.share: expected at most 1, got 1.5"),
        ([{"data": 1}], recipes.RecipeError, "data.mix.data: expected one of dataset"),
        (["rendered"], recipes.RecipeError, "data.mix: expected a mapping, got 'rendered'"),
    ],
)
def test_wrong_mixes_are_named(root, mix, error, words):
    with pytest.raises(error, match=words):
        open_training(recipe(root, *mix).data)
    with pytest.raises(recipes.RecipeError, match=r"data\.mix: expected a list"):
        recipes.load("two-stage-rgbd-18", {"data.mix": 3})
