# SPDX-License-Identifier: Apache-2.0
"""Fits the confidence formula to a checkpoint on half of a validation set, measures the other."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from depth_two_stage import confidence, files, networks
from depth_two_stage.datasets import Sample
from depth_two_stage.datasets.sparse import SparsePattern
from depth_two_stage.estimator import DepthEstimator
from depth_two_stage.framing import Framing

__all__ = ["HALVES", "PATTERNS", "calibrate", "half_of"]

HALVES = ("first", "second")

#: what the weights for points are fitted to, all together; "none" has its own
PATTERNS = (
    "none",
    "bernoulli:20",
    "bernoulli:50",
    "bernoulli:100",
    "bernoulli:200",
    "bernoulli:500",
    "lines:16",
)
PIXELS = 2000  # drawn from each frame
MEASURED = "bernoulli:200"  # on which the other half is measured


class Recorder:
    """Stands where the formula stands in an estimator, and keeps what it is asked."""

    def __call__(self, refined, coarse, points, logit=None) -> np.ndarray:
        """Keep the features (F, h, w); the confidence is 1 everywhere."""
        self.features = confidence.features(refined, coarse, points, logit)
        return np.ones_like(refined)


def half_of(dataset: Sequence[Sample], name: str) -> Sequence[Sample]:
    """Return the first half of a recording, to which `calibrate` fits, or the second, the rest.

    ValueError for another name, and where there are no two frames.
    """
    if name not in HALVES:
        raise ValueError(f"half: expected one of {', '.join(HALVES)}, got {name!r}")
    if len(dataset) < 2:
        raise ValueError(f"half: expected at least 2 frames, got {len(dataset)}")
    half = len(dataset) // 2
    return dataset[:half] if name == "first" else dataset[half:]


def calibrate(
    dataset: Sequence[Sample],
    weights: str,
    seed: int = 0,
    progress: Callable[[Iterable, str], Iterable] = lambda items, _: items,
    **options,
) -> dict:
    """Fit to the first half of `dataset`, write the file beside the weights, return the report.

    Recordings are in order of place, so the two halves show different ones. `options` are those of
    `DepthEstimator`. The report says, of the other half, how far RMSE falls when the least
    confident 20 % of the pixels are dropped.
    """
    from depth_two_stage.evaluation import Plan, evaluate

    first, second = (half_of(dataset, name) for name in HALVES)
    estimator = DepthEstimator(weights, **options)
    estimator.confidence = recorder = Recorder()
    fitted = {}
    for name in ("no_points", "points"):
        x, right, squares = [], [], []
        for text in PATTERNS:
            if (text == "none") == (name == "no_points"):
                for index, sample in enumerate(progress(first, f"fit {text}")):
                    drawn = draw(estimator, recorder, sample, text, [seed, index])
                    for kept, some in zip((x, right, squares), drawn, strict=True):
                        kept.append(some)
        fitted[name] = confidence.fit(*map(np.concatenate, (x, right, squares)))
    # Beside the weights, with their checksum: another checkpoint does not get this calibration.
    path = confidence.calibration_path(networks.read_checkpoint(networks.resolve(weights)))
    files.write_json(
        path,
        {
            "checksum": estimator.checksum,
            "features": confidence.FEATURES,
            "weights": fitted,
            "fitted_to": f"first {len(first)} of {len(dataset)} frames",
            "dataset": [getattr(dataset, name, None) for name in ("name", "split")],
            "anchor": estimator.anchor,
        },
    )
    estimator.confidence = confidence.Confidence(fitted)
    report = evaluate(second, estimator, Plan((MEASURED, "none"), seed=seed), None, progress)
    return report | {"calibration": str(path), "formula": fitted}


def draw(estimator, recorder: Recorder, sample: Sample, text: str, seed: list[int]):
    """Return the features (N, F) of random pixels with truth, whether depth is right, (N,) bool.

    And the squared error (N,), in units of its mean in these pixels.
    """
    rng = np.random.default_rng([*seed, zlib.crc32(text.encode())])
    sparse = SparsePattern.parse(text)(sample, rng)
    depth = estimator(sample.rgb, sparse, sample.camera).depth
    framing = Framing.fit(sample.camera.size, estimator.settings.input_size)
    valid = np.flatnonzero((sample.depth > 0) & (depth > 0))
    chosen = rng.choice(valid, min(PIXELS, len(valid)), replace=False)
    x = np.stack([framing.restore(f).flat[chosen] for f in recorder.features], axis=1)
    truth = sample.depth.flat[chosen]
    error = np.abs(depth.flat[chosen] - truth)
    return x, error < confidence.TOLERANCE * truth, error**2 / max(np.mean(error**2), 1e-12)
