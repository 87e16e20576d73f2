# SPDX-License-Identifier: Apache-2.0
"""TsdfMap: a truncated signed distance map of bounded memory: integrate, mesh, raycast, save.

Weights are in units of one fully confident observation (confidence 1), and so is
``tsdf.weight_threshold``, which a voxel must exceed to be extracted: with the default of 0.5 it
appears after one confident frame or several less confident ones. Colours are 0…255. The world is
metric; the camera's frame is optical.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np

from depth_two_stage.camera import Camera
from depth_two_stage.config import TsdfParameters
from depth_two_stage.map_file import MapError, MapMeta, MapReader, write_map
from depth_two_stage.poses import are_rigid
from depth_two_stage.tsdf_blocks import BLOCK_BYTES, FARTHEST, VALUES, BlockGrid
from depth_two_stage.tsdf_fusion import fuse_numpy, fuse_torch
from depth_two_stage.tsdf_views import RayCaster, Surface, extract

__all__ = ["MapError", "Surface", "TsdfMap", "check_pose", "checked_images", "extract"]


def check_pose(name: str, T: np.ndarray) -> np.ndarray:
    """A rigid transform as float64 (4, 4), or MapError."""
    T = np.asarray(T)
    if T.shape != (4, 4):
        raise MapError(f"{name}: expected shape (4, 4), got {T.shape}")
    T = T.astype(np.float64)
    if not np.isfinite(T).all():
        raise MapError(f"{name}: expected finite numbers, got NaN or infinity")
    if not are_rigid(T):
        raise MapError(f"{name}: expected a rotation and a translation, got {T.tolist()}")
    return T


class TsdfMap:
    """``TsdfMap(parameters)`` with config's tsdf group; ``frame`` names the world's frame.

    ``camera`` is the one of the last integrated frame, also after `load` (None: none yet). Every
    method takes ``lock``, so that a worker may copy blocks between two frames.
    """

    def __init__(self, parameters: TsdfParameters | None = None, frame: str = "map") -> None:
        self.parameters = _checked(parameters or TsdfParameters())
        self.frame = frame
        self.lock = threading.RLock()
        self.frames = 0
        self.camera: Camera | None = None
        capacity = int(self.parameters.memory_mb * 1e6) // BLOCK_BYTES
        device = _device(self.parameters.device)
        try:
            self.blocks = BlockGrid(self.parameters.voxel_size, capacity, device)
        except (RuntimeError, MemoryError) as error:  # Open3D's, and NumPy's
            raise MapError(
                f"tsdf.memory_mb: expected as much as {device} can give at once, "
                f"got {self.parameters.memory_mb:g} MB"
            ) from error
        self.caster = RayCaster(self.blocks)

    @property
    def truncation(self) -> float:
        """Truncation distance, metres."""
        return self.parameters.truncation * self.parameters.voxel_size

    def check_pose(self, name: str, T: np.ndarray) -> np.ndarray:
        """`check_pose`, and near enough to the map's origin for its float32."""
        T = check_pose(name, T)
        most = FARTHEST * self.parameters.voxel_size
        if (off := float(np.abs(T[:3, 3]).max())) > most:
            raise MapError(
                f"{name}: expected a place within {most / 1e3:g} km of the origin on each axis "
                f"(tsdf.voxel_size {self.parameters.voxel_size:g} m), got {off / 1e3:g} km: "
                "a frame near the camera is wanted"
            )
        return T

    def integrate(
        self,
        depth: np.ndarray,
        rgb: np.ndarray,
        camera: Camera,
        T_world_camera: np.ndarray,
        weight: np.ndarray | None = None,
        eye: np.ndarray | None = None,
    ) -> int:
        """Fuse depth float32 (H, W) m (0 = none) and rgb uint8 (H, W, 3) → touched blocks.

        ``weight`` float32 (H, W) in 0…1 is the confidence (None: 1). Pixels of weight 0 and depths
        outside ``min_range … max_range`` change and allocate nothing. In a full map the blocks
        farthest from ``eye`` (3,) m (None: this camera) make room.
        """
        T = self.check_pose("T_world_camera", T_world_camera)
        depth, rgb, weight = checked_images(depth, rgb, camera, weight)
        near, far = self.parameters.min_range, self.parameters.max_range
        depth = np.where((depth >= near) & (depth <= far) & (weight > 0), depth, np.float32(0))
        if not depth.any():
            return 0
        T_camera_world = np.linalg.inv(T)
        with self.lock:
            keys = self.blocks.touched(depth, camera, T, far, self.parameters.truncation)
            keys, slots = self.blocks.activate(keys, T[:3, 3] if eye is None else eye)
            fuse = fuse_numpy if self.blocks.on_cpu else fuse_torch
            fuse(
                {name: self.blocks.values(name) for name in VALUES},
                keys,
                slots,
                (depth, rgb, weight),
                camera,
                T_camera_world,
                self.parameters.voxel_size,
                self.truncation,
                self.parameters.weight_cap,
            )
            self.frames += 1
            self.camera = camera
        return len(keys)

    def weigh(self, factor: float) -> None:
        """Multiply all weights, up to ``tsdf.weight_cap``."""
        with self.lock:
            slots, weights = self.blocks.slots(), self.blocks.values("weight")
            weights[slots] = (weights[slots] * factor).clip(max=self.parameters.weight_cap)
            self.blocks.touch(slots)

    def adopt(self, other: TsdfMap) -> None:
        """Take over the blocks of a map of the same parameters, which is not to be used any more.

        Whoever mirrors this map (`meshing.MapWorker`) gets every block anew; ``frames`` stays.
        """
        with self.lock, other.lock:
            before, blocks = self.blocks, other.blocks
            blocks.clock += before.clock
            blocks.touch(blocks.slots())
            blocks.evicted += before.evicted
            blocks.skipped += before.skipped
            self.blocks, self.caster = blocks, other.caster

    def mesh(self) -> Surface:
        """Triangle mesh of the surface. It blocks: live, ask `meshing.MapWorker`."""
        with self.lock:
            return extract(self.blocks.grid, self.parameters.weight_threshold, triangles=True)

    def points(self) -> Surface:
        """Surface points without triangles. It blocks: live, ask `meshing.MapWorker`."""
        with self.lock:
            return extract(self.blocks.grid, self.parameters.weight_threshold, triangles=False)

    def raycast(
        self, camera: Camera, T_world_camera: np.ndarray, weight_threshold: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The map as a camera would see it: depth float32 (H, W) m, 0 = none, and rgb (H, W, 3).

        Voxels below ``weight_threshold`` (None: ``tsdf.weight_threshold``) are not seen.
        """
        T = check_pose("T_world_camera", T_world_camera)
        if weight_threshold is None:
            weight_threshold = self.parameters.weight_threshold
        with self.lock:
            return self.caster.cast(camera, T, self.parameters, weight_threshold)

    def meta(self, poses: int) -> MapMeta:
        """What a file of this map says of itself."""
        return MapMeta(
            self.parameters.voxel_size,
            self.truncation,
            self.frame,
            self.frames,
            len(self.blocks),
            poses,
            camera=None if self.camera is None else astuple(self.camera),
        )

    def save(self, path: str | Path, trajectory: Sequence[tuple[int, np.ndarray]] = ()) -> int:
        """Write the map atomically → bytes. It blocks: live, ask `meshing.MapWorker`."""
        with self.lock:
            slots = self.blocks.slots()
            return write_map(
                path,
                self.meta(len(trajectory)),
                trajectory,
                slots,
                lambda part: (self.blocks.keys(part), self.blocks.read(part)),
            )

    def load(self, path: str | Path) -> list[tuple[int, np.ndarray]]:
        """Replace the map by a file's → its trajectory; with MapError nothing has changed."""
        with MapReader(path) as file:
            mine, meta = self.meta(0), file.meta
            for name in ("voxel_size", "truncation", "frame"):
                wanted, got = getattr(mine, name), getattr(meta, name)
                same = wanted == got if name == "frame" else np.isclose(wanted, got, rtol=1e-6)
                if not same:
                    raise MapError(f"{path}: expected {name} {wanted!r}, got {got!r}")
            if meta.blocks > self.blocks.capacity:
                raise MapError(
                    f"{path}: expected at most {self.blocks.capacity} blocks (tsdf.memory_mb "
                    f"{self.parameters.memory_mb:g}), got {meta.blocks}"
                )
            with self.lock:
                self.blocks.clear()
                for keys, blocks in file.slabs():
                    self.blocks.write(keys, blocks)
                self.frames, self.camera = meta.frames, file.camera
            return file.trajectory

    def statistics(self) -> dict[str, float]:
        """Counts of blocks and frames, and megabytes (10⁶ bytes) held and used."""
        with self.lock:
            count = len(self.blocks)
            return {
                "map_frames": self.frames,
                "map_blocks": count,
                "map_capacity": self.blocks.capacity,
                "map_memory_mb": self.blocks.capacity * BLOCK_BYTES / 1e6,
                "map_used_mb": count * BLOCK_BYTES / 1e6,
                "map_evicted_blocks": self.blocks.evicted,
                "map_skipped_blocks": self.blocks.skipped,
            }

    def clear(self) -> None:
        """Forget everything."""
        with self.lock:
            self.blocks.clear()
            self.frames = 0


def _checked(parameters: TsdfParameters) -> TsdfParameters:
    """The parameters, whose lengths and sizes must be positive, or MapError."""
    for name in ("voxel_size", "truncation", "memory_mb"):
        value = getattr(parameters, name)
        if not 0 < value < np.inf:
            raise MapError(f"tsdf.{name}: expected a number above 0, got {value!r}")
    return parameters


def _device(name: str) -> str:
    """Open3D's name of a device: "auto" is CUDA when Open3D and torch both can use it."""
    if name == "cpu":
        return "CPU:0"
    import open3d.core as o3c

    there = o3c.cuda.is_available()
    if there:
        import torch

        there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise MapError("tsdf.device: expected a CUDA device for 'cuda', got none")
    return "CUDA:0" if there else "CPU:0"


def checked_images(
    depth: np.ndarray, rgb: np.ndarray, camera: Camera, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth and weight as finite float32 (H, W), rgb as uint8 (H, W, 3), or MapError."""
    depth, rgb = np.asarray(depth), np.asarray(rgb)
    if depth.shape != camera.size:
        raise MapError(f"depth: expected shape {camera.size}, got {depth.shape}")
    if rgb.shape != (*camera.size, 3) or rgb.dtype != np.uint8:
        raise MapError(f"rgb: expected uint8 {(*camera.size, 3)}, got {rgb.dtype} {rgb.shape}")
    depth = np.nan_to_num(depth.astype(np.float32, copy=False), nan=0.0, posinf=0.0, neginf=0.0)
    if weight is None:
        return depth, rgb, np.ones(camera.size, np.float32)
    weight = np.asarray(weight, np.float32)
    if weight.shape != camera.size:
        raise MapError(f"weight: expected shape {camera.size}, got {weight.shape}")
    weight = np.nan_to_num(weight, nan=0.0, posinf=0.0, neginf=0.0)
    if weight.min() < 0 or weight.max() > 1:
        raise MapError(f"weight: expected 0 … 1, got {weight.min():g} … {weight.max():g}")
    return depth, rgb, weight
