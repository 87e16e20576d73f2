# SPDX-License-Identifier: Apache-2.0
"""Training on a tiny NYU-like folder: it learns, resumes exactly, stops on NaN, runs on two."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from depth_two_stage import datasets, networks, recipes, training
from depth_two_stage.training_data import (
    Batches,
    draw_points,
    make_example,
    mean_image,
    without_extremes,
)
from depth_two_stage.training_state import read_state, validate

SMALL = {
    "width": 1 / 16,
    "precision": "fp32",
    "save_every": 2,
    "data.validation_limit": 1,
    "stage_one.epochs": 3,
    "stage_one.batch": 4,
    "stage_two.epochs": 2,
    "stage_two.batch": 2,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Eight training frames and one to validate on, in the folders' layout of NYU."""
    root = tmp_path_factory.mktemp("nyu")
    rng = np.random.default_rng(0)
    for split, count, size in (("train", 8, (240, 320)), ("val", 1, (480, 640))):
        for kind in ("rgb", "depth"):
            (root / split / kind).mkdir(parents=True)
        for index in range(count):
            ramp = np.linspace(1000, 4000, size[1]) + 300 * index
            depth = (ramp + np.linspace(0, 500, size[0])[:, None]).astype(np.uint16)
            rgb = np.dstack([depth // 24, depth // 48, rng.integers(0, 255, size)]).astype(np.uint8)
            cv2.imwrite(str(root / split / "depth" / f"{index:04d}.png"), depth)
            cv2.imwrite(str(root / split / "rgb" / f"{index:04d}.jpg"), rgb)
    return root


def recipe(root, **changes):
    return recipes.load("default", {**SMALL, "data.root": str(root), **changes})


def lines(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_both_stages_train_and_the_file_says_how(root, tmp_path):
    made = training.Run(recipe(root), tmp_path / "run").train()
    model, found = networks.load(made)
    facts = found.facts
    assert facts["seed"] == 0 and facts["frames"] == 8 and len(facts["data_hash"]) == 64
    assert facts["epochs"] == {"stage_one": 3, "stage_two": 2, "stage_three": 0}
    assert facts["images"] == {"stage_one": 24, "stage_two": 16, "stage_three": 0}
    assert facts["batches_without_depth"]["stage_one"] == 0 and facts["code_version"]
    assert np.isfinite(facts["metrics"]["refined_rmse_200"])
    assert facts["recipe"]["stage_two"]["betas"] == [0.5, 0.999]
    stages = [line["stage"] for line in lines(tmp_path / "run")]
    assert stages == sorted(stages) and {"stage_one", "stage_two"} == set(stages)
    terms = lines(tmp_path / "run")[-2]
    assert {"discriminator", "adversarial", "l1", "rate", "seconds", "epoch"} <= terms.keys()
    assert model.settings.sparse_input == "smooth"
    # Without points the mean of the frames stands there: they show 1.3 to 5.5 m.
    assert np.shape(model.settings.mean_depth) == (12, 16)
    assert 2 < np.mean(model.settings.mean_depth) < 5


def test_stage_one_learns(root, tmp_path):
    # The correction of the filled depth overfits two frames; without it the error stays.
    changes = {
        "data.limit": 2,
        "stage_one.batch": 2,
        "stage_one.epochs": 40,
        "stage_two.epochs": 1,
        "view.scale": [1.0, 1.0],
        "view.rotation": 0.0,
        "view.flip": 0.0,
        "view.colour": 0.0,
        "sparse.none": 1.0,
        "data.validation_limit": 0,
        "stage_one.rate": 0.01,
        "stage_one.schedule": "constant",
    }
    training.Run(recipe(root, **changes), tmp_path / "run").train()
    losses = [line["rmse"] for line in lines(tmp_path / "run") if "rmse" in line]
    assert losses[-1] < 0.5 * losses[0]


def test_stage_two_may_have_its_own_share_of_images_without_points(root):
    chosen = recipe(root, **{"sparse.none": 1.0, "stage_two.none": 0.0})
    run_settings = networks.NetworkSettings(input_size=(60, 80), sparse_input="zeros")
    data = datasets.open_dataset("nyu", root, "train")
    seen = [
        Batches(data, chosen, run_settings, stage, 4).make(0)[0][:, 3].any() for stage in (0, 1)
    ]
    assert seen == [False, True]


def same(first, second):
    a, b = (networks.read_checkpoint(networks.resolve(path)).tensors for path in (first, second))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_kill_9_at_any_moment_and_resume_gives_the_same(root, tmp_path):
    command = [sys.executable, "-m", "depth_two_stage.cli", "train", "default", "--root", str(root)]
    for name, value in SMALL.items():
        command += ["-p", f"{name}={value}"]
    command += ["--threads", "1"]
    whole = tmp_path / "whole"
    subprocess.run([*command, "-o", str(whole)], check=True, capture_output=True)
    broken = tmp_path / "broken"
    state = broken / "state.safetensors"
    for stage in (0, 1):  # killed once in each stage, wherever it then is
        process = subprocess.Popen(
            [*command, "-o", str(broken), "--resume"], stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if state.exists() and _stage(state) == stage:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert state.exists()
    subprocess.run([*command, "-o", str(broken), "--resume"], check=True, capture_output=True)
    assert same(whole / "weights", broken / "weights")
    wanted, got = (
        [{k: v for k, v in line.items() if k != "seconds"} for line in lines(out)]
        for out in (whole, broken)
    )
    assert wanted == got


def _stage(state):
    """The stage of a state file, read through one handle: it is replaced while training goes on."""
    with state.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return json.loads(header["__metadata__"]["state"])["stage"]


def test_a_loss_that_is_not_finite_names_its_part(root, tmp_path, monkeypatch):
    run = training.Run(recipe(root), tmp_path / "run")
    with torch.no_grad():
        next(run.model.stage_one.parameters()).fill_(float("nan"))
    with pytest.raises(training.TrainingError, match="stage_one, rmse: expected a finite loss"):
        run.train()
    assert not list((tmp_path / "run").glob("weights*"))


def test_an_earlier_run_is_neither_overwritten_nor_mixed(root, tmp_path):
    out = tmp_path / "run"
    changes = {"stage_one.epochs": 1, "stage_two.epochs": 1, "data.validation_limit": 0}
    training.Run(recipe(root, **changes), out).train()
    with pytest.raises(training.TrainingError, match="expected an empty folder or --resume"):
        training.Run(recipe(root, **changes), out)
    with pytest.raises(training.TrainingError, match=r"same recipe .* got another one: seed$"):
        training.Run(recipe(root, **changes, seed=1), out, resume=True)
    # Another network is another recipe too, not a list of tensors that do not fit.
    with pytest.raises(training.TrainingError, match=r"got another one: model, width$"):
        other = {**changes, "model": "two-stage-rgb", "width": 1 / 32}
        training.Run(recipe(root, **other), out, resume=True)
    with pytest.raises(training.TrainingError, match="expected the same data_hash"):
        training.Run(recipe(root, **changes, **{"data.limit": 4}), out, resume=True)
    (out / "state.safetensors").write_bytes(b"0" * 100)
    with pytest.raises(ValueError, match="expected a training state"):
        training.Run(recipe(root, **changes), out, resume=True)


def test_two_gloo_processes_agree(root, tmp_path):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--local-addr=127.0.0.1",  # no name of this machine has to resolve
        "--nproc-per-node=2",
        "-m",
        "depth_two_stage.cli",
        "train",
        "default",
        "--root",
        str(root),
        "-o",
        str(tmp_path / "run"),
    ]
    for name, value in (SMALL | {"stage_one.epochs": 1, "stage_two.epochs": 1}).items():
        command += ["-p", f"{name}={value}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    _, found = networks.load(tmp_path / "run" / "weights")
    assert found.facts["recipe"]["stage_one"]["batch"] == 4
    # Both processes' shares entered: the weights are not those of a run on one share alone.
    facts = read_state(tmp_path / "run" / "state.safetensors", {})
    assert facts["step"] == 4 and facts["stage"] == 1


def test_a_share_without_depth_beside_one_that_has_some(root, tmp_path):
    # Two frames, one of them without depth, one for each process: single-stage, for a change.
    made = tmp_path / "nyu"
    for kind, suffix in (("rgb", "jpg"), ("depth", "png")):
        (made / "train" / kind).mkdir(parents=True)
        for index in range(2):
            picture = cv2.imread(str(root / "train" / kind / f"{index:04d}.{suffix}"), -1)
            picture = picture * 0 if kind == "depth" and index == 1 else picture
            cv2.imwrite(str(made / "train" / kind / f"{index:04d}.{suffix}"), picture)
    out = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--local-addr=127.0.0.1", "--nproc-per-node=2", "-m", "depth_two_stage.cli"]
    command += ["train", "default", "--root", str(made), "-o", str(out), "--threads", "1"]
    single = {"model": "fcrn18-rgb", "width": 1 / 32, "input_size": "[57, 76]"}
    changes = {**single, "stage_one.batch": 2, "stage_one.epochs": 3, "data.validation_limit": 0}
    for name, value in (SMALL | changes).items():
        command += ["-p", f"{name}={value}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    _, found = networks.load(out / "weights")
    assert found.facts["images"]["stage_one"] == 6
    assert found.facts["batches_without_depth"]["stage_one"] == 0
    assert [line["step"] for line in lines(out) if "rmse" in line] == [0, 2]


def test_what_cannot_be_done_is_found_before_training(root, tmp_path, monkeypatch):
    monkeypatch.setattr(training.Run, "train", lambda self: pytest.fail("it began to train"))
    with pytest.raises(ValueError, match="split: expected one of train, val, got 'test'"):
        training.Run(recipe(root, **{"data.validation_split": "test"}), tmp_path / "run")
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "depth_two_stage.cli", "train", "default", "--root", str(root)]
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        done = subprocess.run([*command, "-o", str(out)], capture_output=True, text=True)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert f"{out}: expected a writable folder" in done.stderr


@pytest.mark.parametrize(
    ("name", "model", "left"),
    [
        ("paper-c-nyu", "two-stage-rgb", "two"),
        ("paper-d-nyu", "three-stage-rgb", "two and three"),
        ("paper-e-nyu", "single-cgan-rgb", "two"),
    ],
)
def test_a_stage_that_would_stay_random_is_refused(root, tmp_path, name, model, left):
    """Recipes of one-stage papers with a model of more stages; a budget gives it no step either."""
    changes = {"data.root": str(root), "model": model, "width": 1 / 32, "input_size": [57, 76]}
    changes |= {"data.validation_limit": 0, "stage_one.batch": 4, "budget": 4}
    words = f"^stage_two.epochs: expected at least 1 for a model with a stage {left}, got 0; -p sta"
    with pytest.raises(training.TrainingError, match=words):
        training.Run(recipes.load(name, changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    run = training.Run(recipes.load(name, {**changes, "stage_two.epochs": 1}), tmp_path / "run")
    run.train()
    assert run.images["stage_two"] == 4


def test_frames_without_depth(root, tmp_path):
    data = datasets.open_dataset("nyu", root, "val")
    model, _ = networks.load(
        training.Run(
            recipe(root, model="fcrn18-rgb", width=1 / 32, input_size=[57, 76], budget=4),
            tmp_path / "run",
        ).train()
    )
    bare = [dataclasses.replace(data[0], depth=depth) for depth in (None, data[0].depth * 0)]
    where = (torch.device("cpu"), contextlib.nullcontext)
    # They say nothing about the network; as training frames the first is refused by name.
    assert validate(model, bare, *where) == {}
    assert validate(model, [*bare, data[0]], *where) == validate(model, [data[0]], *where)
    settings = model.settings
    with pytest.raises(
        ValueError, match="data: expected depth in every frame, got none in val/0000"
    ):
        make_example(bare[0], recipe(root), settings, np.random.default_rng(0))
    for frames, words in ((bare[:1], "in every frame"), (bare[1:], "in some frame")):
        with pytest.raises(ValueError, match=words):
            mean_image(frames, settings.focal, settings.input_size)


def test_the_shares_of_two_processes_make_up_the_batch(root):
    chosen = recipe(root)
    data = datasets.open_dataset("nyu", root, "train")
    settings = networks.NetworkSettings(sparse_input="filled")
    whole = Batches(data, chosen, settings, 0, 4).make(1)
    shares = [Batches(data, chosen, settings, 0, 4, rank, 2).make(1) for rank in (0, 1)]
    for part in (0, 1):
        together = torch.stack([share[part] for share in shares], 1).flatten(0, 1)
        assert torch.equal(whole[part], together)
    with pytest.raises(ValueError, match="multiple of 3 processes"):
        Batches(data, chosen, settings, 0, 4, 0, 3)


def test_points_are_drawn_as_the_recipe_says(root):
    sample = datasets.open_dataset("nyu", root, "train")[0]
    rng = np.random.default_rng(0)
    draw = recipes.Sparse(none=0.0, beams=0.0, samples=(200, 200))
    counts = [np.count_nonzero(draw_points(sample, draw, rng)) for _ in range(20)]
    assert 180 < np.mean(counts) < 220
    assert not draw_points(sample, recipes.Sparse(none=1.0), rng).any()
    rows = np.count_nonzero(draw_points(sample, recipes.Sparse(beams=1.0, beam_counts=(8,)), rng))
    assert rows > 300
    exact = draw_points(sample, draw, rng)
    assert np.array_equal(exact[exact > 0], sample.depth[exact > 0])


def test_rates_are_those_of_the_paper():
    stage = recipes.load("paper-a-nyu").stage_one
    rates = [training.rate_at(epoch * 79, 20 * 79, stage) for epoch in (0, 4, 5, 10, 19)]
    assert rates == pytest.approx([1e-2, 1e-2, 2e-3, 4e-4, 8e-5])
    cosine = dataclasses.replace(stage, schedule="cosine")
    assert training.rate_at(1579, 1580, cosine) < 1e-7 < training.rate_at(0, 1580, cosine)


def test_a_budget_presses_the_schedule_together():
    stage = recipes.load("paper-a-nyu").stage_one
    assert training.steps_of(stage, 795) == 20 * 79
    total = training.steps_of(stage, 795, budget=400)
    assert total == 40
    rates = [training.rate_at(step, total, stage) for step in (0, 9, 10, 20, 39)]
    assert rates == pytest.approx([1e-2, 1e-2, 2e-3, 4e-4, 8e-5])
    assert training.steps_of(stage, 795, budget=3) == 1
    assert training.steps_of(stage, 795, budget=10**9) == 20 * 79
    assert training.steps_of(dataclasses.replace(stage, iterations=1000), 795) == 1000


KINDS = {
    "fcrn18-rgb": ["stage_one"],
    "sc-grey": ["stage_one"],
    "cnn-fc": ["stage_one"],
    "two-stage-rgb": ["stage_one", "stage_two"],
    "three-stage-rgb": ["stage_one", "stage_two", "stage_three"],
    "single-cgan-rgb": ["stage_two"],
}


@pytest.mark.parametrize(("model", "stages"), KINDS.items())
def test_every_kind_of_model_trains_and_resumes(root, tmp_path, model, stages):
    changes = {"model": model, "width": 1 / 32, "budget": 8, "stage_one.fraction": model[0] == "s"}
    if "cnn" not in model:  # fully connected layers want their own size
        changes["input_size"] = [57, 76]
    chosen = recipe(root, **changes)
    whole = training.Run(chosen, tmp_path / "whole")
    before = {name: value.clone() for name, value in whole.model.state_dict().items()}
    whole.train()
    found = list(dict.fromkeys(line["stage"] for line in lines(tmp_path / "whole")))
    assert found == stages
    for stage in stages:  # every stage moved, and its losses are there
        assert any(
            not torch.equal(value, before[name])
            for name, value in whole.model.state_dict().items()
            if name.startswith(stage) and value.is_floating_point()
        )
    # Cut off after each state that was written, it ends at the same weights.
    cut_and_resumed(chosen, tmp_path / "broken")
    assert same(tmp_path / "whole" / "weights", tmp_path / "broken" / "weights")


def cut_and_resumed(chosen, out):
    """Train, cut off after each state that is written and taken up again."""
    broken = training.Run(chosen, out)
    kept = broken._save_state

    def cut(update):
        kept(update)
        raise InterruptedError

    cuts = 0
    while True:
        broken._save_state = cut
        try:
            broken.train()
            break
        except InterruptedError:
            cuts += 1
            broken = training.Run(chosen, out, resume=True)
            kept = broken._save_state
    assert cuts > 0


def test_stage_three_follows_a_frozen_stage_two(root, tmp_path):
    changes = {"model": "three-stage-rgb", "width": 1 / 32, "input_size": [57, 76], "budget": 4}
    run = training.Run(recipe(root, **changes), tmp_path / "run")
    states = {}
    loop = run._loop

    def watched(progress, stage, update):
        loop(progress, stage, update)
        states[update.name] = {
            name: {k: v.clone() for k, v in getattr(run.model, name).state_dict().items()}
            for name in training.STAGES
        }

    run._loop = watched
    run.train()
    for frozen in ("stage_one", "stage_two"):
        first, last = states[frozen][frozen], states["stage_three"][frozen]
        assert all(torch.equal(first[name], value) for name, value in last.items())


def test_a_trained_stage_one_is_plugged_in_and_stays(root, tmp_path):
    one = recipe(root, model="fcrn18-rgb", width=1 / 32, input_size=[57, 76], budget=8)
    file = training.Run(one, tmp_path / "one").train()
    two = recipe(root, model="two-stage-rgb", width=1 / 32, plug=str(file), budget=4)
    run = training.Run(two, tmp_path / "two")
    model, checkpoint = networks.load(run.train())
    assert checkpoint.facts["images"] == {"stage_one": 0, "stage_two": 4, "stage_three": 0}
    assert model.settings.input_size == (57, 76) and model.stage_two is not None
    plugged, _ = networks.load(file)
    for name, value in plugged.stage_one.state_dict().items():
        assert torch.equal(value, model.stage_one.state_dict()[name])
    cut_and_resumed(dataclasses.replace(two, save_every=1), tmp_path / "cut")
    assert same(tmp_path / "two" / "weights", tmp_path / "cut" / "weights")
    alone = recipe(root, model="fcrn18-rgb", width=1 / 32, plug=str(file))
    with pytest.raises(training.TrainingError, match=r"plug: expected something .* left to train"):
        training.Run(alone, tmp_path / "nothing")


def test_an_encoder_may_learn_at_its_own_rate(root, tmp_path):
    changes = {"model": "fcrn18-rgb", "width": 1 / 32, "input_size": [57, 76], "budget": 8}
    run = training.Run(recipe(root, **changes, **{"stage_one.encoder_rate": 0.0}), tmp_path / "run")
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    run.train()
    moved = {name for name, p in run.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved and not any(".encoder." in name for name in moved)


def test_batches_without_depth_are_counted_and_teach_nothing(root, tmp_path, monkeypatch):
    chosen = recipe(root, model="fcrn18-rgb", width=1 / 32, input_size=[57, 76], budget=12)
    make = Batches.make

    def spoilt(self, step):
        x, target = make(self, step)
        return x, (target * np.nan if step == 1 else target)

    monkeypatch.setattr(Batches, "make", spoilt)
    run = training.Run(chosen, tmp_path / "run")
    _, found = networks.load(run.train())
    assert found.facts["batches_without_depth"]["stage_one"] == 1
    assert found.facts["pixels_not_depth"]["stage_one"] == 4 * 256 * 256  # of step 1
    counted = [line for line in lines(tmp_path / "run") if "batch_without_depth" in line]
    assert [line["step"] for line in counted] == [1]
    monkeypatch.setattr(Batches, "make", lambda self, step: (make(self, step)[0], torch.zeros(1)))
    with pytest.raises(training.TrainingError, match="target: expected depth in some image"):
        training.Run(chosen, tmp_path / "none").train()


def test_truth_that_is_no_depth_is_counted(root):
    data = datasets.open_dataset("nyu", root, "train")
    frames = list(data)
    depth = frames[3].depth.copy()
    depth[:2, :5], depth[5, 5], depth[6, 6] = np.nan, np.inf, -1
    frames[3] = dataclasses.replace(frames[3], depth=depth)
    settings = networks.NetworkSettings(input_size=(60, 80), sparse_input="none")
    batches = Batches(frames, recipe(root), settings, 0, 8)
    _, target = batches.make(0)
    assert batches.invalid == {0: 12} and torch.isfinite(target).all()


def test_depth_at_an_images_limits_is_masked(root):
    depth = np.array([[0.0, 1.0, 2.0], [1.0, 3.0, 5.0]], np.float32)
    assert without_extremes(depth).tolist() == [[0, 0, 2], [0, 3, 0]]
    assert not without_extremes(np.zeros((2, 2), np.float32)).any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stage_one.speed": 1}, "stage_one.speed: expected one of epochs"),
        ({"stage_one.batch": 0}, "stage_one.batch: expected at least 1, got 0"),
        ({"stage_one.batch": "many"}, "stage_one.batch: expected int"),
        ({"stage_one.loss": "huber"}, "expected one of berhu"),
        ({"sparse.samples": [1]}, "sparse.samples: expected a list"),
        ({"model.name": 1}, "model.name: expected a name of a recipe"),
        ({"data": 3}, "data: expected a mapping"),
        ({"stage_one.loss": "berhuu"}, "got 'berhuu'; nearest: berhu"),
        ({"stage_one.rat": 1}, "got an unknown name; nearest: rate"),
        ({"stage_one.rate": float("inf")}, "stage_one.rate: expected a finite number, got inf"),
        ({"sparse.none": 1.5}, "sparse.none: expected at most 1, got 1.5"),
        ({"sparse.beam_counts": []}, "sparse.beam_counts: expected at least one number"),
        ({"sparse.beam_counts": [0]}, "sparse.beam_counts: expected at least 1, got 0"),
        ({"stage_one": {"loss": "huber"}}, "stage_one.loss: expected one of berhu"),
        ({"stage_two.none": -2}, "stage_two.none: expected at least -1"),
    ],
)
def test_wrong_recipes_are_named(changes, words):
    with pytest.raises(recipes.RecipeError, match=words):
        recipes.load("default", changes)


@pytest.mark.parametrize("name", recipes.names())
def test_recipes_of_the_package_load(name):
    chosen = recipes.load(name)
    assert chosen.model in networks.MODELS and chosen.data.dataset in datasets.DATASETS
    text = (recipes.FOLDER / f"{name}.yaml").read_text()
    assert "Differs from" in text, "a recipe names what differs from the paper and why"


# What the papers print, as ../shared texts have it: (model, stage one, stage two).
PRINTED = {
    "paper-e-nyu": (
        "fcrn50-rgb",
        {"epochs": 20, "batch": 16, "rate": 0.01, "momentum": 0.9, "loss": "berhu"},
        {},
    ),
    "paper-e-make3d": ("fcrn50-rgb-make3d", {"epochs": 30, "batch": 16, "rate": 0.01}, {}),
    "paper-a-nyu": (
        "two-stage-rgbd",
        {
            **{"epochs": 20, "batch": 10, "rate": 0.01, "factor": 0.2, "every": 5},
            **{"optimizer": "sgd", "loss": "berhu", "weight_decay": 0.0},
        },
        {"epochs": 200, "batch": 1, "rate": 2e-4, "betas": (0.5, 0.999)},
    ),
    "paper-b-nyu": ("two-stage-rgb", {}, {"epochs": 20, "batch": 1, "rate": 2e-4}),
    "paper-b-make3d": ("two-stage-rgb-make3d", {}, {"epochs": 20, "pairs": "B-Make3D"}),
    "paper-c-nyu": (
        "cnn-residual",
        {"optimizer": "adam", "rate": 1e-3, "weight_decay": 1e-4, "batch": 8},
        {},
    ),
    "paper-d-kitti": ("scrx-grey", {"iterations": 1000, "batch": 40, "loss": "half_l2"}, {}),
    "paper-d-nyu": ("improved-scrx-nyu-grey", {"iterations": 1000, "batch": 40}, {}),
}


@pytest.mark.parametrize("name", PRINTED)
def test_recipes_have_the_papers_numbers(name):
    chosen, (model, *stages) = recipes.load(name), PRINTED[name]
    assert chosen.model == model
    for stage, printed in zip((chosen.stage_one, chosen.stage_two), stages, strict=True):
        assert {key: getattr(stage, key) for key in printed} == printed
    assert chosen.data.farthest == (70.0 if "make3d" in name else 80.0 if "kitti" in name else 0.0)


@pytest.mark.parametrize("name", ["paper-a-nyu", "paper-b-nyu", "paper-c-nyu", "paper-d-nyu"])
def test_recipes_of_the_papers_run(root, tmp_path, name):
    changes = {"data.root": str(root), "data.validation_limit": 0, "width": 1 / 32}
    batches = {"stage_one.batch": 4, "stage_two.batch": 1, "budget": 4}
    run = training.Run(recipes.load(name, {**changes, **batches}), tmp_path / "run")
    run.train()
    assert run.images["stage_one"] == 4


def test_toy_networks_at_odd_sizes_do_not_break_memory(root, tmp_path):
    # In channels-last layout oneDNN's backward wrote past its memory: the process was aborted.
    command = [
        sys.executable,
        "-m",
        "depth_two_stage.cli",
        "train",
        "paper-e-nyu",
        "--threads",
        "1",
    ]
    command += ["--root", str(root), "-o", str(tmp_path / "run"), "--budget", "6"]
    changes = {"width": 1 / 32, "input_size": "[230, 173]", "stage_one.batch": 2}
    for name, value in (changes | {"data.validation_limit": 0}).items():
        command += ["-p", f"{name}={value}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_encoders_start_from_a_file(root, tmp_path):
    source = networks.build(networks.architecture("fcrn18-rgb", 1 / 16))
    state = source.stage_one.encoder.state_dict()
    file = tmp_path / "resnet18.safetensors"
    save_file(dict(state), file)
    changes = {"model": "fcrn18-rgbd", "width": 1 / 16, "encoder_weights": str(file)}
    run = training.Run(recipe(root, **changes, budget=4), tmp_path / "run")
    stem = run.model.stage_one.encoder.conv1.weight
    torch.testing.assert_close(stem[:, :3], state["conv1.weight"])
    torch.testing.assert_close(stem[:, 3], state["conv1.weight"].mean(1))
    _, found = networks.load(run.train())
    assert found.facts["encoder"]["file"].endswith("resnet18.safetensors")
    with pytest.raises(ValueError, match="encoder"):
        none = {"model": "cnn", "width": 1 / 16, "encoder_weights": str(file)}
        training.Run(recipe(root, **none), tmp_path / "none")


def test_the_printed_forms_of_the_cgan_train(root, tmp_path):
    printed = {"stage_two.loss": "log_l1", "stage_two.form": "min_max", "stage_two.pairs": "B"}
    changes = {"model": "two-stage-rgb", "width": 1 / 32, "input_size": [57, 76], "budget": 4}
    training.Run(recipe(root, **changes, **printed), tmp_path / "run").train()
    terms = [line for line in lines(tmp_path / "run") if "log_l1" in line]
    assert terms and terms[0]["adversarial"] < 0  # log(1 − D)


def test_depth_beyond_the_farthest_is_no_truth(root):
    data = datasets.open_dataset("nyu", root, "train")
    settings = networks.NetworkSettings(input_size=(60, 80), sparse_input="none")
    near = recipe(root, **{"data.farthest": 4.0, "view.scale": [1.0, 1.0]})
    everything = recipe(root, **{"view.scale": [1.0, 1.0]})
    _, cut = Batches(data, near, settings, 0, 4).make(0)
    _, full = Batches(data, everything, settings, 0, 4).make(0)
    kept, gone = full[cut > 0], full[(cut == 0) & (full > 0)]
    assert torch.equal(cut[cut > 0], kept)
    # One camera: what is gone lies beyond all that is kept.
    assert 0 < kept.max() < gone.min()


def test_a_mapping_changes_what_it_names_alone():
    chosen = recipes.load("paper-a-nyu", {"stage_one": {"rate": 0.02}, "stage_two.none": -1})
    assert (chosen.stage_one.rate, chosen.stage_one.factor, chosen.stage_one.batch) == (
        0.02,
        0.2,
        10,
    )
    assert chosen.stage_two.none == -1


def test_what_a_run_writes_can_be_read_again(tmp_path):
    chosen = recipes.load("paper-b-make3d")
    (tmp_path / "again.yaml").write_text(json.dumps(dataclasses.asdict(chosen)))  # JSON is YAML
    assert recipes.load(str(tmp_path / "again.yaml")) == chosen


def test_unknown_recipes_and_broken_files(tmp_path):
    (tmp_path / "names.yaml").write_text("1: 2\nmodell: c-grey\n")
    with pytest.raises(recipes.RecipeError, match="1: expected one of model"):
        recipes.load(str(tmp_path / "names.yaml"))
    (tmp_path / "empty.yaml").write_text("data:\n")
    assert recipes.load(str(tmp_path / "empty.yaml"), {"data.root": "x"}).data.root == "x"
    with pytest.raises(recipes.RecipeError, match="got 'paper-a'; nearest: paper-a-nyu"):
        recipes.load("paper-a")
    with pytest.raises(recipes.RecipeError, match="paper-a-nyu"):
        recipes.load("paper-z")
    (tmp_path / "r.yaml").write_text("a: b: c")
    with pytest.raises(recipes.RecipeError, match="expected YAML"):
        recipes.load(str(tmp_path / "r.yaml"))
