# SPDX-License-Identifier: Apache-2.0
"""The map's own file: a zip of NumPy arrays (.npz) that reloads and goes on.

``meta`` is JSON (format, voxel size, truncation, frame, counts, camera); ``stamps`` int64 (m,) ns
and ``poses`` float64 (m, 4, 4) are the trajectory, T_world_camera. Blocks follow in slabs: ``keys``
int32 (n, 3), ``seen`` packed bits of the voxels with weight, and the tsdf, weight and colour of
these voxels, float32. Nothing is pickled or compressed; the zip's checksums and its directory at
the end tell a damaged or truncated file. What a file claims is checked before memory is taken for
it, and what it holds before it becomes a map.
"""

from __future__ import annotations

import json
import math
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from depth_two_stage.camera import Camera
from depth_two_stage.files import atomic_write
from depth_two_stage.poses import are_rigid
from depth_two_stage.tsdf_blocks import FARTHEST, RESOLUTION, VALUES, VOXELS

FORMAT = "depth_two_stage map 1"
SLAB = 256  # blocks
MAX_BLOCKS_IN_FILE = 10_000_000
MAX_COUNT = 2**53  # of frames and poses: a whole number for every reader of JSON
MAX_SIDE = 65_535  # px, of a camera's image
MAX_META = 64_000  # bytes
MAX_KEY = 2 * FARTHEST // RESOLUTION  # blocks from the origin: a camera's farthest place, and more
# What the values of voxels that were seen can be; a little is rounding's.
LIMITS = {"tsdf": (-1.001, 1.001), "weight": (0.0, 65_536.0), "color": (-0.01, 255.01)}
# Byte order, type and size; C order; shape: all that NumPy writes before such an array.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '([<|][a-z]\d)', 'fortran_order': False, "
    rb"'shape': \(([\d, ]{0,60})\), \} *\n",
    re.DOTALL,
)


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


def expanded(path: str | Path) -> Path:
    """An absolute path, ``~`` and ``~user`` replaced, or MapError."""
    if "\0" in str(path):
        raise MapError(f"map file: expected a path, got {str(path)!r}")
    try:
        return Path(path).expanduser().absolute()
    except (RuntimeError, OSError) as error:  # nobody of that name; no folder to start from
        raise MapError(f"{path}: expected a path of a known user, got {error}") from error


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


