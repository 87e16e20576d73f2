# SPDX-License-Identifier: Apache-2.0
"""Confidence: the probability that a pixel's depth is within 5 % of the truth.

A logistic function of what can be seen without the truth, at the network's resolution:

    p = 1 / (1 + exp(-(b + sum_i w_i f_i)))

    distance   ln(1 + pixels of the network's input to the nearest point), at most ln(1 + 64)
    distance2  its square
    stages     ln(1 + 20 |refined - coarse| / refined)
    edge       ln(1 + 20 range of ln refined in a window of 5x5), where surfaces end
    wide       the same in a window of 21x21
    depth      ln refined, in metres of the canonical camera
    depth2     its square
    network    the logit that the network itself gives (`networks.TwoStage`), 0 of one without
    departure  ln(1 + 20 |d - median d|), d = ln(refined / depth of the nearest point)

Without points there is no distance and no departure, and its own set of weights. The weights are
fitted by `fit` to half of a validation set and kept beside the checkpoint; a checkpoint without
them gets `DEFAULT`, said by `calibrated`.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import cv2
import numpy as np

from depth_two_stage.files import FileError, read_json
from depth_two_stage.networks.inputs import nearest_fill

__all__ = ["FEATURES", "TOLERANCE", "Confidence", "features", "fit"]

TOLERANCE = 0.05  # relative error that "right" means
FARTHEST = 64.0  # pixels of the network's input
RANKING = 0.9  # how much of the direction that ranks errors by their size
MOST = 100.0  # squared error, in the frame's mean, beyond which one pixel counts as no larger
FEATURES = (
    *("bias", "distance", "distance2", "stages", "edge", "wide", "depth", "depth2"),
    *("network", "departure"),
)

#: used for a checkpoint that has not been calibrated; one that predicts its own is believed
DEFAULT = {
    "points": [1.5, -0.4, 0.0, -0.8, -0.8, -0.3, -0.3, 0.0, 0.0, 0.0],
    "no_points": [0.0, 0.0, 0.0, -0.8, -0.5, -0.3, -0.3, 0.0, 0.0, 0.0],
}


def features(
    refined: np.ndarray,
    coarse: np.ndarray,
    points: np.ndarray | None,
    logit: np.ndarray | None = None,
) -> np.ndarray:
    """Return the features (F, h, w) of FEATURES.

    `refined` and `coarse` (h, w) are canonical metres before anchoring; `points` is sparse depth in
    any unit and of any resolution over the same view, 0 = none, or None without points; `logit`
    (h, w) is the network's own, or None.
    """
    depth = np.maximum(refined, 1e-3)
    log = np.log(depth)
    size = refined.shape[::-1]
    if points is None or not points.any():
        distance = departure = np.zeros_like(depth)
    else:
        nearest, distance = nearest_fill(points)
        distance = cv2.resize(distance, size, interpolation=cv2.INTER_LINEAR)
        distance = np.log1p(np.minimum(distance, FARTHEST))
        departure = log - np.log(cv2.resize(nearest, size, interpolation=cv2.INTER_NEAREST))
        departure = np.log1p(20 * np.abs(departure - np.median(departure)))
    stages = np.log1p(20 * np.abs(refined - coarse) / depth)
    edges = []
    for window in (5, 21):
        kernel = np.ones((window, window), np.uint8)
        edges.append(np.log1p(20 * (cv2.dilate(log, kernel) - cv2.erode(log, kernel))))
    return np.stack(
        [
            *(np.ones_like(depth), distance, distance**2, stages, *edges, log, log**2),
            np.zeros_like(depth) if logit is None else np.clip(logit, -30, 30),
            departure,
        ]
    ).astype(np.float32)


def calibration_path(checkpoint) -> Path:
    """Return where the weights fitted to a checkpoint are kept."""
    return checkpoint.path.with_name(f"{checkpoint.name}.confidence.json")


def by_feature(content: dict, weights: list[float]) -> list[float]:
    """Return a file's weights in the order of FEATURES; one that is younger weighs nothing."""
    names = content.get("features", FEATURES)
    if len(names) != len(weights):
        return weights  # which `Confidence` refuses
    known = dict(zip(names, weights, strict=True))
    unknown = known.keys() - set(FEATURES)
    if unknown:
        raise ValueError(f"unknown features {', '.join(sorted(unknown))}")
    return [known.get(name, 0.0) for name in FEATURES]


