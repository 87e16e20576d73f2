# SPDX-License-Identifier: Apache-2.0
"""Depth errors: the named measures of one image, and their mean over images or pixels.

Depth y' and truth y are metres unless a protocol says otherwise (D's are 0…1). What counts:

- truth at 0 is none; truth that is NaN, infinite or negative is left out and counted
  (`invalid_targets`); truth outside the protocol's limits is left out;
- where truth counts, a prediction that is NaN, infinite, 0 or negative is left out of the errors
  and counted (`missing` of `pixels`; `coverage` is the share with a prediction);
- an image without one pixel that counts is left out of means and counted (`empty`);
- arrays of different shapes, of other than two dimensions or not of numbers raise ValueError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from depth_two_stage.naming import nearest

__all__ = ["GROUPS", "MEASURES", "METRICS", "Accumulator", "Measure", "chosen", "score"]

Terms = dict[str, np.ndarray]


@dataclass(frozen=True)
class Measure:
    """One measure: the mean over pixels of ``term``, and its square root if ``root``.

    ``term`` is computed from the valid pixels' p, t, e = p - t, d = log p - log t and
    r = max(p/t, t/p). Per pixel, the terms of all images are averaged before the root is taken.
    """

    help: str
    term: Callable[[Terms], np.ndarray]
    root: bool = False


def _below(limit: float) -> Callable[[Terms], np.ndarray]:
    return lambda v: v["r"] < limit


def _rel(v: Terms) -> np.ndarray:
    return np.abs(v["e"]) / v["t"]


def _rel_by_prediction(v: Terms) -> np.ndarray:
    return np.abs(v["e"]) / v["p"]


def _squared(v: Terms) -> np.ndarray:
    return v["e"] ** 2


def _squared_log(v: Terms) -> np.ndarray:
    return v["d"] ** 2


def _inverse(v: Terms) -> np.ndarray:
    return 1000 / v["p"] - 1000 / v["t"]  # 1/km


#: every measure of the five papers and of KITTI, by its key in reports
MEASURES = {
    # A, B, E and what tables show first
    "rel": Measure("|y - y'| / y (A eq. 4; C prints it so, too)", _rel),
    "rmse": Measure("root of the mean squared error, m", _squared, root=True),
    "rmse_log": Measure("the same of natural logarithms", _squared_log, root=True),
    "log10": Measure("|log10 y - log10 y'|", lambda v: np.abs(v["d"]) / np.log(10)),
    "mae": Measure("|y - y'|, m", lambda v: np.abs(v["e"])),
    "delta1": Measure("share of pixels with max(y/y', y'/y) < 1.25", _below(1.25)),
    "delta2": Measure("… < 1.25²", _below(1.25**2)),
    "delta3": Measure("… < 1.25³", _below(1.25**3)),
    # D, section 3.4
    "mse": Measure("D eq. 3: mean squared error, m²", _squared),
    "ard": Measure("D eq. 4 divided by the target: rel", _rel),
    "ard_printed": Measure("D eq. 4 as printed, divided by the reconstruction", _rel_by_prediction),
    "lrmse": Measure("D eq. 5: rmse_log", _squared_log, root=True),
    # D's own figures (Table 1: 0.2068 beside an LRMSE of 0.3377) are below LRMSE and above its
    # square, so they are not eq. 6 as printed but fit the scale-invariant error of Eigen et al.
    "lrmse_si": Measure(
        "root of the variance of log y' - log y in its image (Eigen et al., scale-invariant)",
        lambda v: (v["d"] - v["d"].mean()) ** 2,
        root=True,
    ),
    "lrmse_si_printed": Measure("D eq. 6 as printed: the mean squared log error", _squared_log),
    "srd": Measure(
        "D eq. 7 divided by the target: (y - y')² / y, m", lambda v: v["e"] ** 2 / v["t"]
    ),
    "srd_printed": Measure(
        "D eq. 7 as printed, divided by the reconstruction", lambda v: v["e"] ** 2 / v["p"]
    ),
    # KITTI's depth completion benchmark
    "irmse": Measure("rmse of inverse depth, 1/km", lambda v: _inverse(v) ** 2, root=True),
    "imae": Measure("mae of inverse depth, 1/km", lambda v: np.abs(_inverse(v))),
}

#: the measures that tables show unless told otherwise; the deltas are shares (larger is better)
METRICS = ("rel", "rmse", "rmse_log", "log10", "mae", "delta1", "delta2", "delta3")

_DELTAS = ("delta1", "delta2", "delta3")
#: what each paper's tables show
GROUPS = {
    "usual": METRICS,
    "A": ("rmse", "rel", "log10", *_DELTAS),
    "B": ("rel", "rmse", "log10", *_DELTAS),
    "C": ("delta1", "rel", "rmse"),
    "D": (
        *("rmse", "mse", "ard", "ard_printed", "lrmse", "lrmse_si", "lrmse_si_printed"),
        *("srd", "srd_printed"),
    ),
    "E": ("rel", "rmse", "rmse_log", "log10", *_DELTAS),
    "kitti": ("rmse", "mae", "irmse", "imae", *_DELTAS),
    "all": tuple(MEASURES),
}


def chosen(text: str) -> tuple[str, ...]:
    """Return the measures that "D", "all", "usual,irmse" name: groups and measures, each once."""
    names: list[str] = []
    for word in text.split(","):
        word = word.strip()
        if word not in GROUPS and word not in MEASURES:
            known = [*GROUPS, *MEASURES]
            raise ValueError(
                f"measures: expected some of {', '.join(known)}, got {word!r}{nearest(word, known)}"
            )
        names += GROUPS.get(word, (word,))
    return tuple(dict.fromkeys(names))


def score(
    depth: np.ndarray,
    truth: np.ndarray,
    low: float = 1e-3,
    high: float = np.inf,
    measures: Sequence[str] = tuple(MEASURES),
) -> dict:
    """Return the measures of `depth` against `truth`, both (H, W) metres, and the counts.

    A pixel of truth counts when it is finite and low < truth < high, with low ≥ 0. With no pixel
    that counts and has a prediction every measure is NaN.
    """
    depth, truth = np.asarray(depth), np.asarray(truth)
    for name, array in (("depth", depth), ("truth", truth)):
        if array.ndim != 2 or array.dtype.kind not in "fiu":
            raise ValueError(f"{name}: expected numbers (H, W), got {array.dtype} {array.shape}")
    if depth.shape != truth.shape:
        raise ValueError(f"depth: expected the truth's shape {truth.shape}, got {depth.shape}")
    if not 0 <= low < high:
        raise ValueError(f"limits: expected 0 <= low < high, got {low} and {high}")
    finite = np.isfinite(truth)
    wanted = finite & (truth > low) & (truth < high)
    valid = wanted & np.isfinite(depth) & (depth > 0)
    pixels = int(np.count_nonzero(wanted))
    counts = {
        "pixels": pixels,
        "missing": pixels - int(np.count_nonzero(valid)),
        "invalid_targets": int(np.count_nonzero(~finite | (truth < 0))),
    }
    if pixels == counts["missing"]:
        return dict.fromkeys(measures, float("nan")) | counts
    p, t = depth[valid].astype(np.float64), truth[valid].astype(np.float64)
    ratio = p / t
    terms = {"p": p, "t": t, "e": p - t, "d": np.log(ratio), "r": np.maximum(ratio, 1 / ratio)}
    return {name: _mean(MEASURES[name], terms) for name in measures} | counts


def _mean(measure: Measure, terms: Terms) -> float:
    mean = float(np.mean(measure.term(terms)))
    return float(np.sqrt(mean)) if measure.root else mean


class Accumulator:
    """Gathers the scores of images; images without a pixel to compare are counted, not averaged."""

    def __init__(self, measures: Sequence[str] = tuple(MEASURES)) -> None:
        self.measures = tuple(measures)
        self.scores: list[dict] = []

    def add(self, scores: dict) -> None:
        """Add what `score` returned for one image."""
        self.scores.append(scores)

    def result(self, pooled: bool = False) -> dict:
        """Return the mean of per-image values, or (`pooled`) every pixel weighing the same.

        Pooled, measures with a root are the root of the mean over all pixels, not a mean of roots;
        the scale-invariant one keeps each image's own scale. Besides the measures: `images`
        averaged, `empty` images left out, `pixels` of truth, `missing` predictions among them,
        `coverage` (the share with a prediction), `invalid_targets` left out.
        """
        used = [s for s in self.scores if s["pixels"] > s["missing"]]
        pixels = sum(s["pixels"] for s in self.scores)
        missing = sum(s["missing"] for s in self.scores)
        weights = np.array([s["pixels"] - s["missing"] if pooled else 1 for s in used], np.float64)
        result = dict.fromkeys(self.measures)
        for name in self.measures if used else ():
            values = np.array([s[name] for s in used])
            if pooled and MEASURES[name].root:
                result[name] = float(np.sqrt(np.average(values**2, weights=weights)))
            else:
                result[name] = float(np.average(values, weights=weights))
        return result | {
            "images": len(used),
            "empty": len(self.scores) - len(used),
            "pixels": pixels,
            "missing": missing,
            "coverage": (pixels - missing) / pixels if pixels else 0.0,
            "invalid_targets": sum(s["invalid_targets"] for s in self.scores),
        }
