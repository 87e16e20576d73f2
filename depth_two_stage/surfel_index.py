# SPDX-License-Identifier: Apache-2.0
"""Which surfel is which pixel: projection into an index map (Keller et al., 3DV 2013, 4.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from depth_two_stage.camera import Camera
from depth_two_stage.surfel_frames import Samples

#: Cells of the index map along a side of a pixel (section 4.1: 4 × 4 super-sampling).
CELLS = 4
LEAST_TOLERANCE = 0.01  # m: along the ray, however near
NEAREST = 1e-3  # m: what is closer is behind the lens


@dataclass(frozen=True)
class Projected:
    """Surfels in a camera's view.

    ``ids`` int64 (K,) places in the map, ``pixels`` and ``cells`` int64 (K,) places in the flat
    image and index map, ``points`` float32 (K, 3) m in the camera's frame. A cell belongs to one
    pixel only, so a surfel does.
    """

    ids: np.ndarray
    pixels: np.ndarray
    cells: np.ndarray
    points: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Projected:
        return Projected(self.ids[rows], self.pixels[rows], self.cells[rows], self.points[rows])

    def owners(self, pixels: np.ndarray) -> np.ndarray:
        """The place of each surfel's pixel (K,) in ``pixels`` (A,), all different; -1 = none."""
        if not len(pixels) or not len(self.pixels):
            return np.full(len(self.pixels), -1, np.int64)
        table = np.full(max(self.pixels.max(), pixels.max()) + 1, -1, np.int64)
        table[pixels] = np.arange(len(pixels))
        return table[self.pixels]


def project(points: np.ndarray, camera: Camera, T_camera_world: np.ndarray) -> Projected:
    """Which of the points float32 (N, 3) m, world, are in view, and where."""
    R, t = T_camera_world[:3, :3].astype(np.float32), T_camera_world[:3, 3].astype(np.float32)
    local = points @ R.T + t
    ids = np.flatnonzero(local[:, 2] > NEAREST)
    local = local[ids]
    # The bound is checked before the cast: a huge coordinate would wrap around in an integer.
    uv = CELLS * (camera.pixels(local)[0] + 0.5)
    width, height = CELLS * camera.width, CELLS * camera.height
    inside = (uv >= 0).all(axis=1) & (uv[:, 0] < width) & (uv[:, 1] < height)
    u, v = uv[inside].astype(np.int64).T
    pixels = (v // CELLS) * camera.width + u // CELLS
    return Projected(ids[inside], pixels, v * width + u, local[inside])


def index_map(seen: Projected) -> Projected:
    """The nearest surfel of each cell: the depth test of section 4.1."""
    if not len(seen.cells):
        return seen
    # Of several writes to one cell the last stays: farthest first, ties by place in the map.
    order = np.argsort(-seen.points[:, 2], kind="stable")
    front = np.full(seen.cells.max() + 1, -1, np.int64)
    front[seen.cells[order]] = order
    return seen[front[seen.cells] == np.arange(len(seen.cells))]


def ahead(seen: Projected, samples: Samples, depth_share: float) -> np.ndarray:
    """Whether surfels (K,) stand before what their pixel measured, by more than δ_depth."""
    rows = seen.owners(samples.pixels)
    there = np.flatnonzero(rows >= 0)
    rows = rows[there]
    along = np.einsum("ij,ij->i", seen.points[there], samples.rays[rows])
    ranges = samples.ranges[rows]
    found = np.zeros(len(seen.ids), bool)
    found[there] = along < ranges - tolerance(ranges, depth_share)
    return found


def tolerance(ranges: np.ndarray, share: float) -> np.ndarray:
    """δ_depth (M,) m at ranges (M,) m: within it along the ray two points are one surface.

    The paper adapts it to the sensor and leaves the value open; errors of sensors and of predicted
    depth grow with the range.
    """
    return np.maximum(np.float32(share) * ranges, np.float32(LEAST_TOLERANCE))


def associate(
    index: Projected,
    normals: np.ndarray,
    confidence: np.ndarray,
    samples: Samples,
    depth_share: float,
    normal_degrees: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (A,) of the samples and of ``index`` that are one surface, each at most once (4.1).

    Of the surfels in a pixel's 4 × 4 cells (1) those farther than δ_depth along the viewing ray and
    (2) those whose normal differs by more than δ_norm are no candidates; of the rest (3) the most
    confident is taken, (4) of several the one closest to the ray.
    ``normals`` (N, 3) and ``confidence`` (N,) are those of all surfels of the map.
    """
    rows = index.owners(samples.pixels)
    places = np.flatnonzero(rows >= 0)
    rows = rows[places]
    along = np.einsum("ij,ij->i", index.points[places], samples.rays[rows])
    one = np.abs(along - samples.ranges[rows]) <= tolerance(samples.ranges[rows], depth_share)
    cosine = np.einsum("ij,ij->i", normals[index.ids[places]], samples.normals[rows])
    one &= cosine >= np.cos(np.deg2rad(normal_degrees)) - 1e-6
    places, rows, along = places[one], rows[one], along[one]
    beside = index.points[places] - along[:, None] * samples.rays[rows]
    aside = np.einsum("ij,ij->i", beside, beside)
    order = np.lexsort((places, aside, -confidence[index.ids[places]], rows))
    rows, places = rows[order], places[order]
    first = np.diff(rows, prepend=-1) > 0
    return rows[first], places[first]
