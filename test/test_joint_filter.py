# SPDX-License-Identifier: Apache-2.0
"""The joint filter of anchored depth: the network, what it is shown, and the shipped one."""

import numpy as np
import pytest
import torch

from depth_two_stage import networks
from depth_two_stage.boundaries import BoundaryErrors
from depth_two_stage.datasets.sparse import SparsePattern
from depth_two_stage.depth_filter import FEWEST, JointFilter, seen
from depth_two_stage.framing import Framing
from depth_two_stage.networks.inputs import LACK, POINTS, SMOOTH, assemble
from depth_two_stage.networks.joint_filter import (
    ABOVE,
    CHANNELS,
    DEPARTS,
    STEP,
    TIED,
    JointFilterNetwork,
)
from depth_two_stage.runtimes import ENGINES
from depth_two_stage.scan_band import scan_band

SIZE = (60, 80)


def frame(count=FEWEST, scale=1.0):
    """Input, answers and the logarithm of anchored depth of a step from 1 m to 3 m."""
    rng = np.random.default_rng(3)
    depth = np.where(np.arange(SIZE[1]) < 41, 1.0, 3.0).astype(np.float32)
    depth = np.repeat(depth[None], SIZE[0], axis=0) * np.float32(scale)
    sparse = np.zeros(SIZE, np.float32)
    places = rng.choice(sparse.size, count, replace=False)
    sparse.ravel()[places] = depth.ravel()[places]
    x = assemble(rng.integers(0, 255, (*SIZE, 3), np.uint8), sparse, "relative", 2.0)
    depth = depth / np.float32(np.median(sparse[sparse > 0]))
    noise = (np.exp(rng.normal(0, 0.05, SIZE)).astype(np.float32) for _ in range(2))
    coarse, refined = (depth * each for each in noise)
    return x, coarse, refined, rng.normal(size=SIZE).astype(np.float32), np.log(depth)


def network(**changes):
    torch.manual_seed(0)
    return JointFilterNetwork(**changes).eval()


@pytest.mark.parametrize("size", [(60, 80), (61, 83), (33, 47)])
def test_it_answers_for_every_pixel_and_untrained_changes_little(size):
    shown = torch.randn(2, CHANNELS, *size)
    with torch.no_grad():
        change = network()(shown)
    assert change.shape == (2, 1, *size) and change.isfinite().all()
    kernel = np.exp(4) / (np.exp(4) + 10)
    assert change.abs().max() < 1.2 * (1 - kernel) * 8  # of candidates some deviations away


@pytest.mark.parametrize(
    ("candidate", "offset"),
    [(1, (-STEP, -STEP)), (2, (-STEP, 0)), (5, (0, STEP)), (8, (STEP, STEP))],
)
def test_a_pixel_may_take_its_neighbours_depth(candidate, offset):
    """Kernels are told apart by place: what lies ``offset`` (rows, columns) from a pixel."""
    filtering, shown = network(), torch.randn(1, CHANNELS, 32, 40)
    with torch.no_grad():
        filtering.out.weight.zero_()
        filtering.out.bias.zero_()
        filtering.out.bias[4 * candidate : 4 * candidate + 4] = 60.0
        depth = (shown[:, TIED] + filtering(shown)[:, 0])[0].numpy()
    own = shown[0, TIED].numpy()
    rows, columns = np.clip(np.arange(32) + offset[0], 0, 31), np.arange(40) + offset[1]
    expected = own[rows][:, np.clip(columns, 0, 39)]
    np.testing.assert_allclose(depth, expected, atol=1e-5)


def test_a_pixel_may_take_the_mean_around_it_or_the_smooth_interpolation():
    filtering, shown = network(), torch.randn(1, CHANNELS, 32, 40)
    own = shown[0, TIED]
    window = own[10 - 4 : 10 + 5, 20 - 4 : 20 + 5].mean()
    for candidate, expected in ((9, window), (10, (own - shown[0, DEPARTS] / ABOVE)[10, 20])):
        with torch.no_grad():
            filtering.out.weight.zero_()
            filtering.out.bias.zero_()
            filtering.out.bias[4 * candidate : 4 * candidate + 4] = 60.0
            depth = (own + filtering(shown)[0, 0])[10, 20]
        assert float(depth) == pytest.approx(float(expected), abs=1e-5)


def test_widths_are_two_at_least():
    with pytest.raises(ValueError, match=r"widths: expected two levels at least, got \(8,\)"):
        JointFilterNetwork(widths=(8,))


def test_what_is_shown_has_no_scale():
    shown = seen(*frame())
    assert shown.shape == (CHANNELS, *SIZE) and shown.dtype == np.float32
    np.testing.assert_allclose(seen(*frame(scale=7.0)), shown, atol=1e-4)


def test_what_is_shown_says_what_anchoring_left():
    x, coarse, refined, logit, tied = frame()
    shown = seen(x, coarse, refined, logit, tied)
    at = x[POINTS] > 0
    np.testing.assert_allclose(shown[DEPARTS] / ABOVE, tied - x[SMOOTH], atol=1e-5)
    np.testing.assert_allclose(shown[TIED] + tied.mean(), tied, atol=1e-5)
    np.testing.assert_allclose(shown[9][at], 3 * (x[SMOOTH] + x[LACK] - tied)[at], atol=1e-5)
    assert not shown[9][~at].any()
    np.testing.assert_allclose(shown[5] / 5, tied - np.log(refined), atol=1e-5)


