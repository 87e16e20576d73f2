# SPDX-License-Identifier: Apache-2.0
"""`anchored`: depth in units of the scene, edges taken from neighbours, its own confidence."""

import json

import cv2
import numpy as np
import pytest
import torch

from depth_two_stage import estimator, networks, recipes
from depth_two_stage.camera import Camera
from depth_two_stage.confidence import FEATURES, Confidence
from depth_two_stage.networks.anchored import TAPS, CorrectionUNet, EdgeGenerator, neighbours
from depth_two_stage.networks.inputs import FAR, REACH, assemble, scene_unit
from depth_two_stage.training import Run

CAMERA = Camera(160, 120, 136.3, 136.3, 79.5, 59.5)  # the network's own focal length, halved


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The network at a quarter of its width, its last layers stirred: answers depend on inputs."""
    torch.manual_seed(0)
    spec = networks.architecture("anchored", 1 / 4)
    model = networks.build(spec)
    torch.nn.init.normal_(model.stage_one.out.weight, std=0.05)
    torch.nn.init.normal_(model.stage_two.out.weight, std=0.05)
    path = tmp_path_factory.mktemp("anchored") / "net.safetensors"
    networks.save(path, model, spec, {})
    return path


@pytest.fixture(scope="module")
def estimate(weights):
    return estimator.DepthEstimator(str(weights), "cpu", "fp32", "torch", 1, anchor="none")


def scene():
    rng = np.random.default_rng(0)
    rgb = cv2.resize(rng.integers(0, 255, (12, 16, 3), np.uint8), (160, 120))
    sparse = np.zeros((120, 160), np.float32)
    sparse[rng.integers(0, 120, 80), rng.integers(0, 160, 80)] = rng.uniform(1, 4, 80)
    return rgb, sparse


def test_depth_enters_as_logarithms_in_units_of_the_scene():
    sparse = np.zeros((8, 8), np.float32)
    sparse[0, 0], sparse[0, 4], sparse[7, 7] = 1.0, 2.0, 6.0
    assert scene_unit(sparse, "relative", 3.0) == 2.0  # the median
    x = assemble(np.zeros((8, 8, 3), np.uint8), sparse, "relative", 3.0)
    assert x.shape == (8, 8, 8)
    smooth, nearest, lacks, distance, at = x[3:]
    assert nearest[0, 1] == pytest.approx(np.log(0.5)) and nearest[0, 5] == pytest.approx(0)
    known = sparse > 0
    assert np.array_equal(at > 0, known) and not lacks[~known].any()
    np.testing.assert_allclose((smooth + lacks)[known], np.log(sparse[known] / 2), atol=1e-6)
    assert distance[0, 0] == 0 and distance[0, 2] == pytest.approx((2 / FAR) ** 0.5, rel=0.02)
    # Without points: the mean depth of the training images, whose median is the unit.
    assert scene_unit(None, "relative", [[2.0, 4.0, 8.0]]) == 4.0
    assert scene_unit(sparse * 0, "relative", 3.0) == 3.0
    x = assemble(np.zeros((1, 3, 3), np.uint8), None, "relative", [[2.0, 4.0, 8.0]])
    np.testing.assert_allclose(x[3, 0], np.log([0.5, 1, 2]), atol=1e-6)
    assert (x[6] == 1).all() and not x[7].any()
    # Of other inputs the unit is the metre.
    assert scene_unit(sparse, "smooth", 3.0) == 1.0


def test_a_scene_twice_as_large_works_the_same(estimate):
    rgb, sparse = scene()
    one, two = estimate(rgb, sparse, CAMERA), estimate(rgb, 2 * sparse, CAMERA)
    assert np.ptp(one.depth) > 0.1
    np.testing.assert_allclose(two.depth, 2 * one.depth, rtol=1e-4)
    np.testing.assert_allclose(two.confidence, one.confidence, atol=1e-3)


def test_far_beyond_the_points_there_is_no_depth(estimate):
    settings = estimate.settings
    assert settings.valid_range(None) == (settings.min_depth, settings.max_depth)
    assert settings.valid_range(15.0) == (15.0 / REACH, 15.0 * REACH)  # a street, not a room
    absolute = networks.NetworkSettings()
    assert absolute.valid_range(15.0) == (0.1, 10.0)


def test_without_points_it_answers_in_metres(estimate):
    rgb, sparse = scene()
    found = estimate(rgb, None, CAMERA)
    assert (found.depth > 0).mean() > 0.9 and 0.5 < np.median(found.depth[found.depth > 0]) < 9
    again = estimate(rgb, sparse * 0, CAMERA)
    assert np.array_equal(found.depth, again.depth)


def test_every_pixel_may_take_its_neighbours_depth():
    depth = torch.arange(12 * 14.0).reshape(1, 1, 12, 14)
    taken = neighbours(depth)
    assert taken.shape == (1, len(TAPS), 12, 14) and len(set(TAPS)) == 17
    for k, (row, column) in enumerate(TAPS):
        y, x = min(max(6 + row, 0), 11), min(max(3 + column, 0), 13)  # the border is repeated
        assert taken[0, k, 6, 3] == depth[0, 0, y, x]


def test_both_networks_begin_at_what_they_are_given():
    torch.manual_seed(0)
    one, two = CorrectionUNet().eval(), EdgeGenerator().eval()
    with torch.no_grad():
        assert one(torch.randn(1, 8, 48, 64)).abs().max() < 0.1
        flat = torch.full((1, 1, 48, 64), 0.3)
        out = two(torch.cat((flat, torch.randn(1, 6, 48, 64)), dim=1))
    assert (out[:, :1] - flat).abs().max() < 0.1 and out.shape == (1, 2, 48, 64)


def test_its_own_confidence_is_believed_until_it_is_calibrated(estimate):
    depth = np.full((6, 8), 2.0, np.float32)
    logit = np.linspace(-3, 3, 48, dtype=np.float32).reshape(6, 8)
    found = Confidence()(depth, depth, None, logit)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logit)), rtol=1e-5)
    fitted = {name: [0.0] * len(FEATURES) for name in ("points", "no_points")}
    fitted["no_points"][FEATURES.index("network")] = 2.0
    found = Confidence(fitted)(depth, depth, None, logit)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-2 * logit)), rtol=1e-5)
    # It reaches the estimate: another logit, another confidence.
    rgb, sparse = scene()
    assert np.ptp(estimate(rgb, sparse, CAMERA).confidence) > 0.01


def test_a_calibration_from_before_networks_had_their_own_still_counts():
    _, checkpoint = networks.load("default")
    path = checkpoint.path.with_name(f"{checkpoint.name}.confidence.json")
    content = json.loads(path.read_text())
    found = Confidence.of(checkpoint)
    assert found.calibrated and "network" not in content["features"]
    for name, weights in content["weights"].items():
        np.testing.assert_allclose(found.weights[name][: len(weights)], weights, rtol=1e-6)
        assert found.weights[name][len(weights) :].tolist() == [0.0]


def test_a_third_stage_cannot_follow_a_guided_one():
    spec = networks.architecture("anchored", 1 / 4)
    with pytest.raises(
        ValueError, match="stage_three: expected none after a stage two that is gui"
    ):
        networks.build({**spec, "stage_three": spec["stage_two"]})


def test_it_is_trained_by_its_recipe(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("rgb", "depth"):
        (tmp_path / "data" / "train" / kind).mkdir(parents=True)
    for index in range(8):
        depth = np.full((120, 160), 3000, np.uint16)
        depth[:, 40 + 8 * index :] = 1500  # a wall and something before it, seen in the image
        rgb = np.dstack([depth // 20] * 3).astype(np.uint8)
        rgb += rng.integers(0, 20, rgb.shape, np.uint8)
        cv2.imwrite(str(tmp_path / "data" / "train" / "depth" / f"{index:04d}.png"), depth)
        cv2.imwrite(str(tmp_path / "data" / "train" / "rgb" / f"{index:04d}.jpg"), rgb)
    changes: dict = {
        **{"width": 1 / 8, "input_size": [60, 80], "refined_size": [60, 80], "precision": "fp32"},
        **{"data.root": str(tmp_path / "data"), "data.validation_limit": 0, "budget": 240},
        **{f"sparse.{name}": 0.0 for name in ("none", "beams", "corners", "clusters", "half")},
        **{"sparse.samples": [50, 50], "sparse.corruption": {"outliers": 0.0, "shift": 0.0}},
    }
    run = Run(recipes.load("anchored", changes), tmp_path / "run")
    path = run.train()
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    first, last = ([e for e in lines if e["stage"] == "stage_one"][i]["relative"] for i in (0, -1))
    assert last < first
    two = [entry for entry in lines if entry["stage"] == "stage_two"]
    assert {"adversarial", "relative", "confidence", "discriminator"} <= two[-1].keys()
    model, checkpoint = networks.load(str(path))
    assert model.confident and checkpoint.facts["architecture"]["settings"]["mean_depth"] != 2.8
