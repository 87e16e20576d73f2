# SPDX-License-Identifier: Apache-2.0
"""The estimator's geometry, on a network with random weights: these hold for any network."""

import numpy as np
import pytest
import torch
from narrow_network import SPEC, narrow_weights

from depth_two_stage import networks
from depth_two_stage.camera import Camera
from depth_two_stage.estimator import DepthEstimator

CAMERA = Camera(640, 480, 518.858, 519.470, 325.582, 253.736)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return narrow_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def estimator(weights):
    return DepthEstimator(weights, device="cpu", engine="torch", threads=1)


def view(size=(480, 640), seed=0, n=200):
    """Return a smooth image, a slanted surface and `n` points of it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    y, x = y / size[0], x / size[1]
    channels = [np.sin(9 * x + a) * np.cos(7 * y + b) for a, b in rng.uniform(0, 6, (3, 2))]
    rgb = (127 + 100 * np.stack(channels, axis=-1)).astype(np.uint8)
    truth = (2 + 2 * y + x).astype(np.float32)
    sparse = np.where(rng.random(size) < n / truth.size, truth, 0).astype(np.float32)
    return rgb, truth, sparse


@pytest.mark.parametrize("zoom", [0.7, 1.0, 1.4])
@pytest.mark.parametrize("points", [True, False])
@pytest.mark.parametrize("anchor", ["none", "scale", "residual"])
def test_depth_goes_with_the_focal_length(estimator, zoom, points, anchor):
    """The same pixels through a lens of `zoom` × focal length show a scene `zoom` × as far."""
    rgb, _, sparse = view()
    lens = Camera(640, 480, CAMERA.fx * zoom, CAMERA.fy * zoom, CAMERA.cx, CAMERA.cy)
    estimator.anchor = anchor
    a = estimator(rgb, sparse if points else None, CAMERA)
    b = estimator(rgb, sparse * np.float32(zoom) if points else None, lens)
    estimator.anchor = "residual"
    assert (a.depth > 0).mean() > 0.9
    np.testing.assert_allclose(b.depth, a.depth * zoom, rtol=1e-3)
    np.testing.assert_allclose(b.coarse, a.coarse * zoom, rtol=1e-3)
    np.testing.assert_allclose(b.confidence, a.confidence, atol=1e-3)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_resolution_does_not_matter(estimator, scale):
    """The same view with more or fewer pixels gives the same depth."""
    size = (int(480 * scale), int(640 * scale))
    a = estimator(view()[0], None, CAMERA)
    b = estimator(view(size)[0], None, CAMERA.resized(size[1], size[0]))
    step = a.depth[100::100, 100::100], b.depth[int(100 * scale) :: int(100 * scale)]
    np.testing.assert_allclose(step[1][:, int(100 * scale) :: int(100 * scale)], step[0], rtol=0.03)


@pytest.mark.parametrize(
    "size", [(480, 640), (375, 1242), (640, 480), (101, 333), (61, 79), (1080, 1920)]
)
def test_any_size_is_covered_whole(estimator, size):
    rgb, truth, sparse = view(size)
    focal = 0.85 * size[1]
    camera = Camera(size[1], size[0], focal, focal, size[1] / 2, size[0] / 2)
    estimate = estimator(rgb, sparse, camera)
    for image in (estimate.depth, estimate.coarse, estimate.confidence):
        assert image.shape == size and image.dtype == np.float32
    assert np.abs(estimate.depth / truth - 1).max() < 0.3  # up to the corners
    assert np.median(np.abs(estimate.depth / truth - 1)) < 0.05
    assert estimate.confidence.min() >= 0 and estimate.confidence.max() <= 1
    assert estimate.scale_residual < 0.05


def test_no_points_and_no_points_in_view_answer_alike(estimator):
    rgb, _, sparse = view()
    a, b = estimator(rgb, None, CAMERA), estimator(rgb, sparse * 0, CAMERA)
    np.testing.assert_array_equal(a.depth, b.depth)
    np.testing.assert_array_equal(a.confidence, b.confidence)
    assert (a.depth > 0).all() and a.scale_residual == b.scale_residual == 0


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_few_points_answer(estimator, n):
    rgb, truth, _ = view()
    sparse = np.zeros_like(truth)
    sparse[240, 100 : 100 + n * 100 : 100] = truth[240, 100 : 100 + n * 100 : 100]
    estimate = estimator(rgb, sparse, CAMERA)
    assert np.isfinite(estimate.depth).all() and (estimate.depth > 0).mean() > 0.5


@pytest.mark.parametrize("anchor", ["none", "scale", "residual"])
def test_a_few_wrong_points_do_no_harm(estimator, anchor):
    """The network sees the points before anchoring does: it must not see the wrong ones."""
    rgb, truth, sparse = view()
    wrong = np.flatnonzero(sparse)[::25]
    spoilt = sparse.copy()
    spoilt.flat[wrong] = np.resize([0.4, 9.5], len(wrong))
    estimator.anchor = anchor
    a, b = estimator(rgb, sparse, CAMERA), estimator(rgb, spoilt, CAMERA)
    estimator.anchor = "residual"
    errors = [np.sqrt(np.mean((e.depth - truth) ** 2)) for e in (a, b)]
    assert errors[1] < 1.3 * errors[0]
    assert b.scale_residual < 1.5 * a.scale_residual + 1e-3


def test_the_same_frame_gives_the_same_answer(estimator):
    rgb, _, sparse = view()
    a, b = estimator(rgb, sparse, CAMERA), estimator(rgb, sparse, CAMERA)
    np.testing.assert_array_equal(a.depth, b.depth)
    np.testing.assert_array_equal(a.confidence, b.confidence)


@pytest.mark.parametrize("anchor", ["none", "scale", "residual"])
@pytest.mark.parametrize("far", [12.0, 40.0, 100.0])
def test_outside_the_valid_range_there_is_no_depth(estimator, anchor, far):
    """Beyond the network's 10 m (canonical) the answer is none, not something near 10 m."""
    rgb, truth, _ = view()
    truth[:, 320:] = far
    sparse = np.where(np.random.default_rng(0).random(truth.shape) < 0.003, truth, 0)
    estimator.anchor = anchor
    estimate = estimator(rgb, sparse.astype(np.float32), CAMERA)
    estimator.anchor = "residual"
    assert (estimate.depth[:, 340:] == 0).mean() > 0.95
    assert (estimate.confidence[estimate.depth == 0] == 0).all()
    assert (estimate.depth[:, :280] > 0).mean() > 0.95
    assert np.median(np.abs(estimate.depth / truth - 1)[:, :280]) < 0.1


