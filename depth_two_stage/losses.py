# SPDX-License-Identifier: Apache-2.0
"""Losses on depth maps (B, 1, H, W) m; where ``valid`` (bool, same shape) is False, no gradient.

``valid_pixels`` and ``check_batch`` are the door: what is no number is masked and counted, and a
batch without any depth is an error. The losses themselves are 0 for it, with a gradient of zeros:
in a distributed run the other processes wait for that. ``choose`` takes a loss of ``LOSSES`` with
its options; what the two players of the cGAN lower stands in `adversarial_losses`.
"""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .adversarial_losses import adversarial, discriminator, generator, min_max

__all__ = [
    "LOSSES",
    "adversarial",
    "berhu",
    "berhu_image",
    "check_batch",
    "choose",
    "confidence",
    "discriminator",
    "generator",
    "half_l2",
    "l1",
    "l2",
    "log_l1",
    "min_max",
    "not_numbers",
    "relative",
    "relative_log",
    "rmse",
    "rmse_log",
    "scale_invariant",
    "scale_invariant_printed",
    "valid_pixels",
]

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


# --- the door ------------------------------------------------------------------------------------


def valid_pixels(target: Tensor, farthest: float = float("inf")) -> Tensor:
    """Which pixels of a target (m, 0 = none) are learned from: finite, above 0, below ``farthest``.

    E and B leave out what lies beyond 70 m on Make3D (E, section 4.3).
    """
    return (target > 0) & (target < farthest)  # what is NaN is neither


def not_numbers(target: Tensor) -> int:
    """How many pixels of a target are NaN or infinite: masked by ``valid_pixels``."""
    return int((~torch.isfinite(target)).sum())


def check_batch(
    target: Tensor, names: Sequence[str] = (), farthest: float = float("inf")
) -> Tensor:
    """The valid pixels of a batch of targets (B, 1, H, W) m; raises where there are none.

    ``names`` are the frames, for the message. A single image without depth in a batch that has
    some weighs nothing and is no error.
    """
    if target.ndim != 4 or target.shape[1] != 1:
        raise ValueError(f"target: expected shape (B, 1, H, W), got {tuple(target.shape)}")
    if not target.is_floating_point():
        raise ValueError(f"target: expected floating point metres, got {target.dtype}")
    valid = valid_pixels(target, farthest)
    if not valid.any():
        frames = f" ({', '.join(names)})" if names else ""
        raise ValueError(
            f"target: expected at least one valid pixel in the batch{frames}, got none in "
            f"{len(target)} × {target.shape[2]}×{target.shape[3]}: {not_numbers(target)} NaN or "
            f"infinite, the others 0, negative or beyond {farthest} m"
        )
    return valid


# --- what they share -----------------------------------------------------------------------------


def _check(prediction: Tensor, target: Tensor, valid: Tensor) -> None:
    """Shapes have to be equal: broadcasting would make another loss."""
    for name, other in (("target", target), ("valid", valid)):
        if other.shape != prediction.shape:
            raise ValueError(
                f"{name}: expected the prediction's shape {tuple(prediction.shape)}, "
                f"got {tuple(other.shape)}"
            )
    if valid.dtype != torch.bool:
        raise ValueError(f"valid: expected bool, got {valid.dtype}")


