# SPDX-License-Identifier: Apache-2.0
"""Names and shapes of public checkpoints, and whose tensor of our networks each one is.

A `Layout` says which tensors a file has to hold; it is made from the file's own first shapes, so
that narrower networks of the same form are read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .restricted import CheckpointFileError

__all__ = ["Layout", "Published", "encoder_of", "fcrn", "sparse_to_dense", "torchvision"]

Arrays = Mapping[str, np.ndarray]
STAGE = "stage_one."
BN = {"scale": "weight", "offset": "bias", "mean": "running_mean", "variance": "running_var"}
BLOCKS = {"resnet18": ((2, 2, 2, 2), False), "resnet50": ((3, 4, 6, 3), True)}
OTHER_BLOCKS = {
    ((3, 4, 6, 3), False): "ResNet-34",
    ((3, 4, 23, 3), True): "ResNet-101",
    ((3, 8, 36, 3), True): "ResNet-152",
}
#: channels of sparse-to-dense's first convolution → how our input is made (`inputs.assemble`)
MODALITIES = {1: ("d", "points"), 3: ("rgb", "none"), 4: ("rgbd", "zeros")}


@dataclass(frozen=True)
class Published:
    """What the authors report, and the options of ``evaluate`` that check it."""

    figures: str
    options: str


@dataclass(frozen=True)
class Layout:
    """A file's form: the network it is of, and its tensors' names → our names.

    ``spec`` is an architecture of `networks.build`. ``transposed``: kernels are (h, w, in, out).
    ``lenient``: names that are not asked for are left out with a count instead of refused.
    """

    name: str
    title: str
    spec: dict[str, Any]
    names: dict[str, str]
    transposed: bool = False
    lenient: bool = False
    dropped: tuple[str, ...] = ()  # beginnings of names that are left out: a classifier
    published: Published | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def fcrn(arrays: Arrays, name: str = "fcrn-npy") -> Layout:
    """E's released network in TensorFlow's names: ``layer/parameter``."""
    width = _width(arrays, "conv1/weights", 3)
    names: dict[str, str] = {}

    def convolution(layer: str, ours: str, bias: bool = False) -> None:
        names[f"{layer}/weights"] = f"{STAGE}{ours}.weight"
        if bias:
            names[f"{layer}/biases"] = f"{STAGE}{ours}.bias"

    def norm(layer: str, ours: str) -> None:
        for theirs, parameter in BN.items():
            names[f"{layer}/{theirs}"] = f"{STAGE}{ours}.{parameter}"

    convolution("conv1", "encoder.conv1", bias=True)
    norm("bn_conv1", "encoder.bn1")
    for stage, blocks in enumerate(BLOCKS["resnet50"][0], start=2):
        for number in range(blocks):
            block = f"{stage}{'abcdef'[number]}_branch"
            ours = f"encoder.layer{stage - 1}.{number}."
            for index, letter in enumerate("abc", start=1):
                convolution(f"res{block}2{letter}", f"{ours}conv{index}")
                norm(f"bn{block}2{letter}", f"{ours}bn{index}")
            if number == 0:
                convolution(f"res{block}1", f"{ours}downsample.0")
                norm(f"bn{block}1", f"{ours}downsample.1")
    convolution("layer1", "conv", bias=True)
    norm("layer1_BN", "bn")
    for number, scale in enumerate(("2x", "4x", "8x", "16x")):
        layer, ours = f"layer{scale}", f"decoder.{number}."
        for branch, part in (("br1", "upper"), ("br2", "lower")):
            for letter in "ABCD":
                theirs = f"{layer}_{branch}_Conv{letter}"
                convolution(theirs, f"{ours}{part}.0.conv_{letter.lower()}", bias=True)
            norm(f"{layer}_{branch}_BN", f"{ours}{part}.1")
        convolution(f"{layer}_Conv", f"{ours}upper.3", bias=True)
        norm(f"{layer}_BN", f"{ours}upper.4")
    convolution("ConvPred", "predict", bias=True)
    stage_one = {"side": "top_left", "variant": "tensorflow"}
    return Layout(
        name,
        "FCRN, E's released TensorFlow weights",
        _spec(
            "E: the authors' released weights",
            {"encoder": "resnet50", "decoder": "upproj", **_wide(width), **stage_one},
            refined_size=[128, 160],
            colour="bytes",
            sparse_input="none",
        ),
        names,
        transposed=True,
        lenient=True,
        published=Published(
            "NYU, 654 test images: rel 0.127, rms 0.573, log10 0.055",
            "evaluate nyu --root DIR --split test --protocol E --sparse none",
        ),
    )


def sparse_to_dense(arrays: Arrays, facts: dict[str, Any]) -> Layout:
    """The network of sparse-to-dense.pytorch: ResNet-18 or 50, any of its decoders and inputs.

    ``facts`` of the file: ``modality``, ``output_size``, where it holds them.
    """
    encoder, width = encoder_of(arrays)
    channels = arrays["conv1.weight"].shape[1]
    modality, sparse_input = MODALITIES.get(channels, ("", ""))
    if not modality or facts.get("modality", modality) != modality:
        got = facts.get("modality", "")
        raise CheckpointFileError(
            f"conv1.weight: expected the channels of d, rgb or rgbd (1, 3, 4), got {channels} {got}"
        )
    kinds = {
        "upproj": "upper_branch.conv1",
        "upconv": "conv",
        "deconv2": "deconv2",
        "deconv3": "deconv3",
    }
    found = [k for k, part in kinds.items() if f"decoder.layer1.{part}.weight" in arrays]
    if len(found) != 1:
        raise CheckpointFileError(
            f"decoder: expected one of {', '.join(kinds)} in decoder.layer1, got "
            f"{', '.join(found) or 'none of them'}"
        )
    (decoder,) = found
    names = _resnet_names(encoder, f"{STAGE}encoder.")
    names |= {"conv2.weight": f"{STAGE}conv.weight", "conv3.weight": f"{STAGE}predict.weight"}
    names |= _norm_names("bn2", f"{STAGE}bn")
    for number in range(4):
        layer, ours = f"decoder.layer{number + 1}.", f"{STAGE}decoder.{number}."
        if decoder == "upproj":
            for theirs, part in (
                ("upper_branch.conv1", "upper.0.conv"),
                ("upper_branch.conv2", "upper.3"),
                ("bottom_branch.conv", "lower.0.conv"),
            ):
                names[f"{layer}{theirs}.weight"] = f"{ours}{part}.weight"
            names |= _norm_names(f"{layer}upper_branch.batchnorm1", f"{ours}upper.1")
            names |= _norm_names(f"{layer}upper_branch.batchnorm2", f"{ours}upper.4")
            names |= _norm_names(f"{layer}bottom_branch.batchnorm", f"{ours}lower.1")
        else:
            part = "0.conv" if decoder == "upconv" else "0"
            names[f"{layer}{kinds[decoder]}.weight"] = f"{ours}{part}.weight"
            names |= _norm_names(f"{layer}batchnorm", f"{ours}1")
    size = list(facts.get("output_size", (228, 304)))
    outdoors = size[1] > 2 * size[0]  # KITTI's frame, cut, at its full resolution
    spec = _spec(
        "Ma and Karaman, sparse-to-dense: the authors' PyTorch weights",
        {
            "encoder": encoder,
            "decoder": "deconv" if decoder == "deconv2" else decoder,
            **_wide(width),
            "variant": "sparse-to-dense",
            **({} if decoder.startswith("deconv") else {"fast": False}),
        },
        input_size=size,
        refined_size=size,
        colour="unit",
        corners=True,
        sparse_input=sparse_input,
        **({"focal": 721.5, "max_depth": 100.0} if outdoors else {}),
    )
    published = None
    if (encoder, decoder, modality, outdoors) == ("resnet50", "upproj", "rgbd", False):
        published = Published(
            "NYU, RGBd with 200 samples: RMSE 0.237 m, REL 0.048, delta1 0.970",
            "evaluate nyu --root DIR --split test --protocol centre --sparse bernoulli:200 "
            "--anchor none",
        )
    return Layout(
        "sparse-to-dense",
        f"sparse-to-dense, {encoder} {decoder} {modality}",
        spec,
        names,
        published=published,
        facts=facts,
    )


def torchvision(encoder: str, spec: dict[str, Any], parameters: list[str]) -> Layout:
    """An ImageNet encoder under torchvision's names, which are those of our own: ``parameters``."""
    return Layout(
        "torchvision",
        f"ImageNet encoder, {encoder}",
        spec,
        {name: f"{STAGE}encoder.{name}" for name in parameters},
        dropped=("fc.", "classifier."),
    )


