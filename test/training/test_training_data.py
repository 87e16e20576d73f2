# SPDX-License-Identifier: Apache-2.0
"""What a batch holds: points as the recipe draws them, truth that is depth, each process' share."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from small_runs import recipe

from depth_two_stage import datasets, networks, recipes, training
from depth_two_stage.training_data import (
    Batches,
    draw_points,
    make_example,
    mean_image,
    stretched,
    without_extremes,
)
from depth_two_stage.training_state import validate


def test_stage_two_may_have_its_own_share_of_images_without_points(root):
    chosen = recipe(root, **{"sparse.none": 1.0, "stage_two.none": 0.0})
    run_settings = networks.NetworkSettings(input_size=(60, 80), sparse_input="zeros")
    data = datasets.open_dataset("nyu", root, "train")
    seen = [
        Batches(data, chosen, run_settings, stage, 4).make(0)[0][:, 3].any() for stage in (0, 1)
    ]
    assert seen == [False, True]


def test_stretched_depth_keeps_its_median_and_spares_frames_without_points(root):
    still = {"view.rotation": 0.0, "view.scale": [1.0, 1.0], "view.flip": 0.0, "view.colour": 0.0}
    plain = recipe(root, **still, **{"sparse.none": 0.5})
    always = recipe(
        root, **still, **{"sparse.none": 0.5, "view.stretch": 1.0, "view.powers": [2.0, 2.0]}
    )
    frame = datasets.open_dataset("nyu", root, "train")[0]
    settings = networks.NetworkSettings(input_size=frame.camera.size, sparse_input="zeros")
    seen = set()
    for seed in range(8):
        (x, target), (_, usual) = (
            make_example(frame, one, settings, np.random.default_rng(seed))
            for one in (always, plain)
        )
        seen.add(bool(x[3].any()))
        assert np.array_equal(target, usual) != x[3].any()
    assert seen == {True, False}
    truth = np.float32([[1, 2, 4], [0, 2, 8]])
    moved, points = stretched(truth, np.float32([[1, 0, 0], [0, 3, 0]]), 2.0)
    np.testing.assert_allclose(moved, [[0.5, 2, 8], [0, 2, 32]], rtol=1e-6)
    np.testing.assert_allclose(points, [[0.5, 0, 0], [0, 4.5, 0]], rtol=1e-6)


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
