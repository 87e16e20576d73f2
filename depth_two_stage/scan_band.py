# SPDX-License-Identifier: Apache-2.0
"""The part of the image that a LiDAR's beams pass over."""

from __future__ import annotations

import numpy as np

__all__ = ["scan_band"]

WINDOW = 1 / 20  # of the width: gaps between columns with points that the band goes on over


def scan_band(sparse: np.ndarray) -> np.ndarray:
    """Return which pixels lie in the scanned band of sparse (H, W) m, 0 = none: bool (H, W).

    In each column it is the rows from the topmost to the lowest point, both included. A column may
    have no point, or some beams only: the two limits are closed (grey-scale closing: the widest
    within a window, then the narrowest of that) over a twentieth of the width, so they follow the
    outermost beam. Columns farther from the scan than half of that have no band.
    """
    from scipy.ndimage import maximum_filter1d, minimum_filter1d

    height, width = sparse.shape
    points = sparse > 0
    any_point = points.any(axis=0)
    # Both limits as heights that grow with the band, 0 = no point in the column.
    up = np.where(any_point, height - np.argmax(points, axis=0), 0)
    down = np.where(any_point, height - np.argmax(points[::-1], axis=0), 0)
    window = 2 * max(1, round(width * WINDOW / 2)) + 1
    up, down = (
        minimum_filter1d(
            maximum_filter1d(limit, window, mode="constant", cval=0),
            window,
            mode="constant",
            cval=height,  # beyond the image nothing ends the band
        )
        for limit in (up, down)
    )
    rows = np.arange(height)[:, None]
    return (up > 0) & (rows >= height - up) & (rows < down)
