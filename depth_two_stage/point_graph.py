# SPDX-License-Identifier: Apache-2.0
"""What measured points say of each other: each point's nearest others, and how they differ.

From it `networks.outliers` tells which points are wrong before interpolation spreads their depth.
NumPy, SciPy and OpenCV only; training and the estimator call the same function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

__all__ = ["NEIGHBOURS", "OWN", "PAIR", "PointGraph"]

NEIGHBOURS = 16
PAIR, OWN = 8, 8  # features of a point and a neighbour, and of a point
STEPS = 5  # from a point to its neighbour, by which colours are compared
PLANES = (6, 12)  # neighbours that a plane is laid through
LOG = 3  # by which log ratios are multiplied
STRAYING = 0.05  # inverse depth, relative to the point's, beyond which a neighbour is none of it


@dataclass(frozen=True)
class PointGraph:
    """N points of an image with their `NEIGHBOURS` nearest; NumPy arrays, or torch's after `to`.

    ``near`` (N, 16) int64 are the neighbours. ``pairs`` (N, 16, 8) float32: log ratio of depth
    twice (to the sign, and finer), rows and columns to the neighbour and their length in units of
    the point's spacing, and how colour differs: from end to end, at most in one of five steps
    between them, and in all steps. ``own`` (N, 8): for a plane through 6 and one through 12
    neighbours the log ratio of the plane's depth to the point's, its magnitude, and how well the
    neighbours lie in it; the spacing, and how many points there are. ``frame`` (N,) int64 is the
    image that a point is of: 0, in a batch 0 … B - 1.
    """

    pairs: Any
    own: Any
    near: Any
    frame: Any

    @classmethod
    def of(
        cls, rgb: np.ndarray, rows: np.ndarray, columns: np.ndarray, depth: np.ndarray
    ) -> PointGraph:
        """Of points at rows, columns (N,) px of rgb uint8 (h, w, 3), with depth (N,) > 0.

        The unit of depth is of no matter. Raises ValueError of fewer than 17 points.
        """
        from scipy.spatial import cKDTree

        if len(depth) <= NEIGHBOURS:
            raise ValueError(f"points: expected more than {NEIGHBOURS}, got {len(depth)}")
        places = np.stack([rows, columns], axis=1).astype(np.float32)
        distance, near = cKDTree(places).query(places, NEIGHBOURS + 1)
        distance, near = distance[:, 1:].astype(np.float32), near[:, 1:]
        spacing = np.maximum(np.median(distance[:, :4], axis=1), 1)[:, None]
        log = np.log(depth).astype(np.float32)
        ratio, offset = log[near] - log[:, None], places[near] - places[:, None]
        between, most, all_steps = _colours(rgb, places, offset)
        ends = [ratio.clip(-1.5, 1.5) * LOG, np.abs(ratio).clip(0, 0.3) * 10]
        away = [offset[..., 0] / spacing, offset[..., 1] / spacing, distance / spacing]
        colours = [np.sqrt(between) * 3, np.sqrt(most) * 3, np.sqrt(all_steps) * 2]
        own = []
        for count in PLANES:
            weights = np.exp(-((distance / spacing) ** 2) / 8 - 8 * between)[:, :count]
            inverse = np.exp(-ratio[:, :count].astype(np.float64))  # of the point's own
            middle, left = _plane(offset[:, :count] / spacing[..., None], inverse, weights)
            error = np.log(middle.clip(0.2, 5))
            own += [error * LOG, np.abs(error).clip(0, 0.3) * 10, np.log(left + 1e-3) + 4]
        relative = spacing[:, 0] * np.float32(320 / max(rgb.shape[:2]))
        own += [np.log(relative) - 2.5, np.full(len(log), np.log(len(log)) - 5)]
        return cls(
            np.stack([*ends, *away, *colours], axis=-1).astype(np.float32),
            np.stack(own, axis=-1).astype(np.float32),
            near.astype(np.int64),
            np.zeros(len(log), np.int64),
        )

    @property
    def expected(self) -> Any:
        """Log ratio of the depth that the plane through 12 neighbours has to each point's, (N,)."""
        return self.own[:, 3] / LOG

    @classmethod
    def joined(cls, graphs: list[PointGraph]) -> PointGraph:
        """Several images' graphs as one."""
        starts = np.cumsum([0, *(len(graph.own) for graph in graphs[:-1])])
        return cls(
            np.concatenate([graph.pairs for graph in graphs]),
            np.concatenate([graph.own for graph in graphs]),
            np.concatenate(
                [graph.near + start for graph, start in zip(graphs, starts, strict=True)]
            ),
            np.repeat(np.arange(len(graphs)), [len(graph.own) for graph in graphs]),
        )

    def to(self, device: Any) -> PointGraph:
        """The same as torch tensors on a device."""
        import torch

        parts = (self.pairs, self.own, self.near, self.frame)
        return PointGraph(*(torch.as_tensor(part).to(device) for part in parts))


def _colours(rgb, places, offset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How colour (0…1) differs from points (N, 2) to neighbours (N, K, 2) away: three (N, K)."""
    image = cv2.GaussianBlur(rgb, (0, 0), 1).astype(np.float32) / 255
    along = np.linspace(0, 1, STEPS + 1, dtype=np.float32)[:, None]
    y, x = np.moveaxis(np.rint(places[:, None, None] + offset[:, :, None] * along), 3, 0)
    y, x = (at.astype(np.int64).clip(0, n - 1) for at, n in zip((y, x), rgb.shape, strict=False))
    seen = image[y, x]  # (N, K, STEPS + 1, 3)
    steps = np.abs(np.diff(seen, axis=2)).mean(-1)
    between = np.abs(seen[:, :, -1] - seen[:, :, 0]).mean(-1)
    return between, steps.max(2), steps.sum(2)


def _plane(offset, inverse, weights) -> tuple[np.ndarray, np.ndarray]:
    """Planes through neighbours: inverse depth is linear in the pixels of a plane.

    Of offsets (N, k, 2), inverse depths (N, k) and weights: the plane's depth at the offset 0, and
    the median of what is left; neighbours that lie beside the plane count less, twice over.
    """
    terms = np.concatenate([np.ones((*inverse.shape, 1)), offset], axis=-1)
    for again in (True, True, False):
        weighted = terms * weights[..., None]
        normal = np.einsum("nka,nkb->nab", weighted, terms) + np.diag([1e-6, 1e-3, 1e-3])
        plane = np.linalg.solve(normal, np.einsum("nka,nk->na", weighted, inverse)[..., None])
        left = np.abs(inverse - (terms @ plane)[..., 0])
        if again:
            weights = weights / (1 + (left / STRAYING) ** 2)
    return 1 / plane[:, 0, 0].clip(1e-6, None), np.median(left, axis=1)
