# SPDX-License-Identifier: Apache-2.0
"""Depth by the image alone: the network, how points correct it, and the shipped one."""

import cv2
import numpy as np
import pytest
import torch

from depth_two_stage import networks
from depth_two_stage.datasets.sparse import SparsePattern
from depth_two_stage.depth_prior import MOST, NEAR, DepthPrior, expecting, mirrored
from depth_two_stage.framing import Framing
from depth_two_stage.networks.inputs import (
    DISTANCE,
    LACK,
    NEAREST,
    POINTS,
    SMOOTH,
    assemble,
)
from depth_two_stage.networks.prior import PriorNetwork, Rough
from depth_two_stage.runtimes import ENGINES

SIZE = (60, 80)
WHOLE = Framing.fit(SIZE, SIZE)
COLOURS = slice(0, 3)


def given(count, depth=None):
    """An input with so many points of a slope from 1 m to 3 m."""
    rng = np.random.default_rng(3)
    depth = slope() if depth is None else depth
    sparse = np.zeros(SIZE, np.float32)
    places = rng.choice(sparse.size, count, replace=False)
    sparse.ravel()[places] = depth.ravel()[places]
    return assemble(rng.integers(0, 255, (*SIZE, 3), np.uint8), sparse, "relative", 2.0)


def slope():
    return np.repeat(np.linspace(1, 3, SIZE[0], dtype=np.float32)[:, None], SIZE[1], axis=1)


