# SPDX-License-Identifier: Apache-2.0
"""Point clouds as files: PCD, KITTI's .bin, .npy, PLY; points float32 (N, 3) m, NaN dropped."""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError

import numpy as np

from depth_two_stage import files
from depth_two_stage.datasets import DatasetError

CLOUD_SUFFIXES = (".pcd", ".bin", ".npy", ".ply")


def read_cloud(path: str | Path) -> np.ndarray:
    """Read a cloud by its suffix (`CLOUD_SUFFIXES`) as finite points float32 (N, 3) m."""
    path = Path(path)
    readers = {".pcd": _read_pcd, ".bin": _read_bin, ".npy": _read_npy, ".ply": _read_ply}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DatasetError(f"{path}: expected one of {', '.join(CLOUD_SUFFIXES)}, got another")
    try:
        points = reader(path)
    except OSError as error:
        raise DatasetError(f"{path}: expected a readable file, got {error.strerror}") from error
    with np.errstate(over="ignore"):  # too far for float32 is infinite, and dropped
        points = np.asarray(points, np.float32)
    return np.ascontiguousarray(points[np.isfinite(points).all(axis=1)])


def _read_bin(path: Path) -> np.ndarray:
    data = path.read_bytes()
    if len(data) % 16:
        raise DatasetError(f"{path}: expected float32 x y z reflectance, got {len(data)} bytes")
    return np.frombuffer(data, "<f4").reshape(-1, 4)[:, :3]


def _read_npy(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file:  # not np.load, which also takes archives
            points = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError, MemoryError, TokenError) as error:
        raise DatasetError(f"{path}: expected a NumPy array, got {error}") from error
    if points.ndim != 2 or points.shape[1] < 3 or points.dtype.kind not in "fiu":
        raise DatasetError(f"{path}: expected numbers (N, 3), got {points.dtype} {points.shape}")
    return points[:, :3]


def _read_ply(path: Path) -> np.ndarray:
    return files.read_ply(path).points


def _read_pcd(path: Path) -> np.ndarray:
    """PCD v0.7, ascii or binary (compressed is refused)."""
    data = path.read_bytes()
    header, start = {}, 0
    while "DATA" not in header:
        end = data.find(b"\n", start)
        if end < 0:
            raise DatasetError(f"{path}: expected a PCD header ending in DATA, got none")
        words = data[start:end].decode("ascii", "replace").split()
        start = end + 1
        if words and not words[0].startswith("#"):
            header[words[0]] = words[1:]
    try:
        names, kinds = header["FIELDS"], header["TYPE"]
        sizes, count = [int(s) for s in header["SIZE"]], int(header["POINTS"][0])
        repeats = [int(c) for c in header.get("COUNT", ["1"] * len(names))]
        codes = {"F": "f", "I": "i", "U": "u"}
        fields = [
            (f"{name}{i}" if name == "_" else name, f"<{codes[kind]}{size}", (repeat,))
            for i, (name, kind, size, repeat) in enumerate(
                zip(names, kinds, sizes, repeats, strict=True)
            )
        ]
        dtype = np.dtype(fields)
        if count < 0 or min(repeats) < 1:
            raise ValueError(f"{count} points of {repeats} numbers")
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise DatasetError(f"{path}: expected a PCD header, got {error!r}") from error
    if not {"x", "y", "z"} <= set(names):
        raise DatasetError(f"{path}: expected fields x, y, z, got {', '.join(names)}")
    form = header["DATA"][0] if header["DATA"] else ""
    if form == "binary":
        have = (len(data) - start) // dtype.itemsize
        if have < count:
            raise DatasetError(f"{path}: expected {count} points, got {have}")
        table = np.frombuffer(data, dtype, count, start)
        return np.column_stack([table[axis][:, 0] for axis in "xyz"])
    if form != "ascii":
        raise DatasetError(f"{path}: expected DATA ascii or binary, got {form!r}")
    ends = np.cumsum(repeats)
    columns = [int(ends[names.index(axis)]) - 1 for axis in "xyz"]
    try:
        rows = np.array([line.split() for line in data[start:].split(b"\n") if line.strip()], float)
    except ValueError as error:
        raise DatasetError(f"{path}: expected rows of numbers, got {error}") from error
    if len(rows) < count or (count and rows.shape[1] != ends[-1]):
        raise DatasetError(
            f"{path}: expected {count} points of {ends[-1]} numbers, got {rows.shape}"
        )
    return rows[:count][:, columns] if count else np.zeros((0, 3))
