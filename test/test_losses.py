# SPDX-License-Identifier: Apache-2.0
"""Each loss against a value computed by hand."""

import math
import warnings

import pytest
import torch

from depth_two_stage import losses

NAN, INF = float("nan"), float("inf")
PRINTED = "ignore:scale_invariant as C prints it"


def maps(*values):
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1)


def batch(*rows):
    """One image a row, one line of pixels each."""
    return torch.tensor(rows, dtype=torch.float64)[:, None, None]


def all_of(values):
    return torch.ones_like(values, dtype=torch.bool)


TARGET = maps(1.0, 1.0, 1.0, 9.0)
VALID = maps(1.0, 1.0, 1.0, 0.0).bool()
PREDICTION = maps(1.1, 0.5, 3.0, 0.0)  # errors 0.1, 0.5, 2.0; the last pixel is not valid

# Two images of three pixels; the last pixel of the second has no depth.
TWO = batch([2.0, 1.0, 4.0], [3.0, 8.0, 5.0])
TWO_TRUE = batch([1.0, 1.0, 2.0], [3.0, 4.0, NAN])  # errors 1, 0, 2 and 0, 4
TWO_VALID = batch([1.0, 1.0, 1.0], [1.0, 1.0, 0.0]).bool()


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


def test_confidence_is_the_cross_entropy_of_being_within_5_percent():
    depth, target = batch([1.04, 1.06, 7.0]), batch([1.0, 1.0, NAN])
    valid = batch([1.0, 1.0, 0.0]).bool()
    logit = batch([2.0, 2.0, -50.0])
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    value = losses.confidence(logit, depth, target, valid).item()
    assert value == pytest.approx((right + wrong) / 2)
    with pytest.raises(ValueError, match="logit: expected depth's shape"):
        losses.confidence(logit[..., :2], depth, target, valid)


# --- berHu ---------------------------------------------------------------------------------------


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


# --- in logarithms -------------------------------------------------------------------------------


def test_scale_invariant_by_hand():
    # d = log y − log ŷ is −log 2 · (1, 0, 1) and −log 2 · (0, 1).
    a = math.log(2) ** 2
    for lam in (0.0, 0.5, 1.0):
        first = 2 / 3 * a - lam / 9 * 4 * a
        second = 1 / 2 * a - lam / 4 * a
        value = losses.scale_invariant(TWO, TWO_TRUE, TWO_VALID, lam=lam).item()
        assert value == pytest.approx((first + second) / 2)
    assert losses.scale_invariant(TWO, TWO_TRUE, TWO_VALID).item() == pytest.approx(
        ((2 / 3 - 0.5 / 9 * 4) * a + (1 / 2 - 0.5 / 4) * a) / 2
    )


def test_scale_invariant_with_lambda_one_does_not_see_a_common_factor():
    target = batch([1.0, 2.0, 5.0], [0.3, 4.0, 60.0])
    one = losses.scale_invariant(3 * target, target, all_of(target), lam=1.0)
    assert one.item() == pytest.approx(0, abs=1e-12)
    half = losses.scale_invariant(3 * target, target, all_of(target), lam=0.5)
    assert half.item() == pytest.approx(0.5 * math.log(3) ** 2)


def test_scale_invariant_as_printed_warns_and_is_unbounded_below():
    target = batch([1.0, 2.0, 5.0])
    for printed in (
        lambda p: losses.scale_invariant_printed(p, target, all_of(target), lam=0.5),
        lambda p: losses.scale_invariant(p, target, all_of(target), lam=0.5, printed=True),
    ):
        with pytest.warns(UserWarning, match="unbounded below"):
            value = printed(3 * target).item()
        # (1/n) 3 d² − (λ/n) (3 d)² with n = 3
        assert value == pytest.approx((1 - 0.5 * 3) * math.log(3) ** 2)
        with pytest.warns(UserWarning, match="unbounded below"):
            assert printed(1e6 * target).item() < 100 * value < 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses.scale_invariant(3 * target, target, all_of(target))


