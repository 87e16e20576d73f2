# SPDX-License-Identifier: Apache-2.0
"""What depth costs without a network, on the frames of a comparison: what a row has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from depth_two_stage import files, interpolation
from depth_two_stage.datasets import Sample
from depth_two_stage.datasets.sparse import SparsePattern
from depth_two_stage.metrics import Accumulator, score

from .measuring import Progress, draw_samples

FILE = "baselines.json"
POINTS = "bernoulli:200"
METHODS = {
    "nearest": interpolation.nearest,
    "linear": interpolation.linear,
    "smooth": interpolation.smooth,
}


def read(out: Path) -> dict[str, Any] | None:
    """What was measured; None before."""
    path = out / FILE
    return files.read_json(path) if path.exists() else None


def measure(
    frames: Sequence[Sample],
    mean: np.ndarray | None,
    out: Path,
    facts: dict[str, Any],
    progress: Progress = lambda items, _: items,
) -> dict[str, Any]:
    """The training images' mean depth, and interpolations of the points that the rows get.

    ``mean`` is that depth per pixel, (h, w) m at any size, or None. ``facts`` say what was
    measured on: what is in ``out`` already is only read where its facts are the same. Returns them
    with ``results[pattern][method]``.
    """
    known = read(out)
    if known is not None and {name: known.get(name) for name in facts} == facts:
        return known
    scores: dict[str, dict[str, Accumulator]] = {}
    for index, sample in enumerate(progress(frames, "baselines")):
        if sample.depth is None:
            continue
        if mean is not None:
            size = sample.camera.size[::-1]
            depth = cv2.resize(mean, size, interpolation=cv2.INTER_LINEAR)
            _add(scores, "none", "mean", depth, sample)
        points = draw_samples(SparsePattern.parse(POINTS), sample, index)
        if points is None or not points.any():
            continue
        for name, fill in METHODS.items():
            _add(scores, POINTS, name, fill(points), sample)
    results = {
        pattern: {name: each.result() for name, each in methods.items()}
        for pattern, methods in scores.items()
    }
    found = {**facts, "results": results}
    files.write_json(out / FILE, files.plain(found))
    return files.read_json(out / FILE)


def _add(scores, pattern: str, method: str, depth: np.ndarray, sample: Sample) -> None:
    score_of = scores.setdefault(pattern, {}).setdefault(method, Accumulator())
    score_of.add(score(depth, sample.depth))
