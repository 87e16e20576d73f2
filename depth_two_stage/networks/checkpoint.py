# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: safetensors whose header holds everything that rebuilds the model. No pickle.

A file may be cut into parts (``name-1-of-2.safetensors``); every part names the others, and a
JSON file of the same name repeats the header for people and for tools that cannot read it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..files import atomic_write

FORMAT = "depth_two_stage/1"
SHIPPED = Path(__file__).resolve().parents[1] / "checkpoints"
PART_BYTES = 14_500_000  # a shipped file stays under 15 MB
PART = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<total>\d+)$")


class CheckpointError(ValueError):
    """A checkpoint that is missing, foreign, truncated or of another architecture."""


@dataclass(frozen=True)
class Checkpoint:
    """A file as read: tensors by name, the header's facts, and a checksum of all parts."""

    path: Path
    facts: dict[str, Any]
    tensors: dict[str, Tensor] = field(repr=False)
    checksum: str = ""

    @property
    def name(self) -> str:
        """File name without part number and ending."""
        return part_stem(self.path)

    def check(self, state: dict[str, Tensor]) -> None:
        """Raise unless names and shapes equal those of the model's state."""
        missing, extra = state.keys() - self.tensors.keys(), self.tensors.keys() - state.keys()
        if missing or extra:
            raise CheckpointError(
                f"{self.path}: expected the {len(state)} tensors of the architecture, got "
                f"{len(missing)} missing ({_some(missing)}), {len(extra)} unknown ({_some(extra)})"
            )
        for name, value in state.items():
            if value.shape != self.tensors[name].shape:
                raise CheckpointError(
                    f"{self.path}: expected {name} of shape {tuple(value.shape)}, "
                    f"got {tuple(self.tensors[name].shape)}"
                )


def part_stem(path: Path) -> str:
    """Name of a checkpoint from one of its files: without part number and ending."""
    match = PART.match(path.stem)
    return match["stem"] if match else path.stem


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3]) or "none"


def resolve(name_or_path: str | Path) -> Path:
    """The file of shipped weights by name, or a path with or without its ending.

    Of a file that was cut into parts, the first one.
    """
    text = str(name_or_path)
    path = Path(text)
    shipped = "/" not in text and not path.suffix and not path.exists()
    for base in (path, SHIPPED / text) if shipped else (path,):
        whole = base if base.suffix == ".safetensors" else Path(f"{base}.safetensors")
        parts = sorted(whole.parent.glob(f"{whole.stem}-1-of-*.safetensors"))
        for found in (base, whole, *parts):
            if found.exists():
                return found
    if shipped:
        names = sorted({part_stem(file) for file in SHIPPED.glob("*.safetensors")})
        raise CheckpointError(
            f"weights: expected a file or one of the shipped {names}, got {text!r}"
        )
    raise CheckpointError(f"weights: expected a file, got {path}, which does not exist")


def write_checkpoint(
    path: str | Path,
    state: dict[str, Tensor],
    facts: dict[str, Any],
    half: bool = True,
    whole: bool = False,
) -> list[Path]:
    """Write a state dict (fp16 when ``half``), cut into parts under 15 MB unless ``whole``.

    Each file is written atomically. A new file replaces an old one of the same name, however many
    parts that had.
    """
    from safetensors.torch import save

    path = Path(path).with_suffix(".safetensors")
    tensors = {
        name: (_halved(value) if half else value).detach().cpu().contiguous()
        for name, value in state.items()
    }
    parts = [tensors] if whole else _cut(tensors)
    names = [
        path.name if len(parts) == 1 else f"{path.stem}-{index}-of-{len(parts)}.safetensors"
        for index in range(1, len(parts) + 1)
    ]
    header = {"format": FORMAT, **facts, "parts": names}
    old = {path, *path.parent.glob(f"{path.stem}-*-of-*.safetensors")}
    written = [path.with_name(name) for name in names]
    for file, part in zip(written, parts, strict=True):
        with atomic_write(file, "wb") as stream:
            stream.write(save(part, {"depth_two_stage": json.dumps(header)}))
    with atomic_write(path.with_suffix(".json"), "w") as stream:
        stream.write(json.dumps(header, indent=1) + "\n")
    for file in old - set(written):
        file.unlink(missing_ok=True)
    return written


def _halved(value: Tensor) -> Tensor:
    """As fp16, unless that does not hold it: variances of colours of 0…255 go beyond 65504."""
    if not value.is_floating_point():
        return value
    half = value.half()
    return half if half.isfinite().all() else value


def _cut(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, value in tensors.items():
        if parts[-1] and size + value.nbytes > PART_BYTES:
            parts.append({})
            size = 0
        parts[-1][name] = value
        size += value.nbytes
    return parts


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """One file's facts and tensors; a pickle, a foreign or a truncated file raises."""
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as stream:
            start = stream.read(4)
    except OSError as error:
        raise CheckpointError(f"{path}: expected a readable file, got {error.strerror}") from error
    if start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise CheckpointError(
            f"{path}: expected safetensors, got a pickle, which is refused because it can run code"
        )
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("depth_two_stage", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise CheckpointError(
            f"{path}: expected a complete safetensors file, got {error}"
        ) from error
    found = header.get("format") if isinstance(header, dict) else header
    if found != FORMAT:
        raise CheckpointError(
            f"{path}: expected a checkpoint of this package ({FORMAT}), got format {found!r}"
        )
    parts = header.setdefault("parts", [path.name])
    names = parts if isinstance(parts, list) else [""]
    if not names or any(not isinstance(n, str) or Path(n).name != n or not n for n in names):
        raise CheckpointError(f"{path}: expected file names as its parts, got {parts!r}")
    for name, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise CheckpointError(f"{path}: expected finite weights, got NaN or infinity in {name}")
    return header, tensors


def read_checkpoint(path: str | Path) -> Checkpoint:
    """All parts of a checkpoint; any part may be given."""
    path = Path(path)
    facts, tensors = read_header(path)
    digest = hashlib.sha256()
    for name in facts["parts"]:
        file = path.with_name(name)
        if not file.exists() and len(facts["parts"]) > 1:
            raise CheckpointError(f"{path}: expected its part {name} beside it, got none")
        if len(facts["parts"]) == 1:
            file = path  # a single file may have been renamed
        if file != path:
            other, more = read_header(file)
            if other == facts:
                tensors.update(more)
            else:
                raise CheckpointError(f"{file}: expected a part of {path.name}, got another file's")
        digest.update(file.read_bytes())
    return Checkpoint(path, facts, tensors, digest.hexdigest()[:16])
