# SPDX-License-Identifier: Apache-2.0
"""The networks: build, plug together, save, load."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .anchored import DiffusionUNet, EdgeGenerator
from .checkpoint import (
    Checkpoint,
    CheckpointError,
    read_checkpoint,
    resolve,
    write_checkpoint,
)
from .convolutional import CNN
from .discriminator import PatchDiscriminator
from .encoders import encoder_of, load_encoder
from .fcrn import FCRN
from .fully_connected import CNNFC, FullyConnected
from .generators import ResidualGenerator
from .groups import parameter_groups, set_rate
from .joint_filter import JointFilterNetwork
from .outliers import OutlierNetwork
from .pretrained import initialise
from .prior import PriorNetwork
from .registration import RegistrationNetwork
from .single_stage import SingleStage
from .table import A_DISCRIMINATOR, ALIASES, MODELS, architecture, nearest
from .two_stage import BESIDE, REFINING, NetworkSettings, TwoStage, settings_dict
from .unet import UNetGenerator

__all__ = [
    "ALIASES",
    "CNN",
    "CNNFC",
    "FCRN",
    "MODELS",
    "Checkpoint",
    "CheckpointError",
    "DiffusionUNet",
    "EdgeGenerator",
    "FullyConnected",
    "JointFilterNetwork",
    "NetworkSettings",
    "OutlierNetwork",
    "PatchDiscriminator",
    "PriorNetwork",
    "RegistrationNetwork",
    "ResidualGenerator",
    "SingleStage",
    "TwoStage",
    "UNetGenerator",
    "architecture",
    "build",
    "build_discriminator",
    "encoder_of",
    "initialise",
    "load",
    "load_encoder",
    "parameter_groups",
    "plug",
    "resolve",
    "save",
    "set_rate",
    "settings_dict",
]

PARTS: dict[str, type[nn.Module]] = {
    "fcrn": FCRN,
    "fully_connected": FullyConnected,
    "cnn_fc": CNNFC,
    "cnn": CNN,
    "single_stage": SingleStage,
    "residual_generator": ResidualGenerator,
    "unet_generator": UNetGenerator,
    "diffusion_unet": DiffusionUNet,
    "edge_generator": EdgeGenerator,
    "outlier_network": OutlierNetwork,
    "registration_network": RegistrationNetwork,
    "prior_network": PriorNetwork,
    "joint_filter_network": JointFilterNetwork,
    "patch_discriminator": PatchDiscriminator,
}
HUGGING_FACE = "huggingface"  # `coarse`: imported when it is asked for


def _class(name: Any) -> type[nn.Module]:
    """The class of a part by its name in an architecture."""
    if name == HUGGING_FACE:
        from .coarse import HuggingFaceDepth

        return HuggingFaceDepth
    if name not in PARTS:
        expected = ", ".join((*PARTS, HUGGING_FACE))
        raise ValueError(f"network: expected one of {expected}, got {name!r}")
    return PARTS[name]


def _part(spec: dict[str, Any], **extra: Any) -> nn.Module:
    arguments = {key: value for key, value in spec.items() if key != "name"}
    made = _class(spec.get("name"))
    try:
        return made(**{**arguments, **extra})
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
    stage_one = spec["stage_one"]
    if stage_one is not None:
        extra = {"in_channels": settings.channels}
        if getattr(PARTS.get(stage_one.get("name")), "fixed_size", False):
            extra["input_size"] = settings.input_size
        stage_one = _part(stage_one, **extra)
    stage_two, stage_three = (
        None if spec.get(name) is None else _part(spec[name]) for name in REFINING
    )
    if stage_one is None and stage_two is not None:  # a single cGAN sees the input itself
        sees = spec["stage_two"].get("in_channels", 1)
        if sees != settings.channels:
            raise ValueError(
                f"stage_two.in_channels: expected {settings.channels} without stage one, got {sees}"
            )
    for name in ("registration", "prior", "joint_filter"):
        if spec.get(name) is not None and not settings.relative:
            raise ValueError(
                f"{name}: expected sparse_input relative, got {settings.sparse_input!r}"
            )
    beside: dict[str, nn.Module] = {}
    for name in BESIDE:
        if spec.get(name) is not None:
            with torch.random.fork_rng(devices=()):  # the other parts begin as they did without
                beside[name] = _part(spec[name])
    return TwoStage(stage_one, stage_two, settings, stage_three, **beside)


def plug(
    spec: dict[str, Any], stage_one: str, width: float = 1.0
) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
    """An architecture with another stage one, as B concludes: (architecture, its weights).

    ``stage_one`` is a name of ``MODELS``, at ``width`` and without weights (None), a checkpoint
    (shipped name or file), or a metric depth model of Hugging Face's `transformers`: its folder,
    ``hf:FOLDER`` or, downloaded, ``hub:OWNER/NAME[@REVISION]``. The weights are for
    ``build(architecture).stage_one``. What stage one sees and the range of depth come with it; the
    size at which it is refined stays. ``stage_one_source`` of the architecture says whence it is.
    """
    weights: dict[str, Tensor] | None = None
    if stage_one in MODELS or stage_one in ALIASES:
        other = {**architecture(stage_one, width), "stage_one_source": {"model": stage_one}}
    elif stage_one.startswith(("hf:", "hub:")) or (Path(stage_one) / "config.json").is_file():
        from .coarse_import import import_model

        other, weights = import_model(stage_one)
    else:
        model, checkpoint = load(_existing(stage_one))
        source = {"file": checkpoint.path.name, "checksum": checkpoint.checksum}
        other = {**checkpoint.facts["architecture"], "stage_one_source": source}
        weights = None if model.stage_one is None else model.stage_one.state_dict()
    if other["stage_one"] is None:
        raise ValueError(f"stage_one: expected a model that has one, got {stage_one!r}")
    # A stage one that says nothing of these wants none of the old one's.
    seen = {"colour": "imagenet", "corners": False, **other.get("settings", {})}
    settings = {**spec.get("settings", {}), **seen}
    if "refined_size" in spec.get("settings", {}):
        settings["refined_size"] = spec["settings"]["refined_size"]
    elif spec.get("stage_two") is not None:  # that of NetworkSettings
        settings.pop("refined_size", None)
    new = {name: copy.deepcopy(other[name]) for name in ("stage_one", "stage_one_source")}
    return {**copy.deepcopy(spec), **new, "settings": settings}, weights


def _existing(weights: str) -> str:
    """The same name of weights; where there are none of it, the nearest names are offered."""
    try:
        resolve(weights)
    except CheckpointError as error:
        near = nearest(weights)
        hint = f"; nearest models: {', '.join(near)}" if near else ""
        raise CheckpointError(f"{error}{hint}") from error
    return weights


def build_discriminator(spec: dict[str, Any]) -> PatchDiscriminator:
    """The discriminator that trains an architecture's stage two."""
    return _part(spec.get("discriminator", A_DISCRIMINATOR))


def save(
    path: str,
    model: TwoStage,
    spec: dict[str, Any],
    facts: dict[str, Any],
    half: bool = True,
    whole: bool = False,
) -> None:
    """Write the model as fp16 safetensors with its architecture and ``facts`` in the header.

    ``facts``: data list hash, seed, metrics, code version and what else is to be remembered.
    Without ``half`` the tensors stay as they are; ``whole`` makes one file, however large.
    """
    spec = {**copy.deepcopy(spec), "settings": settings_dict(model.settings)}
    facts = {"architecture": spec, **facts}
    write_checkpoint(path, model.state_dict(), facts, half, whole)


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
