# SPDX-License-Identifier: Apache-2.0
"""Losses on depth maps (B, 1, H, W) m; where ``valid`` (bool, same shape) is False, no gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def _error(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Signed error, 0 where not valid; masked first, so that a NaN there reaches no gradient."""
    return torch.where(valid, prediction - target, 0)


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over the valid pixels of values that are 0 elsewhere; 0 when there are none."""
    return values.sum() / valid.sum().clamp(min=1)


def l1(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute error, m."""
    return _mean(_error(prediction, target, valid).abs(), valid)


def l2(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean squared error, m²."""
    return _mean(_error(prediction, target, valid).square(), valid)


def rmse(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean over the images of each one's root-mean-square error, m: what ``evaluate`` reports.

    Unlike ``l2`` it weighs an image that is hard as a whole (no points) as one that is easy;
    unlike ``l1`` and ``berhu`` it aims at the mean of what depth may be, not at the median.
    Images without a valid pixel count as none.
    """
    counts = valid.sum((1, 2, 3))
    squares = _error(prediction, target, valid).square().sum((1, 2, 3)) / counts.clamp(min=1)
    # The square root has no slope at 0: a tenth of a millimetre keeps it finite.
    return (squares + 1e-8).sqrt().mul(counts > 0).sum() / (counts > 0).sum().clamp(min=1)


def berhu(prediction: Tensor, target: Tensor, valid: Tensor, maximum: str = "batch") -> Tensor:
    """Reverse Huber (E, eq. 1): |e| up to c, (e² + c²) / 2c beyond; c = 0.2 · max |e|.

    The maximum is taken over the whole ``batch`` (E, A) or over each ``image`` (C). c is a
    constant of the step: no gradient flows through it.
    """
    if maximum not in ("batch", "image"):
        raise ValueError(f"maximum: expected 'batch' or 'image', got {maximum!r}")
    error = _error(prediction, target, valid).abs()
    largest = error.detach().amax() if maximum == "batch" else error.detach().amax((1, 2, 3), True)
    c = (0.2 * largest).clamp(min=1e-6)
    return _mean(torch.where(error <= c, error, (error.square() + c.square()) / (2 * c)), valid)


def adversarial(logits: Tensor, real: bool) -> Tensor:
    """Log-likelihood of the patches being real (or not), as a loss to lower (A, eq. 2; B, eq. 2).

    The generator lowers ``adversarial(D(rough, fake), True)``, the non-saturating form.
    """
    wanted = torch.ones_like(logits) if real else torch.zeros_like(logits)
    return F.binary_cross_entropy_with_logits(logits, wanted)


LOSSES = {"l1": l1, "l2": l2, "rmse": rmse, "berhu": berhu}
