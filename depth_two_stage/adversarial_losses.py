# SPDX-License-Identifier: Apache-2.0
"""What the two players of the cGAN lower: min–max log-likelihood and λ·L1 (A, eq. 2; B, eq. 2).

Both papers write min over G of max over D of E[log D(x, y)] + E[log(1 − D(x, G(x)))] plus λ times
the reconstruction: plain ‖y − G‖₁ in B and in A's text, its logarithm in A's formula
(`losses.log_l1`).
D(x, ·) is the sigmoid of the discriminator's logits, averaged over its patches.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

FORMS = ("non_saturating", "min_max")


def adversarial(logits: Tensor, real: bool) -> Tensor:
    """−log D, or −log(1 − D) for what is not ``real``: mean over the patches, to be lowered.

    The generator lowers ``adversarial(D(rough, fake), True)``, the non-saturating form.
    """
    wanted = torch.ones_like(logits) if real else torch.zeros_like(logits)
    return F.binary_cross_entropy_with_logits(logits, wanted)


def min_max(real: Tensor, fake: Tensor) -> Tensor:
    """E[log D(x, y)] + E[log(1 − D(x, G(x)))], as printed: D raises it, G lowers it; at most 0."""
    return -adversarial(real, True) - adversarial(fake, False)


def discriminator(real: Tensor, fake: Tensor, weight: float = 0.5) -> Tensor:
    """−``weight`` × the min–max term, for D to lower; a half as in the work A and B build on."""
    return -weight * min_max(real, fake)


def generator(
    fake: Tensor, pixel: Tensor, lam: float = 100.0, form: str = "non_saturating"
) -> dict[str, Tensor]:
    """G's terms by name: the adversarial one of D's logits, and λ times the ``pixel`` loss.

    ``pixel`` is the loss between G and the truth, in the units in which λ is meant (A and B print
    none; 100 is for L1 of depth in [-1, 1]). ``min_max`` is log(1 − D) as printed, which hardly has
    a slope while D wins; ``non_saturating`` has the same fixed point and is the default.
    """
    if form not in FORMS:
        raise ValueError(f"form: expected one of {', '.join(FORMS)}, got {form!r}")
    if not lam >= 0:
        raise ValueError(f"lam: expected λ of at least 0, got {lam!r}")
    term = adversarial(fake, True) if form == "non_saturating" else -adversarial(fake, False)
    return {"adversarial": term, "pixel": lam * pixel}
