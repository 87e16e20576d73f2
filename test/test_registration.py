# SPDX-License-Identifier: Apache-2.0
"""Image and points apart: the network, what is done about it, and the shipped one on recordings."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from depth_two_stage import networks
from depth_two_stage.datasets.photometry import moved
from depth_two_stage.datasets.sparse import SparsePattern
from depth_two_stage.estimator import DepthEstimator
from depth_two_stage.framing import Framing
from depth_two_stage.image_registration import (
    FEWEST,
    ImageOffset,
    ImageRegistration,
)
from depth_two_stage.networks.inputs import POINTS, assemble
from depth_two_stage.networks.registration import (
    REACH,
    TILE,
    RegistrationNetwork,
    gradients,
)


def room(shift=(0, 0), size=(120, 160)):
    """A picture of boxes before a wall, moved by (rows, columns), as the network's input."""
    rng = np.random.default_rng(0)
    depth = np.full(size, 4.0, np.float32)
    rgb = np.full((*size, 3), 90, np.uint8)
    for _ in range(12):
        y, x = rng.integers(20, 90), rng.integers(20, 130)
        depth[y : y + 14, x : x + 12] = rng.uniform(1, 3)
        rgb[y : y + 14, x : x + 12] = rng.integers(0, 255, 3)
    sparse = np.where(rng.random(size) < 0.06, depth, np.float32(0))
    rgb = np.roll(rgb, shift, axis=(0, 1))
    return assemble(rgb, sparse, "relative", 2.0)[None]


def test_slopes_are_sobels():
    image = np.random.default_rng(0).random((20, 30), np.float32)
    found = gradients(torch.from_numpy(image)[None, None])
    for order, each in zip(((1, 0), (0, 1)), found, strict=True):
        right = cv2.Sobel(image, cv2.CV_32F, *order, borderType=cv2.BORDER_REPLICATE) / 8
        np.testing.assert_allclose(each[0, 0].numpy(), np.abs(right), atol=1e-6)


@pytest.mark.parametrize("shift", [(0, 0), (2, 0), (0, -3), (-4, 1)])
def test_untrained_it_already_sees_how_far_edges_are_apart(shift):
    """The evidence that it begins with: gradients of colour where depth jumps."""
    torch.manual_seed(0)
    network = RegistrationNetwork().eval()
    network.prior.data.zero_()
    with torch.no_grad():
        logits = network(torch.from_numpy(room(shift)))[0]
    assert logits.shape == (2 * REACH + 1, 2 * REACH + 1)
    row, column = divmod(int(logits.argmax()), 2 * REACH + 1)
    assert (row - REACH, column - REACH) == pytest.approx(shift, abs=1)


def test_tiles_add_up_to_the_whole():
    torch.manual_seed(0)
    network, x = RegistrationNetwork().eval(), torch.from_numpy(room(size=(101, 151)))
    with torch.no_grad():
        places, logits = network.places(x), network(x)
    assert places.shape[:3] == (1, 3, 5)
    torch.testing.assert_close(places.sum((1, 2)) + network.prior, logits)
    sums = places.abs().sum((0, 3, 4))
    assert sums[1, 2] > 0 and sums[:, -1].max() < sums[1, 2]  # the last are mostly border


def test_points_at_the_border_are_not_asked():
    torch.manual_seed(0)
    network, x = RegistrationNetwork().eval(), torch.from_numpy(room())
    other = x.clone()
    other[:, 3:, :2] = 1.0
    with torch.no_grad():
        torch.testing.assert_close(network(x), network(other), atol=1e-3, rtol=0)


class Says(torch.nn.Module):
    """Says what a test wants of each tile, as sharply as it wants."""

    def __init__(self, row, column, sharp=20.0):
        super().__init__()
        self.prior = torch.zeros(2 * REACH + 1, 2 * REACH + 1)
        self.places = torch.zeros(1, 4, 5, 2 * REACH + 1, 2 * REACH + 1)
        self.places[..., row + REACH, column + REACH] = sharp

    def told(self, image, points):
        return self.places


def registered(network, x):
    nothing = np.zeros((1, 2, 2), np.float32)
    return ImageRegistration(network, lambda x: (nothing, nothing))(x)


def test_what_it_says_is_a_mean_and_how_sure_it_is():
    x = room()
    _, found = registered(Says(2, -1), x)
    assert (found.rows, found.columns) == pytest.approx((2, -1), abs=1e-4)
    assert max(found.rows_deviation, found.columns_deviation) < 0.01
    same, unsure = registered(Says(0, 0, 0.0), x)
    assert (unsure.rows, unsure.columns) == pytest.approx((0, 0), abs=1e-6)
    assert unsure.rows_deviation == pytest.approx(np.sqrt(REACH * (REACH + 1) / 3))
    np.testing.assert_allclose(same, x, atol=1e-4)