def test_every_step_is_timed(estimator):
    timings = estimator(*view()[::2], CAMERA).timings_ms
    assert list(timings) == ["prepare", "network", "anchor", "confidence", "total"]
    assert sum(timings.values()) == pytest.approx(2 * timings["total"])


def test_the_door_names_what_is_wrong(estimator):
    rgb, _, sparse = view()
    bad = np.where(sparse > 0, np.float32(np.nan), 0).astype(np.float32)
    cases = [
        ((rgb.astype(np.float32), None, CAMERA), "rgb: expected uint8"),
        ((rgb[..., 0], None, CAMERA), "rgb: expected uint8 .H, W, 3."),
        ((rgb[:0], None, CAMERA), "rgb: expected"),
        ((rgb[:100], None, CAMERA), "camera: expected the image's size .100, 640., got .480, 640."),
        ((rgb, sparse[:100], CAMERA), "sparse: expected float32 .480, 640."),
        ((rgb, sparse.astype(np.float64), CAMERA), "sparse: expected float32"),
        ((rgb, bad, CAMERA), "sparse: expected finite metres"),
        ((rgb, sparse - 1, CAMERA), "sparse: expected finite metres"),
        ((rgb, sparse + np.float32(np.inf), CAMERA), "sparse: expected finite metres"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            estimator(*arguments)


def test_what_is_in_use_is_told(estimator, weights):
    assert (estimator.engine, estimator.precision, estimator.device) == ("torch", "fp32", "cpu")
    assert estimator.model_name == "narrow" and len(estimator.checksum) == 16
    with pytest.raises(ValueError, match="anchor: expected one of"):
        DepthEstimator(weights, anchor="glue")
    with pytest.raises(ValueError, match="anchor: expected one of"):
        estimator.anchor = "glue"


def test_rgb_only_network_takes_points_for_anchoring(tmp_path):
    spec = {**SPEC, "settings": {"sparse_input": "none"}}
    torch.manual_seed(1)
    model = networks.build(spec)
    with torch.no_grad():
        model.stage_one.predict.bias.fill_(3.0)
    path = tmp_path / "rgb.safetensors"
    networks.save(path, model, spec, {})
    estimator = DepthEstimator(str(path), device="cpu", engine="torch")
    rgb, truth, sparse = view()
    plain, anchored = estimator(rgb, None, CAMERA), estimator(rgb, sparse, CAMERA)
    error = [np.median(np.abs(e.depth - truth)) for e in (plain, anchored)]
    assert error[1] < 0.3 * error[0]


@pytest.mark.parametrize("wrong", [0.01, 12.0, 50.0, 1000.0])
@pytest.mark.parametrize("others", [0, 3, 100])
def test_a_single_point_outside_the_valid_range_takes_at_most_its_surroundings(
    estimator, wrong, others
):
    rgb, _, sparse = view(n=others)
    alone = estimator(rgb, sparse, CAMERA)
    assert (alone.depth > 0).mean() > 0.9
    spoilt = sparse.copy()
    spoilt[240, 320] = wrong
    estimate = estimator(rgb, spoilt, CAMERA)
    row, column = np.mgrid[:480, :640]
    away = np.hypot(row - 240, column - 320) > 640 / 20 + 1
    np.testing.assert_array_equal(estimate.depth[away], alone.depth[away])
    np.testing.assert_array_equal(estimate.coarse[away], alone.coarse[away])
    np.testing.assert_array_equal(estimate.confidence[away], alone.confidence[away])
    # Of a hundred others none agrees with it; three cannot tell.
    assert (alone.left_out, estimate.left_out) == (0, int(others == 100))
    if others < 100:  # many others outvote it
        assert (estimate.depth[240, 320] > 0) == (wrong < 1)


def test_what_is_left_out_and_what_is_corrected_is_counted(estimator, monkeypatch):
    rgb, _, sparse = view(n=200)

    def corrects(image, framing, points):
        rows, columns = np.nonzero(points)
        points = points.copy()
        points[rows[:3], columns[:3]] = 0
        points[rows[3:8], columns[3:8]] *= 1.01
        return points

    monkeypatch.setattr(estimator, "outliers", corrects)
    found = estimator(rgb, sparse, CAMERA)
    assert (found.left_out, found.corrected) == (3, 5)
    monkeypatch.setattr(estimator, "outliers", lambda image, framing, points: 0 * points)
    found = estimator(rgb, sparse, CAMERA)  # then it is as if there were none
    assert found.left_out == np.count_nonzero(sparse) and found.corrected == 0
    np.testing.assert_array_equal(found.depth, estimator(rgb, None, CAMERA).depth)


def test_warming_up_changes_no_answer_and_goes_through_every_step(estimator, monkeypatch):
    rgb, _, sparse = view()
    before = estimator(rgb, sparse, CAMERA)
    seen = []
    call = DepthEstimator.__call__
    monkeypatch.setattr(
        DepthEstimator, "__call__", lambda *given: seen.append(call(*given)) or seen[-1]
    )
    estimator.warm_up()
    made_up, without = seen
    # With points: what they need is imported then, too.
    assert made_up.depth.shape == estimator.settings.input_size and made_up.depth.any()
    assert {"prepare", "network", "anchor", "confidence", "total"} <= made_up.timings_ms.keys()
    assert made_up.scale_residual > 0 and without.depth.any()
    after = estimator(rgb, sparse, CAMERA)
    assert np.array_equal(before.depth, after.depth)
    assert np.array_equal(before.confidence, after.confidence)
