# SPDX-License-Identifier: Apache-2.0
"""Each loss against a value computed by hand, and what all of them do with invalid pixels."""

import math

import pytest
import torch
from loss_maps import (
    INF,
    NAN,
    PREDICTION,
    PRINTED,
    TARGET,
    TWO,
    TWO_TRUE,
    TWO_VALID,
    VALID,
    batch,
    maps,
)

from depth_two_stage import losses


def test_l1_and_l2_by_hand():
    assert losses.l1(PREDICTION, TARGET, VALID).item() == pytest.approx(2.6 / 3)
    assert losses.l2(PREDICTION, TARGET, VALID).item() == pytest.approx((0.01 + 0.25 + 4) / 3)
    # Over pixels, not over images: five of them.
    assert losses.l1(TWO, TWO_TRUE, TWO_VALID).item() == pytest.approx(7 / 5)
    assert losses.l2(TWO, TWO_TRUE, TWO_VALID).item() == pytest.approx(21 / 5)


def test_ds_loss_is_half_the_squares_over_the_images():
    assert losses.half_l2(PREDICTION, TARGET, VALID).item() == pytest.approx(4.26 / 2)
    assert losses.half_l2(TWO, TWO_TRUE, TWO_VALID).item() == pytest.approx(21 / (2 * 2))


def test_rmse_is_the_mean_of_the_images():
    prediction = torch.tensor([[1.0, 3.0], [0.5, 9.0], [7.0, 7.0]]).reshape(3, 1, 1, 2)
    valid = torch.tensor([[1, 1], [1, 0], [0, 0]]).bool().reshape(3, 1, 1, 2)
    by_hand = (5**0.5 + 0.5) / 2  # the third image has no valid pixel
    value = losses.rmse(prediction, torch.zeros_like(prediction), valid).item()
    assert value == pytest.approx(by_hand, abs=1e-6)


# --- all of them ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings(PRINTED)
@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("nothing", [0.0, -1.0, NAN, INF])
def test_invalid_pixels_reach_neither_value_nor_gradient(name, nothing):
    p = PREDICTION.clone().requires_grad_()
    value = losses.LOSSES[name](p, torch.where(VALID, TARGET, nothing), VALID)
    value.backward()
    assert p.grad.isfinite().all() and p.grad.reshape(-1)[3] == 0 and p.grad.reshape(-1)[2] != 0
    # It is the loss of the valid pixels alone, whatever the network says elsewhere.
    alone = losses.LOSSES[name](PREDICTION[..., :3], TARGET[..., :3], VALID[..., :3])
    assert value.item() == pytest.approx(alone.item())
    elsewhere = torch.where(VALID, PREDICTION, NAN).requires_grad_()
    value = losses.LOSSES[name](elsewhere, TARGET, VALID)
    value.backward()
    assert value.item() == pytest.approx(alone.item())
    assert torch.equal(elsewhere.grad, p.grad)


@pytest.mark.filterwarnings(PRINTED)
@pytest.mark.parametrize("name", losses.LOSSES)
def test_gradients_are_those_of_finite_differences(name):
    target = torch.rand(2, 1, 3, 4, generator=torch.Generator().manual_seed(0)).double() + 1
    valid = target > 1.3
    p = (target + torch.linspace(-0.7, 0.9, 24).reshape(target.shape)).requires_grad_()

    # berHu's c is a constant of the step: its largest errors are held while the others move.
    error = torch.where(valid, (p - target).abs(), 0).detach()
    held, fixed = error >= error.amax((1, 2, 3), True), p.detach().clone()

    def f(x):
        return losses.LOSSES[name](torch.where(held, fixed, x), target, valid)

    assert torch.autograd.gradcheck(f, (p,), eps=1e-7, atol=1e-5)


@pytest.mark.filterwarnings(PRINTED)
@pytest.mark.parametrize("name", losses.LOSSES)
def test_an_image_without_depth_beside_others_weighs_nothing_and_has_no_gradient(name):
    prediction = torch.cat((PREDICTION, PREDICTION)).requires_grad_()
    target = torch.cat((TARGET, torch.zeros_like(TARGET)))
    value = losses.LOSSES[name](prediction, target, losses.valid_pixels(target))
    value.backward()
    assert value.isfinite() and prediction.grad.isfinite().all()
    assert (prediction.grad[1] == 0).all() and (prediction.grad[0] != 0).any()
    alone = losses.LOSSES[name](PREDICTION, TARGET, TARGET > 0).item()
    images = 2 if name == "half_l2" else 1  # D divides by the images of the batch
    assert value.item() == pytest.approx(alone / images)


@pytest.mark.filterwarnings(PRINTED)
@pytest.mark.parametrize("name", losses.LOSSES)
def test_without_any_valid_pixel_value_and_gradient_are_zero(name):
    # `check_batch` refuses such a batch; beside other processes the step has to be made.
    p = PREDICTION.clone().requires_grad_()
    value = losses.LOSSES[name](p, torch.full_like(TARGET, NAN), torch.zeros_like(VALID))
    value.backward()
    assert value.item() == 0 and (p.grad == 0).all()


@pytest.mark.filterwarnings(PRINTED)
@pytest.mark.parametrize("name", losses.LOSSES)
def test_wrong_shapes_are_refused(name):
    loss = losses.LOSSES[name]
    with pytest.raises(ValueError, match="target: expected the prediction's shape"):
        loss(PREDICTION, TARGET[0], VALID)
    with pytest.raises(ValueError, match="valid: expected the prediction's shape"):
        loss(PREDICTION, TARGET, VALID[..., :1])
    with pytest.raises(ValueError, match="valid: expected bool"):
        loss(PREDICTION, TARGET, VALID.double())