def encoder_of(arrays: Arrays) -> tuple[str, float]:
    """The encoder of a state dict under torchvision's names, and its width (1 is as published)."""
    if "layer1.0.conv1.weight" in arrays:
        bottleneck = "layer1.0.conv3.weight" in arrays
        blocks = tuple(
            len({name.split(".")[1] for name in arrays if name.startswith(f"layer{n}.")})
            for n in (1, 2, 3, 4)
        )
        other = OTHER_BLOCKS.get((blocks, bottleneck))
        if other:
            raise CheckpointFileError(f"encoder: expected ResNet-18 or ResNet-50, got {other}")
        return "resnet50" if bottleneck else "resnet18", _width(arrays, "conv1.weight", 0)
    first = arrays.get("features.0.weight")
    if first is not None and first.ndim == 4 and first.shape[2] == 11:
        if first.shape[0] == 64:
            raise CheckpointFileError(
                "encoder: expected E's AlexNet (96-256-384-384-256), got torchvision's "
                "(64-192-384-256-256)"
            )
        return "alexnet", first.shape[0] / 96
    if first is not None:
        return "vgg16", _width(arrays, "features.0.weight", 0)
    some = ", ".join(list(arrays)[:3]) or "nothing"
    raise CheckpointFileError(
        f"encoder: expected torchvision's names (conv1.weight, layer1.0.conv1.weight …), got {some}"
    )


