# SPDX-License-Identifier: Apache-2.0
"""The occupancy grid of a map's blocks; the map's worker makes it (`meshing`)."""

from __future__ import annotations

import numpy as np

from depth_two_stage.camera import Camera
from depth_two_stage.config import GridParameters, TsdfParameters
from depth_two_stage.occupancy import (
    FREE,
    OCCUPIED,
    Cells,
    FreeSpace,
    Occupancy,
    compose,
    crowded,
    in_band,
    observed_free,
)
from depth_two_stage.tsdf_blocks import RESOLUTION, BlockGrid
from depth_two_stage.tsdf_views import RayCaster, Surface, extract

SLAB = 256  # blocks


class OccupancyMapper:
    """Makes grids of one map as it grows; what was seen free is kept from one to the next."""

    def __init__(self, tsdf: TsdfParameters, grid: GridParameters) -> None:
        self._tsdf, self._grid = tsdf, grid
        self._free: FreeSpace | None = None
        self._caster: RayCaster | None = None
        self._first: int | None = None  # stamp of the trajectory's start

    def make(
        self, blocks: BlockGrid, trajectory: tuple[np.ndarray, np.ndarray], camera: Camera | None
    ) -> Occupancy:
        """The grid of the blocks and of stamps (n,) ns, poses T_world_camera (n, 4, 4).

        Without a camera (None: a map that does not know it) no rays are traced: free is then only
        what lies before surfaces.
        """
        stamps, poses = trajectory
        first = int(stamps[0]) if len(stamps) else None
        if self._free is None or first != self._first:
            centre = poses[0, :2, 3] if len(poses) else self._middle(blocks)
            self._centre, self._first = centre, first
            self._free = FreeSpace(self._grid, centre)
        if camera is not None and len(poses):
            self._free.update(trajectory, camera, self._tsdf.max_range, self._cast_in(blocks))
        near = Cells(self._grid, self._centre)
        slots = blocks.slots()
        for start in range(0, len(slots), SLAB):
            part = slots[start : start + SLAB]
            near.add(
                observed_free(
                    blocks.keys(part),
                    blocks.values("tsdf")[part],
                    blocks.values("weight")[part],
                    self._tsdf.voxel_size,
                    self._tsdf.weight_threshold,
                    self._grid,
                )
            )
        occupied = Cells(self._grid, self._centre)
        occupied.add(crowded(self.obstacles(blocks).points.astype(np.float64), self._grid))
        layers = [(self._free.cells, FREE), (near, FREE), (occupied, OCCUPIED)]
        return compose(layers, self._grid.resolution)

    def obstacles(self, blocks: BlockGrid) -> Surface:
        """The surface points that lie in the band."""
        surface = extract(blocks.grid, self._tsdf.weight_threshold, triangles=False)
        inside = in_band(surface.points[:, 2], self._grid)
        return Surface(surface.points[inside], surface.colors[inside], surface.triangles)

    def _cast_in(self, blocks: BlockGrid):
        if self._caster is None or self._caster.blocks is not blocks:
            self._caster = RayCaster(blocks)

        def cast(camera: Camera, T_world_camera: np.ndarray) -> np.ndarray:
            threshold = self._tsdf.weight_threshold
            return self._caster.cast(camera, T_world_camera, self._tsdf, threshold)[0]

        return cast

    def _middle(self, blocks: BlockGrid) -> np.ndarray:
        """x, y m about which a map without a trajectory lies."""
        keys = blocks.keys(blocks.slots())
        size = RESOLUTION * self._tsdf.voxel_size
        return np.median(keys[:, :2], axis=0) * size if len(keys) else np.zeros(2)
