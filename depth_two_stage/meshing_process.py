# SPDX-License-Identifier: Apache-2.0
"""The map worker's own process: keeps a mirror of the map, meshes it, writes it.

Started by `meshing.MapWorker` as ``python -m depth_two_stage.meshing_process FD VOXEL_SIZE``; it
answers on the socket and ends when the other side closes it, also by a crash of the parent.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from depth_two_stage.camera import Camera
    from depth_two_stage.config import GridParameters, TsdfParameters
    from depth_two_stage.occupancy_mapping import OccupancyMapper
    from depth_two_stage.tsdf_views import Surface

BYTES_A_MESSAGE = 1 << 20
NICENESS = 10  # frames go first


def send_array(connection: Connection, array: np.ndarray) -> None:
    """Array bytes in messages small enough that nobody holds Python's lock for long."""
    view = memoryview(np.ascontiguousarray(array)).cast("B") if array.size else memoryview(b"")
    for start in range(0, len(view), BYTES_A_MESSAGE):
        connection.send_bytes(view[start : start + BYTES_A_MESSAGE])


def receive_array(connection: Connection, array: np.ndarray) -> np.ndarray:
    """Fill an array with what `send_array` sent."""
    view = memoryview(array).cast("B") if array.size else memoryview(b"")
    position = 0
    while position < len(view):
        try:
            position += connection.recv_bytes_into(view[position:])
        except OSError as error:  # half of a message: its sender was killed
            raise EOFError(str(error)) from error
    return array


class Mirror:
    """The worker's side: one method a message, returning the answer to send (None: no answer)."""

    def __init__(self, connection: Connection, voxel_size: float) -> None:
        self.connection = connection
        self.voxel_size = voxel_size
        self.blocks: Any = None
        self.occupancy: Any = None

    def room(self, capacity: int) -> None:
        """Start an empty mirror of a capacity; the old one is freed first."""
        from depth_two_stage.tsdf_blocks import BlockGrid

        self.blocks = None
        self.blocks = BlockGrid(self.voxel_size, capacity)

    def begin(self, keys: np.ndarray) -> None:
        """Forget the blocks that the map no longer has."""
        if self.blocks is None:
            self.room(1)
        mine = self.blocks.keys(self.blocks.slots())
        gone = ~np.isin(_packed(mine), _packed(keys))
        self.blocks.erase(mine[gone])

    def update(self, keys: np.ndarray) -> None:
        """Take blocks that follow as arrays."""
        from depth_two_stage.tsdf_blocks import VALUES, VOXELS

        values = {}
        for name, channels in VALUES.items():
            shape = (len(keys), VOXELS, 3) if channels == 3 else (len(keys), VOXELS)
            values[name] = receive_array(self.connection, np.empty(shape, np.float32))
        self.blocks.write(keys, values)

    def mesh(self, weight_threshold: float) -> None:
        """Answer with the mesh."""
        self._send_surface(self._extract(weight_threshold, triangles=True))

    def points(self, weight_threshold: float) -> None:
        """Answer with the surface points."""
        self._send_surface(self._extract(weight_threshold, triangles=False))

    def grid(
        self,
        tsdf: TsdfParameters,
        grid: GridParameters,
        trajectory: tuple[np.ndarray, np.ndarray],
        camera: Camera | None,
    ) -> None:
        """Answer with the occupancy grid."""
        made = self._mapper(tsdf, grid).make(self.blocks, trajectory, camera)
        self.connection.send(("grid", made.data.shape, made.resolution, made.origin, made.cropped))
        send_array(self.connection, made.data)

    def obstacles(self, tsdf: TsdfParameters, grid: GridParameters, *_: Any) -> None:
        """Answer with the surface points in the grid's height band."""
        self._send_surface(self._mapper(tsdf, grid).obstacles(self.blocks))

    def _mapper(self, tsdf: TsdfParameters, grid: GridParameters) -> OccupancyMapper:
        from depth_two_stage.occupancy_mapping import OccupancyMapper

        if self.occupancy is None:
            self.occupancy = OccupancyMapper(tsdf, grid)
        return self.occupancy

    def save(
        self,
        path: str,
        meta: dict,
        tsdf: TsdfParameters,
        grid: GridParameters,
        trajectory: tuple[np.ndarray, np.ndarray],
        camera: Camera | None,
    ) -> None:
        """Write what the path's ending stands for, answer with path, bytes and seconds."""
        from depth_two_stage import map_formats
        from depth_two_stage.map_file import MapMeta

        begin, blocks = time.monotonic(), self.blocks
        try:
            size = map_formats.write(
                path,
                blocks,
                MapMeta(**{**meta, "blocks": len(blocks)}),
                list(zip(trajectory[0].tolist(), trajectory[1], strict=True)),
                tsdf.weight_threshold,
                lambda: self._mapper(tsdf, grid).make(blocks, trajectory, camera),
            )
        except OSError as error:
            self.connection.send(("disk", error.errno, str(error)))
            return
        self.connection.send(("saved", path, size, time.monotonic() - begin))

    def _extract(self, weight_threshold: float, triangles: bool) -> Surface:
        from depth_two_stage.tsdf_views import extract

        return extract(self.blocks.grid, weight_threshold, triangles)

    def _send_surface(self, surface: Surface) -> None:
        arrays = surface.points, surface.colors, surface.triangles
        self.connection.send(("surface", *((a.shape, str(a.dtype)) for a in arrays)))
        for array in arrays:
            send_array(self.connection, array)


def _packed(keys: np.ndarray) -> np.ndarray:
    """Block coordinates (n, 3), each within ±2²⁰, as one int64."""
    keys = keys.astype(np.int64) + (1 << 20)
    return keys[:, 0] << 42 | keys[:, 1] << 21 | keys[:, 2]


def main() -> None:
    """Serve until the other side closes the socket or says "end"."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what is still saved
    os.nice(NICENESS)
    connection = Connection(int(sys.argv[1]))
    mirror = Mirror(connection, float(sys.argv[2]))
    actions = {
        "room": mirror.room,
        "begin": mirror.begin,
        "blocks": mirror.update,
        "mesh": mirror.mesh,
        "points": mirror.points,
        "grid": mirror.grid,
        "obstacles": mirror.obstacles,
        "save": mirror.save,
    }
    try:
        while (message := connection.recv())[0] != "end":
            actions[message[0]](*message[1:])
    except (EOFError, ConnectionError):
        return  # the parent is gone: nobody is left to answer


if __name__ == "__main__":
    main()
