# SPDX-License-Identifier: Apache-2.0
"""Measures one trained network of a comparison on its frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from depth_two_stage import files, networks
from depth_two_stage.datasets import Sample
from depth_two_stage.datasets.sparse import SparsePattern
from depth_two_stage.estimator import DepthEstimator
from depth_two_stage.metrics import Accumulator, score

from .grid import grid_pattern
from .plan import Row

Progress = Callable[[Iterable, str], Iterable]
EDGES = (0.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0, 10.0)  # m, bins of error against depth
PICTURES = (0.1, 0.5, 0.9)  # places in the recording of the frames that are shown


def measure(
    weights: Path,
    frames: Sequence[Sample],
    sparse: Sequence[str],
    out: Path,
    row: Row,
    progress: Progress,
    farthest: float = np.inf,
) -> dict[str, Any]:
    """Every frame through the estimator, not anchored, in fp32: what the network itself says.

    Depth is clipped to the network's range, so that nobody's worst pixels are left out.
    ``results[pattern][stage]`` hold the measures after each stage (coarse after the first, refined
    after the last, ``two`` between them), ``bins`` RMSE and rel by true depth, both of truth below
    ``farthest`` m (E, Make3D: 70), ``grid`` the checkerboard of stage one's output.
    """
    estimators = {"": Clipped(weights)}
    model, checkpoint = networks.load(str(weights))
    if model.stage_three is not None:  # the same network as it was before its third stage
        spec = {**checkpoint.facts["architecture"], "stage_three": None}
        model.stage_three = None
        between = weights.with_name("weights-two")
        networks.save(between, model, spec, {"recipe": checkpoint.facts["recipe"]})
        estimators["two"] = Clipped(between)
    shown = {int(share * len(frames)) for share in PICTURES}
    results, bins, strip = {}, {}, []
    # Of the same number outdoors, where depth goes further.
    edges = [edge * max(1.0, model.settings.max_depth / EDGES[-1]) for edge in EDGES]
    for text in sparse:
        pattern, scores = SparsePattern.parse(text), {}
        sums = np.zeros((len(edges) - 1, 3))
        for index, sample in enumerate(progress(frames, f"{row.label}: {text}")):
            if sample.depth is None:
                continue
            truth = np.where(sample.depth < farthest, sample.depth, np.float32(0))
            points = draw_samples(pattern, sample, index)
            coarse, refined = estimators[""](sample, points)
            depths = {"coarse": coarse, "refined": refined}
            if "two" in estimators:
                depths["two"] = estimators["two"](sample, points)[1]
            for name, depth in depths.items():
                scores.setdefault(name, Accumulator()).add(score(depth, truth))
            sums += by_depth(refined, truth, edges)
            if index in shown and text == sparse[-1]:
                strip.append(cv2.resize(refined, (152, 114), interpolation=cv2.INTER_AREA))
        results[text] = {name: each.result() for name, each in scores.items()}
        n = np.maximum(sums[:, 0], 1)
        bins[text] = {
            "edges": edges,
            "pixels": sums[:, 0].tolist(),
            "rmse": np.sqrt(sums[:, 1] / n).tolist(),
            "rel": (sums[:, 2] / n).tolist(),
        }
    if strip:
        # Depth in centimetres, losslessly: the report draws them all in one scale.
        files.write_depth(out / "pictures" / f"{row.key}.png", np.hstack(strip), 100.0)
    found = {"results": results, "bins": bins, "frames": len(frames)}
    if model.stage_one is not None:
        found["grid"] = float(np.mean([grid_pattern(model, frames[i]) for i in sorted(shown)]))
    return found


def draw_samples(pattern: SparsePattern, sample: Sample, index: int) -> np.ndarray | None:
    """The points of a measured frame, the same for all rows: float32 (H, W) m, or None."""
    return pattern(sample, np.random.default_rng([0, index, pattern.count]))


class Clipped:
    """The estimator in fp32 without anchor, whose answer is clipped to the network's range.

    Called with (sample, points): coarse and refined depth, float32 (H, W) m.
    """

    def __init__(self, weights: Path) -> None:
        options = {"engine": "torch", "precision": "fp32", "anchor": "none"}
        self.estimator = DepthEstimator(str(weights), **options)
        self.range = self.estimator.settings.min_depth, self.estimator.settings.max_depth
        # The estimator itself would leave out what lies beyond.
        everything = {"min_depth": 0.0, "max_depth": 1000.0}
        self.estimator.settings = dataclasses.replace(self.estimator.settings, **everything)

    def __call__(self, sample: Sample, points: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Coarse and refined depth."""
        estimate = self.estimator(sample.rgb, points, sample.camera)
        return np.clip(estimate.coarse, *self.range), np.clip(estimate.depth, *self.range)


def by_depth(depth: np.ndarray, truth: np.ndarray, edges: Sequence[float] = EDGES) -> np.ndarray:
    """Per bin of true depth: pixels, sums of squared error (m²) and of rel; (bins, 3)."""
    valid = (truth > 0) & (depth > 0)
    t, error = truth[valid].astype(np.float64), (depth - truth)[valid].astype(np.float64)
    place = np.digitize(t, edges) - 1
    inside = (place >= 0) & (place < len(edges) - 1)
    place, t, error = place[inside], t[inside], error[inside]
    columns = (np.ones_like(t), error**2, np.abs(error) / t)
    return np.column_stack([np.bincount(place, column, len(edges) - 1) for column in columns])
