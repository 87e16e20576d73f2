# SPDX-License-Identifier: Apache-2.0
"""Depth errors: the named measures of one image, and their mean over images or pixels."""

from __future__ import annotations

import numpy as np

__all__ = ["METRICS", "Accumulator", "score"]

#: the error measures, in the order of tables; the deltas are shares of pixels (larger is better)
METRICS = ("rel", "rmse", "rmse_log", "log10", "mae", "delta1", "delta2", "delta3")


def score(depth: np.ndarray, truth: np.ndarray, low: float = 1e-3, high: float = np.inf) -> dict:
    """Return the errors of `depth` against `truth`, both (H, W) metres, over pixels valid in both.

    A pixel of truth counts when it is finite and low < truth < high; a prediction when it is finite
    and positive. Predictions missing where truth stands are left out of the errors and counted:
    `missing` of `pixels`. With no common pixel every measure is NaN.
    """
    if depth.shape != truth.shape:
        raise ValueError(f"depth: expected the truth's shape {truth.shape}, got {depth.shape}")
    wanted = np.isfinite(truth) & (truth > low) & (truth < high)
    with np.errstate(invalid="ignore"):
        valid = wanted & np.isfinite(depth) & (depth > 0)
    pixels = int(np.count_nonzero(wanted))
    counts = {"pixels": pixels, "missing": pixels - int(np.count_nonzero(valid))}
    if pixels == counts["missing"]:
        return dict.fromkeys(METRICS, float("nan")) | counts
    p, t = depth[valid].astype(np.float64), truth[valid].astype(np.float64)
    error, log = p - t, np.log(p / t)
    factor = np.exp(np.abs(log))  # max(p / t, t / p)
    return {
        "rel": float(np.mean(np.abs(error) / t)),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "rmse_log": float(np.sqrt(np.mean(log**2))),
        "log10": float(np.mean(np.abs(log)) / np.log(10)),
        "mae": float(np.mean(np.abs(error))),
        "delta1": float(np.mean(factor < 1.25)),
        "delta2": float(np.mean(factor < 1.25**2)),
        "delta3": float(np.mean(factor < 1.25**3)),
    } | counts


class Accumulator:
    """Gathers the scores of images; images without a common pixel are counted, not averaged."""

    def __init__(self) -> None:
        self.scores: list[dict] = []

    def add(self, scores: dict) -> None:
        """Add what `score` returned for one image."""
        self.scores.append(scores)

    def result(self, pooled: bool = False) -> dict:
        """Return the mean of per-image values, or (`pooled`) every pixel weighing the same.

        Besides the measures: `images` averaged, `empty` images left out, `pixels` of truth and the
        `coverage`, the share of those with a prediction.
        """
        used = [s for s in self.scores if s["pixels"] > s["missing"]]
        pixels = sum(s["pixels"] for s in self.scores)
        missing = sum(s["missing"] for s in self.scores)
        weights = np.array([s["pixels"] - s["missing"] if pooled else 1 for s in used], np.float64)
        result = dict.fromkeys(METRICS)
        for name in METRICS if used else ():
            values = np.array([s[name] for s in used])
            if pooled and name.startswith("rmse"):  # the root of the mean, not the mean of roots
                result[name] = float(np.sqrt(np.average(values**2, weights=weights)))
            else:
                result[name] = float(np.average(values, weights=weights))
        return result | {
            "images": len(used),
            "empty": len(self.scores) - len(used),
            "pixels": pixels,
            "coverage": (pixels - missing) / pixels if pixels else 0.0,
        }
