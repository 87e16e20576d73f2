# SPDX-License-Identifier: Apache-2.0
"""One network in E's two forms: plain (unpool, 5×5) and fast (four small convolutions)."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from .blocks import FastUp, PlainUp

LETTERS = ("conv_a", "conv_b", "conv_c", "conv_d")


def to_fast(plain: PlainUp) -> FastUp:
    """The fast form of an up-convolution, with its weights and padding side."""
    if plain.filling != "zeros":
        raise ValueError(f"filling: expected 'zeros' to leave out, got {plain.filling!r}")
    weight = plain.conv.weight
    fast = FastUp(weight.shape[1], weight.shape[0], plain.side)
    state = {f"{name}.weight": taps for name, taps in FastUp.taps(weight.detach()).items()}
    fast.load_state_dict(state)
    return fast.to(weight)


def to_plain(fast: FastUp) -> PlainUp:
    """The plain form of an up-convolution, with its weights and padding side."""
    weight = fast.conv_a.weight
    if fast.conv_a.bias is not None:
        raise ValueError("bias: expected none in a plain up-convolution, got four")
    plain = PlainUp(weight.shape[1], weight.shape[0], fast.side)
    plain.conv.weight.data = _kernel([getattr(fast, letter).weight.detach() for letter in LETTERS])
    return plain.to(weight)


def _kernel(parts: list[Tensor]) -> Tensor:
    """A, B, C, D → 5×5 kernel (cout, cin, 5, 5)."""
    weight = parts[0].new_zeros(*parts[0].shape[:2], 5, 5)
    for taps, part in zip(FastUp.taps(weight).values(), parts, strict=True):
        taps.copy_(part)
    return weight


def has_fast_form(module: nn.Module) -> bool:
    """Whether a network has plain up-convolutions and all of them can be converted."""
    plain = [part for part in module.modules() if isinstance(part, PlainUp)]
    return bool(plain) and all(part.filling == "zeros" for part in plain)


def convert(module: nn.Module, fast: bool) -> nn.Module:
    """A copy of a network whose up-convolutions all have one form; its answers stay the same."""
    old, change = (PlainUp, to_fast) if fast else (FastUp, to_plain)
    if isinstance(module, old):
        return change(module)
    module = copy.deepcopy(module)
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, old):
                setattr(parent, name, change(child))
    return module


def convert_state(state: dict[str, Tensor], fast: bool) -> dict[str, Tensor]:
    """The same for a state dict: 5×5 kernels named ``….conv.weight`` ↔ ``….conv_a.weight`` …."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        stem = name.removesuffix(".conv.weight")
        if fast and stem != name and value.shape[2:] == (5, 5):
            for letter, taps in FastUp.taps(value).items():
                found[f"{stem}.{letter}.weight"] = taps.contiguous()
        elif not fast and name.endswith(".conv_a.weight"):
            stem = name.removesuffix(".conv_a.weight")
            parts = [state[f"{stem}.{letter}.weight"] for letter in LETTERS]
            found[f"{stem}.conv.weight"] = _kernel(parts)
        elif fast or not name.endswith(tuple(f".{letter}.weight" for letter in LETTERS)):
            found[name] = value
    return found
