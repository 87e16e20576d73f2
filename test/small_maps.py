# SPDX-License-Identifier: Apache-2.0
"""A wall before a camera, and Open3D's own grid, for the tests of maps."""

import numpy as np
import open3d as o3d
import open3d.core as o3c

from depth_two_stage.camera import Camera
from depth_two_stage.config import TsdfParameters

PARAMETERS = TsdfParameters(device="cpu", memory_mb=64.0)
CAMERA = Camera(160, 120, 131.0, 132.0, 79.3, 60.1)


def pose(x=0.0, y=0.0, z=0.0, turn=0.0):
    """T_world_camera: moved, turned about the camera's y axis (rad)."""
    T = np.eye(4)
    T[0, 0] = T[2, 2] = np.cos(turn)
    T[0, 2], T[2, 0] = np.sin(turn), -np.sin(turn)
    T[:3, 3] = x, y, z
    return T


def wall(distance=1.507, camera=CAMERA, seed=0):
    """A wall square to the camera: depth, random colour."""
    rgb = np.random.default_rng(seed).integers(0, 256, (*camera.size, 3), np.uint8)
    return np.full(camera.size, distance, np.float32), rgb


def open3d_grid(parameters):
    return o3d.t.geometry.VoxelBlockGrid(
        ("tsdf", "weight", "color"),
        (o3c.float32,) * 3,
        ((1), (1), (3)),
        parameters.voxel_size,
        16,
        1000,
        o3c.Device("CPU:0"),
    )
