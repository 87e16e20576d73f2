# SPDX-License-Identifier: Apache-2.0
"""The scale-invariant losses and A's logarithm as printed, against values computed by hand."""

import math
import warnings

import pytest
import torch
from loss_maps import NAN, PREDICTION, TARGET, TWO, TWO_TRUE, TWO_VALID, VALID, all_of, batch, maps

from depth_two_stage import losses


def test_rmse_log_is_the_mean_of_the_images_logarithms():
    by_hand = (0.5 * math.log(5 / 3) + 0.5 * math.log(16 / 2)) / 2
    value = losses.rmse_log(TWO, TWO_TRUE, TWO_VALID).item()
    assert value == pytest.approx(by_hand, abs=1e-6)
    # A tenth less error is worth the same in both; an image without valid pixels counts as none.
    nearer = TWO_TRUE + 0.9 * (TWO - TWO_TRUE)
    assert losses.rmse_log(nearer, TWO_TRUE, TWO_VALID).item() - value == pytest.approx(
        math.log(0.9), abs=1e-6
    )
    first = TWO_VALID & torch.tensor([True, False]).reshape(2, 1, 1, 1)
    value = losses.rmse_log(TWO, TWO_TRUE, first).item()
    assert value == pytest.approx(0.5 * math.log(5 / 3), abs=1e-6)


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
