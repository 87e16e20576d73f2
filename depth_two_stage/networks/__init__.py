# SPDX-License-Identifier: Apache-2.0
"""The table of networks; build, save, load."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from torch import nn

from .checkpoint import Checkpoint, CheckpointError, read_checkpoint, resolve, write_checkpoint
from .discriminator import PatchDiscriminator
from .fcrn import FCRN
from .generators import ResidualGenerator
from .two_stage import NetworkSettings, TwoStage, settings_dict

__all__ = [
    "FCRN",
    "MODELS",
    "Checkpoint",
    "CheckpointError",
    "NetworkSettings",
    "PatchDiscriminator",
    "ResidualGenerator",
    "TwoStage",
    "build",
    "build_discriminator",
    "load",
    "resolve",
    "save",
]

PARTS: dict[str, type[nn.Module]] = {
    "fcrn": FCRN,
    "residual_generator": ResidualGenerator,
    "patch_discriminator": PatchDiscriminator,
}

_A_GENERATOR = {"name": "residual_generator", "widths": [64, 128, 256], "blocks": 9}
_A_DISCRIMINATOR = {"name": "patch_discriminator", "widths": [64, 128, 256, 512]}


def _fcrn(encoder: str, sparse_input: str) -> dict[str, Any]:
    return {
        "stage_one": {"name": "fcrn", "encoder": encoder, "decoder": "upproj"},
        "stage_two": None,
        "settings": {"sparse_input": sparse_input},
    }


# Architectures by name; a checkpoint carries its own copy, so a change here harms no file.
MODELS: dict[str, dict[str, Any]] = {
    "fcrn50-rgb": {**_fcrn("resnet50", "none"), "paper": "E"},
    "fcrn50-rgbd": {**_fcrn("resnet50", "zeros"), "paper": "A, stage one"},
    "fcrn18-rgb": {**_fcrn("resnet18", "none"), "paper": "E's frame, ResNet-18"},
    "fcrn18-rgbd": {**_fcrn("resnet18", "zeros"), "paper": "A's stage one, ResNet-18"},
    "two-stage-rgbd": {
        **_fcrn("resnet50", "zeros"),
        "stage_two": _A_GENERATOR,
        "discriminator": _A_DISCRIMINATOR,
        "paper": "A",
    },
    "two-stage-rgbd-18": {
        "stage_one": {"name": "fcrn", "encoder": "resnet18", "decoder": "upproj"},
        "stage_two": {
            **_A_GENERATOR,
            "widths": [16, 32, 64],
            "output": "residual",
            "norm": "instance",
        },
        "discriminator": {"name": "patch_discriminator", "widths": [16, 32, 64, 128]},
        # Half of NYU's 228×304: from 700 images alone colour is learned better with the whole
        # room in the receptive field, points no worse, at a quarter of the time.
        "settings": {
            "input_size": (114, 152),
            "focal": 129.5,
            "sparse_input": "smooth",
            "aligned": True,
        },
        "paper": "A at a quarter of the width; the shipped weights' network",
    },
}


def architecture(name: str, width: float = 1.0) -> dict[str, Any]:
    """A copy of a named architecture, every width multiplied by ``width``."""
    if name not in MODELS:
        raise ValueError(f"model: expected one of {', '.join(MODELS)}, got {name!r}")
    if not width > 0:
        raise ValueError(f"width: expected a positive number, got {width!r}")
    spec = copy.deepcopy(MODELS[name])
    if width != 1:
        spec["stage_one"]["width"] = width
        for part in (spec.get("stage_two"), spec.get("discriminator")):
            if part is not None:
                part["widths"] = [max(1, round(width * wide)) for wide in part["widths"]]
    return spec


def _part(spec: dict[str, Any], **extra: Any) -> nn.Module:
    arguments = {key: value for key, value in spec.items() if key != "name"}
    if spec.get("name") not in PARTS:
        raise ValueError(f"network: expected one of {', '.join(PARTS)}, got {spec.get('name')!r}")
    try:
        return PARTS[spec["name"]](**{**arguments, **extra})
    except TypeError as error:
        raise ValueError(
            f"network {spec['name']}: expected its own settings, got {error}"
        ) from None


def build(spec: str | dict[str, Any]) -> TwoStage:
    """A network from a name of ``MODELS`` or an architecture dict; weights are random."""
    spec = architecture(spec) if isinstance(spec, str) else spec
    known = {field.name for field in dataclasses.fields(NetworkSettings)}
    unknown = set(spec.get("settings", {})) - known
    if unknown:
        raise ValueError(f"settings: expected some of {sorted(known)}, got {sorted(unknown)}")
    settings = NetworkSettings(**spec.get("settings", {}))
    stage_one = _part(spec["stage_one"], in_channels=settings.channels)
    stage_two = None if spec.get("stage_two") is None else _part(spec["stage_two"])
    return TwoStage(stage_one, stage_two, settings)


def build_discriminator(spec: dict[str, Any]) -> PatchDiscriminator:
    """The discriminator that trains an architecture's stage two."""
    return _part(spec.get("discriminator", _A_DISCRIMINATOR))


def save(path: str, model: TwoStage, spec: dict[str, Any], facts: dict[str, Any]) -> None:
    """Write the model as fp16 safetensors with its architecture and ``facts`` in the header.

    ``facts``: data list hash, seed, metrics, code version and what else is to be remembered.
    """
    spec = {**copy.deepcopy(spec), "settings": settings_dict(model.settings)}
    write_checkpoint(path, model.state_dict(), {"architecture": spec, **facts})


#: what building a network from a foreign header raises; RuntimeError: more than memory holds
BAD_ARCHITECTURE = (AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError)


def load(name_or_path: str) -> tuple[TwoStage, Checkpoint]:
    """Shipped weights by name, or a checkpoint file → (model in eval mode, what is known of it)."""
    checkpoint = read_checkpoint(resolve(name_or_path))
    try:
        model = build(checkpoint.facts["architecture"])
        state = model.state_dict()
    except BAD_ARCHITECTURE as error:
        raise CheckpointError(
            f"{checkpoint.path}: expected an architecture of this package, got {error}"
        ) from error
    checkpoint.check(state)
    model.load_state_dict(
        {name: value.to(state[name].dtype) for name, value in checkpoint.tensors.items()}
    )
    return model.eval(), checkpoint