def test_few_points_are_not_asked():
    x = room()
    rows, columns = np.nonzero(x[0, POINTS])
    assert len(rows) > FEWEST
    x[0, POINTS, rows[FEWEST - 1 :], columns[FEWEST - 1 :]] = 0
    same, offset = registered(Says(2, 2), x)
    assert same is x and offset is None


def test_the_image_is_brought_back_by_what_it_was_moved():
    x, there = room(), room((3, -2))
    found, _ = registered(Says(3, -2), there)
    np.testing.assert_allclose(found[:, :3, 6:-6, 6:-6], x[:, :3, 6:-6, 6:-6], atol=1e-3)
    np.testing.assert_array_equal(found[:, 3:], there[:, 3:])
    assert np.array_equal(there, room((3, -2)))  # what came in is as it was


def test_each_place_is_moved_by_what_is_told_near_it():
    says, x = Says(0, 0, 0.0), room()
    says.places[:, :, 0, REACH + 2, REACH] = 200.0  # the left tiles: two rows below; the others: 0
    says.places[:, :, 1:, REACH, REACH] = 200.0
    found, _ = registered(says, x)
    down, left = np.roll(x, -2, axis=2), slice(0, TILE // 2)
    inside = slice(4, -4)
    np.testing.assert_allclose(found[:, :3, inside, left], down[:, :3, inside, left], atol=0.05)
    right = slice(3 * TILE, None)
    np.testing.assert_allclose(found[:, :3, :, right], x[:, :3, :, right], atol=0.05)


def test_offsets_are_told_in_pixels_of_the_camera():
    framing = Framing.fit((480, 640), (240, 320))
    assert ImageOffset(1.0, -2.0, 0.5, 0.25).of_camera(framing) == ImageOffset(2, -4, 1, 0.5)


def test_it_sees_what_networks_of_relative_depth_see():
    spec = networks.architecture("fcrn18-rgbd") | {"registration": {"name": "registration_network"}}
    with pytest.raises(ValueError, match=r"registration: expected sparse_input relative, got 'ze"):
        networks.build(spec)


def test_a_model_without_such_a_network_is_not_asked():
    assert ImageRegistration.of(networks.build("fcrn18-rgb"), None, None) is None


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_every_engine_sees_the_same(engine, estimator, val):
    """Of the shipped one, in the engine's own arithmetic: offsets to a tenth of a pixel."""
    pytest.importorskip(engine)
    other = DepthEstimator("default", engine=engine, device="cpu", threads=1)
    for index in range(0, len(val), 24):
        ours, its = (seen(each, val[index])[0].image_offset for each in (estimator, other))
        assert dataclasses.astuple(its) == pytest.approx(dataclasses.astuple(ours), abs=0.1)


def seen(estimator, sample, length=0.0, angle=0.0, pattern="lines:16"):
    sparse = SparsePattern.parse(pattern)(sample, np.random.default_rng(5))
    return estimator(moved(sample.rgb, length, angle), sparse, sample.camera), sparse


def test_the_shipped_one_finds_by_how_much_images_were_moved(estimator, val):
    """Of 16 beams; the better part of 4 px, and next to nothing where nothing was moved."""
    left, still = [], []
    for index in range(0, len(val), 12):
        angle = index * 0.7
        found, _ = seen(estimator, val[index], 4.0, angle)
        right = 4 * np.array([np.sin(angle), np.cos(angle)])
        offset = found.image_offset
        left.append(np.hypot(*(np.array([offset.rows, offset.columns]) - right)))
        offset = seen(estimator, val[index])[0].image_offset
        still.append(np.hypot(offset.rows, offset.columns))
    assert np.median(left) < 2.5
    assert np.median(still) < 1.0


def test_depth_of_a_moved_image_is_better_for_it(estimator, val, monkeypatch):
    moved_back, as_it_is = [], []
    for index in range(0, len(val), 12):
        sample = val[index]
        found, _ = seen(estimator, sample, 4.0, index * 0.7)
        monkeypatch.setattr(estimator, "register", False)
        plain, _ = seen(estimator, sample, 4.0, index * 0.7)
        monkeypatch.undo()
        assert plain.image_offset is None
        for errors, each in ((moved_back, found), (as_it_is, plain)):
            errors.append(np.sqrt(np.mean((each.depth - sample.depth)[sample.depth > 0] ** 2)))
    assert np.mean(moved_back) < 0.99 * np.mean(as_it_is)


def test_with_200_samples_nothing_is_told_or_moved(estimator, val):
    assert seen(estimator, val[0], pattern="bernoulli:200")[0].image_offset is None
