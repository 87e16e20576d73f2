# SPDX-License-Identifier: Apache-2.0
"""Files of ``torch.save``, both formats, read without torch and without running their pickle.

The old format is five pickles (magic number, protocol, system, object, keys of the storages), then
each storage as its count and its bytes. The new one is a zip: ``…/data.pkl`` and ``…/data/KEY``.
Modules that were saved whole are `Stub`s whose ``_parameters``, ``_buffers`` and ``_modules`` are
the weights.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .restricted import BROKEN, CheckpointFileError, Fixed, Stub, call, loads, refuse

__all__ = ["LEGACY", "Tensor", "is_torch", "read_torch", "state"]

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
#: how a file of the old format begins: protocol 2, then the magic number
LEGACY = b"\x80\x02\x8a\x0a" + MAGIC_NUMBER.to_bytes(10, "little")
MODULES, DEPTH = 10_000, 16  # of a network
NUMBERS = {
    "Double": "<f8",
    "Float": "<f4",
    "Half": "<f2",
    "BFloat16": "<u2",  # the upper half of a float32: widened when read
    "Long": "<i8",
    "Int": "<i4",
    "Short": "<i2",
    "Char": "<i1",
    "Byte": "<u1",
    "Bool": "|b1",
}
# Classes whose objects are kept as what they remember. Networks of sparse-to-dense are `models.*`,
# its results `metrics.*`; one name of a class, no path into a module.
CLASS = r"_?[A-Z][A-Za-z0-9_]*"
STUBS = re.compile(
    rf"(models|metrics|criteria)(\.{CLASS}){{1,3}}"
    rf"|torchvision\.(models\.)?resnet\.{CLASS}"
    rf"|torch\.nn\.modules\.[a-z_0-9]+\.{CLASS}"
    rf"|torch\.nn\.parallel\.(data_parallel|distributed)\.{CLASS}"
    r"|torch\.nn\.parameter\.Parameter|torch\.autograd\.variable\.Variable|torch\.tensor\.Tensor"
    r"|torch\.nn\.backends\.thnn\._get_thnn_function_backend"
    rf"|torch\.optim\.([a-z_0-9]+\.)?{CLASS}"
    r"|argparse\.Namespace|torch\.Size|torch\.device|pathlib\.PosixPath"
)


@dataclass(eq=False)  # an optimizer keeps its state by tensor
class Storage(Fixed):
    """A block of numbers that tensors show; filled when the file has been read to it."""

    dtype: str
    size: int
    bfloat16: bool = False
    data: np.ndarray | None = None
    offset: int = 0  # of a view of another storage (old format), in numbers

    def fill(self, data: bytes | bytearray) -> None:
        """Take the bytes."""
        self.data = np.frombuffer(data, self.dtype)

    def numbers(self) -> np.ndarray:
        """The numbers, 1-D."""
        if self.data is None:
            raise ValueError("a tensor whose numbers are not in the file")
        return self.data[self.offset : self.offset + self.size]


@dataclass(eq=False)  # an optimizer keeps its state by tensor
class Tensor(Fixed):
    """A tensor of the file: a view of a storage."""

    storage: Storage = field(repr=False)
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        counts = (self.offset, *self.size, *self.stride)
        if not isinstance(self.storage, Storage) or any(
            type(count) is not int or count < 0 for count in counts
        ):
            raise ValueError("a tensor without storage, size or stride")
        if len(self.size) != len(self.stride):
            raise ValueError(f"a tensor of size {self.size} with strides {self.stride}")

    def numpy(self) -> np.ndarray:
        """The values; float16 and bfloat16 as float32."""
        flat = self.storage.numbers()
        last = self.offset + sum(
            (n - 1) * step for n, step in zip(self.size, self.stride, strict=True)
        )
        if math.prod(self.size) and last >= len(flat):
            raise ValueError(f"a tensor of size {self.size} beyond its {len(flat)} numbers")
        if not math.prod(self.size):
            return np.zeros(self.size, self.storage.dtype)
        width = flat.itemsize
        values = np.lib.stride_tricks.as_strided(
            flat[self.offset :], self.size, [step * width for step in self.stride], writeable=False
        )
        if self.storage.bfloat16:
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32) if values.dtype == np.float16 else values


class _Kind(Fixed):
    """Stands for a class of storages, such as torch.FloatStorage."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def make(self, size: Any) -> Storage:
        if type(size) is not int or size < 0:
            raise ValueError(f"a storage of {size!r} numbers")
        return Storage(NUMBERS[self.name], size, self.name == "BFloat16")


