# SPDX-License-Identifier: Apache-2.0
"""TensorFlow's checkpoints, read without TensorFlow: NAME.index with NAME.data-…, or one old file.

Version 2: the index table maps a tensor's name to its type, shape and place in the data files; the
empty key holds the header. Version 1: one table whose entries hold the tensors themselves.
"""

from __future__ import annotations

import glob
import math
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np

from .restricted import BROKEN, CheckpointFileError
from .tensorflow_table import FOOTER, MAGIC, checksum, entries, fields, masked

__all__ = ["checkpoint_files", "is_table", "read_checkpoint_v1", "read_checkpoint_v2"]

#: TensorFlow's DataType → NumPy's, of numbers
TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "|u1", 5: "<i2", 6: "|i1", 9: "<i8", 10: "|b1", 19: "<f2"}
PARTS = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")


def is_table(path: Path) -> bool:
    """Whether a file is such a table, by its end."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size < FOOTER:
            return False
        file.seek(-8, 2)
        return file.read() == MAGIC


def checkpoint_files(path: Path) -> list[Path] | None:
    """The index and data files of a version 2 checkpoint; None where there is no index.

    ``path`` is its prefix, any file of it, or a folder that holds one.
    """
    if path.is_dir():
        found = sorted(path.glob("*.index"))
        if len(found) != 1:
            return None
        path = found[0]
    prefix = PARTS.sub("", str(path))
    index = Path(f"{prefix}.index")
    if not index.is_file():
        return None
    return [index, *sorted(index.parent.glob(f"{glob.escape(Path(prefix).name)}.data-*-of-*"))]


def read_checkpoint_v2(files: list[Path]) -> dict[str, np.ndarray]:
    """Tensors of an index and its data files by name; of other types than numbers none."""
    index, *data = files
    shards: dict[int, Path] = {}
    try:
        found: dict[str, np.ndarray] = {}
        table = iter(entries(index.read_bytes()))
        key, header = next(table, (None, b""))
        if key != b"":
            raise ValueError("a table without the header of a bundle")
        head = dict(fields(header))
        count = head.get(1, 1)
        if head.get(2, 0) != 0:
            raise ValueError("big-endian tensors")
        for shard in range(count if count <= 99999 else 0):
            name = f"{index.name.removesuffix('.index')}.data-{shard:05d}-of-{count:05d}"
            path = index.with_name(name)
            if path not in data:
                raise ValueError(f"no {name} beside it")
            shards[shard] = path
        for key, value in table:
            tensor = _entry(key.decode("utf-8"), value, shards)
            if tensor is not None:
                found[key.decode("utf-8")] = tensor
        return found
    except BROKEN as error:
        raise CheckpointFileError(f"{index}: expected TensorFlow's index, got {error}") from error


def _entry(name: str, value: bytes, shards: dict[int, Path]) -> np.ndarray | None:
    entry: dict[int, Any] = dict(fields(value))
    if 7 in entry:
        raise ValueError(f"{name} in slices")
    kind = TYPES.get(entry.get(1, 0))
    if kind is None:  # strings of the object graph and the like
        return None
    shape = _shape(entry.get(2, b""))
    shard, offset, size = (entry.get(number, 0) for number in (3, 4, 5))
    if shard not in shards or size != math.prod(shape) * np.dtype(kind).itemsize:
        raise ValueError(f"{size} bytes in shard {shard} for {name} {shape}")
    with shards[shard].open("rb") as file:
        file.seek(min(offset, 2**62))
        data = file.read(size)
    if len(data) != size:
        raise ValueError(f"a truncated {shards[shard].name}: {len(data)} of {size} bytes of {name}")
    if 6 in entry and masked(checksum(data)) != struct.unpack("<I", entry[6])[0]:
        raise ValueError(f"{name} with a wrong checksum")
    return np.frombuffer(data, kind).reshape(shape)


def _shape(data: bytes) -> tuple[int, ...]:
    sizes = []
    for number, value in fields(data):
        if number == 2:
            size = dict(fields(value)).get(1, 0)
            if not isinstance(size, int) or size >= 2**40:
                raise ValueError("a shape with an unknown size")
            sizes.append(size)
        elif number == 3 and value:
            raise ValueError("a shape of unknown rank")
    return tuple(sizes)


def read_checkpoint_v1(path: Path) -> dict[str, np.ndarray]:
    """Tensors of an old checkpoint by name; each in one piece."""
    try:
        shapes: dict[str, tuple[tuple[int, ...], int]] = {}
        found: dict[str, np.ndarray] = {}
        for key, value in entries(path.read_bytes()):
            for number, part in fields(value):
                if key == b"" and number == 1:
                    shapes.update(_contents(part))
                elif key != b"" and number == 2:
                    found.update(_slice(part, shapes))
        return found
    except BROKEN as error:
        raise CheckpointFileError(
            f"{path}: expected TensorFlow's checkpoint, got {error}"
        ) from error


def _contents(meta: bytes) -> dict[str, tuple[tuple[int, ...], int]]:
    found = {}
    for number, value in fields(meta):
        if number == 1:
            parts = dict(fields(value))
            found[parts[1].decode("utf-8")] = _shape(parts.get(2, b"")), parts.get(3, 0)
    return found


def _slice(data: bytes, shapes: dict[str, tuple[tuple[int, ...], int]]) -> dict[str, np.ndarray]:
    parts = dict(fields(data))
    name = parts[1].decode("utf-8")
    if name not in shapes:
        raise ValueError(f"{name}, which its contents do not list")
    shape, kind = shapes[name]
    if kind not in (1, 2):  # counters and the like
        return {}
    for number, extent in fields(parts.get(2, b"")):
        if number == 1 and any(item == 2 for item, _ in fields(extent)):
            raise ValueError(f"{name} in slices")
    # Floats stand packed in field 5, doubles in 6, or, in either type, as bytes in 4.
    packed = [value for number, value in fields(parts[3]) if number in (4, 4 + kind)]
    values = np.frombuffer(b"".join(packed), TYPES[kind])
    if len(values) != math.prod(shape):
        raise ValueError(f"{len(values)} numbers for {name} {shape}")
    return {name: values.reshape(shape)}
