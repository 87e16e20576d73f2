# SPDX-License-Identifier: Apache-2.0
"""Whether the confidence tells right depth from wrong."""

from __future__ import annotations

import numpy as np

from depth_two_stage.confidence import TOLERANCE

__all__ = ["Doubt"]

KEPT = 0.8  # share of pixels left when the least confident are dropped


class Doubt:
    """Confidence against what happened: calibration, and the error that is left when it is used."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float, float, float]] = []

    def add(self, depth: np.ndarray, truth: np.ndarray, confidence: np.ndarray) -> None:
        """Add a frame: depth and truth (H, W) metres, confidence (H, W)."""
        valid = (truth > 0) & (depth > 0)
        if not valid.any():
            return
        p, error, t = confidence[valid], np.abs(depth - truth)[valid], truth[valid]
        order = np.argsort(-p, kind="stable")[: max(1, round(KEPT * len(p)))]
        kept = np.sqrt(np.mean(error[order].astype(np.float64) ** 2))
        everything = np.sqrt(np.mean(error.astype(np.float64) ** 2))
        self.rows.append((p.mean(), np.mean(error < TOLERANCE * t), everything, kept))

    def result(self) -> dict | None:
        """Return the means over images; None without truth."""
        if not self.rows:
            return None
        mean, right, everything, kept = (float(v) for v in np.mean(self.rows, axis=0))
        return {
            "mean": mean,
            "within_5_percent": right,
            "rmse_all": everything,
            "rmse_most_confident_80_percent": kept,
            "reduction": 1 - kept / everything if everything else 0.0,
        }