def checked_meta(content: Any) -> MapMeta:
    """The metadata of a file as JSON gave it, or MapError: every type and limit in one place."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else content
        raise MapError(f"expected the format {FORMAT!r}, got {str(found)[:100]!r}")
    known = {field.name for field in fields(MapMeta)}
    if unknown := set(content) - known:
        raise MapError(f"expected metadata {sorted(known)}, got also {sorted(unknown)[:5]}")
    if missing := known - set(content) - {"camera"}:
        raise MapError(f"expected metadata {sorted(known)}, got no {sorted(missing)}")
    for name in ("voxel_size", "truncation"):
        if not (_is_number(content[name]) and 0 < content[name] < 1e6):
            raise MapError(f"expected {name} to be a number above 0 (m), got {content[name]!r}")
    if not isinstance(content["frame"], str):
        raise MapError(f"expected frame to be a name, got {content['frame']!r}")
    for name, most in (("frames", MAX_COUNT), ("blocks", MAX_BLOCKS_IN_FILE), ("poses", MAX_COUNT)):
        value = content[name]
        if type(value) is not int or not 0 <= value <= most:
            raise MapError(f"expected {name} to be a number of {name}, got {value!r}")
    camera = content.get("camera")
    if camera is not None:
        if not (isinstance(camera, list) and len(camera) == 6 and all(map(_is_number, camera))):
            raise MapError(f"expected camera to be width height fx fy cx cy, got {camera!r}")
        if max(camera[:2]) > MAX_SIDE:
            raise MapError(f"expected a camera of at most {MAX_SIDE} pixels a side, got {camera!r}")
        try:
            Camera(*camera)
        except ValueError as error:
            raise MapError(str(error)) from error
    return MapMeta(**content)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


class MapReader:
    """An opened and fully checked map file; `slabs` then gives its blocks."""

    def __init__(self, path: str | Path) -> None:
        self.path = expanded(path)
        try:
            # Before it is opened: a FIFO without a writer would be waited for.
            is_file = stat.S_ISREG(self.path.stat().st_mode)
            self._file: BinaryIO | None = self.path.open("rb") if is_file else None
        except OSError as error:
            raise MapError(f"{self.path}: expected a readable map file, got {error}") from error
        if self._file is None:
            raise MapError(f"{self.path}: expected a map file, got something else than a file")
        try:
            with self._naming_the_file():
                self._archive = zipfile.ZipFile(self._file)
                self._check_entries()
                self.meta = self._read_meta()
                self.camera = None if self.meta.camera is None else Camera(*self.meta.camera)
                self.trajectory = self._read_trajectory()
                keys = [keys for keys, _ in self._slabs()]
                keys = np.concatenate(keys) if keys else np.zeros((0, 3), np.int32)
                if len(np.unique(keys, axis=0)) != self.meta.blocks:
                    raise MapError(f"expected {self.meta.blocks} blocks, got some of them twice")
        except MapError:
            self._file.close()
            raise

    def __enter__(self) -> MapReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def slabs(self) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """(keys int32 (n, 3), blocks as `BlockGrid.write` takes them), at most `SLAB` at once."""
        with self._naming_the_file():
            yield from self._slabs()

    @contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        """Whatever is wrong with the content, as MapError with the file's name."""
        try:
            yield
        except MapError as error:
            raise MapError(f"{self.path}: {error}") from error
        except KeyError as error:
            raise MapError(
                f"{self.path}: expected a map of this package, got no {error}"
            ) from error
        # OverflowError: an offset beyond what can be sought; ValueError: names that are no text.
        except (
            zipfile.BadZipFile, OSError, EOFError, NotImplementedError, OverflowError, ValueError,
        ) as error:  # fmt: skip
            raise MapError(f"{self.path}: expected a whole map file, got {error}") from error

    def _check_entries(self) -> None:
        """Stored as they are, so that none is larger than the file; and as they were written."""
        for entry in self._archive.infolist():
            encrypted = entry.flag_bits & 1
            if encrypted or entry.compress_type != zipfile.ZIP_STORED:
                got = "an encrypted" if encrypted else "a compressed"
                raise MapError(f"expected arrays stored as they are, got {got} {entry.filename!r}")
        damaged = self._archive.testzip()
        if damaged is not None:
            raise MapError(f"expected a whole map file, got damaged {damaged!r}")

    def _slabs(self) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        for number, start in enumerate(range(0, self.meta.blocks, SLAB)):
            count = min(SLAB, self.meta.blocks - start)
            keys = self._array(f"keys_{number}", np.int32, (count, 3))
            if (keys < -MAX_KEY).any() or (keys > MAX_KEY).any():
                raise MapError(f"expected keys within ±{MAX_KEY}, got {keys.min()} … {keys.max()}")
            packed = self._array(f"seen_{number}", np.uint8, (count, VOXELS // 8))
            seen = np.unpackbits(packed, axis=1).view(bool)
            blocks = {}
            for name, channels in VALUES.items():
                tail = (3,) if channels == 3 else ()
                values = self._array(f"{name}_{number}", np.float32, (int(seen.sum()), *tail))
                low, high = LIMITS[name]
                if not ((values >= low) & (values <= high)).all():  # NaN is neither
                    raise MapError(
                        f"expected {name} in {low:g} … {high:g}, "
                        f"got {values.min():g} … {values.max():g}"
                    )
                blocks[name] = np.zeros((*seen.shape, *tail), np.float32)
                blocks[name][seen] = values
            yield keys, blocks

    def _read_meta(self) -> MapMeta:
        size = self._archive.getinfo("meta.npy").file_size
        if size > MAX_META:
            raise MapError(f"expected metadata of at most {MAX_META} bytes, got {size}")
        try:
            content = json.loads(self._array("meta", np.uint8, (None,)).tobytes())
        except RecursionError as error:
            raise MapError("expected a map of this package, got endless metadata") from error
        return checked_meta(content)

    def _read_trajectory(self) -> list[tuple[int, np.ndarray]]:
        count = self.meta.poses
        stamps = self._array("stamps", np.int64, (count,))
        poses = self._array("poses", np.float64, (count, 4, 4))
        rigid = are_rigid(poses)
        if not rigid.all():
            first = poses[np.argmin(rigid)]
            raise MapError(f"expected poses to be rotations and translations, got {first.tolist()}")
        if poses.size and np.abs(poses[:, :3, 3]).max() > FARTHEST * self.meta.voxel_size:
            raise MapError(
                f"expected poses within {FARTHEST} voxels of the origin, got farther ones"
            )
        return [(int(stamp), pose) for stamp, pose in zip(stamps, poses.copy(), strict=True)]

    def _array(self, name: str, dtype: type, shape: tuple[int | None, ...]) -> np.ndarray:
        """An array that cannot be written to."""
        content = self._archive.read(name + ".npy")  # stored: as large as in the file
        header = _HEADER.match(content)
        if header is None:
            raise MapError(f"expected {name} to be an array of this package, got another header")
        got_dtype = np.dtype(header[1].decode())
        got = tuple(int(length) for length in header[2].split(b",") if length.strip())
        fits = len(got) == len(shape) and all(
            wanted is None or wanted == length for wanted, length in zip(shape, got, strict=True)
        )
        if got_dtype != dtype or not fits:
            raise MapError(f"expected {name} {np.dtype(dtype)} {shape}, got {got_dtype} {got}")
        values = memoryview(content)[header.end() :]
        if math.prod(got) * got_dtype.itemsize != len(values):
            raise MapError(f"expected {name} of {got} values, got {len(values)} bytes")
        return np.frombuffer(values, dtype).reshape(got)
