# SPDX-License-Identifier: Apache-2.0
"""A stage two is trained behind a Hugging Face stage one, which stays as it is."""

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the extra huggingface is not installed")
from small_models import ALONE, picture, plugged

from depth_two_stage import estimator, networks, recipes, training
from depth_two_stage.camera import Camera


def test_a_stage_two_is_trained_on_it(folders):
    base = networks.architecture("two-stage-rgbd", 1 / 16)  # its sparse channel goes
    spec, model = plugged(folders["depth_anything"], base)
    assert spec["stage_two"] == base["stage_two"]
    settings = model.settings
    assert (settings.sparse_input, settings.refined_size) == ("none", (256, 256))
    assert (settings.input_size, settings.max_depth) == ((70, 98), 20.0)
    model.train()
    assert not any(part.training for part in model.stage_one.modules())
    coarse_depth, refined = model(torch.randn(2, 3, 70, 98))
    assert refined.shape == (2, 1, 256, 256) and not coarse_depth.requires_grad
    refined.square().mean().backward()
    assert all(p.grad is None for p in model.stage_one.parameters())
    assert all(p.grad.abs().sum() > 0 for p in model.stage_two.parameters())
    # Whoever asks for it trains it as well.
    model.stage_one.requires_grad_(True)
    model.train()
    assert model.stage_one.model.training


def test_a_recipe_trains_a_stage_two_behind_it(folders, tmp_path):
    """``plug: hf:FOLDER``: stage two learns, stage one stays, the file goes to the estimator."""
    for split, count in (("train", 2), ("val", 1)):
        for kind in ("rgb", "depth"):
            (tmp_path / split / kind).mkdir(parents=True)
        for index in range(count):
            depth = np.tile(np.linspace(1000, 4000, 640).astype(np.uint16), (480, 1))
            cv2.imwrite(str(tmp_path / split / "depth" / f"{index:04d}.png"), depth)
            cv2.imwrite(str(tmp_path / split / "rgb" / f"{index:04d}.jpg"), picture((480, 640)))
    folder = folders["depth_anything"]
    changes = {
        "model": "two-stage-rgb",
        "width": 1 / 32,
        "plug": f"hf:{folder}",
        "budget": 2,
        "precision": "fp32",
        "data.root": str(tmp_path),
        "data.validation_limit": 1,
        "stage_two.batch": 1,
    }
    run = training.Run(recipes.load("two-stage-rgbd-18", changes), tmp_path / "run")
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    model, checkpoint = networks.load(run.train())
    assert checkpoint.facts["images"] == {"stage_one": 0, "stage_two": 2, "stage_three": 0}
    after = run.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(name.startswith("stage_two.") for name in moved)
    _, weights = networks.plug(ALONE, f"hf:{folder}")
    for name, value in model.stage_one.state_dict().items():
        assert torch.equal(value, weights[name].half().float()), name
    made = estimator.DepthEstimator(str(checkpoint.path), "cpu", "fp32", "torch", 1)
    found = made(picture((120, 160)), None, Camera(160, 120, 140.0, 140.0, 79.5, 59.5))
    assert found.depth.shape == (120, 160) and np.isfinite(found.depth).all()
    changes["model"] = "fcrn50-rgb"
    with pytest.raises(training.TrainingError, match=r"plug: expected something .* left to train"):
        training.Run(recipes.load("two-stage-rgbd-18", changes), tmp_path / "nothing")


def test_a_checkpoint_of_it_is_plugged_on(folders, weights):
    """From a folder to a file, from the file behind another network: the same stage one."""
    base = networks.architecture("two-stage-rgb", 1 / 16)
    (_, first), (spec, second) = (plugged(s, base) for s in (folders["depth_anything"], weights))
    assert spec["stage_one_source"]["file"] == "anything.safetensors"
    x = torch.randn(1, 3, 70, 98)
    with torch.no_grad():
        assert torch.equal(first.coarse(x), second.coarse(x))
