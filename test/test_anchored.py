# SPDX-License-Identifier: Apache-2.0
"""`anchored`: depth in units of the scene, its spreading over the image, its own confidence."""

import json

import cv2
import numpy as np
import pytest
import torch

from depth_two_stage import estimator, networks, recipes
from depth_two_stage.camera import Camera
from depth_two_stage.confidence import FEATURES, Confidence
from depth_two_stage.networks.anchored import DiffusionUNet, EdgeGenerator
from depth_two_stage.networks.inputs import FAR, LACK, POINTS, REACH, SMOOTH, assemble, scene_unit
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


def edge():
    """A bright half at twice the depth of the dark one, four points on each: x (1, 8, 48, 64)."""
    rgb = np.zeros((48, 64, 3), np.uint8)
    rgb[:, 32:] = 200
    sparse = np.zeros((48, 64), np.float32)
    for row in (6, 18, 30, 42):
        sparse[row, 12], sparse[row, 51] = 1.0, 2.0
    return torch.from_numpy(assemble(rgb, sparse, "relative", 3.0))[None], rgb[..., 0] > 0


def test_a_new_network_spreads_points_up_to_the_edges_of_the_image():
    x, bright = edge()
    with torch.no_grad():
        depth = x[0, SMOOTH] + torch.nn.functional.interpolate(
            DiffusionUNet().eval()(x), (48, 64), mode="bilinear", align_corners=False
        )
    truth = np.where(bright, np.log(2 / 1.5), np.log(1 / 1.5))  # in units of the median
    error, before = (np.abs(y.numpy() - truth) for y in (depth[0, 0], x[0, SMOOTH]))
    beside = np.s_[:, 26:38]
    assert before[beside].mean() > 0.2 and error[beside].mean() < 0.6 * before[beside].mean()
    assert error.mean() < 0.6 * before.mean()


def test_a_new_second_stage_keeps_depth_but_at_the_points():
    torch.manual_seed(0)
    two = EdgeGenerator().eval()
    flat = torch.full((1, 1, 47, 63), 0.3)
    guide = torch.randn(1, 7, 47, 63)
    guide[:, 3:5] = guide[:, 6:] = 0  # no point
    with torch.no_grad():
        out = two(torch.cat((flat, guide), dim=1))
        assert out.shape == (1, 2, 47, 63) and (out[:, :1] - flat).abs().max() < 0.02
        guide[:, 4, 20, 20], guide[:, 6, 20, 20] = 0.6 * np.log(REACH), 1
        out = two(torch.cat((flat, guide), dim=1))
    assert out[0, 0, 20, 20] == pytest.approx(0.6, abs=0.1)
    assert (out[0, 0, 40:] - 0.3).abs().max() < 0.02
    assert two.guides.index(LACK) == 4 and two.guides.index(POINTS) == 6


def test_steps_and_levels_have_to_fit():
    with pytest.raises(ValueError, match="widths, steps: expected two levels at least"):
        DiffusionUNet(widths=(8, 8, 8), steps=(4,))


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


def test_a_calibration_from_before_a_feature_still_counts(weights):
    _, checkpoint = networks.load(str(weights))
    path = checkpoint.path.with_name(f"{checkpoint.name}.confidence.json")
    old = {name: [0.5] * (len(FEATURES) - 1) for name in ("points", "no_points")}
    content = {"checksum": checkpoint.checksum, "features": FEATURES[:-1], "weights": old}
    path.write_text(json.dumps(content))
    try:
        found = Confidence.of(checkpoint)
    finally:
        path.unlink()
    assert found.calibrated
    for chosen in found.weights.values():
        assert chosen.tolist() == [*[0.5] * (len(FEATURES) - 1), 0.0]


def test_the_shipped_calibration_knows_the_networks_own():
    found = Confidence.of(networks.load("default")[1])
    assert found.calibrated and found.weights["points"][FEATURES.index("network")] > 0


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
        **{"prior.batch": 8},
        **{f"sparse.{name}": 0.0 for name in ("none", "beams", "corners", "clusters", "half")},
        **{"sparse.samples": [50, 50], "sparse.corruption": {"outliers": 0.0, "shift": 0.0}},
    }
    run = Run(recipes.load("anchored", changes), tmp_path / "run")
    path = run.train()
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    first, last = (
        [e for e in lines if e["stage"] == "stage_one"][i]["relative_log"] for i in (0, -1)
    )
    assert last < first
    two = [entry for entry in lines if entry["stage"] == "stage_two"]
    assert {"adversarial", "relative_log", "confidence", "discriminator"} <= two[-1].keys()
    model, checkpoint = networks.load(str(path))
    assert model.confident and checkpoint.facts["architecture"]["settings"]["mean_depth"] != 2.8
