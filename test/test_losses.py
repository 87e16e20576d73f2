# SPDX-License-Identifier: Apache-2.0
"""Each loss against a value computed by hand."""

import math

import pytest
import torch

from depth_two_stage import losses


def maps(*values):
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1)


TARGET = maps(1.0, 1.0, 1.0, 9.0)
VALID = maps(1.0, 1.0, 1.0, 0.0).bool()
PREDICTION = maps(1.1, 0.5, 3.0, 0.0)  # errors 0.1, 0.5, 2.0; the last pixel is not valid


def test_l1_and_l2_by_hand():
    assert losses.l1(PREDICTION, TARGET, VALID).item() == pytest.approx(2.6 / 3)
    assert losses.l2(PREDICTION, TARGET, VALID).item() == pytest.approx((0.01 + 0.25 + 4) / 3)


def test_rmse_is_the_mean_of_the_images():
    prediction = torch.tensor([[1.0, 3.0], [0.5, 9.0], [7.0, 7.0]]).reshape(3, 1, 1, 2)
    valid = torch.tensor([[1, 1], [1, 0], [0, 0]]).bool().reshape(3, 1, 1, 2)
    by_hand = (5**0.5 + 0.5) / 2  # the third image has no valid pixel
    value = losses.rmse(prediction, torch.zeros_like(prediction), valid).item()
    assert value == pytest.approx(by_hand, abs=1e-6)


def test_berhu_by_hand():
    c = 0.4  # a fifth of 2.0
    by_hand = (0.1 + (0.25 + c**2) / (2 * c) + (4 + c**2) / (2 * c)) / 3
    assert losses.berhu(PREDICTION, TARGET, VALID).item() == pytest.approx(by_hand)


def test_berhu_maximum_per_image_and_per_batch():
    prediction, target = torch.tensor([1.0, 10.0]).reshape(2, 1, 1, 1), torch.zeros(2, 1, 1, 1)
    valid = torch.ones_like(target, dtype=torch.bool)
    batch = losses.berhu(prediction, target, valid).item()
    assert batch == pytest.approx((1.0 + (100 + 4) / 4) / 2)
    image = losses.berhu(prediction, target, valid, "image").item()
    assert image == pytest.approx(((1 + 0.04) / 0.4 + (100 + 4) / 4) / 2)
    with pytest.raises(ValueError, match="maximum"):
        losses.berhu(prediction, target, valid, "row")


def test_berhu_is_continuous_and_once_differentiable_at_c():
    # A second pixel of error 5 fixes c at 1; the first is moved across it.
    values, slopes = [], []
    for e in (1 - 1e-6, 1 + 1e-6):
        p = maps(e, 5.0).requires_grad_()
        value = losses.berhu(p, maps(0.0, 0.0), maps(1.0, 1.0).bool())
        value.backward()
        values.append(value.item())
        slopes.append(p.grad.reshape(-1)[0].item())
    assert values[0] == pytest.approx(values[1], abs=1e-5)
    assert slopes == pytest.approx([0.5, 0.5], abs=1e-5)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_invalid_pixels_have_no_gradient_and_no_pixels_give_zero(name):
    p = PREDICTION.clone().requires_grad_()
    losses.LOSSES[name](p, torch.where(VALID, TARGET, torch.nan), VALID).backward()
    assert p.grad.isfinite().all() and p.grad.reshape(-1)[3] == 0 and p.grad.reshape(-1)[2] != 0
    p = PREDICTION.clone().requires_grad_()
    loss = losses.LOSSES[name](p, TARGET, torch.zeros_like(VALID))
    loss.backward()
    assert loss.item() == 0 and (p.grad == 0).all()


def test_adversarial_by_hand():
    logits = torch.zeros(1, 1, 2, 2)
    assert losses.adversarial(logits, True).item() == pytest.approx(math.log(2))
    logits = torch.full((1, 1, 2, 2), 2.0)
    assert losses.adversarial(logits, False).item() == pytest.approx(
        -math.log(1 - 1 / (1 + math.exp(-2)))
    )
