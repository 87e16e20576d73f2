# SPDX-License-Identifier: Apache-2.0
"""Weighted integration of a depth image into TSDF blocks, in NumPy (CPU) and torch (CUDA).

Open3D's own `integrate` gives every pixel the weight 1. This is the same running mean (Curless and
Levoy 1996) with a weight a pixel, in the same order of float32 operations, so that weight 1 gives
the same numbers; like Open3D's it reads the pixel whose index is the projection rounded *down*.
Voxel coordinates are separable within a block: products are formed for 3 × 16 coordinates and
added up, not for 4096 voxels as `voxel_coordinates_and_flattened_indices` would need.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from depth_two_stage.camera import Camera
from depth_two_stage.tsdf_blocks import RESOLUTION, VOXELS

# 16 blocks: the temporary arrays (256 KB each) stay in the processor's second-level cache.
BLOCKS_AT_ONCE_CPU = 16
BLOCKS_AT_ONCE_CUDA = 1024


def axis_products(
    keys: np.ndarray, voxel_size: float, T_camera_world: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray, np.float32]]:
    """Per camera axis: (x and y part (n, 16 y, 16 x), z part (n, 16 z), translation), float32."""
    T = T_camera_world.astype(np.float32)
    step = np.arange(RESOLUTION)
    x, y, z = (
        (keys[:, axis, None] * RESOLUTION + step).astype(np.float32) * np.float32(voxel_size)
        for axis in range(3)
    )
    return [
        (x[:, None, :] * T[row, 0] + y[:, :, None] * T[row, 1], z * T[row, 2], T[row, 3])
        for row in range(3)
    ]


def fuse_numpy(
    values: dict[str, np.ndarray],
    keys: np.ndarray,
    slots: np.ndarray,
    images: tuple[np.ndarray, np.ndarray, np.ndarray],
    camera: Camera,
    T_camera_world: np.ndarray,
    voxel_size: float,
    truncation: float,
    weight_cap: float,
) -> None:
    """Fuse (depth (H, W) m, rgb (H, W, 3), weight (H, W)) into blocks; truncation in metres.

    ``values`` are the grid's views by name; pixels of depth 0 or weight 0 change nothing.
    """
    depth, rgb, weight = images[0].ravel(), images[1].reshape(-1, 3), images[2].ravel()
    tsdf, weights, color = (values[name] for name in ("tsdf", "weight", "color"))
    tsdf, weights, color = tsdf.reshape(-1), weights.reshape(-1), color.reshape(-1, 3)
    fx, fy, cx, cy = np.float32([camera.fx, camera.fy, camera.cx, camera.cy])
    limit, cap = np.float32(truncation), np.float32(weight_cap)
    last_x, last_y = np.float32(camera.width - 1), np.float32(camera.height - 1)
    for start in range(0, len(keys), BLOCKS_AT_ONCE_CPU):
        part = slice(start, start + BLOCKS_AT_ONCE_CPU)
        # Voxel centres in the camera frame, metres; voxels of a block run z, y, x.
        axes = []
        for xy, z, t in axis_products(keys[part], voxel_size, T_camera_world):
            axis = np.add(xy[:, None], z[:, :, None, None])
            axis += t
            axes.append(axis.reshape(-1))
        u, v, z = axes
        # Projection; voxels behind the camera give NaN or nonsense and are masked.
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            inverse = np.float32(1) / z
            u *= fx
            u *= inverse
            u += cx
            v *= fy
            v *= inverse
            v += cy
            inside = (u >= 0) & (v >= 0) & (u <= last_x) & (v <= last_y) & (z > 0)
        np.copyto(u, 0, where=~inside)
        np.copyto(v, 0, where=~inside)
        pixel = v.astype(np.int32)
        pixel *= camera.width
        pixel += u.astype(np.int32)
        # Signed distance along the ray, truncated.
        distance = depth.take(pixel)
        inside &= distance > 0
        distance -= z
        inside &= distance >= -limit
        hit = np.flatnonzero(inside)
        pixel = pixel.take(hit)
        distance = np.minimum(distance.take(hit), limit)
        distance /= limit
        # Running mean.
        place = slots[part][hit // VOXELS] * VOXELS + hit % VOXELS
        old, new = weights.take(place), weight.take(pixel)
        total = old + new
        inverse = np.float32(1) / total
        tsdf[place] = (old * tsdf.take(place) + new * distance) * inverse
        old, new, inverse = old[:, None], new[:, None], inverse[:, None]
        color[place] = (old * color.take(place, axis=0) + new * rgb.take(pixel, axis=0)) * inverse
        weights[place] = np.minimum(total, cap)


def fuse_torch(
    values: dict[str, Any],
    keys: np.ndarray,
    slots: np.ndarray,
    images: tuple[np.ndarray, np.ndarray, np.ndarray],
    camera: Camera,
    T_camera_world: np.ndarray,
    voxel_size: float,
    truncation: float,
    weight_cap: float,
) -> None:
    """`fuse_numpy` on torch tensors: the grid's values as DLPack gives them, any device."""
    import torch

    device = values["tsdf"].device

    def moved(array: np.ndarray) -> Any:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    depth, weight = moved(images[0]).reshape(-1), moved(images[2]).reshape(-1)
    rgb = moved(images[1]).reshape(-1, 3).float()
    tsdf, weights = values["tsdf"].view(-1), values["weight"].view(-1)
    color = values["color"].view(-1, 3)
    fx, fy, cx, cy = (float(np.float32(v)) for v in (camera.fx, camera.fy, camera.cx, camera.cy))
    limit = float(np.float32(truncation))
    for start in range(0, len(keys), BLOCKS_AT_ONCE_CUDA):
        part = slice(start, start + BLOCKS_AT_ONCE_CUDA)
        axes = [
            ((moved(xy)[:, None] + moved(z)[:, :, None, None]) + float(t)).reshape(-1)
            for xy, z, t in axis_products(keys[part], voxel_size, T_camera_world)
        ]
        u, v, z = axes
        inverse = 1 / z
        u, v = u * fx * inverse + cx, v * fy * inverse + cy
        inside = (u >= 0) & (v >= 0) & (u <= camera.width - 1) & (v <= camera.height - 1) & (z > 0)
        u, v = torch.where(inside, u, 0.0).long(), torch.where(inside, v, 0.0).long()
        pixel = v * camera.width + u
        distance = depth[pixel]
        inside &= distance > 0
        distance = distance - z
        hit = torch.nonzero(inside & (distance >= -limit)).view(-1)
        pixel, distance = pixel[hit], distance[hit].clamp(max=limit) / limit
        place = moved(slots[part])[hit // VOXELS] * VOXELS + hit % VOXELS
        old, new = weights[place], weight[pixel]
        total = old + new
        inverse = 1 / total
        tsdf[place] = (old * tsdf[place] + new * distance) * inverse
        old, new, inverse = old[:, None], new[:, None], inverse[:, None]
        color[place] = (old * color[place] + new * rgb[pixel]) * inverse
        weights[place] = total.clamp(max=weight_cap)