@pytest.mark.parametrize("size", [(60, 80), (61, 83), (33, 47)])
def test_it_answers_for_every_pixel(size):
    torch.manual_seed(0)
    network = PriorNetwork().eval()
    x = torch.randn(2, 8, *size)
    with torch.no_grad():
        log = network(x)
        assert log.shape == (2, 1, *size) and log.isfinite().all()
        assert network.rough(x).shape[-2:] == tuple(-(-side // 8) for side in size)
        x[:, 3:] = 0.0  # points are not its business
        assert torch.equal(network(x), log)


def test_what_is_far_away_in_the_image_counts():
    """Also beyond what convolutions reach, by the mean at the deepest level."""
    torch.manual_seed(0)
    network = PriorNetwork(widths=(4, 8)).eval().double()
    x = torch.randn(1, 3, 64, 640, dtype=torch.float64)
    other = x.clone()
    other[..., :16] += 1.0
    with torch.no_grad():
        assert (network(x) - network(other))[..., -16:].abs().min() > 0
        network.whole[-1].weight.zero_()
        assert not (network(x) - network(other))[..., -16:].any()


def test_widths_are_two_at_least():
    with pytest.raises(ValueError, match=r"widths: expected two levels at least, got \(8,\)"):
        PriorNetwork(widths=(8,))


def test_without_points_it_is_all_that_is_known():
    x, prior = given(0), np.log(slope())
    found = expecting(x, prior)
    for channel in (SMOOTH, NEAREST):
        np.testing.assert_array_equal(found[channel], prior)
    assert (found[DISTANCE] == NEAR).all() and not found[[LACK, POINTS]].any()
    np.testing.assert_array_equal(found[COLOURS], x[COLOURS])
    assert (x[DISTANCE] == 1).all()  # what came in is as it was


def test_points_keep_their_depth_and_take_its_scale_away():
    x, prior = given(2), np.log(slope()) ** 2
    found, other = expecting(x, prior), expecting(x, prior + 1.5)
    np.testing.assert_allclose(found, other, atol=1e-5)
    at = x[POINTS] > 0
    np.testing.assert_allclose((found[SMOOTH] + found[LACK])[at], (x[SMOOTH] + x[LACK])[at], 1e-5)
    assert not found[LACK][~at].any()
    np.testing.assert_allclose(found[NEAREST][at], x[NEAREST][at], atol=1e-5)
    np.testing.assert_array_equal(found[POINTS], x[POINTS])
    np.testing.assert_array_equal(found[DISTANCE], np.minimum(x[DISTANCE], NEAR))
    assert x[DISTANCE].max() > NEAR


@pytest.mark.parametrize("count", [1, 2, 30])
def test_points_that_agree_with_it_leave_its_shape(count):
    """Of a prior of the right shape and three times the scale one point makes the right depth."""
    x, prior = given(count), np.log(3 * slope())
    found = expecting(x, prior)
    rows, columns = np.nonzero(x[POINTS])
    np.testing.assert_allclose(found[NEAREST], found[SMOOTH], atol=1e-4)
    unit = np.log(slope()[rows[0], columns[0]]) - (x[SMOOTH] + x[LACK])[rows[0], columns[0]]
    np.testing.assert_allclose(found[SMOOTH] + unit, np.log(slope()), atol=1e-4)
    assert np.abs(x[SMOOTH] + unit - np.log(slope())).max() > 0.1  # interpolation alone is not


def test_points_that_depart_from_it_move_their_surroundings_no_farther_than_they_lie():
    prior = np.zeros(SIZE, np.float32)
    x = given(20)
    found = expecting(x, prior)
    depth = (x[SMOOTH] + x[LACK])[x[POINTS] > 0]
    assert found[SMOOTH].min() >= depth.min() - 1e-6
    assert found[SMOOTH].max() <= depth.max() + 1e-6


def test_of_many_points_the_image_is_not_asked():
    asked = []

    def rough(x):
        asked.append(x.shape)
        return (np.zeros((8, 10), np.float32),)

    many = given(MOST)[None]
    assert DepthPrior(lambda: rough)(many, WHOLE) is many and not asked
    few = given(MOST - 1)[None]
    found = DepthPrior(lambda: rough)(few, WHOLE)
    assert asked == [(1, 8, *SIZE)] and found.shape == few.shape


@pytest.mark.parametrize("count", [0, 1, 32, 96])
def test_the_more_points_the_less_it_counts(count):
    x, prior = given(count)[None], np.linspace(-1, 1, 80, dtype=np.float32).reshape(8, 10)
    found = DepthPrior(lambda: lambda x: (prior,))(x, WHOLE)[0]
    whole = cv2.resize(prior, SIZE[::-1]) * np.float32(1 - count / MOST)
    np.testing.assert_allclose(found, expecting(x[0], whole), atol=1e-6)


def test_depth_does_not_jump_where_it_is_asked_no_more():
    """With one point fewer than `MOST` the interpolations are nearly those without it."""
    x = given(MOST - 1)[None]
    prior = np.linspace(-1, 1, 80, dtype=np.float32).reshape(8, 10)
    found = DepthPrior(lambda: lambda x: (prior,))(x, WHOLE)
    for channel in (SMOOTH, NEAREST):
        assert np.abs(found[0, channel] - x[0, channel]).max() < 0.05


@pytest.mark.parametrize("size", [(180, 320), (120, 90)])
def test_round_a_wide_or_high_image_it_sees_its_mirror_image(size):
    x, framing = given(5)[None], Framing.fit(size, SIZE)
    h, w = framing.content_size
    assert (h, w) != SIZE and mirrored(x, WHOLE) is x
    found, (top, left) = mirrored(x, framing), (framing.top, framing.left)
    rows, columns = slice(top, top + h), slice(left, left + w)
    inside = x[0, :3, rows, columns]
    np.testing.assert_array_equal(found[0, :3, rows, columns], inside)
    np.testing.assert_array_equal(found[:, 3:], x[:, 3:])
    if top:
        np.testing.assert_array_equal(found[0, :3, :top], inside[:, top - 1 :: -1])
    if left:
        np.testing.assert_array_equal(found[0, :3, :, :left], inside[:, :, left - 1 :: -1])


def test_it_expects_depth_of_networks_of_relative_depth():
    spec = networks.architecture("fcrn18-rgbd") | {"prior": {"name": "prior_network"}}
    with pytest.raises(ValueError, match=r"prior: expected sparse_input relative, got 'zeros'"):
        networks.build(spec)


def test_a_model_without_such_a_network_is_not_asked():
    assert DepthPrior.of(networks.build("fcrn18-rgb"), None, None) is None


def rmse(depth, truth):
    return np.sqrt(np.mean((depth - truth)[truth > 0] ** 2))


def test_the_shipped_one_knows_more_of_rooms_than_their_mean(estimator, val):
    """Without points: the rooms' depth, and its shape, beside one number for all pixels."""
    ours, mean, shape, flat = [], [], [], []
    for index in range(0, len(val), 8):
        sample = val[index]
        known = sample.depth > 0
        depth = estimator(sample.rgb, None, sample.camera).depth
        truth, middle = sample.depth[known], np.median(sample.depth[known])
        ours.append(rmse(depth, sample.depth))
        mean.append(rmse(np.full_like(depth, 2.75), sample.depth))
        shape.append(rmse(depth * (middle / np.median(depth[known])), sample.depth))
        flat.append(np.sqrt(np.mean((middle - truth) ** 2)))
    assert np.mean(ours) < 0.97 * np.mean(mean)
    assert np.mean(shape) < 0.95 * np.mean(flat)


@pytest.mark.parametrize("count", [1, 8])
def test_a_few_points_are_worth_more_with_it(estimator, val, monkeypatch, count):
    """As a mean over rooms, the more so the fewer they are."""
    pattern = SparsePattern.parse(f"bernoulli:{count}")
    ours, without = [], []
    for index in range(0, len(val), 8):
        sample = val[index]
        sparse = pattern(sample, np.random.default_rng(index))
        for errors, asked in ((ours, True), (without, False)):
            monkeypatch.setattr(estimator, "prior", asked)
            errors.append(rmse(estimator(sample.rgb, sparse, sample.camera).depth, sample.depth))
    assert np.mean(ours) < np.mean(without)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_every_engine_expects_the_same(engine, val):
    """In the engine's own arithmetic: logarithms of depth to a hundredth in the median."""
    pytest.importorskip(engine)
    model, _ = networks.load("default")
    settings = model.settings
    rgb = cv2.resize(val[0].rgb, settings.input_size[::-1], interpolation=cv2.INTER_AREA)
    x = assemble(rgb, None, settings.sparse_input, settings.mean_depth)[None]
    with torch.no_grad():
        ours = model.prior.rough(torch.from_numpy(x))[0, 0].numpy()
    (its,) = ENGINES[engine](Rough(model.prior), x, "cpu", "auto", 1)(x)
    assert its.shape == ours.shape
    assert np.median(np.abs(its - ours)) < 0.01