def test_of_few_points_it_is_not_asked():
    asked = []

    def change(shown):
        asked.append(shown.shape)
        return (np.full(SIZE, np.log(1.5), np.float32),)

    framing = Framing.fit(SIZE, SIZE)
    few, *answers, tied = frame(FEWEST - 1)
    assert JointFilter(lambda: change).of_frame(few[None], answers, framing, 2.0) is None
    many, *answers, tied = frame(FEWEST)
    filtered = JointFilter(lambda: change).of_frame(many[None], answers, framing, 2.0)
    np.testing.assert_allclose(filtered(2 * np.exp(tied)), 3 * np.exp(tied), rtol=1e-5)
    assert asked == [(1, CHANNELS, *SIZE)]


@pytest.mark.parametrize("size", [(180, 320), (120, 90)])
def test_a_wide_or_high_image_is_filtered_where_it_lies(size):
    framing = Framing.fit(size, SIZE)
    x, *answers, _ = frame()
    shown = []

    def change(each):
        shown.append(each[0, TIED])
        return (np.where(np.arange(SIZE[1]) < SIZE[1] / 2, 0.0, 1.0)[None].repeat(SIZE[0], 0),)

    depth = np.where(np.arange(size[1]) < size[1] / 2, 1.0, 2.0).astype(np.float32)
    depth = np.repeat(depth[None], size[0], axis=0)
    found = JointFilter(lambda: change).of_frame(x[None], answers, framing, 1.0)(depth)
    assert found.shape == size
    np.testing.assert_allclose(found[:, 0], 1.0, rtol=1e-5)
    np.testing.assert_allclose(found[:, -1], 2 * np.e, rtol=1e-5)
    assert np.ptp(shown[0]) == pytest.approx(np.log(2), abs=1e-5)


def test_it_expects_depth_of_networks_of_relative_depth():
    spec = networks.architecture("fcrn18-rgbd") | {"joint_filter": {"name": "joint_filter_network"}}
    with pytest.raises(ValueError, match=r"joint_filter: expected sparse_input relative, got"):
        networks.build(spec)


def test_a_model_without_such_a_network_is_not_asked():
    assert JointFilter.of(networks.build("fcrn18-rgb"), None, None) is None


def both(estimator, monkeypatch, sample, sparse, **changes):
    """Estimates of a frame without the filter and with it."""
    for name, value in changes.items():
        monkeypatch.setattr(estimator, name, value)
    found = []
    for asked in (False, True):
        monkeypatch.setattr(estimator, "joint_filter", asked)
        found.append(estimator(sample.rgb, sparse, sample.camera))
    return found


def rmse(depth, truth, where):
    return np.sqrt(np.mean((depth - truth)[where & (truth > 0)] ** 2))


def test_the_shipped_one_makes_depth_between_beams_better(estimator, val, monkeypatch):
    """By a twentieth and more as a mean over rooms; edges come to lie no farther off."""
    pattern, errors, edges = SparsePattern.parse("lines:16"), [], BoundaryErrors()
    for index in range(0, len(val), 10):
        sample = val[index]
        sparse = pattern(sample, np.random.default_rng(index))
        without, ours = both(estimator, monkeypatch, sample, sparse)
        band = scan_band(sparse)
        errors.append([rmse(each.depth, sample.depth, band) for each in (without, ours)])
        edges.add({"without": without.depth, "ours": ours.depth}, sample.depth, 640)
    without, ours = np.mean(errors, axis=0)
    assert ours < 0.95 * without
    for name in ("dbe_acc", "dbe_comp"):
        assert edges.result("ours")[name] < edges.result("without")[name] + 0.1


def test_it_is_asked_after_anchoring_to_many_points_alone(estimator, val, monkeypatch):
    sample = val[3]
    for pattern, changes, expected in (
        ("lines:16", {}, True),
        ("lines:16", {"anchor": "scale"}, False),
        ("bernoulli:200", {"anchor": "residual"}, False),
        ("lines:64", {}, False),
    ):
        sparse = SparsePattern.parse(pattern)(sample, np.random.default_rng(0))
        without, ours = both(estimator, monkeypatch, sample, sparse, **changes)
        assert (ours.depth != without.depth).any() == expected
        np.testing.assert_array_equal(ours.coarse, without.coarse)
        np.testing.assert_array_equal(ours.confidence > 0, without.confidence > 0)
        at = (sparse > 0) & (ours.depth > 0)
        left = np.median(np.abs(ours.depth - sparse)[at] / sparse[at])
        assert ours.scale_residual == pytest.approx(left, abs=2e-3)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_every_engine_filters_the_same(engine, estimator, val):
    """In the engine's own arithmetic: changes of log depth to a thousandth in the median."""
    pytest.importorskip(engine)
    model, _ = networks.load("default")
    rng = np.random.default_rng(0)
    shown = rng.normal(size=(1, CHANNELS, *model.settings.input_size)).astype(np.float32)
    with torch.no_grad():
        ours = model.joint_filter(torch.from_numpy(shown))[0, 0].numpy()
    its = JointFilter.of(model, estimator.runtime, np.zeros((1, 8, *shown.shape[2:]), np.float32))
    change = networks.joint_filter.Change(model.joint_filter)
    (its,) = ENGINES[engine](change, shown, "cpu", "auto", 1)(shown)
    assert its.shape == ours.shape
    assert np.median(np.abs(its - ours)) < 0.02 * np.abs(ours).mean() + 1e-3
