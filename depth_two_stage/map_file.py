# SPDX-License-Identifier: Apache-2.0
"""The map's own file: a zip of NumPy arrays (.npz) that reloads and goes on.

``meta`` is JSON (format, voxel size, truncation, frame, counts, camera); ``stamps`` int64 (m,) ns
and ``poses`` float64 (m, 4, 4) are the trajectory, T_world_camera. Blocks follow in slabs: ``keys``
int32 (n, 3), ``seen`` packed bits of the voxels with weight, and the tsdf, weight and colour of
these voxels, float32. Nothing is pickled; the zip's checksums and its directory at the end tell a
damaged or truncated file.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from depth_two_stage.camera import Camera
from depth_two_stage.files import atomic_write
from depth_two_stage.tsdf_blocks import VALUES, VOXELS

FORMAT = "depth_two_stage map 1"
SLAB = 256  # blocks
MAX_BLOCKS_IN_FILE = 10_000_000


class MapError(ValueError):
    """A map file or an argument is not what it has to be: "name: expected …, got …"."""


@dataclass(frozen=True)
class MapMeta:
    """What a map file says of itself: lengths in metres, ``blocks`` and ``poses`` are counts.

    ``camera`` is the last one: width, height, fx, fy, cx, cy in pixels (None: none yet, or a file
    written before cameras were kept).
    """

    voxel_size: float
    truncation: float
    frame: str
    frames: int
    blocks: int
    poses: int
    format: str = FORMAT
    camera: Sequence[float] | None = None


Trajectory = Sequence[tuple[int, np.ndarray]]
ReadBlocks = Callable[[np.ndarray], tuple[np.ndarray, dict[str, np.ndarray]]]


def write_map(
    path: str | Path, meta: MapMeta, trajectory: Trajectory, slots: np.ndarray, read: ReadBlocks
) -> int:
    """Write a map atomically → its size in bytes.

    ``read(slots)`` gives (keys, blocks) of a slab, as `BlockGrid.keys` and `BlockGrid.read` do.
    A full disk or an unwritable folder raises OSError and leaves an older file as it was.
    """
    path = Path(path)
    stamps = np.array([stamp for stamp, _ in trajectory], np.int64)
    poses = np.array([T for _, T in trajectory], np.float64).reshape(-1, 4, 4)
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _write(archive, "meta", np.frombuffer(json.dumps(asdict(meta)).encode(), np.uint8))
        _write(archive, "stamps", stamps)
        _write(archive, "poses", poses)
        for number, start in enumerate(range(0, len(slots), SLAB)):
            keys, blocks = read(slots[start : start + SLAB])
            seen = blocks["weight"] > 0
            _write(archive, f"keys_{number}", keys)
            _write(archive, f"seen_{number}", np.packbits(seen, axis=1))
            for name in VALUES:
                _write(archive, f"{name}_{number}", blocks[name][seen])
    return path.stat().st_size


def _write(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(name + ".npy", "w", force_zip64=True) as entry:
        np.lib.format.write_array(entry, array, allow_pickle=False)


class MapReader:
    """An opened and fully checked map file; `slabs` then gives its blocks."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._file: BinaryIO = self.path.open("rb")
        except OSError as error:
            raise MapError(f"{path}: expected a readable map file, got {error}") from error
        try:
            self._archive = zipfile.ZipFile(self._file)
            damaged = self._archive.testzip()
            if damaged is not None:
                raise MapError(f"{path}: expected a whole map file, got damaged {damaged}")
            self.meta = self._read_meta()
            self.camera = None if self.meta.camera is None else Camera(*self.meta.camera)
            self.trajectory = self._read_trajectory()
            keys = [keys for keys, _ in self.slabs()]
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
            self._file.close()
            raise MapError(f"{path}: expected a whole map file, got {error}") from error
        except (KeyError, ValueError, TypeError) as error:
            self._file.close()
            if isinstance(error, MapError):
                raise
            raise MapError(f"{path}: expected a map of this package, got {error}") from error
        keys = np.concatenate(keys) if keys else np.zeros((0, 3), np.int32)
        if len(np.unique(keys, axis=0)) != self.meta.blocks:
            self._file.close()
            raise MapError(f"{path}: expected {self.meta.blocks} blocks, got {len(keys)}")

    def __enter__(self) -> MapReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def slabs(self) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """(keys int32 (n, 3), blocks as `BlockGrid.write` takes them), at most `SLAB` at once."""
        for number in range(-(-self.meta.blocks // SLAB)):
            keys = self._array(f"keys_{number}", np.int32, (None, 3))
            packed = self._array(f"seen_{number}", np.uint8, (len(keys), VOXELS // 8))
            seen = np.unpackbits(packed, axis=1).view(bool)
            blocks = {}
            for name, channels in VALUES.items():
                tail = (3,) if channels == 3 else ()
                values = self._array(f"{name}_{number}", np.float32, (int(seen.sum()), *tail))
                if not np.isfinite(values).all():
                    raise MapError(f"{self.path}: expected finite {name}, got NaN or infinity")
                blocks[name] = np.zeros((*seen.shape, *tail), np.float32)
                blocks[name][seen] = values
            yield keys, blocks

    def _read_meta(self) -> MapMeta:
        content = json.loads(self._array("meta", np.uint8, (None,)).tobytes())
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            found = content.get("format") if isinstance(content, dict) else content
            raise MapError(f"{self.path}: expected the format {FORMAT!r}, got {found!r}")
        meta = MapMeta(**content)
        if not 0 <= int(meta.blocks) <= MAX_BLOCKS_IN_FILE:
            raise MapError(f"{self.path}: expected a number of blocks, got {meta.blocks!r}")
        return meta

    def _read_trajectory(self) -> list[tuple[int, np.ndarray]]:
        stamps = self._array("stamps", np.int64, (int(self.meta.poses),))
        poses = self._array("poses", np.float64, (len(stamps), 4, 4))
        if not np.isfinite(poses).all():
            raise MapError(f"{self.path}: expected finite poses, got NaN or infinity")
        return [(int(stamp), pose) for stamp, pose in zip(stamps, poses, strict=True)]

    def _array(self, name: str, dtype: type, shape: tuple[int | None, ...]) -> np.ndarray:
        with self._archive.open(name + ".npy") as entry:
            array = np.lib.format.read_array(entry, allow_pickle=False)
        fits = array.ndim == len(shape) and all(
            wanted is None or wanted == got for wanted, got in zip(shape, array.shape, strict=True)
        )
        if array.dtype != dtype or not fits:
            raise MapError(
                f"{self.path}: expected {name} {np.dtype(dtype)} {shape}, "
                f"got {array.dtype} {array.shape}"
            )
        return array
