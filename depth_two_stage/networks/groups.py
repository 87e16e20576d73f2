# SPDX-License-Identifier: Apache-2.0
"""Parameters in groups with their own share of the learning rate: encoder, new layers, biases."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .encoders import encoder_of


def parameter_groups(
    model: nn.Module,
    encoder_rate: float = 1.0,
    bias_rate: float = 1.0,
    decay_bias: bool = True,
) -> list[dict[str, Any]]:
    """What is to be trained, as an optimizer takes it: ``params``, ``name`` and ``factor`` each.

    ``factor`` is the group's share of the learning rate, which `set_rate` applies: 1 for new
    layers, ``encoder_rate`` for those that start from ImageNet, times ``bias_rate`` for biases and
    the parameters of normalisations. Without ``decay_bias`` these are free of weight decay. Groups
    are ``encoder``, ``new``, and where biases differ ``encoder_bias`` and ``new_bias``; empty ones
    are left out, frozen parameters too. At ``encoder_rate`` 0 BN's statistics still move: freeze
    the encoder to stop them.
    """
    for name, value in (("encoder_rate", encoder_rate), ("bias_rate", bias_rate)):
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name}: expected a factor of at least 0, got {value!r}")
    encoder = encoder_of(model)
    if encoder is None and encoder_rate != 1:
        raise ValueError(
            f"encoder_rate: expected 1 for a network without encoder, got {encoder_rate!r}"
        )
    inside = set() if encoder is None else {id(value) for value in encoder.parameters()}
    apart = bias_rate != 1 or not decay_bias
    groups: dict[str, dict[str, Any]] = {}
    for value in model.parameters():  # each once, however often a network shares it
        if not value.requires_grad:
            continue
        place, factor = ("encoder", encoder_rate) if id(value) in inside else ("new", 1.0)
        bias = apart and value.ndim <= 1
        name = f"{place}_bias" if bias else place
        if name not in groups:
            factor *= bias_rate if bias else 1
            groups[name] = {"params": [], "name": name, "factor": float(factor)}
            if bias and not decay_bias:
                groups[name]["weight_decay"] = 0.0
        groups[name]["params"].append(value)
    if not groups:
        raise ValueError(f"model: expected parameters to train, got none in {type(model).__name__}")
    return list(groups.values())


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of this step: each group gets its share of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)
