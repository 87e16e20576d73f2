# SPDX-License-Identifier: Apache-2.0
"""Depth from sparse samples alone, without learning: nearest, linear, smooth.

Nearest and linear are the baselines a network has to beat; `smooth` is what it starts from.
"""

from __future__ import annotations

import cv2
import numpy as np

from depth_two_stage.framing import pixels, resample

__all__ = [
    "enlarge",
    "finely_enlarged",
    "grid_coordinates",
    "linear",
    "nearest",
    "smooth",
    "spread",
    "triangle_spread",
    "triangulate",
]

CELLS = 160  # cells of the finest grid along the long side of the image
LEVELS = (16, 8, 4, 2, 1)  # cell sizes of the grids, in finest cells
FINE_CELLS = 640  # of the finest grid for many points
FINE_LEVELS = (4, 2, 1)  # of those cells: goes on where `LEVELS` end
DAMPING = 0.02  # weight (in points) of "no correction" against the points near a cell


def nearest(sparse: np.ndarray) -> np.ndarray | None:
    """Give every pixel its nearest sample's depth: (H, W) metres, 0 = none → (H, W) or None."""
    from scipy.ndimage import distance_transform_edt

    empty = sparse <= 0
    if empty.all():
        return None
    rows, columns = distance_transform_edt(empty, return_distances=False, return_indices=True)
    return sparse[rows, columns]


def triangulate(sparse: np.ndarray):
    """Return the triangles (`scipy.spatial.Delaunay`) of the samples of (H, W) m, 0 = none.

    Its points are (row, column), row-major. None where the samples span no triangle: fewer than
    three, or all on one line.
    """
    from scipy.spatial import Delaunay, QhullError

    points = np.argwhere(sparse > 0)
    if len(points) < 3:
        return None
    try:
        return Delaunay(points)
    except QhullError:  # all on one line
        return None


def linear(sparse: np.ndarray, triangles=None) -> np.ndarray | None:
    """Interpolate over the Delaunay triangles of the samples, nearest outside their hull.

    (H, W) metres, 0 = none → (H, W), or None without samples. Samples that span no triangle give
    the nearest everywhere. `triangles` are those of `triangulate`, where they are known already.
    """
    from scipy.interpolate import LinearNDInterpolator

    outside = nearest(sparse)
    triangles = triangles or triangulate(sparse)
    if triangles is None:
        return outside
    grid = np.indices(sparse.shape).reshape(2, -1).T
    filled = LinearNDInterpolator(triangles, sparse[sparse > 0])(grid).reshape(sparse.shape)
    return np.where(np.isfinite(filled), filled, outside).astype(np.float32)


