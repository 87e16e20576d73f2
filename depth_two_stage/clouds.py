# SPDX-License-Identifier: Apache-2.0
"""Depth images → coloured points, without the flying pixels at depth edges."""

from __future__ import annotations

import cv2
import numpy as np

from .camera import Camera

_NEIGHBOURS = np.ones((3, 3), np.uint8)
_FAR = np.float32(1e9)


def flying_pixels(depth: np.ndarray, jump: float) -> np.ndarray:
    """Pixels beside a depth step: bool (H, W) of a depth (H, W) m, 0 = none.

    A pixel is taken out when the depths of its 3x3 neighbourhood differ by more than ``jump`` times
    its own depth: a network's edges are ramps whose pixels lie on no surface. ``jump`` 0 keeps all.
    """
    if jump <= 0:
        return np.zeros(depth.shape, bool)
    farthest = cv2.dilate(depth, _NEIGHBOURS)
    nearest = cv2.erode(np.where(depth > 0, depth, _FAR), _NEIGHBOURS)
    return (depth > 0) & (farthest - nearest > np.float32(jump) * depth)


def coloured_points(
    depth: np.ndarray,
    rgb: np.ndarray,
    camera: Camera,
    *,
    step: int = 1,
    min_range: float = 0.0,
    max_range: float = np.inf,
    edge_jump: float = 0.0,
    organized: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Depth (H, W) m and RGB (H, W, 3) → points float32 m, colours uint8, optical frame.

    Every ``step``-th row and column, depths in [min_range, max_range], edges removed at full
    resolution. Organized: (h, w, 3) with NaN where there is no point; otherwise (N, 3).
    """
    keep = (depth > 0) & (depth >= min_range) & (depth <= max_range)
    keep &= ~flying_pixels(depth, edge_jump)
    keep, depth, rgb = (array[::step, ::step] for array in (keep, depth, rgb))
    x = ((np.arange(0, camera.width, step) - camera.cx) / camera.fx).astype(np.float32)
    y = ((np.arange(0, camera.height, step) - camera.cy) / camera.fy).astype(np.float32)
    if organized:
        z = np.where(keep, depth, np.float32(np.nan))
        return np.stack([x * z, y[:, None] * z, z], axis=-1), rgb
    rows, columns = np.nonzero(keep)
    z = depth[rows, columns]
    return np.stack([x[columns] * z, y[rows] * z, z], axis=-1), rgb[rows, columns]
