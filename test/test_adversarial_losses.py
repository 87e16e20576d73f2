# SPDX-License-Identifier: Apache-2.0
"""The losses of the conditional GAN's players against values computed by hand."""

import math

import pytest
import torch
from loss_maps import PREDICTION, TARGET, VALID, maps

from depth_two_stage import losses


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