def _error(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Signed error, 0 where not valid; masked first, so that a NaN there reaches no gradient."""
    _check(prediction, target, valid)
    return torch.where(valid, prediction, 0) - torch.where(valid, target, 0)


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over the valid pixels of the batch, of values that are 0 elsewhere; 0 for none."""
    return values.sum() / valid.sum().clamp(min=1)


def _images(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over the images that have a valid pixel, of one value for each (B,); 0 for none."""
    there = valid.flatten(1).any(1)
    return torch.where(there, values, 0).sum() / there.sum().clamp(min=1)


def _counts(valid: Tensor) -> Tensor:
    """Valid pixels of each image, at least 1: (B,)."""
    return valid.flatten(1).sum(1).clamp(min=1)


# --- the losses ----------------------------------------------------------------------------------


def l1(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute error, m."""
    return _mean(_error(prediction, target, valid).abs(), valid)


def l2(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean squared error, m² (E's L2; C, section 5.3.1)."""
    return _mean(_error(prediction, target, valid).square(), valid)


def half_l2(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """(1/2n) Σ ‖y − y′‖² with n the images of the batch (D, eq. 1): a sum over pixels.

    D writes it for depth in 0…1, to which the caller divides. It grows with the map, so the rate
    that fits is below that of l2.
    """
    return _error(prediction, target, valid).square().sum() / (2 * len(prediction))


def rmse(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean over the images of each one's root-mean-square error, m: what ``evaluate`` reports.

    Unlike ``l2`` it weighs an image that is hard as a whole (no points) as one that is easy;
    unlike ``l1`` and ``berhu`` it aims at the mean of what depth may be, not at the median.
    Images without a valid pixel count as none.
    """
    squares = _error(prediction, target, valid).square().flatten(1).sum(1) / _counts(valid)
    # The square root has no slope at 0: a tenth of a millimetre keeps it finite.
    return _images((squares + 1e-8).sqrt(), valid)


def rmse_log(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean over the images of the logarithm of each one's RMSE (of at least 0.1 mm)."""
    squares = _error(prediction, target, valid).square().flatten(1).sum(1) / _counts(valid)
    return _images(0.5 * (squares + 1e-8).log(), valid)


def berhu(prediction: Tensor, target: Tensor, valid: Tensor, maximum: str = "batch") -> Tensor:
    """Reverse Huber (E, eq. 1): |e| up to c, (e² + c²) / 2c beyond; c = 0.2 · max |e|.

    The maximum is taken over the whole ``batch`` (E, A, B) or over each ``image`` (C). c is a
    constant of the step: no gradient flows through it.
    """
    if maximum not in ("batch", "image"):
        raise ValueError(f"maximum: expected 'batch' or 'image', got {maximum!r}")
    error = _error(prediction, target, valid).abs()
    largest = error.detach().amax() if maximum == "batch" else error.detach().amax((1, 2, 3), True)
    c = (0.2 * largest).clamp(min=1e-6)
    return _mean(torch.where(error <= c, error, (error.square() + c.square()) / (2 * c)), valid)


def berhu_image(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """C's berHu (section 5.3.3): the maximum over each image."""
    return berhu(prediction, target, valid, "image")


def log_l1(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Logarithm of each image's ‖y − G‖₁, mean over the images: A, eq. 2 as printed.

    Another unit than metres adds a constant and changes no gradient. Unbounded below, so a norm
    under a micrometre counts as one.
    """
    norms = _error(prediction, target, valid).abs().flatten(1).sum(1)
    return _images(norms.clamp(min=1e-6).log(), valid)


def scale_invariant(
    prediction: Tensor,
    target: Tensor,
    valid: Tensor,
    lam: float = 0.5,
    least: float = 0.01,
    printed: bool = False,
) -> Tensor:
    """(1/n) Σ d² − (λ/n²) (Σ d)², d = log y − log ŷ, of each image; mean over images (C, 5.3.2).

    ``lam`` is λ in [0, 1]; C gives none, 0.5 is Eigen et al.'s, whose λ/n² this is. ``printed``
    takes C's λ/n, which is unbounded below, with a warning. A prediction below ``least`` m, where
    there is no logarithm, continues along the tangent: it is drawn back instead of stuck.
    """
    if not 0 <= lam <= 1:
        raise ValueError(f"lam: expected λ in [0, 1], got {lam!r}")
    if not least > 0:
        raise ValueError(f"least: expected positive metres, got {least!r}")
    if printed:
        warnings.warn(
            "scale_invariant as C prints it, (λ/n) (Σ d)², is unbounded below: "
            "a common factor on the depth lowers it for ever",
            stacklevel=2,
        )
    _check(prediction, target, valid)
    # Masked before the logarithm: 0 and NaN there reach no gradient.
    y, guess = torch.where(valid, target, 1), torch.where(valid, prediction, 1)
    above = guess.clamp(min=least)
    d = y.log() - (above.log() + (guess - above) / least)
    d = torch.where(valid, d, 0).flatten(1)
    n = _counts(valid)
    second = d.sum(1).square() * lam / (n if printed else n.square())
    return _images(d.square().sum(1) / n - second, valid)


def scale_invariant_printed(
    prediction: Tensor, target: Tensor, valid: Tensor, lam: float = 0.5, least: float = 0.01
) -> Tensor:
    """C's scale-invariant error with (λ/n) (Σ d)² as printed: unbounded below, with a warning."""
    return scale_invariant(prediction, target, valid, lam, least, printed=True)


def relative(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """``rmse`` + L1 of d + ½ L1 of d's differences between neighbours, d = ln y − ln y′.

    For depth in units of the scene: the first term is what ``evaluate`` reports, the second weighs
    near things as far ones, the third wants edges where the truth has them. Both logarithms are
    taken of at least 0.001.
    """
    _check(prediction, target, valid)
    logs = (torch.where(valid, depth, 1).clamp(min=1e-3).log() for depth in (prediction, target))
    d = next(logs) - next(logs)
    steps = _mean_step(d, valid, -1) + _mean_step(d, valid, -2)
    return rmse(prediction, target, valid) + _mean(d.abs(), valid) + 0.5 * steps


def relative_log(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean over the images of the logarithm of each one's ``relative``.

    Lowering an image's error by a tenth gains the same whether it has a thousand points or none, of
    which the error is ten times as large: no image outweighs the others.
    """
    _check(prediction, target, valid)
    logs = (torch.where(valid, depth, 1).clamp(min=1e-3).log() for depth in (prediction, target))
    d = next(logs) - next(logs)
    squares = _error(prediction, target, valid).square().flatten(1).sum(1) / _counts(valid)
    total = (squares + 1e-8).sqrt() + d.abs().flatten(1).sum(1) / _counts(valid)
    for axis in (-1, -2):
        length = d.shape[axis] - 1
        both = valid.narrow(axis, 0, length) & valid.narrow(axis, 1, length)
        steps = torch.where(both, d.diff(dim=axis).abs(), 0).flatten(1).sum(1)
        total = total + 0.5 * steps / _counts(both)
    return _images(total.clamp(min=1e-4).log(), valid)


def _mean_step(values: Tensor, valid: Tensor, axis: int) -> Tensor:
    """Mean |difference| of neighbours along an axis, of those that are both valid."""
    length = values.shape[axis] - 1
    both = valid.narrow(axis, 0, length) & valid.narrow(axis, 1, length)
    return _mean(torch.where(both, values.diff(dim=axis).abs(), 0), both)


def confidence(
    logit: Tensor,
    depth: Tensor,
    target: Tensor,
    valid: Tensor,
    tolerance: float = 0.05,
    belief: Tensor | float = 1.0,
) -> Tensor:
    """Cross entropy of "depth is within 5 % of the truth" against its predicted logit.

    The probability that is asked for is ``belief`` times that, of all or of each image (B,).
    """
    for name, other in (("logit", logit), ("target", target)):
        if other.shape != depth.shape:
            raise ValueError(
                f"{name}: expected depth's shape {tuple(depth.shape)}, got {tuple(other.shape)}"
            )
    right = (_error(depth, target, valid).abs() < tolerance * target).float()
    right = right * (belief.reshape(-1, 1, 1, 1) if isinstance(belief, Tensor) else belief)
    each = torch.nn.functional.binary_cross_entropy_with_logits(logit, right, reduction="none")
    return _mean(torch.where(valid, each, 0), valid)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "l1": l1,
    "l2": l2,
    "half_l2": half_l2,
    "rmse": rmse,
    "rmse_log": rmse_log,
    "berhu": berhu,
    "berhu_image": berhu_image,
    "log_l1": log_l1,
    "relative": relative,
    "relative_log": relative_log,
    "scale_invariant": scale_invariant,
    "scale_invariant_printed": scale_invariant_printed,
}


def choose(name: str, **options: Any) -> Loss:
    """A loss of ``LOSSES`` with its options set: ``choose("scale_invariant", lam=1.0)``."""
    if name not in LOSSES:
        near = difflib.get_close_matches(str(name), LOSSES, 3, 0.5)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise ValueError(f"loss: expected one of {', '.join(LOSSES)}, got {name!r}{hint}")
    known = list(inspect.signature(LOSSES[name]).parameters)[3:]
    unknown = sorted(set(options) - set(known))
    if unknown:
        wanted = f"some of {', '.join(known)}" if known else "no option"
        raise ValueError(f"loss {name}: expected {wanted}, got {', '.join(unknown)}")
    if not options:
        return LOSSES[name]
    chosen = partial(LOSSES[name], **options)
    pixel = torch.ones(1, 1, 1, 1)
    with warnings.catch_warnings():  # a wrong value is named now, not in the first step
        warnings.simplefilter("ignore")
        chosen(pixel, pixel, pixel.bool())
    return chosen
