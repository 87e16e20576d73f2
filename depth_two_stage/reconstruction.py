# SPDX-License-Identifier: Apache-2.0
"""How near one surface is to another: precision, recall and F-score at a distance."""

from __future__ import annotations

import numpy as np

__all__ = ["surface_points", "surface_scores", "thinned"]


def surface_points(vertices: np.ndarray, triangles: np.ndarray, spacing: float) -> np.ndarray:
    """Sample a mesh evenly: one point for each spacing² of its area, float64 (N, 3) metres.

    `vertices` (V, 3) metres, `triangles` (M, 3). The same mesh gives the same points.
    """
    if len(triangles) == 0:
        return np.zeros((0, 3))
    corners = np.asarray(vertices, np.float64)[triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.cumsum(0.5 * np.linalg.norm(normal, axis=1))
    count = max(1, int(area[-1] / spacing**2))
    rng = np.random.default_rng(0)
    at = (np.arange(count) + rng.random(count)) / count * area[-1]  # stratified over the area
    chosen = corners[np.minimum(np.searchsorted(area, at), len(area) - 1)]
    a, b = rng.random((2, count, 1))
    a = np.sqrt(a)
    return (1 - a) * chosen[:, 0] + a * (1 - b) * chosen[:, 1] + a * b * chosen[:, 2]


def thinned(points: np.ndarray, spacing: float) -> np.ndarray:
    """Points (N, 3) metres, the first in each cell of a grid of `spacing`, in their order."""
    if len(points) == 0:
        return points
    cells = np.floor(points / spacing).astype(np.int64)
    cells -= cells.min(axis=0)
    sides = cells.max(axis=0) + 1
    _, first = np.unique(np.ravel_multi_index(cells.T, sides), return_index=True)
    return points[np.sort(first)]


def surface_scores(points: np.ndarray, truth: np.ndarray, distance: float = 0.05) -> dict:
    """Compare points (N, 3) with those of the true surface (M, 3), both metres.

    `precision` is the share of points within `distance` of the truth, `recall` the share of the
    truth within it of the points, `fscore` their harmonic mean; `accuracy` and `completeness` are
    the mean distances both ways (None when a side is empty).
    """
    from scipy.spatial import cKDTree

    if len(points) == 0 or len(truth) == 0:
        return {
            "fscore": 0.0,
            "precision": 0.0,
            "recall": 0.0,
            "accuracy": None,
            "completeness": None,
        }
    to_truth = cKDTree(truth).query(points)[0]
    to_points = cKDTree(points).query(truth)[0]
    precision, recall = float(np.mean(to_truth < distance)), float(np.mean(to_points < distance))
    both = precision + recall
    return {
        "fscore": 2 * precision * recall / both if both else 0.0,
        "precision": precision,
        "recall": recall,
        "accuracy": float(to_truth.mean()),
        "completeness": float(to_points.mean()),
    }
