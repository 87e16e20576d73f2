# SPDX-License-Identifier: Apache-2.0
"""Whether the confidence tells right depth from wrong."""

from __future__ import annotations

import numpy as np

from depth_two_stage.confidence import TOLERANCE

__all__ = ["Doubt", "calibration"]

KEPT = 0.8  # share of pixels left when the least confident are dropped
BINS = 10
PIXELS = 4096  # drawn from each frame for the bins
STORED = 2**20  # pixels kept at most, of all frames together


class Doubt:
    """Confidence against what happened: calibration, and the error that is left when it is used."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float, float, float]] = []
        self.spread_rows: list[tuple[float, float]] = []
        self.pixels: list[np.ndarray] = []  # (2, N): confidence and relative error
        self.quota = PIXELS

    def add(
        self,
        depth: np.ndarray,
        truth: np.ndarray,
        confidence: np.ndarray,
        spread: np.ndarray | None = None,
    ) -> None:
        """Add a frame: depth and truth (H, W) metres, confidence (H, W).

        `spread` (H, W) is another doubt of the same depth, `interpolation.triangle_spread`.
        """
        valid = (truth > 0) & (depth > 0)
        if not valid.any():
            return
        p, error, t = confidence[valid], np.abs(depth - truth)[valid], truth[valid]
        squared = error.astype(np.float64) ** 2
        everything, kept = np.sqrt(squared.mean()), rmse_of_surest(p, squared)
        self.rows.append((p.mean(), np.mean(error < TOLERANCE * t), everything, kept))
        if spread is not None:
            self.spread_rows.append((everything, rmse_of_surest(-spread[valid], squared)))
        self._store(np.stack([p, error / t]))

    def _store(self, pixels: np.ndarray) -> None:
        """Keep some of a frame's pixels; when there are too many, half of those of every frame."""
        rng = np.random.default_rng(len(self.rows))  # the same pixels in every run
        count = pixels.shape[1]
        chosen = rng.choice(count, min(self.quota, count), replace=False)
        self.pixels.append(pixels[:, chosen])
        if sum(p.shape[1] for p in self.pixels) > STORED:
            self.quota //= 2
            self.pixels = [p[:, : max(1, p.shape[1] // 2)] for p in self.pixels]

    def result(self) -> dict | None:
        """Return the means over images, and the bins over pixels; None without truth."""
        if not self.rows:
            return None
        mean, right, everything, kept = (float(v) for v in np.mean(self.rows, axis=0))
        result = {
            "mean": mean,
            "within_5_percent": right,
            "rmse_all": everything,
            "rmse_most_confident_80_percent": kept,
            "reduction": reduction(everything, kept),
        }
        if self.spread_rows:
            result["triangle_spread_drop"] = reduction(*np.mean(self.spread_rows, axis=0))
        return result | calibration(*np.concatenate(self.pixels, axis=1))


def rmse_of_surest(confidence: np.ndarray, squared: np.ndarray) -> float:
    """Return the RMSE of the surest 80 % of pixels (N,), of their squared errors (N,)."""
    order = np.argsort(-confidence, kind="stable")[: max(1, round(KEPT * len(confidence)))]
    return np.sqrt(squared[order].mean())


def reduction(everything: float, kept: float) -> float:
    """Return the share by which RMSE falls."""
    return float(1 - kept / everything) if everything else 0.0


def calibration(confidence: np.ndarray, error: np.ndarray) -> dict:
    """Return ten bins of equally many pixels by confidence (N,), against relative errors (N,).

    Each of `bins` has `expected` (mean confidence), `observed` (share within 5 %), their
    `error` |expected - observed| / observed (of a bin with nothing right, relative to one pixel),
    the median `rel` error and `pixels`. `calibration_error_median` and `_max` are over the bins,
    `monotone` says whether what is observed never falls from bin to bin, `largest_fall` by how much
    it does. Fewer than ten pixels give fewer bins.
    """
    order = np.argsort(confidence, kind="stable")
    bins = []
    for part in np.array_split(order, min(BINS, len(order))):
        expected = float(confidence[part].mean(dtype=np.float64))
        observed = float(np.mean(error[part] < TOLERANCE))
        bins.append(
            {
                "expected": expected,
                "observed": observed,
                "error": abs(expected - observed) / max(observed, 1 / len(part)),
                "rel": float(np.median(error[part])),
                "pixels": len(part),
            }
        )
    errors = [b["error"] for b in bins]
    steps = np.diff([b["observed"] for b in bins])
    fall = float(max(0.0, -steps.min())) if len(steps) else 0.0
    return {
        "bins": bins,
        "calibration_error_median": float(np.median(errors)),
        "calibration_error_max": max(errors),
        "monotone": fall == 0,
        "largest_fall": fall,
    }
