# SPDX-License-Identifier: Apache-2.0
"""The errors of every method that answers the same frames: all, by place, of scale and edges."""

from __future__ import annotations

import numpy as np

from depth_two_stage.boundaries import BoundaryErrors
from depth_two_stage.consistency import median_ratio
from depth_two_stage.metrics import METRICS, Accumulator, score

__all__ = ["PARTS", "DepthScores"]

PARTS = ("inside", "outside")  # of the scanned band
ALIGNED = ("rmse", "rel")


class DepthScores:
    """Gathers images; `aligned` also measures each answer brought to the truth by one factor.

    The factor is the median of truth / answer in the image: what is left is not the scale's error.
    Where some method has no answer, the usual measures are also taken on the pixels `common` to
    all: errors of different pixels do not compare.
    """

    def __init__(self, aligned: bool = False) -> None:
        self.aligned = aligned
        self.partial = False
        self.whole: dict[str, Accumulator] = {}
        self.parts: dict[str, dict[str, Accumulator]] = {}
        self.boundaries: BoundaryErrors | None = None
        self.changes: list[float] = []

    def add(
        self,
        answers: dict[str, np.ndarray],
        target: np.ndarray,
        invalid: int = 0,
        band: np.ndarray | None = None,
    ) -> None:
        """Add an image: each method's answer and the target (H, W), 0 = none, of one unit.

        `invalid` pixels of the recorded truth were no depth. `band` (H, W) bool says where the
        usual measures are taken `inside`, and elsewhere `outside`.
        """
        common = np.logical_and.reduce([answer > 0 for answer in answers.values()])
        masks = {} if band is None else dict(zip(PARTS, (band, ~band), strict=True))
        if ((target > 0) & ~common).any():
            self.partial = True
            masks["common"] = common
        for name, answer in answers.items():
            scores = score(answer, target, low=0.0)
            scores["invalid_targets"] += invalid
            self.whole.setdefault(name, Accumulator()).add(scores)
            parts = self.parts.setdefault(name, {})
            if "common" not in masks:
                parts.setdefault("common", Accumulator(METRICS)).add(scores)
            for part, mask in masks.items():
                scores = score(answer, np.where(mask, target, 0), low=0.0, measures=METRICS)
                parts.setdefault(part, Accumulator(METRICS)).add(scores)
            if self.aligned:
                factor = median_ratio(target, answer) or 1.0
                scores = score(answer * factor, target, low=0.0, measures=ALIGNED)
                parts.setdefault("aligned", Accumulator(ALIGNED)).add(scores)

    def add_boundaries(
        self, answers: dict[str, np.ndarray], target: np.ndarray, width: int
    ) -> None:
        """Add an image's depth edges; `width` is that of the whole image, pixels."""
        self.boundaries = self.boundaries or BoundaryErrors()
        self.boundaries.add(answers, target, width)

    def add_change(self, coarse: np.ndarray, refined: np.ndarray) -> None:
        """Add how far stage two moved depth: both (H, W) metres, 0 = none."""
        both = (coarse > 0) & (refined > 0)
        if both.any():
            self.changes.append(float(np.median(np.abs(refined - coarse)[both])))

    def result(self, pooled: bool = False) -> dict[str, dict]:
        """Return each method's measures, means over images; `pooled` is of the errors alone."""
        result = {}
        for name, whole in self.whole.items():
            parts = {part: one.result(pooled) for part, one in self.parts[name].items()}
            aligned = parts.pop("aligned", {})
            if not self.partial:
                del parts["common"]
            result[name] = whole.result(pooled) | parts
            result[name] |= {f"aligned_{key}": aligned[key] for key in ALIGNED if aligned}
            if self.boundaries is not None:
                result[name] |= self.boundaries.result(name)
        if self.changes:
            result["refined"]["change_median"] = float(np.mean(self.changes))
        return result
