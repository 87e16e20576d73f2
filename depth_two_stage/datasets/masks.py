# SPDX-License-Identifier: Apache-2.0
"""Which pixels of a recorded depth map a paper learns from."""

from __future__ import annotations

import numpy as np


def trusted(depth: np.ndarray, farthest: float = np.inf, extremes: bool = True) -> np.ndarray:
    """Depth float32 (H, W) m with 0 where it is not to be learned from; the input stays as it is.

    ``farthest`` m and beyond is left out: 70 on Make3D (E, section 4.3; criterion C1). With
    ``extremes`` so is what equals the minimum or the maximum recorded in this image: windows, open
    doors, specular surfaces (C, section 4). So call it on the whole frame, before any crop. What is
    not finite or not above 0 is no record. An image of one depth alone has no extremes.
    """
    if not farthest > 0:
        raise ValueError(f"farthest: expected positive metres, got {farthest!r}")
    depth = np.asarray(depth, np.float32)
    valid = np.isfinite(depth) & (depth > 0)
    if extremes and valid.any():
        low, high = depth[valid].min(), depth[valid].max()
        if low < high:
            valid &= (depth > low) & (depth < high)
    return np.where(valid & (depth < farthest), depth, np.float32(0))
