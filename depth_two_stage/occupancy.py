# SPDX-License-Identifier: Apache-2.0
"""Occupancy in the plane, for navigation: what stands in a height band, and what was seen empty.

Cells are integer (x, y): cell c covers ``c * resolution … (c + 1) * resolution`` metres of the
map's x and y axes, so that the grid needs no rotation and grows without moving. A column of the
band is occupied where surface lies in it, free where space in it was seen empty and nothing stands
there, unknown elsewhere: the rule of octomap_server's projected map. Emptiness has two witnesses,
as there: voxels seen before a surface, and rays from where the camera stood to the surfaces that it
saw. A TSDF alone (nvblox's slice) knows free space only where blocks are, and ours stand along
surfaces, a few centimetres deep: the middle of a room would stay unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .camera import Camera
from .config import GridParameters

__all__ = [
    "FREE",
    "OCCUPIED",
    "UNKNOWN",
    "Cells",
    "FreeSpace",
    "Occupancy",
    "compose",
    "crowded",
    "in_band",
    "observed_free",
    "ray_free",
    "select_views",
]

FREE, OCCUPIED, UNKNOWN = 0, 100, -1
BLOCK = 16  # voxels of a block's side, which run z, y, x
VIEW_DISTANCE = 0.2  # m between two camera positions whose rays are traced
VIEW_ANGLE = np.radians(15)
VIEWS_AGAIN = 2  # newest views that are traced again: their surfaces may have become sure since
VIEW_COLUMNS, VIEW_ROWS = 160, 32  # most rays of a view
STEP = 0.7  # of a cell, between two samples of a ray
MARGIN = 64  # cells by which an array grows beyond what is asked for


@dataclass(frozen=True)
class Occupancy:
    """A level grid: data int8 (rows of y, columns of x), FREE, OCCUPIED or UNKNOWN.

    ``origin`` (x, y) m is the outer corner of data[0, 0] in the map's frame, whose axes are the
    grid's. ``cropped``: something known lies outside ``grid.max_size``.
    """

    data: np.ndarray
    resolution: float
    origin: tuple[float, float]
    cropped: bool = False


class Cells:
    """A set of cells within a square of ``grid.max_size`` about ``centre`` (x, y) m."""

    def __init__(self, grid: GridParameters, centre: Sequence[float]) -> None:
        half = max(1, int(grid.max_size / grid.resolution / 2))
        middle = np.floor(np.asarray(centre, np.float64) / grid.resolution).astype(np.int64)
        self._low, self._high = middle - half, middle + half
        self.first = middle  # cell of the array's first row and column
        self.marked = np.zeros((0, 0), bool)  # (y, x)
        self.cropped = False

    def add(self, cells: np.ndarray) -> None:
        """Mark cells int64 (n, 2); those beyond the square are left out, and it is noted."""
        # Column by column: reductions along rows of two numbers take five times as long.
        x, y = np.ascontiguousarray(cells.T)
        inside = (x >= self._low[0]) & (x < self._high[0]) & (y >= self._low[1])
        inside &= y < self._high[1]
        if not inside.all():
            self.cropped = True
            x, y = x[inside], y[inside]
        if len(x):
            self._reach(np.array([x.min(), y.min()]), np.array([x.max(), y.max()]) + 1)
            self.marked[y - self.first[1], x - self.first[0]] = True

    def _reach(self, low: np.ndarray, high: np.ndarray) -> None:
        """Make the array cover cells low … high - 1."""
        last = self.first + self.marked.shape[::-1]
        if self.marked.size and (low >= self.first).all() and (high <= last).all():
            return
        if self.marked.size:
            low, high = np.minimum(low, self.first), np.maximum(high, last)
        low = np.maximum(low - MARGIN, self._low)
        width, height = np.minimum(high + MARGIN, self._high) - low
        grown = np.zeros((height, width), bool)
        x, y = self.first - low
        grown[y : y + self.marked.shape[0], x : x + self.marked.shape[1]] = self.marked
        self.first, self.marked = low, grown


def compose(layers: Sequence[tuple[Cells, int]], resolution: float) -> Occupancy:
    """Paint layers (cells, value) in their order; without any known cell it is one unknown one."""
    painted = [(cells, value) for cells, value in layers if cells.marked.any()]
    cropped = any(cells.cropped for cells, _ in layers)
    if not painted:
        x, y = layers[0][0].first * resolution
        return Occupancy(
            np.full((1, 1), UNKNOWN, np.int8), resolution, (float(x), float(y)), cropped
        )
    low = np.min([cells.first for cells, _ in painted], axis=0)
    high = np.max([cells.first + cells.marked.shape[::-1] for cells, _ in painted], axis=0)
    width, height = high - low
    data = np.full((height, width), UNKNOWN, np.int8)
    for cells, value in painted:
        x, y = cells.first - low
        rows, columns = cells.marked.shape
        data[y : y + rows, x : x + columns][cells.marked] = value
    known = data != UNKNOWN
    rows, columns = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
    data = data[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    x, y = (low + np.array([columns[0], rows[0]])) * resolution
    return Occupancy(np.ascontiguousarray(data), resolution, (float(x), float(y)), cropped)


def in_band(z: np.ndarray, grid: GridParameters) -> np.ndarray:
    """Whether heights z m (map frame) lie in the band above the floor."""
    return (z >= grid.floor + grid.min_height) & (z <= grid.floor + grid.max_height)


def crowded(points: np.ndarray, grid: GridParameters) -> np.ndarray:
    """Cells int64 (n, 2) over which at least ``grid.min_points`` of the points (N, 3) m lie."""
    x, y = np.floor(points[:, :2] / grid.resolution).astype(np.int64).T
    # As one number: `np.unique` of pairs takes five times as long.
    low = y.min(initial=0)
    width = y.max(initial=0) - low + 1
    found, counts = np.unique(x * width + (y - low), return_counts=True)
    found = found[counts >= grid.min_points]
    return np.stack([found // width, found % width + low], axis=1)


def observed_free(
    keys: np.ndarray,
    tsdf: np.ndarray,
    weight: np.ndarray,
    voxel_size: float,
    weight_threshold: float,
    grid: GridParameters,
) -> np.ndarray:
    """Cells int64 (n, 2) over which a voxel of the band was seen before a surface.

    Blocks as the map holds them: keys int32 (b, 3), tsdf in -1 … 1 and weight float32 (b, 4096).
    A voxel counts when its weight is above the threshold and it lies farther before the surface
    than half the truncation.
    """
    lowest = keys[:, 2] * (BLOCK * voxel_size)
    high = lowest + (BLOCK - 1) * voxel_size
    meets = (high >= grid.floor + grid.min_height) & (lowest <= grid.floor + grid.max_height)
    keys = keys[meets].astype(np.int64)
    shape = (-1, BLOCK, BLOCK, BLOCK)
    heights = (keys[:, 2, None] * BLOCK + np.arange(BLOCK)) * voxel_size
    free = (tsdf[meets].reshape(shape) > 0.5) & (weight[meets].reshape(shape) > weight_threshold)
    free &= in_band(heights, grid)[:, :, None, None]
    block, y, x = np.nonzero(free.any(axis=1))
    voxels = np.stack([keys[block, 0] * BLOCK + x, keys[block, 1] * BLOCK + y], axis=1)
    # A voxel that stands on a border belongs to the cell above it, whatever the rounding.
    return np.floor(voxels * (voxel_size / grid.resolution) + 1e-6).astype(np.int64)


def ray_free(origin: np.ndarray, points: np.ndarray, grid: GridParameters) -> np.ndarray:
    """Cells int64 (n, 2) that rays from origin (3,) to points (N, 3) m cross within the band.

    Rays end a cell's width before their point, so that nothing behind a thin wall becomes free.
    A cell may be named several times.
    """
    ray = np.asarray(points, np.float64) - origin
    across = np.linalg.norm(ray[:, :2], axis=1)
    low, high = grid.floor + grid.min_height - origin[2], grid.floor + grid.max_height - origin[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        enter, leave = np.sort([low / ray[:, 2], high / ray[:, 2]], axis=0)
        last = 1 - grid.resolution / across
    level = np.abs(ray[:, 2]) < 1e-9
    enter[level], leave[level] = (0.0, 1.0) if low <= 0 <= high else (1.0, 0.0)
    enter, leave = np.maximum(enter, 0), np.minimum(leave, last)
    keep = np.flatnonzero((leave > enter) & (across > 0))
    ray, across, enter, leave = ray[keep], across[keep], enter[keep], leave[keep]
    # Samples of all rays in a row: how far along its ray each one lies.
    counts = np.ceil(across * (leave - enter) / (STEP * grid.resolution)).astype(np.int64) + 1
    which = np.repeat(np.arange(len(keep)), counts)
    place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    along = enter[which] + (leave - enter)[which] * (place / np.maximum(counts - 1, 1)[which])
    crossed = (origin[:2] + ray[which, :2] * along[:, None]) / grid.resolution
    return np.floor(crossed).astype(np.int64)


def select_views(poses: np.ndarray) -> list[int]:
    """Which poses T_world_camera (n, 4, 4) to look from: the first, then after each motion.

    What is chosen of a trajectory is also chosen of a longer one that begins with it.
    """
    chosen: list[int] = []
    start = 0
    while start < len(poses):
        chosen.append(start)
        T = poses[start]
        following = poses[start + 1 :]
        start = len(poses)
        for begin in range(0, len(following), 256):  # the next one is near
            part = following[begin : begin + 256]
            moved = np.linalg.norm(part[:, :3, 3] - T[:3, 3], axis=1) >= VIEW_DISTANCE
            cosine = (np.einsum("nij,ij->n", part[:, :3, :3], T[:3, :3]) - 1) / 2
            far = np.flatnonzero(moved | (cosine <= np.cos(VIEW_ANGLE)))
            if len(far):
                start = chosen[-1] + 1 + begin + int(far[0])
                break
    return chosen


class FreeSpace:
    """Cells seen to be empty from along a trajectory, kept from one grid to the next."""

    def __init__(self, grid: GridParameters, centre: Sequence[float]) -> None:
        self._grid, self._centre = grid, centre
        self.cells = Cells(grid, centre)
        self._traced: list[tuple[int, np.ndarray]] = []

    def update(
        self,
        trajectory: tuple[np.ndarray, np.ndarray],
        camera: Camera,
        max_range: float,
        cast: Callable[[Camera, np.ndarray], np.ndarray],
    ) -> None:
        """Trace what is new of stamps int64 (n,) ns and poses T_world_camera (n, 4, 4).

        ``cast(camera, T_world_camera)`` gives the depth (H, W) m, 0 = none, that the map shows
        there. After a correction of the poses everything is traced anew.
        """
        stamps, poses = trajectory
        views = [(int(stamps[i]), poses[i]) for i in select_views(poses)]
        if not self._follows(views):
            self.cells, self._traced = Cells(self._grid, self._centre), []
        new = views[max(0, len(self._traced) - VIEWS_AGAIN) :]
        small = self._view_camera(camera, max_range)
        for T in [*(T for _, T in new), *poses[-1:]]:
            depth = cast(small, T)
            seen = small.backproject(depth)[depth > 0].astype(np.float64)
            self.cells.add(ray_free(T[:3, 3], seen @ T[:3, :3].T + T[:3, 3], self._grid))
        self._traced = views

    def _follows(self, views: list[tuple[int, np.ndarray]]) -> bool:
        """Whether the views go on from those traced already."""
        if len(views) < len(self._traced):
            return False
        return all(
            old[0] == new[0]
            and np.abs(old[1][:3, 3] - new[1][:3, 3]).max() < self._grid.resolution / 2
            and np.abs(old[1][:3, :3] - new[1][:3, :3]).max() < 0.01
            for old, new in zip(self._traced, views, strict=False)
        )

    def _view_camera(self, camera: Camera, max_range: float) -> Camera:
        """The camera with as few rays as leave no cell between two of them out."""
        columns = int(np.ceil(camera.width / camera.fx * max_range / self._grid.resolution))
        columns = min(max(columns, 16), VIEW_COLUMNS, camera.width)
        return camera.resized(columns, min(VIEW_ROWS, camera.height))