class Confidence:
    """The formula with its weights, {"points": (F,), "no_points": (F,)}; None takes DEFAULT."""

    def __init__(self, weights: dict | None = None) -> None:
        self.calibrated = weights is not None
        weights = DEFAULT if weights is None else weights
        self.weights = {}
        for name in DEFAULT:
            w = np.asarray(weights.get(name, ()), np.float32)
            if w.shape != (len(FEATURES),) or not np.isfinite(w).all():
                expected = f"{len(FEATURES)} finite numbers ({', '.join(FEATURES)})"
                raise ValueError(f"confidence {name}: expected {expected}, got {list(w)}")
            self.weights[name] = w

    @classmethod
    def of(cls, checkpoint) -> Confidence:
        """Return the formula fitted to a checkpoint, from the JSON file beside it."""
        path = calibration_path(checkpoint)
        if not path.exists():
            return cls()
        content = read_json(path)
        if content.get("checksum") != checkpoint.checksum:
            warnings.warn(
                f"{path}: expected a calibration of weights {checkpoint.checksum}, got one of "
                f"{content.get('checksum')}; using the uncalibrated formula",
                RuntimeWarning,
                stacklevel=2,
            )
            return cls()
        weights = content.get("weights")
        try:
            return cls({name: by_feature(content, weights[name]) for name in DEFAULT})
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(f"{path}: expected weights of the formula, got {error}") from error

    def __call__(
        self,
        refined: np.ndarray,
        coarse: np.ndarray,
        points: np.ndarray | None,
        logit: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the probability (h, w) float32; arguments as for `features`."""
        if logit is None or self.calibrated:
            name = "no_points" if points is None or not points.any() else "points"
            found = features(refined, coarse, points, logit)
            logit = np.tensordot(self.weights[name], found, 1)
        return 1 / (1 + np.exp(-np.clip(logit, -30, 30)))


def fit(x: np.ndarray, right: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Fit the weights (F,) to features x (N, F), right (N,) bool and squared errors (N,).

    Two directions are mixed, `RANKING` of the first: that which tells large errors from small ones
    (ln of the expected squared error, in units of the frame's mean, is linear in the features:
    Poisson regression) and that of the probability of "right" (logistic regression). How probable
    "right" is along the mixture is a logistic function again. Fitted to "right" alone, pixels that
    are wrong by 6 % and by 60 % rank alike: dropping the least confident fifth lowers the RMSE of
    the other half of `nyu/val` by 39 %, along the mixture by 46 %, along the first direction too,
    whose probabilities are off by more.
    """
    x, y = np.asarray(x, np.float64), np.asarray(right, np.float64)
    ranking = -_newton(x, np.minimum(squares, MOST), np.exp)
    plain = _newton(x, y, _logistic)
    score = RANKING * _unit(ranking) + (1 - RANKING) * _unit(plain)
    line = np.stack([np.ones(len(x)), x @ score], axis=1)
    bias, slope = _newton(line, y, _logistic, ridge=1e-9)
    weights = slope * score
    weights[FEATURES.index("bias")] += bias
    return weights


def _unit(weights: np.ndarray) -> np.ndarray:
    return weights / max(np.abs(weights).sum(), 1e-9)


def _logistic(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def _newton(x: np.ndarray, y: np.ndarray, mean, ridge: float = 1e-3, steps: int = 60) -> np.ndarray:
    """Weights (F,) of a regression with a canonical link: mean(x w) is what y (N,) is on average.

    `ridge` keeps features that never vary (distance without points) at zero.
    """
    w = np.zeros(x.shape[1])
    for _ in range(steps):
        m = mean(np.clip(x @ w, -30, 10))
        gradient = x.T @ (m - y) / len(y) + ridge * w
        variance = m * (1 - m) if mean is _logistic else m
        hessian = (x.T * variance) @ x / len(y) + ridge * np.eye(len(w))
        step = np.linalg.solve(hessian, gradient)
        longest = max(np.abs(step).max(), 1e-9)
        w = w - step * min(1, 2 / longest)  # far from the end Newton's steps are too long
        if np.abs(step).max() < 1e-6:
            break
    return w
