# SPDX-License-Identifier: Apache-2.0
"""Ties a predicted depth map to measured points: by one scale, or by the interpolated error.

The error is the log ratio e = ln(point / prediction) at the points. `residual` spreads it over the
image by successive corrections (`interpolation.spread`): away from the points the correction
fades to that of coarser grids, and with few points it is held back (shrunk towards none). Points of
a dense scan lie closer than the network's pixels: what they have left after that is spread on finer
grids, and near them interpolation alone has half of the say.
"""

from __future__ import annotations

import cv2
import numpy as np

from depth_two_stage.interpolation import (
    LEVELS,
    enlarge,
    grid_coordinates,
    smooth,
    spread,
    spread_finely,
)

__all__ = [
    "METHODS",
    "anchor",
    "between_neighbours",
    "hedged",
    "interpolated",
    "within_range",
    "without_strays",
]

METHODS = ("none", "scale", "residual")

PRIOR = 1.0  # weight (in points) of "no correction" in the mean
NEIGHBOURS = 24  # of these nearest points `SUPPORT` must agree with one, or it is a stray
SUPPORT = 2
STRAY = 0.5  # log ratio beyond which two points do not agree: a factor of 1.65
MANY = 2000  # points of a dense scan outvote their strays; what they see through a window is none
REACH = 9 / 640  # of the long side: so far from a pixel lie its neighbours on a scan line
CLOSE = 2 / 320  # of the long side: so near a point of a dense scan interpolation counts as much
OUTLIER = 0.3  # least deviation from the neighbours, in log ratio, at which a point is dropped


def interpolated(sparse: np.ndarray) -> np.ndarray | None:
    """Return plain interpolation (H, W) m of a dense scan's points, None of fewer than `MANY`."""
    return smooth(sparse, fine=True) if np.count_nonzero(sparse) > MANY else None


def anchor(
    depth: np.ndarray,
    sparse: np.ndarray,
    method: str = "residual",
    plain: np.ndarray | None = None,
):
    """Tie depth (H, W) m to the points of sparse (H, W) m, 0 = none in both.

    `plain` is what `interpolated` says of them, for the method `residual`. Returns the anchored
    depth (H, W) float32; the residual, which is the median |depth - point| / point over the points
    that were not dropped, afterwards (0 without points); and those points as a mask of the pixels
    of `sparse` in row-major order.
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
        errors = rows[good], columns[good], error[good]
        if plain is None:
            field = spread(*errors, sparse.shape, PRIOR)
            depth = depth * enlarge(np.exp(field), *sparse.shape)
        else:
            depth = depth * np.exp(spread_finely(*errors, sparse.shape, PRIOR))
            depth = hedged(between_neighbours(depth, sparse), sparse, plain)
    kept[pixels[good]] = True
    left = np.median(np.abs(depth.flat[pixels[good]] - points[good]) / points[good])
    return depth, float(left), kept.reshape(sparse.shape)


def between_neighbours(depth: np.ndarray, sparse: np.ndarray) -> np.ndarray:
    """Return depth (H, W) m, where a scan line has points on both sides limited to between theirs.

    Corrections are factors: where two points at 40 m correct a wall at 8 m, a pixel between them
    that is right already would come to lie at 200 m. Points count `REACH` to the left and right, in
    the row of a pixel and the two beside it: scan lines are seldom exactly level.
    """
    reach = max(2, round(REACH * max(depth.shape)))
    farther = np.where(sparse > 0, sparse, np.float32(np.inf))
    low, high, both = np.float32(np.inf), np.float32(0), True
    for column in (0, reach - 1):  # the pixel's in a window to the right, and in one to the left
        window = {"kernel": np.ones((3, reach), np.uint8), "anchor": (column, 1)}
        most = cv2.dilate(sparse, **window)
        least = cv2.erode(farther, **window)
        low, high, both = np.minimum(low, least), np.maximum(high, most), both & (most > 0)
    return np.where(both, np.clip(depth, low, high), depth)


def hedged(depth: np.ndarray, sparse: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Return depth (H, W) m, near the points halfway to plain interpolation of them.

    Where points lie as close as the network's pixels both know as much, and err in different
    places: the network is better within 20 m, interpolation beyond (`kitti_raw`: RMSE 0.97 × and
    0.97 × that of linear interpolation, the mean of both 0.94 ×; `lidar16`: 1.05, 1.02, 0.99).
    """
    away = cv2.distanceTransform((sparse <= 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    share = np.clip(2 - away / np.float32(CLOSE * max(sparse.shape)), 0, 1) / 2
    return depth + share * (plain - depth)


def without_strays(sparse: np.ndarray) -> np.ndarray:
    """Return sparse (H, W) m, 0 = none, without the points that hardly any neighbour agrees with.

    The network follows its points, so that its error tells nothing of a wrong one: this is asked
    before. On `nyu/val` with 5 % of 200 points at random depths RMSE falls from 0.64 to 0.43 m, and
    with none wrong it stays. Too few points cannot tell who is wrong: all stay.
    """
    from scipy.spatial import cKDTree

    for _ in range(3):  # those that two others supported, until these were taken out
        rows, columns = np.nonzero(sparse)
        if not NEIGHBOURS < len(rows) <= MANY:
            return sparse
        places, log = np.stack([rows, columns], axis=1), np.log(sparse[rows, columns])
        _, near = cKDTree(places).query(places, NEIGHBOURS + 1)  # itself is among them
        agreeing = np.count_nonzero(np.abs(log[near] - log[:, None]) <= STRAY, axis=1) - 1
        strays = agreeing < SUPPORT
        if not strays.any():
            return sparse
        sparse = sparse.copy()
        sparse[rows[strays], columns[strays]] = 0
    return sparse


def within_range(
    sparse: np.ndarray, low: float, high: float
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return sparse (H, W) m, 0 = none, as the network may see it, and where no depth can be told.

    Nearer than `low` is the sensor's own mount or noise: dropped. Points beyond `high` tell the
    network what lies beyond where there are enough of them (`without_strays` has looked at those).
    Of a few, each would spoil the depth of half the image: they take only their surroundings, a
    disc of a twentieth of the width, returned as a mask (H, W), or None.
    """
    if not ((sparse > 0) & (sparse < low)).any() and not (sparse > high).any():
        return sparse, None
    sparse = np.where(sparse >= low, sparse, np.float32(0))
    far = sparse > high
    if not far.any() or np.count_nonzero(sparse) > NEIGHBOURS:
        return sparse, None
    unknown = np.zeros(sparse.shape, np.uint8)
    radius = max(1, round(sparse.shape[1] / 20))
    for row, column in zip(*np.nonzero(far), strict=True):
        cv2.circle(unknown, (int(column), int(row)), radius, 1, cv2.FILLED)
    return np.where(far, np.float32(0), sparse), unknown > 0


def inliers(rows: np.ndarray, columns: np.ndarray, error: np.ndarray, shape) -> np.ndarray:
    """Return which points agree with their neighbours, (N,) bool; at least half of them always.

    A point is dropped when its error deviates from the smoothed errors of the two coarsest grids by
    more than 6 robust standard deviations (MAD) and by more than `OUTLIER`. Fewer than four points
    cannot tell who is wrong: all stay. So do more than `MANY`: of a dense scan what is seen through
    a window deviates and is right (RMSE on `lidar16` 2.9 m without those points, 2.2 m with them).
    """
    good = np.ones(len(error), bool)
    if not 4 <= len(error) <= MANY:
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