def _rebuilt(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    size, stride = (part.args[0] if isinstance(part, Stub) else part for part in (size, stride))
    return Tensor(storage, offset, tuple(size), tuple(stride))


def _parameter(data: Any, *_: Any) -> Any:
    return data


KNOWN: dict[str, Any] = {
    **{
        f"torch.{place}{name}Storage": _Kind(name)
        for place in ("", "cuda.", "storage.")
        for name in NUMBERS
    },
    "torch._utils._rebuild_tensor": call(_rebuilt),
    "torch._utils._rebuild_tensor_v2": call(_rebuilt),
    "torch._utils._rebuild_parameter": call(_parameter),
    "torch._utils._rebuild_parameter_with_state": call(_parameter),
}


def is_torch(path: Path) -> bool:
    """Whether a file is one of ``torch.save``, by its content."""
    with path.open("rb") as file:
        start = file.read(len(LEGACY))
    if start == LEGACY:
        return True
    if start[:4] != b"PK\x03\x04" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/data.pkl") for name in archive.namelist())


def read_torch(path: Path) -> Any:
    """The saved object: dicts, lists, numbers, `Tensor` and `Stub`."""
    try:
        with path.open("rb") as file:
            legacy = file.read(2) != b"PK"
            file.seek(0)
            return _read_legacy(file) if legacy else _read_zip(file)
    except (*BROKEN, zipfile.BadZipFile, NotImplementedError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointFileError(f"{path}: expected a whole file of torch.save, got {text}") from (
            error
        )


def _read_legacy(file: BinaryIO) -> Any:
    if loads(file) != MAGIC_NUMBER:
        raise ValueError("another pickle")
    version, system = loads(file), loads(file)
    if version != 1001 or not isinstance(system, dict) or not system.get("little_endian", True):
        raise ValueError(f"version {version!r}, system {system!r}")
    storages: dict[str, Storage] = {}
    views: list[tuple[Storage, str]] = []

    def load(pid: Any) -> Any:
        if not isinstance(pid, tuple) or not pid:
            raise refuse(f"the reference {pid!r}")
        if pid[0] == "module" and len(pid) == 4 and isinstance(pid[1], type):
            return pid[1]  # a class with its source text, which nobody reads
        if pid[0] != "storage" or len(pid) != 6 or not isinstance(pid[1], _Kind):
            raise refuse(f"a reference to {pid[0]!r}")
        key, view = str(pid[2]), pid[5]
        if key not in storages:
            storages[key] = pid[1].make(pid[4])
        if view is None:
            return storages[key]
        part = pid[1].make(view[2])
        part.offset = int(view[1])
        views.append((part, key))
        return part

    content = loads(file, known=KNOWN, stubs=STUBS, storage=load)
    keys = loads(file)
    if not isinstance(keys, list) or {str(key) for key in keys} != storages.keys():
        raise ValueError("other storages than its tensors name")
    for key in keys:
        storage = storages[str(key)]
        (count,) = struct.unpack("<q", file.read(8))
        wanted = storage.size * np.dtype(storage.dtype).itemsize
        if count != storage.size:
            raise ValueError(f"a storage of {count} numbers for {storage.size}")
        data = file.read(wanted)
        if len(data) != wanted:
            raise ValueError(f"a truncated file ({len(data)} of {wanted} bytes of a storage)")
        storage.fill(data)
    for part, key in views:
        part.data = storages[key].data
    return content


def _read_zip(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"a zip with {len(pickles)} data.pkl")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("another byte order than little")
        storages: dict[str, Storage] = {}

        def load(pid: Any) -> Storage:
            if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
                raise refuse(f"the reference {pid!r}")
            if not isinstance(pid[1], _Kind):
                raise refuse(f"a storage of {pid[1]!r}")
            key = str(pid[2])
            if key not in storages:
                storage = pid[1].make(pid[4])
                entry = archive.getinfo(f"{root}data/{key}")
                wanted = storage.size * np.dtype(storage.dtype).itemsize
                if entry.file_size != wanted or entry.compress_type != zipfile.ZIP_STORED:
                    # Before it is read: a compressed one may claim any size.
                    raise ValueError(f"a storage of {entry.file_size} bytes for {wanted}")
                storage.fill(archive.read(entry))
                storages[key] = storage
            return storages[key]

        if archive.getinfo(pickles[0]).compress_type != zipfile.ZIP_STORED:
            raise ValueError("a compressed pickle")
        return loads(archive.read(pickles[0]), known=KNOWN, stubs=STUBS, storage=load)


def state(module: Any) -> dict[str, np.ndarray]:
    """A module saved whole, or a state dict → arrays by name; ``module.`` is taken off."""
    found: dict[str, np.ndarray] = {}
    if isinstance(module, dict):
        for name, value in module.items():
            if _tensor(value) is not None:
                found[str(name)] = _tensor(value).numpy()
    else:
        _walk(module, "", found, [])
    if found and all(name.startswith("module.") for name in found):  # DataParallel
        found = {name.removeprefix("module."): value for name, value in found.items()}
    return found


def _walk(module: Any, prefix: str, found: dict[str, np.ndarray], seen: list[str]) -> None:
    seen.append(prefix)
    if len(seen) > MODULES or prefix.count(".") > DEPTH:  # modules that hold each other
        raise ValueError(f"{prefix}: expected {MODULES} modules at most, {DEPTH} deep, got more")
    if not isinstance(module, Stub):
        raise ValueError(f"{prefix or 'model'}: expected a module, got {type(module).__name__}")
    for kind in ("_parameters", "_buffers"):
        for name, value in (module.get(kind) or {}).items():
            if _tensor(value) is not None:
                found[f"{prefix}{name}"] = _tensor(value).numpy()
    for name, child in (module.get("_modules") or {}).items():
        if child is not None:
            _walk(child, f"{prefix}{name}.", found, seen)


def _tensor(value: Any) -> Tensor | None:
    """The tensor of a value: itself, or what a Variable or Parameter of old files holds."""
    if isinstance(value, Stub) and value.args:
        value = value.args[0]
    return value if isinstance(value, Tensor) else None
