# SPDX-License-Identifier: Apache-2.0
"""Which public layout a file has, by its content, and its arrays by name."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import npy, tensorflow_checkpoint, torch_file
from .restricted import BROKEN, CheckpointFileError, Stub

__all__ = ["LAYOUTS", "Source", "read"]

#: layout → what it is
LAYOUTS = {
    "fcrn-npy": "E's TensorFlow weights in a .npy",
    "fcrn-ckpt": "E's TensorFlow checkpoint (NAME.index and NAME.data-…, or one old file)",
    "sparse-to-dense": "model_best.pth.tar of sparse-to-dense.pytorch",
    "torchvision": "an ImageNet encoder in torchvision's names (.pth or .safetensors)",
}


@dataclass(frozen=True)
class Source:
    """A file as read: its layout, arrays by name, the files it is made of, what else it says."""

    layout: str
    arrays: dict[str, np.ndarray] = field(repr=False)
    files: list[Path]
    facts: dict[str, Any] = field(default_factory=dict)

    def checksums(self) -> dict[str, str]:
        """SHA-256 of each file, by its name; ``""`` is that of all together."""
        whole, found = hashlib.sha256(), {}
        for path in self.files:
            one = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    one.update(chunk)
                    whole.update(chunk)
            found[path.name] = one.hexdigest()
        return found | {"": whole.hexdigest()}


def read(path: Path, layout: str = "auto") -> Source:
    """Read a file of any layout; ``layout`` is one of `LAYOUTS`, or auto."""
    if layout not in ("auto", *LAYOUTS):
        expected = ", ".join(("auto", *LAYOUTS))
        raise CheckpointFileError(f"layout: expected one of {expected}, got {layout!r}")
    source = _read(path)
    if layout not in ("auto", source.layout):
        raise CheckpointFileError(f"{path}: expected the layout {layout}, got {source.layout}")
    return source


def _read(path: Path) -> Source:
    bundle = tensorflow_checkpoint.checkpoint_files(path)
    if bundle is not None:
        return Source("fcrn-ckpt", tensorflow_checkpoint.read_checkpoint_v2(bundle), bundle)
    if path.is_dir():
        raise CheckpointFileError(f"{path}: expected a file, or a folder with one .index, got none")
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointFileError(f"{path}: expected a file, got {error.strerror}") from error
    if tensorflow_checkpoint.is_table(path):
        return Source("fcrn-ckpt", tensorflow_checkpoint.read_checkpoint_v1(path), [path])
    if torch_file.is_torch(path):
        return _of_torch(path)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return Source("torchvision", _of_safetensors(path), [path])
    # A pickle without NumPy's header is a .npy to NumPy too; Python 2 wrote them as text as well.
    if start.startswith((npy.MAGIC, b"\x80", b"(d")):
        return Source("fcrn-npy", npy.read_npy(path), [path])
    raise CheckpointFileError(
        f"{path}: expected {'; or '.join(LAYOUTS.values())}, got a file that starts with "
        f"{bytes(start)!r}"
    )


def _of_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            if "depth_two_stage" in (file.metadata() or {}):
                raise CheckpointFileError(
                    f"{path}: expected weights to import, got a checkpoint of this package"
                )
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError) as error:  # TypeError: a type NumPy has not
        raise CheckpointFileError(f"{path}: expected whole safetensors, got {error}") from error


def _of_torch(path: Path) -> Source:
    """A file of torch.save: sparse-to-dense's dict with a whole module, or a state dict."""
    content = torch_file.read_torch(path)
    model, facts = content, {}
    if isinstance(content, dict):
        for key in ("model", "state_dict", "model_state_dict"):
            if isinstance(content.get(key), (dict, Stub)):
                model = content[key]
                facts = _training(content)
                break
    if not isinstance(model, (dict, Stub)):
        got = type(model).__name__
        raise CheckpointFileError(f"{path}: expected a module or a state dict, got {got}")
    try:
        arrays = torch_file.state(model)
    except BROKEN as error:
        raise CheckpointFileError(f"{path}: expected a network, got {error}") from error
    if not arrays:
        raise CheckpointFileError(f"{path}: expected tensors by name, got none")
    deep = any(name.startswith("decoder.") for name in arrays) or "conv3.weight" in arrays
    if isinstance(model, Stub):
        facts |= _module_facts(model)
    return Source("sparse-to-dense" if deep else "torchvision", arrays, [path], facts)


def _training(content: dict[str, Any]) -> dict[str, Any]:
    """What the file says of its training, as JSON holds it."""
    facts: dict[str, Any] = {}
    for key in ("epoch", "arch"):
        if isinstance(content.get(key), (int, str)):
            facts[key] = content[key]
    for key, kept in (("args", (int, float, str)), ("best_result", (int, float))):
        stub = content.get(key)
        values = stub.state if isinstance(stub, Stub) else stub
        if isinstance(values, dict):
            facts[key] = {
                str(name): value
                for name, value in values.items()
                if isinstance(value, kept) and _is_json(value)
            }
    modality = facts.get("args", {}).get("modality")
    return facts | ({"modality": modality} if modality else {})


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _module_facts(model: Stub) -> dict[str, Any]:
    """The size to which the network resizes its answer: its own, or its last layer's."""
    modules = model.get("_modules") or {}
    inner = modules.get("module")
    if isinstance(inner, Stub):  # DataParallel
        return _module_facts(inner)
    last = modules.get("bilinear")
    for size in (model.get("output_size"), last.get("size") if isinstance(last, Stub) else None):
        if isinstance(size, Stub) and size.args:  # torch.Size
            size = size.args[0]
        if (
            isinstance(size, (list, tuple))
            and len(size) == 2
            and all(type(n) is int and n > 0 for n in size)
        ):
            return {"output_size": list(size)}
    return {}
