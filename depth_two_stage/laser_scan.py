# SPDX-License-Identifier: Apache-2.0
"""A depth image as a planar laser would have measured it: the nearest surface in each direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .camera import Camera
from .config import ScanParameters

__all__ = ["LaserScan", "laser_scan"]


@dataclass(frozen=True)
class LaserScan:
    """Ranges float32 (N,) m at angles ``start + i * increment`` rad, counterclockwise from above.

    Angle 0 looks along the optical axis; the plane is that of the optical axis and the image's
    rows. REP 117: +inf: nothing within ``max_range``; -inf: nearer than ``min_range``; NaN: no
    depth.
    """

    start: float
    increment: float
    ranges: np.ndarray
    min_range: float
    max_range: float


def laser_scan(depth: np.ndarray, camera: Camera, parameters: ScanParameters) -> LaserScan:
    """Depth (H, W) m, 0 = none → the scan of what lies between two heights about the camera.

    Heights are measured along the image's columns, up, from the optical centre: at every distance
    the same slab, so that a level camera keeps the floor out. A pixel counts when any part of it
    lies in the slab. A finite range wins over -inf, that over +inf.
    """
    low, high = parameters.min_height, parameters.max_height
    # Rows that meet the slab somewhere between the nearest and the farthest surface.
    rise = (camera.cy - np.arange(camera.height)) / camera.fy  # m upwards for each m of depth
    farthest = depth.max(initial=0.0)
    nearest = depth.min(initial=farthest, where=depth > 0)
    ends = rise * np.array([[nearest], [farthest]])
    most = 0.5 * farthest / camera.fy  # half a pixel's height, m
    rows = np.flatnonzero((ends.max(axis=0) + most >= low) & (ends.min(axis=0) - most <= high))
    part, rise = depth[rows], rise[rows, None].astype(np.float32)
    height, half = rise * part, part * np.float32(0.5 / camera.fy)
    across = (np.arange(camera.width) - camera.cx) / camera.fx
    distance = part * np.sqrt(1 + across**2).astype(np.float32)
    # The angle between the two columns that are farthest apart, so that none of the rays is empty.
    angles = -np.arctan(across)[::-1]
    increment = float(np.diff(angles).max(initial=0.0)) or 1.0 / camera.fx
    count = int((angles[-1] - angles[0]) / increment + 1e-6) + 1
    ray = np.minimum(np.rint((-np.arctan(across) - angles[0]) / increment), count - 1).astype(int)
    ray = np.broadcast_to(ray, part.shape)

    ranges = np.full(count, np.nan, np.float32)
    inside = (part > 0) & (height + half >= low) & (height - half <= high)
    ranges[ray[inside & (distance > parameters.max_range)]] = np.inf
    ranges[ray[inside & (distance < parameters.min_range)]] = -np.inf
    measured = inside & (distance >= parameters.min_range) & (distance <= parameters.max_range)
    least = np.full(count, np.inf, np.float32)
    np.minimum.at(least, ray[measured], distance[measured])
    ranges = np.where(np.isfinite(least), least, ranges)
    return LaserScan(
        float(angles[0]), increment, ranges, parameters.min_range, parameters.max_range
    )