# --- the door ------------------------------------------------------------------------------------


def test_valid_pixels_are_finite_positive_and_near_enough():
    target = maps(1.0, 0.0, -2.0, NAN, INF, -INF, 70.0, 69.9)
    assert losses.valid_pixels(target).flatten().tolist() == [1, 0, 0, 0, 0, 0, 1, 1]
    near = losses.valid_pixels(target, farthest=70.0)
    assert near.flatten().tolist() == [1, 0, 0, 0, 0, 0, 0, 1]
    assert losses.not_numbers(target) == 3


def test_a_checked_batch_gives_its_mask():
    target = torch.cat((maps(0.0, NAN), maps(0.0, 2.0)))  # one image without depth is no error
    assert losses.check_batch(target).flatten().tolist() == [0, 0, 0, 1]


def test_a_batch_without_depth_is_named_with_what_it_holds():
    target = torch.cat((maps(0.0, NAN, -1.0), maps(0.0, INF, 90.0)))
    with pytest.raises(ValueError, match="at least one valid pixel") as caught:
        losses.check_batch(target, ("kitchen/1", "kitchen/2"), farthest=80.0)
    for part in ("kitchen/1, kitchen/2", "2 × 1×3", "2 NaN or infinite", "80.0 m"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.ones(2, 4, 4), r"target: expected shape \(B, 1, H, W\), got \(2, 4, 4\)"),
        (torch.ones(2, 3, 4, 4), r"target: expected shape \(B, 1, H, W\), got \(2, 3, 4, 4\)"),
        (torch.ones(2, 1, 4, 4, dtype=torch.int32), "target: expected floating point metres"),
    ],
)
def test_targets_of_another_form_are_refused(target, message):
    with pytest.raises(ValueError, match=message):
        losses.check_batch(target)


def test_a_loss_is_chosen_by_name_with_its_options():
    assert losses.choose("l1") is losses.l1
    chosen = losses.choose("scale_invariant", lam=1.0)
    assert chosen(3 * TARGET, TARGET, VALID).item() == pytest.approx(0, abs=1e-12)
    chosen = losses.choose("berhu", maximum="image")
    assert torch.equal(
        chosen(TWO, TWO_TRUE, TWO_VALID), losses.berhu_image(TWO, TWO_TRUE, TWO_VALID)
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("behu", {}, "expected one of .*, got 'behu'; nearest: berhu"),
        ("nothing like it", {}, "loss: expected one of"),
        ("l1", {"lam": 1}, "loss l1: expected no option, got lam"),
        ("berhu", {"lamda": 1}, "loss berhu: expected some of maximum, got lamda"),
        ("berhu", {"maximum": "row"}, "maximum: expected"),
        ("scale_invariant_printed", {"lam": 2.0}, "lam: expected"),
    ],
)
def test_wrong_choices_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        losses.choose(name, **options)


def test_relative_is_rmse_and_logarithms_and_their_steps():
    e = math.e
    prediction, target = batch([e, 1.0, 1.0]), batch([1.0, 1.0, NAN])
    valid = batch([1.0, 1.0, 0.0]).bool()
    rmse, log, step = ((e - 1) ** 2 / 2) ** 0.5, 1 / 2, 1.0  # one pair of neighbours; no second row
    value = losses.relative(prediction, target, valid).item()
    assert value == pytest.approx(rmse + log + 0.5 * step, abs=1e-6)
    # Below, where there is no logarithm, it is finite and pulls back.
    low = torch.full_like(target, -1.0).requires_grad_()
    losses.relative(low, target, valid).backward()
    assert low.grad.isfinite().all() and (low.grad[valid] < 0).all()


def test_relative_log_weighs_images_by_what_is_left_of_each():
    rng = torch.Generator().manual_seed(0)
    target = torch.rand(3, 1, 4, 6, generator=rng) + 1
    prediction = target + 0.1 * torch.rand(3, 1, 4, 6, generator=rng)
    valid = torch.rand(3, 1, 4, 6, generator=rng) < 0.8
    valid[2] = False  # an image without depth counts as none
    each = [
        losses.relative(*(part[i : i + 1] for part in (prediction, target, valid))).log()
        for i in (0, 1)
    ]
    value = losses.relative_log(prediction, target, valid)
    assert value.item() == pytest.approx(float(sum(each)) / 2, abs=1e-5)
    assert losses.relative_log(prediction, target, valid & False) == 0


def test_confidence_is_the_cross_entropy_of_being_within_5_percent():
    depth, target = batch([1.04, 1.06, 7.0]), batch([1.0, 1.0, NAN])
    valid = batch([1.0, 1.0, 0.0]).bool()
    logit = batch([2.0, 2.0, -50.0])
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    value = losses.confidence(logit, depth, target, valid).item()
    assert value == pytest.approx((right + wrong) / 2)
    half = losses.confidence(logit, depth, target, valid, belief=torch.tensor([0.5])).item()
    assert half == pytest.approx(((right + wrong) / 2 + wrong) / 2)  # asked for: 0.5 and 0
    with pytest.raises(ValueError, match="logit: expected depth's shape"):
        losses.confidence(logit[..., :2], depth, target, valid)
