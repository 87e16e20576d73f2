# SPDX-License-Identifier: Apache-2.0
"""A textured plane before a camera, for which every view can be computed."""

import numpy as np

from depth_two_stage.camera import Camera

CAMERA = Camera(320, 240, 260.0, 260.0, 150.0, 126.0)
NORMAL = np.array([0.3, -0.2, -1.0])  # the plane NORMAL · p = OFFSET, slanted to the camera
OFFSET = -3.0


def plane(camera=CAMERA):
    """A slanted plane; its colour tells where on the optical frame's x and y a pixel looks."""
    rays = camera.rays().astype(np.float64)
    depth = (OFFSET / (rays @ NORMAL)).astype(np.float32)
    rgb = np.zeros((*camera.size, 3), np.uint8)
    rgb[..., 0] = np.clip(128 + 150 * rays[..., 0], 0, 255)
    rgb[..., 1] = np.clip(128 + 150 * rays[..., 1], 0, 255)
    return rgb, depth


def samples(depth, seed=0, count=400):
    sparse = np.zeros_like(depth)
    chosen = np.random.default_rng(seed).choice(depth.size, count, replace=False)
    sparse.flat[chosen] = depth.flat[chosen]
    return sparse
