# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with measured points: outliers, wrong ranges, a shifted projection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["LIMITS", "Disturbance"]

#: smallest and largest value of each setting
LIMITS = {"outliers": (0.0, 1.0), "wrong": (0.0, 1.0), "shift": (0.0, 64.0)}
OUTLIER_DEPTHS = (0.5, 10.0)  # metres
WRONG_BY = 0.3  # share of the depth


@dataclass(frozen=True)
class Disturbance:
    """Changes sparse depth, never the truth; call it with the points and a generator.

    ``outliers`` is the share of points whose depth becomes uniform in 0.5 to 10 m, ``wrong`` the
    share, of others, that is multiplied by 1 + 0.3 or 1 - 0.3; both are rounded to whole points.
    ``shift`` moves all points of a frame by so many pixels in one random direction, rounded to
    whole pixels; points that leave the image are lost.
    """

    outliers: float = 0.0
    wrong: float = 0.0
    shift: float = 0.0

    def __call__(self, sparse: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the disturbed points of sparse, float32 (H, W) m, 0 = none in both."""
        if self.outliers or self.wrong:
            sparse = self._misread(sparse, rng)
        if self.shift:
            angle = rng.uniform(0, 2 * np.pi)
            down, right = (round(self.shift * f) for f in (np.sin(angle), np.cos(angle)))
            sparse = shifted(sparse, down, right)
        return sparse

    def _misread(self, sparse: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        sparse = sparse.copy()
        points = rng.permutation(np.flatnonzero(sparse))
        first = round(self.outliers * len(points))
        outliers, wrong = np.split(points[: first + round(self.wrong * len(points))], [first])
        sparse.flat[outliers] = rng.uniform(*OUTLIER_DEPTHS, len(outliers))
        sparse.flat[wrong] *= (1 + WRONG_BY * rng.choice([-1, 1], len(wrong))).astype(np.float32)
        return sparse


def shifted(sparse: np.ndarray, down: int, right: int) -> np.ndarray:
    """Move every point of (H, W) by whole pixels; what leaves the image is lost."""
    result = np.zeros_like(sparse)
    rows, columns = (n - abs(d) for n, d in zip(sparse.shape, (down, right), strict=True))
    if rows > 0 and columns > 0:
        y, x, from_y, from_x = (max(d, 0) for d in (down, right, -down, -right))
        kept = sparse[from_y : from_y + rows, from_x : from_x + columns]
        result[y : y + rows, x : x + columns] = kept
    return result
