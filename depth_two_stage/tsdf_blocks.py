# SPDX-License-Identifier: Apache-2.0
"""The blocks of a TSDF map: Open3D's VoxelBlockGrid with a fixed number of blocks.

A block is 16×16×16 voxels of tsdf (1), weight (1) and colour (3), float32. The whole capacity is
allocated at once: Open3D doubles a full grid, which for a moment needs three times the memory, and
keeps the old values of an erased block when its place is used again. So room is made before it is
needed (farthest blocks first) and a block is zeroed when it is activated.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from depth_two_stage.camera import Camera

RESOLUTION = 16
OPEN3D_STRIDE = 4  # px: the pixels from which Open3D looks for blocks
VOXELS = RESOLUTION**3
VALUES = {"tsdf": 1, "weight": 1, "color": 3}
BLOCK_BYTES = 4 * VOXELS * sum(VALUES.values())
# Voxels from the origin within which float32, in which Open3D reckons, keeps a quarter of a voxel.
# Of 2 cm (rendered room): 0.4 cm off the surface at home and at 100 km, 1.5 at 300, at 5,400 gone.
FARTHEST = 2**22
# Room is made for this share of the capacity at once, so that not every frame sorts the blocks.
EVICTED_AT_ONCE = 0.02


class BlockGrid:
    """Blocks by integer coordinates: (x, y, z) covers (x … x + 1) · 16 · voxel_size metres."""

    def __init__(self, voxel_size: float, capacity: int, device: str = "CPU:0") -> None:
        import open3d as o3d
        import open3d.core as o3c

        self.voxel_size = float(voxel_size)
        self.capacity = int(capacity)
        self.device = o3c.Device(device)
        self.on_cpu = self.device.get_type() == o3c.Device.DeviceType.CPU
        self.grid = o3d.t.geometry.VoxelBlockGrid(
            tuple(VALUES),
            (o3c.float32,) * len(VALUES),
            tuple(VALUES.values()),
            self.voxel_size,
            RESOLUTION,
            self.capacity,
            self.device,
        )
        self.evicted = 0  # blocks given up for nearer ones
        self.skipped = 0  # blocks of a frame for which there was no room at all
        self.clock = 0  # counts changes; `changed` holds its value at a block's last change
        self.changed = np.zeros(self.capacity, np.int64)

    # --- what is there ----------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.grid.hashmap().size()

    def slots(self) -> np.ndarray:
        """Places of all active blocks in the buffers, int64 (n,), ascending."""
        return np.sort(_numpy(self.grid.hashmap().active_buf_indices()).astype(np.int64))

    def keys(self, slots: np.ndarray) -> np.ndarray:
        """Block coordinates int32 (n, 3) of places."""
        keys = self.grid.hashmap().key_tensor()
        if self.on_cpu:
            return keys.numpy()[slots]
        return keys.cpu().numpy()[slots]

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places int64 (n,) of block coordinates (n, 3), and which of them are active."""
        if not len(keys):  # an error to Open3D
            return np.zeros(0, np.int64), np.zeros(0, bool)
        slots, found = self.grid.hashmap().find(self.tensor(keys))
        return _numpy(slots).astype(np.int64), _numpy(found)

    def values(self, name: str) -> Any:
        """One attribute of all places, (capacity, 4096[, 3]): NumPy view (CPU), torch (CUDA)."""
        shape = (self.capacity, VOXELS, 3) if name == "color" else (self.capacity, VOXELS)
        tensor = self.grid.attribute(name)
        if self.on_cpu:
            return tensor.numpy().reshape(shape)
        from torch.utils.dlpack import from_dlpack

        return from_dlpack(tensor.to_dlpack()).view(shape)

    def tensor(self, array: np.ndarray) -> Any:
        """A NumPy array as an Open3D tensor on the grid's device."""
        import open3d.core as o3c

        return o3c.Tensor(np.ascontiguousarray(array)).to(self.device)

    def touched(
        self, depth: np.ndarray, camera: Camera, T_world_camera: np.ndarray, far: float, band: float
    ) -> np.ndarray:
        """Block coordinates int32 (n, 3) within ``band`` voxels of depth float32 (H, W) m.

        0 is no depth; the others are at most ``far``. Open3D looks at every fourth pixel and raises
        when none of them has depth: then every pixel is looked at.
        """
        import open3d as o3d

        # Rows and columns that do not fill a stride are not looked at, as in Open3D.
        height, width = (size // OPEN3D_STRIDE * OPEN3D_STRIDE for size in depth.shape)
        if not depth[:height:OPEN3D_STRIDE, :width:OPEN3D_STRIDE].any():
            return self._touched_by_pixels(depth, camera, T_world_camera, band)
        keys = self.grid.compute_unique_block_coordinates(
            o3d.t.geometry.Image(self.tensor(depth)),
            host(camera.K),
            host(np.linalg.inv(T_world_camera)),
            1.0,
            float(np.nextafter(np.float32(far), np.float32(np.inf))),  # Open3D wants less than it
            band,
        )
        return keys.cpu().numpy()

    def _touched_by_pixels(
        self, depth: np.ndarray, camera: Camera, T_world_camera: np.ndarray, band: float
    ) -> np.ndarray:
        seen = depth > 0
        rays, depth = camera.rays()[seen].astype(np.float64), depth[seen]
        T, edge = T_world_camera, RESOLUTION * self.voxel_size
        reach = band * self.voxel_size
        keys = []
        for offset in np.linspace(-reach, reach, 1 + int(np.ceil(4 * reach / edge))):
            points = rays * np.maximum(depth + offset, 0)[:, None] @ T[:3, :3].T + T[:3, 3]
            keys.append(np.unique(np.floor(points / edge).astype(np.int32), axis=0))
        return np.unique(np.concatenate(keys), axis=0)

    # --- changing ---------------------------------------------------------------------------------

    def activate(self, keys: np.ndarray, eye: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Make blocks (n, 3) active → (their coordinates, their places), those there is room for.

        New blocks are zeroed. When the grid would overflow, the blocks farthest from ``eye``
        (3,) m are given up, those asked for here last of all.
        """
        _, found = self.find(keys)
        missing = keys[~found]
        lack = len(self) + len(missing) - self.capacity
        if lack > 0:
            self._evict(lack, keys[found], eye)
            room = self.capacity - len(self)
            if room < len(missing):
                self.skipped += len(missing) - room
                missing = missing[np.argsort(self._distance(missing, eye), kind="stable")[:room]]
            keys = np.concatenate([keys[found], missing])
        if len(missing):
            # Only the missing ones are passed: Open3D counts every key given as a new one.
            slots, _ = self.grid.hashmap().activate(self.tensor(missing))
            self._zero(_numpy(slots).astype(np.int64))
        slots, _ = self.find(keys)
        self.touch(slots)
        return keys, slots

    def touch(self, slots: np.ndarray) -> None:
        """Note that blocks changed."""
        self.clock += 1
        self.changed[slots] = self.clock

    def erase(self, keys: np.ndarray) -> None:
        """Forget blocks (n, 3)."""
        if len(keys):
            self.grid.hashmap().erase(self.tensor(keys))
            self.clock += 1

    def clear(self) -> None:
        """Forget all blocks and counts."""
        self.erase(self.keys(self.slots()))
        self.evicted = self.skipped = 0

    def read(self, slots: np.ndarray) -> dict[str, np.ndarray]:
        """A copy of blocks: float32 (n, 4096[, 3]) by attribute name."""
        if self.on_cpu:
            return {name: self.values(name).take(slots, axis=0) for name in VALUES}
        return {name: self.values(name)[slots].cpu().numpy() for name in VALUES}

    def write(self, keys: np.ndarray, blocks: dict[str, np.ndarray]) -> None:
        """Set blocks (n, 3) to values as `read` gives them; the caller sees to the room."""
        _, found = self.find(keys)
        if not found.all():
            self.grid.hashmap().activate(self.tensor(keys[~found]))
        slots, _ = self.find(keys)
        for name in VALUES:
            values = self.values(name)
            if self.on_cpu:
                values[slots] = blocks[name]
            else:
                import torch

                values[slots] = torch.from_numpy(blocks[name]).to(values.device)
        self.touch(slots)

    def _zero(self, slots: np.ndarray) -> None:
        for name in VALUES:
            self.values(name)[slots] = 0

    def _evict(self, count: int, wanted: np.ndarray, eye: np.ndarray) -> None:
        slots = self.slots()
        candidates = np.setdiff1d(slots, self.find(wanted)[0] if len(wanted) else [])
        keys = self.keys(candidates)
        count = min(max(count, int(EVICTED_AT_ONCE * self.capacity)), len(keys))
        farthest = np.argsort(-self._distance(keys, eye), kind="stable")[:count]
        self.erase(keys[farthest])
        self.evicted += count

    def _distance(self, keys: np.ndarray, eye: np.ndarray) -> np.ndarray:
        """Distance of block centres from a point, metres."""
        return np.linalg.norm((keys + 0.5) * (RESOLUTION * self.voxel_size) - eye, axis=1)


def _numpy(tensor: Any) -> np.ndarray:
    return tensor.cpu().numpy()


def host(matrix: np.ndarray) -> Any:
    """A matrix as Open3D's float64 tensor on the host, where its kernels want it."""
    import open3d.core as o3c

    return o3c.Tensor(np.ascontiguousarray(matrix, np.float64))
