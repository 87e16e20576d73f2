# SPDX-License-Identifier: Apache-2.0
"""A depth image as the samples that point-based fusion takes (Keller et al., 3DV 2013, section 3).

Each pixel with depth and a normal is a disc: vertex, normal, radius, confidence.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np

from depth_two_stage.camera import Camera

#: σ of the confidence of a pixel by its distance from the image's centre (section 4.2).
CONFIDENCE_SIGMA = 0.6
#: Radii grow no further beyond this angle between normal and optical axis (section 3).
GRAZING = np.deg2rad(75)
#: Neighbours whose depth differs by a larger share are another surface: no normal across an edge.
#: The paper leaves it open.
DEPTH_JUMP = 0.05
#: Bilateral filter before normals: diameter (px), σ of depth as share of the median, σ (px). The
#: paper has such a filter for its camera pose only; of depth as measured, neighbouring pixels are
#: closer than depth is exact, and normals would be noise: on `tum_fr1_xyz` a filter of 5 px let a
#: third of a second frame's pixels meet a surfel, one of these values (KinectFusion's) 55 %, no
#: test of normals at all 76 %.
FILTER = (13, 0.03, 4.5)


@dataclass(frozen=True)
class Samples:
    """The M pixels that can be fused.

    ``pixels`` int64 (M,) places in the flat image; in the world ``points`` (M, 3) m, ``normals``
    (M, 3) towards the camera; ``radii`` (M,) m, ``colors`` (M, 3) 0…255, ``alpha`` (M,) 0…1 the
    confidence, ``rays`` (M, 3) unit vectors of the camera's frame and ``ranges`` (M,) m along
    them; float32.
    """

    pixels: np.ndarray
    points: np.ndarray
    normals: np.ndarray
    radii: np.ndarray
    colors: np.ndarray
    alpha: np.ndarray
    rays: np.ndarray
    ranges: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: np.ndarray) -> Samples:
        return Samples(*(getattr(self, field.name)[rows] for field in fields(self)))


def samples(
    depth: np.ndarray,
    rgb: np.ndarray,
    weight: np.ndarray,
    camera: Camera,
    T_world_camera: np.ndarray,
) -> Samples:
    """Depth float32 (H, W) m (0 = none), rgb uint8 (H, W, 3), weight (H, W) 0…1 → its samples."""
    normals, known = normal_map(depth, camera)
    pixels = np.flatnonzero(known & (weight > 0))
    z, normals = depth.reshape(-1)[pixels], normals.reshape(-1, 3)[pixels]
    rays = camera.rays().reshape(-1, 3)[pixels]
    points = rays * z[:, None]
    length = np.linalg.norm(rays, axis=1)
    R, t = T_world_camera[:3, :3].astype(np.float32), T_world_camera[:3, 3].astype(np.float32)
    return Samples(
        pixels,
        points @ R.T + t,
        normals @ R.T,
        radii(z, normals, camera),
        rgb.reshape(-1, 3)[pixels].astype(np.float32),
        weight.reshape(-1)[pixels] * centrality(camera).reshape(-1)[pixels],
        rays / length[:, None],
        z * length,
    )


def normal_map(depth: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals float32 (H, W, 3) towards the camera, optical frame, and where there are any.

    From central differences of the vertex map (section 3), whose depth is filtered first.
    """
    valid = depth > 0
    normals, known = np.zeros((*depth.shape, 3), np.float32), np.zeros(depth.shape, bool)
    if not valid.any():
        return normals, known
    diameter, share, sigma = FILTER
    smooth = cv2.bilateralFilter(
        depth.astype(np.float32, copy=False),
        diameter,
        share * float(np.median(depth[valid])),
        sigma,
    )
    vertices = camera.rays() * smooth[..., None]
    middle, jump = depth[1:-1, 1:-1], DEPTH_JUMP * depth[1:-1, 1:-1]
    whole = middle > 0
    for near in (depth[1:-1, :-2], depth[1:-1, 2:], depth[:-2, 1:-1], depth[2:, 1:-1]):
        whole &= np.abs(near - middle) < jump
    across = (vertices[1:-1, 2:] - vertices[1:-1, :-2])[whole]
    down = (vertices[2:, 1:-1] - vertices[:-2, 1:-1])[whole]
    normal = np.cross(down, across)  # x right, y down, z forward: towards the camera
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), np.float32(1e-12))
    normals[1:-1, 1:-1][whole] = normal
    known[1:-1, 1:-1] = whole
    return normals, known


def radii(depth: np.ndarray, normals: np.ndarray, camera: Camera) -> np.ndarray:
    """Radii (M,) m of discs that cover their pixel: depth / (√2 f |n_z|) (section 3).

    ``depth`` (M,) m along the optical axis, ``normals`` (M, 3) in the optical frame.
    """
    slant = np.maximum(np.abs(normals[:, 2]), np.float32(np.cos(GRAZING)))
    return depth / (np.float32(np.sqrt(2) * camera.focal) * slant)


def centrality(camera: Camera) -> np.ndarray:
    """Confidence of each pixel float32 (H, W): alpha = exp(-gamma² / 2σ²) (section 4.2).

    gamma is the distance from the principal point, 1 at the image's farthest corner.
    """
    x = np.arange(camera.width, dtype=np.float32) - np.float32(camera.cx)
    y = (np.arange(camera.height, dtype=np.float32) - np.float32(camera.cy))[:, None]
    square = x * x + y * y
    return np.exp(-square / square.max() / np.float32(2 * CONFIDENCE_SIGMA**2))
