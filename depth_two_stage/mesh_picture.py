# SPDX-License-Identifier: Apache-2.0
"""A mesh as a picture, by casting rays: needs neither a GPU nor a display."""

from __future__ import annotations

import numpy as np

from .camera import Camera

_BACKGROUND = (245, 245, 245)
_AMBIENT = 0.35
_SUPERSAMPLE = 2


def render(
    points: np.ndarray,
    triangles: np.ndarray,
    colors: np.ndarray | None,
    camera: Camera,
    T_world_camera: np.ndarray,
) -> np.ndarray:
    """Mesh (points (N, 3) m, colors uint8 (N, 3)) seen by the camera → uint8 (H, W, 3) RGB.

    Light comes from the camera; without colours the mesh is grey.
    """
    import cv2
    import open3d as o3d

    size = (camera.width, camera.height)
    fine = camera.resized(_SUPERSAMPLE * camera.width, _SUPERSAMPLE * camera.height)
    picture = np.full((fine.height, fine.width, 3), _BACKGROUND, np.float32)
    if len(triangles):
        scene = o3d.t.geometry.RaycastingScene()
        corners = np.ascontiguousarray(points, np.float32)
        scene.add_triangles(corners, np.ascontiguousarray(triangles, np.uint32))
        rays = fine.rays().reshape(-1, 3) @ T_world_camera[:3, :3].T
        origins = np.broadcast_to(T_world_camera[:3, 3], rays.shape)
        cast = np.concatenate([origins, rays], axis=1).astype(np.float32)
        hits = scene.cast_rays(o3d.core.Tensor(cast))
        hit = np.isfinite(hits["t_hit"].numpy())
        normals = hits["primitive_normals"].numpy()[hit]
        towards = rays[hit] / np.linalg.norm(rays[hit], axis=1, keepdims=True)
        light = _AMBIENT + (1 - _AMBIENT) * np.abs(np.sum(normals * towards, axis=1))
        shade = np.full((len(light), 3), 200.0, np.float32)
        if colors is not None:
            uv = hits["primitive_uvs"].numpy()[hit]
            three = triangles[hits["primitive_ids"].numpy()[hit].astype(np.int64)]
            weights = np.stack([1 - uv.sum(axis=1), uv[:, 0], uv[:, 1]], axis=1)
            shade = np.einsum("nk,nkc->nc", weights, colors[three].astype(np.float32))
        picture.reshape(-1, 3)[hit] = shade * light[:, None]
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return np.clip(small, 0, 255).astype(np.uint8)


def view_of(poses: np.ndarray, back: float = 1.0) -> np.ndarray:
    """A pose T_world_camera behind the middle one of ``poses`` (N, 4, 4), ``back`` m away."""
    T = np.array(poses[len(poses) // 2], np.float64)
    T[:3, 3] = np.mean(poses[:, :3, 3], axis=0) - back * T[:3, 2]
    return T
