# SPDX-License-Identifier: Apache-2.0
"""Ties a predicted depth map to measured points: by one scale, or by the interpolated error.

The error is the log ratio e = ln(point / prediction) at the points. `residual` spreads it over the
image by successive corrections (`interpolation.spread`): away from the points the correction
fades to that of coarser grids, and with few points it is held back (shrunk towards none).
"""

from __future__ import annotations

import numpy as np

from depth_two_stage.interpolation import LEVELS, enlarge, grid_coordinates, spread

__all__ = ["METHODS", "anchor"]

METHODS = ("none", "scale", "residual")

PRIOR = 1.0  # weight (in points) of "no correction" in the mean
OUTLIER = 0.3  # least deviation from the neighbours, in log ratio, at which a point is dropped


def anchor(depth: np.ndarray, sparse: np.ndarray, method: str = "residual"):
    """Tie depth (H, W) m to the points of sparse (H, W) m, 0 = none in both.

    Returns the anchored depth (H, W) float32; the residual, which is the median |depth - point| /
    point over the points that were not dropped, afterwards (0 without points); and those points as
    a mask of the pixels of `sparse` in row-major order.
    """
    if method not in METHODS:
        raise ValueError(f"anchor: expected one of {', '.join(METHODS)}, got {method!r}")
    pixels = np.flatnonzero((sparse > 0) & (depth > 0))
    kept = np.zeros(sparse.size, bool)
    if len(pixels) == 0:
        return depth, 0.0, kept.reshape(sparse.shape)
    points, predicted = sparse.flat[pixels], depth.flat[pixels]
    error = np.log(points / predicted).astype(np.float64)
    good = np.ones(len(pixels), bool)
    if method == "scale":
        depth = depth * np.float32(np.exp(np.median(error)))
    elif method == "residual":
        rows, columns = np.divmod(pixels, sparse.shape[1])
        good = inliers(rows, columns, error, sparse.shape)
        field = spread(rows[good], columns[good], error[good], sparse.shape, PRIOR)
        height, width = sparse.shape
        depth = depth * enlarge(np.exp(field), height, width)
    kept[pixels[good]] = True
    left = np.median(np.abs(depth.flat[pixels[good]] - points[good]) / points[good])
    return depth, float(left), kept.reshape(sparse.shape)


def inliers(rows: np.ndarray, columns: np.ndarray, error: np.ndarray, shape) -> np.ndarray:
    """Return which points agree with their neighbours, (N,) bool; at least half of them always.

    A point is dropped when its error deviates from the smoothed errors of the two coarsest grids by
    more than 6 robust standard deviations (MAD) and by more than `OUTLIER`. Fewer than four points
    cannot tell who is wrong: all stay.
    """
    good = np.ones(len(error), bool)
    if len(error) < 4:
        return good
    for _ in range(2):  # gross outliers first, then those that hid beside them
        centre = np.median(error[good])
        smooth = spread(
            rows[good],
            columns[good],
            np.clip(error[good] - centre, -OUTLIER, OUTLIER),
            shape,
            PRIOR,
            LEVELS[:2],
        )
        y, x = grid_coordinates(rows, columns, shape, 1)
        near = smooth[np.rint(y).astype(int), np.rint(x).astype(int)]
        deviation = np.abs(error - centre - near)
        limit = max(OUTLIER, 6 * 1.4826 * np.median(deviation))
        good = deviation <= limit
    return good
