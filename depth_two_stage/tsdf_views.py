# SPDX-License-Identifier: Apache-2.0
"""What is seen of a map's blocks: the surface as mesh or points, and the view of a camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from depth_two_stage.camera import Camera
from depth_two_stage.config import TsdfParameters
from depth_two_stage.tsdf_blocks import RESOLUTION, BlockGrid, host

# Open3D rounds down where it reads: the pixel of a voxel when it integrates, the voxel of a point
# when it casts rays. A surface so stands half a pixel beside the image it came from and is seen
# half a voxel beside its place (1 cm on each axis at 2 cm: measured, up to 17 mm in depth); rays
# are cast as much beside, so that a frame fits the map it made.
PIXEL_SHIFT = 0.5
VOXEL_SHIFT = 0.5
RANGE_CELL = 8  # px of a side of Open3D's range map, `range_map_down_factor`
FRAGMENT = 16  # cells of a side of its fragments


@dataclass(frozen=True)
class Surface:
    """Surface: points float32 (N, 3) m world, colors uint8 (N, 3), triangles int32 (M, 3)."""

    points: np.ndarray
    colors: np.ndarray
    triangles: np.ndarray


def extract(grid: Any, weight_threshold: float, triangles: bool) -> Surface:
    """The surface of an Open3D VoxelBlockGrid where weights reach the threshold."""
    if grid.hashmap().size() == 0:
        made = None
    elif triangles:
        made = grid.extract_triangle_mesh(weight_threshold).cpu()
    else:
        made = grid.extract_point_cloud(weight_threshold).cpu()
    where = None if made is None else (made.vertex if triangles else made.point)
    if where is None or "positions" not in where or len(where["positions"]) == 0:
        empty = np.zeros((0, 3))
        return Surface(empty.astype(np.float32), empty.astype(np.uint8), empty.astype(np.int32))
    points, colors = where["positions"].numpy(), where["colors"].numpy()
    faces = made.triangle["indices"].numpy() if triangles else np.zeros((0, 3))
    return Surface(
        points.astype(np.float32),
        (np.clip(colors, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8),
        faces.astype(np.int32),
    )


class RayCaster:
    """Renders blocks by Open3D's ray cast."""

    def __init__(self, blocks: BlockGrid) -> None:
        self.blocks = blocks
        self._fragments = 0  # room in Open3D's buffer of a cast

    def cast(
        self,
        camera: Camera,
        T_world_camera: np.ndarray,
        parameters: TsdfParameters,
        weight_threshold: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Depth float32 (H, W) m, 0 = none, and rgb uint8 (H, W, 3) as the camera would see."""
        keys = self._visible(camera, T_world_camera, parameters.max_range)
        if len(keys) == 0:
            return np.zeros(camera.size, np.float32), np.zeros((*camera.size, 3), np.uint8)
        self._make_room(len(keys), camera)
        # Whole cells, two at least: Open3D rounds their number down. For pixels beyond the last one
        # it reads ranges never written (a ray may never end); of a single cell it sees nothing.
        width, height = (
            max(2, -(-side // RANGE_CELL)) * RANGE_CELL for side in (camera.width, camera.height)
        )
        K, T = camera.K, T_world_camera.copy()
        K[:2, 2] -= PIXEL_SHIFT
        T[:3, 3] += VOXEL_SHIFT * self.blocks.voxel_size
        seen = self.blocks.grid.ray_cast(
            self.blocks.tensor(keys),
            host(K),
            host(np.linalg.inv(T)),
            width,
            height,
            ["depth", "color"],
            1.0,
            max(parameters.min_range, 0.01),
            parameters.max_range,
            weight_threshold,
            parameters.truncation,
            RANGE_CELL,
        )
        inside = slice(camera.height), slice(camera.width)
        depth = seen["depth"].cpu().numpy().reshape(height, width)[inside]
        color = seen["color"].cpu().numpy().reshape(height, width, 3)[inside]
        rgb = (np.clip(color, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
        return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0)), rgb

    def _make_room(self, blocks: int, camera: Camera) -> None:
        """Enlarge Open3D's buffer of block fragments before it is needed.

        A cast that needs more fragments than the buffer holds leaves holes, reads entries that were
        never written and so writes outside its memory, and enlarges the buffer only for the next
        cast. A tiny cast over one block repeated needs one fragment each time: safe, and exact.
        """
        import open3d as o3d

        # A block covers at most the image; one more each way because it may start within one.
        across = -(-camera.width // (RANGE_CELL * FRAGMENT)) + 1
        down = -(-camera.height // (RANGE_CELL * FRAGMENT)) + 1
        most = blocks * across * down + 1
        if most < self._fragments:
            return
        self._fragments = 2 * most
        size = RESOLUTION * self.blocks.voxel_size
        T_camera_world = np.eye(4)
        T_camera_world[:3, 3] = -size / 2, -size / 2, 2 * size  # two blocks before block 0
        K = np.array([[8.0, 0, 8], [0, 8, 8], [0, 0, 1]])
        with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
            self.blocks.grid.ray_cast(
                self.blocks.tensor(np.zeros((self._fragments, 3), np.int32)),
                host(K),
                host(T_camera_world),
                16,
                16,
                ["depth"],
                1.0,
                size,
                4 * size,
                1e9,
                1.0,
                RANGE_CELL,
            )

    def _visible(self, camera: Camera, T_world_camera: np.ndarray, max_range: float) -> np.ndarray:
        """Coordinates of the blocks that may lie in the camera's view, int32 (n, 3)."""
        keys = self.blocks.keys(self.blocks.slots())
        size = RESOLUTION * self.blocks.voxel_size
        T = np.linalg.inv(T_world_camera)
        x, y, z = ((keys + 0.5) * size @ T[:3, :3].T + T[:3, 3]).T
        # A sphere round the block against the four sides of the view.
        radius = size * np.sqrt(3) / 2
        x_far = max(camera.cx, camera.width - camera.cx) / camera.fx
        y_far = max(camera.cy, camera.height - camera.cy) / camera.fy
        inside = (z > -radius) & (z < max_range + radius)
        inside &= np.abs(x) - x_far * z < radius * np.hypot(1, x_far)
        inside &= np.abs(y) - y_far * z < radius * np.hypot(1, y_far)
        return keys[inside]