def triangle_spread(sparse: np.ndarray, triangles=None) -> np.ndarray:
    """Return how far the samples round each pixel differ, (H, W): a doubt without a network.

    It is (farthest - nearest) / mean depth of the three samples of the pixel's triangle, as in
    `linear`; outside the hull 1000 plus the pixels to the nearest sample, more than any triangle's.
    """
    empty = (sparse <= 0).astype(np.uint8)
    spread = 1000 + cv2.distanceTransform(empty, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    triangles = triangles or triangulate(sparse)
    if triangles is not None:
        z = sparse[sparse > 0][triangles.simplices]
        of = triangles.find_simplex(np.indices(sparse.shape).reshape(2, -1).T).reshape(sparse.shape)
        spread = np.where(of >= 0, (np.ptp(z, axis=1) / z.mean(axis=1))[of], spread)
    return spread


def smooth(sparse: np.ndarray, fine: bool = False) -> np.ndarray | None:
    """Fill by successive corrections: (H, W) metres, 0 = none → (H, W), or None without samples.

    On all of `nyu/val` better than linear at every number of samples, and a few milliseconds;
    never beyond the nearest and the farthest sample. `fine` is for many: `finely_enlarged`.
    """
    rows, columns = pixels(sparse)
    if len(rows) == 0:
        return None
    values = sparse[rows, columns].astype(np.float64)
    limits, shape = (values.min(), values.max()), sparse.shape
    field = enlarge(np.clip(spread(rows, columns, values, shape), *limits), *shape)
    if fine:
        left = values - field[rows, columns]
        field = np.clip(field + finely_enlarged(rows, columns, left, shape), *limits)
    return field.astype(np.float32)


def finely_enlarged(rows, columns, left, shape, of=np.asarray) -> np.ndarray:
    """What many points (N,) have left after `spread`, on finer grids, brought to the image.

    (H, W) float32; ``of`` is what is taken of the field before. Its mean is that of the coarser
    grids' errors, and no reason to move the rest.
    """
    cells = min(FINE_CELLS, max(shape))
    if cells <= CELLS:
        return of(np.zeros(shape, np.float32))
    field = spread(rows, columns, left, shape, np.inf, FINE_LEVELS, cells)
    return enlarge(of(field), *shape, cells)


def grid_coordinates(
    rows, columns, shape, cell: int, cells: int = CELLS
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels → coordinates (y, x) on the grid of that cell size, half-pixel centres."""
    scale = cells / (max(shape) * cell)
    return (rows + 0.5) * scale - 0.5, (columns + 0.5) * scale - 0.5


def grid_size(shape, cell: int, cells: int = CELLS) -> tuple[int, int]:
    """Return (height, width) of the grid that covers the image at that cell size."""
    top = LEVELS[0]
    return tuple(-(-int(np.ceil(n * cells / max(shape))) // top) * top // cell for n in shape)


def spread(
    rows, columns, values, shape, prior: float = 0.0, levels=LEVELS, cells: int = CELLS
) -> np.ndarray:
    """Spread values (N,) of pixels over an image of `shape`: a field on the finest grid, float32.

    Successive corrections (Barnes 1964): a mean, then grids from a tenth of the image down to
    1/160 of it, each smoothing what the coarser ones left. No triangles, so one point, points on
    one line and forty thousand points take the same road and a few milliseconds. `prior` is the
    weight, in points, of the value 0 in the mean. `cells` of the finest grid lie along the long
    side of the image; `levels` are the cell sizes, of `LEVELS`.
    """
    finest = grid_size(shape, 1, cells)
    if len(values) > 4096:  # many points: one mean per cell of the finest grid loses nothing
        rows, columns, values = thin(rows, columns, values, shape, cells)
    mean = values.sum() / (len(values) + prior)
    left, field = values - mean, np.zeros(grid_size(shape, levels[0], cells), np.float32)
    for cell in levels:
        height, width = grid_size(shape, cell, cells)
        places = grid_coordinates(rows, columns, shape, cell, cells)
        index, weight = corners(*places, height, width)
        sums = np.bincount(index.ravel(), (weight * left).ravel(), height * width)
        counts = np.bincount(index.ravel(), weight.ravel(), height * width)
        sums, counts = (
            cv2.GaussianBlur(
                a.reshape(height, width).astype(np.float32),
                (7, 7),
                1.0,
                borderType=cv2.BORDER_CONSTANT,
            )
            for a in (sums, counts)
        )
        correction = sums / (counts + DAMPING)
        left = left - np.sum(correction.ravel()[index] * weight, axis=0)
        field = cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR) + correction
    field = cv2.resize(field, finest[::-1], interpolation=cv2.INTER_LINEAR)
    return field + np.float32(mean)


def corners(y, x, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the four cells round grid positions and their bilinear weights, (4, N) each."""
    y0, x0 = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    fy, fx = y - y0, x - x0
    top, bottom = (np.clip(y0 + d, 0, height - 1) * width for d in (0, 1))
    left, right = (np.clip(x0 + d, 0, width - 1) for d in (0, 1))
    index = np.stack([top + left, top + right, bottom + left, bottom + right])
    weight = np.stack([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx])
    return index, weight


def thin(
    rows, columns, values, shape, cells: int = CELLS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return one point per cell of the finest grid, the means of those in it."""
    _, width = grid_size(shape, 1, cells)
    y, x = grid_coordinates(rows, columns, shape, 1, cells)
    cell = np.rint(y).astype(np.int64) * width + np.rint(x).astype(np.int64)
    counts = np.bincount(cell)
    used = counts > 0
    means = (np.bincount(cell, a)[used] / counts[used] for a in (rows, columns, values))
    return tuple(means)


def enlarge(field: np.ndarray, height: int, width: int, cells: int = CELLS) -> np.ndarray:
    """Bring a field of the finest grid to the image, bilinear: (H, W) float32."""
    long = max(height, width)
    rows = (np.arange(height) + 0.5) * cells / long - 0.5
    columns = (np.arange(width) + 0.5) * cells / long - 0.5
    return resample(field, rows, columns)
