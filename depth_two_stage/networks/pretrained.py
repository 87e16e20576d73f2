# SPDX-License-Identifier: Apache-2.0
"""ImageNet weights under torchvision's names: read a file, say what does not fit, then copy.

E, section 4.1: the encoder starts from ImageNet, the new layers at N(0, variance 0.01).
"""

from __future__ import annotations

import hashlib
import pickle
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoint import CheckpointError

CLASSIFIERS = ("fc.", "classifier.")
EXTRA = ("mean", "zero")
GREY = ("sum", "mean")
LISTED = 10  # names of each kind in an error
#: what torch's reader raises on a file that is cut off or spoilt
BROKEN = (
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
E_STD = 0.1  # E: variance 0.01


def read_torchvision(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` or ``.pth`` file by name, on the CPU.

    A ``.pth`` is read by torch's restricted reader, which takes tensors and runs nothing. The
    weights may stand under ``state_dict`` or ``model``, and be those of a data-parallel module.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
    except OSError as error:
        raise CheckpointError(f"{path}: expected a readable file, got {error.strerror}") from error
    if start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        content: Any = _read_pth(path)
    else:
        content = _read_safetensors(path)
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            f"{path}: expected a state dict, got {type(content).__name__}"
            + (" without entries" if isinstance(content, Mapping) else "")
        )
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: expected tensors by name, got {type(value).__name__} for {name!r}"
            )
        if value.is_floating_point() and not value.isfinite().all():
            raise CheckpointError(f"{path}: expected finite weights, got NaN or infinity in {name}")
    if all(name.startswith("module.") for name in content):
        content = {name.removeprefix("module."): value for name, value in content.items()}
    return dict(content)


def _read_pth(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: expected tensors alone, got a pickle with other contents or a damaged one, "
            "which is not run"
        ) from error
    except BROKEN as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise CheckpointError(f"{path}: expected a complete .pth file, got {reason}") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: expected a complete .safetensors or .pth file, got {error}"
        ) from error


def file_facts(path: str | Path) -> dict[str, str]:
    """Name and SHA-256 of a file, for the header of what is made of it."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return {"file": Path(path).name, "sha256": digest.hexdigest()}


def fit_stem(stem: Tensor, channels: int, extra: str = "mean", grey: str = "sum") -> Tensor:
    """A first kernel (cout, 3, k, k) for ``channels`` inputs: (cout, channels, k, k).

    Colour keeps its three; one or two inputs begin with a grey one, which gets the ``sum`` of the
    three, so that a grey picture is answered as its three equal channels were, or their ``mean``.
    Each input after those (sparse depth, distance) gets the ``mean`` of the three or ``zero``.
    """
    for name, value, known in (("extra", extra, EXTRA), ("grey", grey, GREY)):
        if value not in known:
            raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
    if stem.shape[1] == channels:
        return stem
    if stem.shape[1] != 3:
        raise ValueError(f"stem: expected 3 or {channels} input channels, got {stem.shape[1]}")
    mean = stem.mean(1, keepdim=True)
    colour = stem if channels >= 3 else (stem.sum(1, keepdim=True) if grey == "sum" else mean)
    more = channels - colour.shape[1]
    fill = mean if extra == "mean" else torch.zeros_like(mean)
    return torch.cat([colour, fill.expand(-1, more, -1, -1)], 1)


@torch.no_grad()
def load_imagenet(
    encoder: nn.Module,
    state: Mapping[str, Tensor],
    extra: str = "mean",
    grey: str = "sum",
    source: str = "ImageNet weights",
) -> None:
    """Load a torchvision state dict; its classifier is dropped, the stem fitted (`fit_stem`).

    Everything is compared before the first copy: names, shapes and kinds of number, listed in one
    error. BN's counters, which torchvision's older files lack, may be missing.
    """
    state = {name: value for name, value in state.items() if not name.startswith(CLASSIFIERS)}
    wanted = encoder.state_dict()
    counters = {n: v for n, v in wanted.items() if n.endswith(".num_batches_tracked")}
    state = {**{name: torch.zeros_like(v) for name, v in counters.items()}, **state}
    first = next(iter(wanted))
    if first in state and state[first].ndim == 4 and state[first].shape[1] == 3:
        state[first] = fit_stem(state[first], wanted[first].shape[1], extra, grey)
    else:
        fit_stem(torch.empty(1, 3, 1, 1), 3, extra, grey)  # wrong settings are named all the same
    problems = _differences(wanted, state)
    if problems:
        raise CheckpointError(
            f"{source}: expected torchvision's names and shapes for {_described(encoder)}, "
            f"got {'; '.join(problems)}{_hint(encoder)}"
        )
    encoder.load_state_dict(state)


def _differences(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """What is missing, unknown, of another shape or no weights, each with a count and names."""
    both = [name for name in wanted if name in state]
    kinds = {
        "missing": [name for name in wanted if name not in state],
        "unknown": [name for name in state if name not in wanted],
        "of another shape": [
            f"{name}: expected shape {tuple(wanted[name].shape)}, got {tuple(state[name].shape)}"
            for name in both
            if wanted[name].shape != state[name].shape
        ],
        "of another kind of number": [
            f"{name}: expected {wanted[name].dtype}, got {state[name].dtype}"
            for name in both
            if wanted[name].is_floating_point() != state[name].is_floating_point()
        ],
    }
    return [f"{len(names)} {kind} ({_some(names)})" for kind, names in kinds.items() if names]


def _some(names: list[str]) -> str:
    more = [f"and {len(names) - LISTED} more"] if len(names) > LISTED else []
    return ", ".join([*names[:LISTED], *more])


def _described(encoder: nn.Module) -> str:
    return f"{type(encoder).__name__} of width {getattr(encoder, 'width', 1.0):g}"


def _hint(encoder: nn.Module) -> str:
    """Why a file that is what it says does not fit."""
    if getattr(encoder, "width", 1.0) != 1:
        return "; the files fit the published width, 1, alone"
    return getattr(encoder, "not_torchvisions", "")


@torch.no_grad()
def initialise(layers: Iterable[nn.Module], std: float = E_STD) -> None:
    """New layers as E: weights N(0, ``std``²); biases 0 and BN as new, of which E says nothing."""
    if not 0 < std < float("inf"):
        raise ValueError(f"std: expected a positive number, got {std!r}")
    for layer in layers:
        for module in layer.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                nn.init.normal_(module.weight, std=std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
