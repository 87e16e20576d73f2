# SPDX-License-Identifier: Apache-2.0
"""berHu against values computed by hand."""

import pytest
import torch
from loss_maps import PREDICTION, TARGET, VALID, maps

from depth_two_stage import losses


def test_berhu_by_hand():
    c = 0.4  # a fifth of 2.0
    by_hand = (0.1 + (0.25 + c**2) / (2 * c) + (4 + c**2) / (2 * c)) / 3
    assert losses.berhu(PREDICTION, TARGET, VALID).item() == pytest.approx(by_hand)


def test_berhu_maximum_per_image_and_per_batch():
    prediction, target = torch.tensor([1.0, 10.0]).reshape(2, 1, 1, 1), torch.zeros(2, 1, 1, 1)
    valid = torch.ones_like(target, dtype=torch.bool)
    whole = losses.berhu(prediction, target, valid).item()
    assert whole == pytest.approx((1.0 + (100 + 4) / 4) / 2)
    for image in (
        losses.berhu(prediction, target, valid, "image"),
        losses.berhu_image(prediction, target, valid),
    ):
        assert image.item() == pytest.approx(((1 + 0.04) / 0.4 + (100 + 4) / 4) / 2)
    with pytest.raises(ValueError, match="maximum: expected 'batch' or 'image', got 'row'"):
        losses.berhu(prediction, target, valid, "row")


def test_the_maximum_of_berhu_is_that_of_the_valid_pixels():
    prediction, target = maps(1.0, 2.0, 1000.0), maps(0.0, 0.0, 0.0)
    valid = maps(1.0, 1.0, 0.0).bool()
    c = 0.4
    by_hand = ((1 + c**2) + (4 + c**2)) / (2 * c) / 2
    for maximum in ("batch", "image"):
        value = losses.berhu(prediction, target, valid, maximum).item()
        assert value == pytest.approx(by_hand)


@pytest.mark.parametrize("maximum", ["batch", "image"])
@pytest.mark.parametrize("sign", [1, -1])
def test_berhu_is_continuous_and_once_differentiable_at_c(maximum, sign):
    # A second pixel of error 5 fixes c at 1; the first is moved across it. Two pixels, so the
    # first weighs a half: below c its value is e/2, its slope 1/2; at c both sides have to agree.
    def value(e):
        return losses.berhu(
            torch.cat((e.reshape(1, 1, 1, 1), maps(5.0)), 3), maps(0, 0), maps(1, 1).bool(), maximum
        )

    fixed = (25 + 1) / 2 / 2
    step = 1e-6
    slopes = []
    for e in (1 - step, 1.0, 1 + step):
        p = torch.tensor(sign * e, dtype=torch.float64, requires_grad=True)
        found = value(p)
        assert found.item() == pytest.approx(fixed + e / 2, abs=1e-11)
        found.backward()
        slopes.append(p.grad.item())
        numeric = (value(p.detach() + step / 2) - value(p.detach() - step / 2)).item() / step
        assert numeric == pytest.approx(sign * 0.5, abs=1e-6)
    assert slopes == pytest.approx([sign * 0.5] * 3, abs=1e-6)
    # Not twice: the second derivative jumps from 0 to 1/c.
    for e, second in ((0.9, 0.0), (1.1, 0.5)):
        p = torch.tensor(e, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(value(p), p, create_graph=True)
        curvature = torch.autograd.grad(slope, p)[0].item() if slope.requires_grad else 0.0
        assert curvature == pytest.approx(second)


@pytest.mark.parametrize("maximum", ["batch", "image"])
def test_the_gradient_of_berhu_by_hand(maximum):
    p = PREDICTION.clone().requires_grad_()
    losses.berhu(p, TARGET, VALID, maximum).backward()
    # 1 up to c, e / c beyond, a third each; none through c = 0.4 itself.
    by_hand = [1 / 3, -0.5 / 0.4 / 3, 2 / 0.4 / 3, 0]
    assert p.grad.flatten().tolist() == pytest.approx(by_hand)


def test_berhu_of_a_perfect_prediction_is_zero_and_has_a_gradient():
    p = TARGET.clone().requires_grad_()
    value = losses.berhu(p, TARGET, VALID)
    value.backward()
    assert value.item() == 0 and p.grad.isfinite().all()