def _width(arrays: Arrays, name: str, axis: int) -> float:
    """The width multiplier that the first convolution shows; 1 where it is not one."""
    first = arrays.get(name)
    if first is None or first.ndim != 4 or not first.shape[axis]:
        return 1.0
    return first.shape[axis] / 64


def _wide(width: float) -> dict[str, float]:
    return {} if width == 1 else {"width": width}


def _spec(paper: str, stage_one: dict[str, Any], **settings: Any) -> dict[str, Any]:
    from depth_two_stage.datasets.nyu import CAMERA

    nyu = {"focal": CAMERA.resized(320, 240).focal}  # a frame of 480×640, halved
    return {
        "stage_one": {"name": "fcrn", **stage_one},
        "stage_two": None,
        "settings": {**nyu, "min_depth": 0.0, **settings},
        "paper": paper,
    }


def _norm_names(theirs: str, ours: str) -> dict[str, str]:
    parts = (*BN.values(), "num_batches_tracked")
    return {f"{theirs}.{part}": f"{ours}.{part}" for part in parts}


def _resnet_names(encoder: str, prefix: str) -> dict[str, str]:
    """Torchvision's names of a ResNet without its classifier; ours differ by the prefix."""
    blocks, bottleneck = BLOCKS[encoder]
    convolutions, norms = ["conv1"], ["bn1"]
    for layer, count in enumerate(blocks, start=1):
        for number in range(count):
            here = f"layer{layer}.{number}."
            for index in range(1, 4 if bottleneck else 3):
                convolutions.append(f"{here}conv{index}")
                norms.append(f"{here}bn{index}")
            if number == 0 and (bottleneck or layer > 1):
                convolutions.append(f"{here}downsample.0")
                norms.append(f"{here}downsample.1")
    names = {f"{name}.weight": f"{prefix}{name}.weight" for name in convolutions}
    for name in norms:
        names |= _norm_names(name, f"{prefix}{name}")
    return names
