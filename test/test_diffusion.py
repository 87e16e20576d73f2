# SPDX-License-Identifier: Apache-2.0
"""Diffusion of depth: means of neighbours, barriers, points, and its gradients."""

import numpy as np
import pytest
import torch

from depth_two_stage.networks.diffusion import NEIGHBOURS, diffuse, likeness


def maps(*channels, height=6, width=7, dtype=torch.float64):
    torch.manual_seed(0)
    return [torch.rand(2, count, height, width, dtype=dtype) for count in channels]


def test_a_step_is_the_weighted_mean_of_neighbours_points_and_prior():
    depth, weights, points, measured, hold, prior = maps(1, 8, 1, 1, 1, 1)
    found = diffuse(depth, weights.split(1, 1), points, measured, hold, prior, 1).numpy()
    b, y, x = 1, 2, 3
    total = measured[b, 0, y, x] + hold[b, 0, y, x] * prior[b, 0, y, x]
    for k, (i, j) in enumerate(NEIGHBOURS):
        total += weights[b, k, y, x] * depth[b, 0, y + i, x + j]
    count = weights[b, :, y, x].sum() + points[b, 0, y, x] + hold[b, 0, y, x]
    assert found[b, 0, y, x] == pytest.approx(float(total / count))


def test_nothing_crosses_where_the_weights_are_none():
    weights = torch.ones(1, 8, 8, 8)
    for k, (_, j) in enumerate(NEIGHBOURS):
        weights[:, k, :, 3] *= j <= 0  # a wall between columns 3 and 4
        weights[:, k, :, 4] *= j >= 0
    for k, (i, j) in enumerate(NEIGHBOURS):  # and nothing comes from beyond the border
        rows, columns = np.indices((8, 8))
        inside = (rows + i >= 0) & (rows + i < 8) & (columns + j >= 0) & (columns + j < 8)
        weights[:, k] *= torch.from_numpy(inside)
    points, measured, nothing = torch.zeros(3, 1, 1, 8, 8)
    points[..., 4, 1] = points[..., 4, 6] = 20
    measured[..., 4, 1], measured[..., 4, 6] = 20 * 1.0, 20 * 5.0
    parts = weights.split(1, 1), points, measured, nothing, nothing
    found = diffuse(torch.full((1, 1, 8, 8), 3.0), *parts, 400)
    torch.testing.assert_close(found[..., :4], torch.full((1, 1, 8, 4), 1.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(found[..., 4:], torch.full((1, 1, 8, 4), 5.0), atol=1e-3, rtol=0)


def test_the_gradients_are_those_of_the_plain_loop():
    tensors = [part.requires_grad_() for part in maps(1, 8, 1, 1, 1, 1, height=4, width=5)]

    def three(depth, weights, *others):
        return diffuse(depth, weights.split(1, 1), *others, 3)

    assert torch.autograd.gradcheck(three, tensors)
    with torch.no_grad():  # where the loop is a plain one
        plain = three(*tensors)
    torch.testing.assert_close(three(*tensors).detach(), plain)


def test_likeness_falls_with_the_difference_of_colour_and_ends_at_the_border():
    image = torch.zeros(1, 3, 4, 5)
    image[:, :, :, 3:] = torch.tensor([0.3, 0.6, 0.0]).reshape(1, 3, 1, 1)
    found = torch.cat(likeness(torch.ones(1, 8, 4, 5), torch.tensor(10.0), image), 1).logit()
    right, left = NEIGHBOURS.index((0, 1)), NEIGHBOURS.index((0, -1))
    assert found[0, right, 1].tolist()[:4] == pytest.approx([1, 1, 1 - 10 * 0.3, 1], abs=1e-4)
    assert found[0, left, 1].tolist()[1:] == pytest.approx([1, 1, 1 - 10 * 0.3, 1], abs=1e-4)
    assert found[0, right, 1, 4] < -50
