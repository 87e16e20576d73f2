# SPDX-License-Identifier: Apache-2.0
"""Depth near the points of a dense scan: they lie as close as the network's pixels, or closer."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from depth_two_stage.interpolation import smooth

__all__ = ["DENSE", "DenseScan"]

# Points, more of which are a dense scan. 16 beams with a point each 0.4° have up to 2,600 in view;
# there the network knows more than interpolation, and their time (45 ms at 640×480) would be lost.
DENSE = 2800
REACH = 9 / 640  # of the long side: so far from a pixel lie its neighbours on a scan line
CLOSE = 2 / 320  # of the long side: so near a point interpolation counts as much as the network


@dataclass(frozen=True)
class DenseScan:
    """What the points of one frame say by themselves; images are (H, W) float32.

    Depth (m) is limited to ``low`` … ``high`` where a scan line has points on both sides: these are
    the nearest and farthest of them. Corrections are factors: where two points at 40 m correct a
    wall at 8 m, a pixel between them that is right already would come to lie at 200 m. Points count
    `REACH` to the left and right, in the row of a pixel and the two beside it: scan lines are
    seldom exactly level.

    Then ``share`` of it is that of plain interpolation (``plain``, m), half of it near the points.
    There both know as much, and err in different places: the network is better within 20 m,
    interpolation beyond (`kitti_raw`: RMSE 0.97 × and 0.97 × that of linear interpolation, the mean
    of both 0.94 ×; `lidar16`: 1.05, 1.02, 0.99).
    """

    plain: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, sparse: np.ndarray) -> DenseScan | None:
        """Of sparse (H, W) m, 0 = none; None where it has no more than `DENSE` points."""
        if np.count_nonzero(sparse) <= DENSE:
            return None
        side = max(sparse.shape)
        away = cv2.distanceTransform((sparse <= 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
        share = np.clip(2 - away / np.float32(CLOSE * side), 0, 1) / 2
        return cls(smooth(sparse, fine=True), share, *_between(sparse, max(2, round(REACH * side))))

    def tie(self, depth: np.ndarray) -> np.ndarray:
        """Return depth (H, W) m, limited between neighbours and hedged by interpolation."""
        depth = np.clip(depth, self.low, self.high)
        return depth + self.share * (self.plain - depth)


def _between(sparse: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """The least and most depth of a pixel's neighbours, 0 and infinity without some on a side."""
    infinite = np.float32(np.inf)
    farther = np.where(sparse > 0, sparse, infinite)
    low, high, both = infinite, np.float32(0), True
    for column in (0, reach - 1):  # the pixel's in a window to the right, and in one to the left
        window = {"kernel": np.ones((3, reach), np.uint8), "anchor": (column, 1)}
        most = cv2.dilate(sparse, **window)
        low, high = np.minimum(low, cv2.erode(farther, **window)), np.maximum(high, most)
        both = both & (most > 0)
    return np.where(both, low, np.float32(0)), np.where(both, high, infinite)