def test_scale_invariant_draws_predictions_without_logarithm_back():
    target = maps(1.0, 1.0, 1.0)
    slopes = []
    for guess in (-5.0, 0.0, 0.01 - 1e-9, 0.01 + 1e-9):
        p = maps(guess, 1.0, 1.0).requires_grad_()
        value = losses.scale_invariant(p, target, all_of(target), lam=0.0)
        value.backward()
        assert value.isfinite() and p.grad.isfinite().all()
        slopes.append(p.grad.reshape(-1)[0].item())
    assert max(slopes) < 0  # a larger prediction lowers the loss everywhere
    assert slopes[2] == pytest.approx(slopes[3], rel=1e-5)  # no kink where the tangent begins
    by_hand = 2 / 3 * (math.log(0.01) - 1) / 0.01  # at 0: d = −(log 0.01 − 1), slope −1/0.01
    assert slopes[1] == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lam": -0.1}, "lam: expected"),
        ({"lam": 1.1}, "lam: expected"),
        ({"lam": NAN}, "lam: expected"),
        ({"least": 0.0}, "least: expected"),
    ],
)
def test_wrong_settings_of_scale_invariant_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        losses.scale_invariant(PREDICTION, TARGET, VALID, **options)


def test_the_printed_log_form_is_the_log_of_each_images_norm():
    by_hand = (math.log(1 + 0 + 2) + math.log(0 + 4)) / 2
    assert losses.log_l1(TWO, TWO_TRUE, TWO_VALID).item() == pytest.approx(by_hand)
    # Another unit adds a constant: the gradient with respect to the error's size stays 1 / norm.
    p = TWO.clone().requires_grad_()
    losses.log_l1(p, TWO_TRUE, TWO_VALID).backward()
    assert p.grad[0, 0, 0].tolist() == pytest.approx([1 / 3 / 2, 0, 1 / 3 / 2])
    perfect = losses.log_l1(TARGET, TARGET, VALID).item()
    assert perfect == pytest.approx(math.log(1e-6))


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


# --- the two players -----------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_adversarial_by_hand():
    logits = torch.zeros(1, 1, 2, 2)
    assert losses.adversarial(logits, True).item() == pytest.approx(math.log(2))
    logits = torch.full((1, 1, 2, 2), 2.0)
    assert losses.adversarial(logits, False).item() == pytest.approx(-math.log(1 - sigmoid(2)))


def test_the_min_max_term_by_hand():
    real, fake = maps(2.0, -1.0), maps(0.5, -3.0)
    by_hand = (math.log(sigmoid(2)) + math.log(sigmoid(-1))) / 2
    by_hand += (math.log(1 - sigmoid(0.5)) + math.log(1 - sigmoid(-3))) / 2
    assert losses.min_max(real, fake).item() == pytest.approx(by_hand)
    assert losses.discriminator(real, fake).item() == pytest.approx(-0.5 * by_hand)
    assert losses.discriminator(real, fake, weight=1.0).item() == pytest.approx(-by_hand)


def test_the_players_pull_apart():
    real, fake = maps(0.0).requires_grad_(), maps(0.0).requires_grad_()
    losses.discriminator(real, fake).backward()
    assert real.grad.item() == pytest.approx(-0.25) and fake.grad.item() == pytest.approx(0.25)
    for form in ("non_saturating", "min_max"):
        fake = maps(0.0).requires_grad_()
        losses.generator(fake, torch.zeros(()), form=form)["adversarial"].backward()
        assert fake.grad.item() == pytest.approx(-0.5)


def test_the_generators_terms_by_hand():
    fake = maps(-2.0, 1.0)
    pixel = losses.l1(PREDICTION, TARGET, VALID)
    terms = losses.generator(fake, pixel)
    by_hand = -(math.log(sigmoid(-2)) + math.log(sigmoid(1))) / 2
    assert terms["adversarial"].item() == pytest.approx(by_hand)
    assert terms["pixel"].item() == pytest.approx(100 * 2.6 / 3)
    terms = losses.generator(fake, pixel, lam=10, form="min_max")
    by_hand = (math.log(1 - sigmoid(-2)) + math.log(1 - sigmoid(1))) / 2
    assert terms["adversarial"].item() == pytest.approx(by_hand)
    assert terms["pixel"].item() == pytest.approx(10 * 2.6 / 3)
    log_form = losses.generator(fake, losses.log_l1(PREDICTION, TARGET, VALID), lam=1)
    assert log_form["pixel"].item() == pytest.approx(math.log(2.6))


def test_large_logits_stay_finite():
    big = maps(1e4, -1e4)
    for value in (losses.min_max(big, -big), *losses.generator(big, big.sum()).values()):
        assert value.isfinite()


def test_wrong_settings_of_the_generator_are_named():
    with pytest.raises(ValueError, match="form: expected one of non_saturating, min_max"):
        losses.generator(maps(0.0), torch.zeros(()), form="hinge")
    with pytest.raises(ValueError, match="lam: expected"):
        losses.generator(maps(0.0), torch.zeros(()), lam=-1.0)
