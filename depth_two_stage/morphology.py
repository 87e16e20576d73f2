# SPDX-License-Identifier: Apache-2.0
"""Depth completion by morphology alone: the classical baseline beside interpolation."""

from __future__ import annotations

import cv2
import numpy as np

from depth_two_stage.framing import pixels, resample

__all__ = ["morphological"]

DENSITY = 0.05  # share of pixels with a point for which the paper chose its kernels
BUFFER = 1.25  # of the farthest depth: the paper inverts 80 m at 100 m
DIAMOND = (np.abs(np.arange(-2, 3))[:, None] + np.abs(np.arange(-2, 3)) <= 2).astype(np.uint8)


def morphological(sparse: np.ndarray) -> np.ndarray | None:
    """Complete sparse depth in the way of IP-Basic: (H, W) metres, 0 = none → (H, W) or None.

    Written from the description in J. Ku, A. Harakeh, S. Waslander, In Defense of Classical Image
    Processing: Fast Depth Completion on the CPU (CRV 2018), section III: depth is inverted, so that
    dilation prefers what is near; dilated by a diamond of 5 pixels; closed by 5x5; small holes
    filled by 7x7; each column extended to the top; large holes filled by 31x31; median and Gaussian
    blur of 5x5; inverted back. What differs, because the paper has 64 LiDAR beams on KITTI:

    - kernels count cells, not pixels: so many pixels that a cell holds a point as often as a pixel
      of KITTI's does (5 %), at least one; the nearest point of a cell counts. The result is brought
      to the pixels bilinearly.
    - depth is inverted at 1.25 times the farthest point instead of at 100 m.
    - the 31x31 fill is repeated until nothing is empty: one point answers everywhere.
    """
    rows, columns = pixels(sparse)
    if len(rows) == 0:
        return None
    cell = max(1.0, np.sqrt(DENSITY * sparse.size / len(rows)))  # pixels
    size = tuple(max(1, round(n / cell)) for n in sparse.shape)
    values = sparse[rows, columns]
    top = np.float32(BUFFER) * values.max()
    # 1. Into cells, inverted: 0 stays empty, the nearest is the largest.
    inverted = np.zeros(size, np.float32)
    y, x = ((at * n) // m for at, n, m in zip((rows, columns), size, sparse.shape, strict=True))
    np.maximum.at(inverted, (y, x), top - values)
    # 2. Dilation and small holes.
    inverted = cv2.dilate(inverted, DIAMOND)
    inverted = cv2.morphologyEx(inverted, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    inverted = _filled(inverted, 7)
    # 3. To the top of each column that has anything.
    first = np.argmax(inverted > 0, axis=0)
    above = np.arange(size[0])[:, None] < first
    inverted = np.where(above, inverted[first, np.arange(size[1])], inverted)
    # 4. Large holes, until there is none.
    while not inverted.all():
        inverted = _filled(inverted, 31)
    # 5. Blur.
    inverted = cv2.GaussianBlur(cv2.medianBlur(inverted, 5), (5, 5), 0)
    # 6. To the pixels.
    depth = top - inverted
    at = ((np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip(size, sparse.shape, strict=True))
    return resample(depth, *at)


def _filled(inverted: np.ndarray, kernel: int) -> np.ndarray:
    """Fill empty cells by the largest within a square of `kernel` cells."""
    grown = cv2.dilate(inverted, np.ones((kernel, kernel), np.uint8))
    return np.where(inverted > 0, inverted, grown)
