# SPDX-License-Identifier: Apache-2.0
"""The table of networks: every system of the papers by name.

A checkpoint carries its own copy of its architecture, so a change here harms no file. Focal lengths
are those of the data sets at the input's size.
"""

from __future__ import annotations

import copy
import difflib
from typing import Any

from . import unet

Spec = dict[str, Any]

# NYU: a 480×640 frame halved and cut to 228×304; the defaults of NetworkSettings.
# Make3D: E's 460×345 halved. B prints NYU's 228×304, which does not fit into that. The focal length
# is that of the camera's sheet (7.1 mm, 7.2 mm sensor, 2272 px); the data do not say. Depth < 70 m.
MAKE3D = {"input_size": [230, 173], "focal": 227.0, "max_depth": 70.0}
# KITTI's 375×1242 with 721 px, squeezed as D does.
KITTI_SMALL = {"input_size": [37, 147], "refined_size": [37, 147], "focal": 85.0, "max_depth": 80.0}
KITTI_LARGE = {
    "input_size": [94, 310],
    "refined_size": [94, 310],
    "focal": 180.0,
    "max_depth": 80.0,
}
NYU_HALF = {"input_size": [240, 320], "refined_size": [240, 320]}

A_GENERATOR = {"name": "residual_generator", "widths": [64, 128, 256], "blocks": 9}
A_DISCRIMINATOR = {"name": "patch_discriminator", "widths": [64, 128, 256, 512]}
FCRN50 = {"name": "fcrn", "encoder": "resnet50", "decoder": "upproj"}
FCRN18 = {"name": "fcrn", "encoder": "resnet18", "decoder": "upproj"}


def _one(paper: str, stage_one: Spec, sparse_input: str = "none", **settings: Any) -> Spec:
    """A model of one stage."""
    return {
        "stage_one": stage_one,
        "stage_two": None,
        "settings": {"sparse_input": sparse_input, **settings},
        "paper": paper,
    }


def _b(paper: str, make3d: bool, stages: int) -> Spec:
    """B's FCRN → cGAN (→ cGAN); with one stage the cGAN sees the image instead."""
    widths, filters = unet.MAKE3D if make3d else unet.NYU
    generator = {"name": "unet_generator", "widths": list(widths), "filters": list(filters)}
    judge = [1, 1, 1, 1] if make3d else [32, 64, 128, 256]
    discriminator = {"name": "patch_discriminator", "widths": judge}
    spec = _one(paper, dict(FCRN50), **(MAKE3D if make3d else {}))
    if stages == 1:
        spec["stage_one"] = None
        generator["in_channels"] = discriminator["condition"] = 3
    spec |= {"stage_two": generator, "discriminator": discriminator}
    if stages == 3:
        spec["stage_three"] = copy.deepcopy(generator)
    return spec


def _e(encoder: str, decoder: str, row: str) -> Spec:
    return _one(f"E, Table 1: {row}", {"name": "fcrn", "encoder": encoder, "decoder": decoder})


def _e_fc(encoder: str, size: tuple[int, int], row: str) -> Spec:
    part = {"name": "fully_connected", "encoder": encoder, "output_size": list(size)}
    return _one(f"E, Table 1: {row}", part)


def _c_residual(filling: str, row: str) -> Spec:
    return _one(f"C, {row}", {**FCRN50, "fast": False, "filling": filling})


def _d(kind: str, colour: bool, place: Spec, paper: str) -> Spec:
    part = {"name": "single_stage", "kind": kind}
    return _one(f"D, {paper}", part, "none" if colour else "grey", **place)


MODELS: dict[str, Spec] = {
    # Ours
    "anchored": {
        **_one(
            "none: the two-stage frame, points spread",
            {"name": "diffusion_unet"},
            "relative",
            input_size=[240, 320],
            refined_size=[240, 320],
            focal=272.6,
        ),
        "stage_two": {"name": "edge_generator", "widths": [24, 48, 64]},
        "discriminator": {
            "name": "patch_discriminator",
            "widths": [16, 32, 64, 128],
            "condition": 8,
        },
        "outliers": {"name": "outlier_network"},
        "registration": {"name": "registration_network"},
        "prior": {"name": "prior_network", "widths": [32, 64, 96, 128, 192]},
        "joint_filter": {"name": "joint_filter_network", "widths": [24, 32, 48, 64]},
    },
    "anchored-one-stage": _one(  # as costly as the two, to compare with
        "none: points spread by one stage alone",
        {"name": "diffusion_unet", "widths": [27, 54, 108, 162, 216]},
        "relative",
        input_size=[240, 320],
        refined_size=[240, 320],
        focal=272.6,
    ),
    # E
    "fcrn50-rgb": _one("E, Table 1: ResNet-UpProj; B, stage one", dict(FCRN50)),
    "fcrn50-rgb-make3d": _one("E, Table 3; B, stage one", dict(FCRN50), **MAKE3D),
    "alexnet-fc": _e_fc("alexnet", (96, 128), "AlexNet-FC"),
    "alexnet-upconv": _e("alexnet", "upconv", "AlexNet-UpConv"),
    "vgg-upconv": _e("vgg16", "upconv", "VGG-UpConv"),
    "resnet-fc-160x128": _e_fc("resnet50", (128, 160), "ResNet-FC 160×128"),
    "resnet-fc-64x48": _e_fc("resnet50", (48, 64), "ResNet-FC 64×48"),
    "resnet-deconv": _e("resnet50", "deconv", "ResNet-DeConv"),
    "resnet-upconv": _e("resnet50", "upconv", "ResNet-UpConv"),
    "fcrn18-rgb": _one("E's frame, ResNet-18", dict(FCRN18)),
    # A
    "fcrn50-rgbd": _one("A, stage one", dict(FCRN50), "zeros"),
    "fcrn18-rgbd": _one("A's stage one, ResNet-18", dict(FCRN18), "zeros"),
    "two-stage-rgbd": {
        **_one("A", dict(FCRN50), "zeros"),
        "stage_two": A_GENERATOR,
        "discriminator": A_DISCRIMINATOR,
    },
    "two-stage-rgbd-18": {
        **_one(
            "A at a quarter of the width",
            dict(FCRN18),
            "smooth",
            # Half of NYU's 228×304: from 700 images alone colour is learned better with the whole
            # room in the receptive field, points no worse, at a quarter of the time.
            input_size=[114, 152],
            focal=129.5,
            aligned=True,
        ),
        "stage_two": {
            **A_GENERATOR,
            "widths": [16, 32, 64],
            "output": "residual",
            "norm": "instance",
        },
        "discriminator": {"name": "patch_discriminator", "widths": [16, 32, 64, 128]},
    },
    # B
    "two-stage-rgb": _b("B, Table 1", False, 2),
    "two-stage-rgb-make3d": _b("B, Table 2", True, 2),
    "three-stage-rgb": _b("B, Table 3", False, 3),
    "three-stage-rgb-make3d": _b("B, Table 4", True, 3),
    "single-cgan-rgb": _b("B, Table 1: single cGAN", False, 1),
    "single-cgan-rgb-make3d": _b("B, Table 2: single cGAN", True, 1),
    # C
    "cnn-fc": _one("C, Table 1: CNN+FC", {"name": "cnn_fc"}),
    "cnn": _one("C, Table 1: CNN", {"name": "cnn"}),
    "cnn-transpose": _one("C, Table 1: CNN+trans", {"name": "cnn", "transpose": True}),
    "cnn-residual": _c_residual("zeros", "Table 1: CNN+Res; Table 3: normal; E, plain form"),
    "cnn-residual-average": _c_residual("average", "Table 3: average unpooling"),
    # D
    **{
        f"{kind.lower()}-grey": _d(kind, False, KITTI_SMALL, f"Table 1: {kind}")
        for kind in ("AH", "C", "SC", "SCRX", "SCRXU", "SCRDU")
    },
    **{
        f"{kind.lower()}-rgb": _d(kind, True, KITTI_LARGE, f"{kind} with larger colour images")
        for kind in ("AH", "C", "SC", "SCRXU", "SCRDU")
    },
    "improved-scrx-grey": _d("SCRX", False, KITTI_LARGE, "Table 2: grey"),
    "improved-scrx-rgb": _d("SCRX", True, KITTI_LARGE, "Table 2: colour"),
    "improved-scrx-nyu-grey": _d("SCRX", False, NYU_HALF, "Table 3: grey"),
    "improved-scrx-nyu-rgb": _d("SCRX", True, NYU_HALF, "Table 3: colour"),
}

# Other names of the same network.
ALIASES = {
    "resnet-upproj": "fcrn50-rgb",
    "resnet-upproj-plain": "cnn-residual",
    "scrx-rgb": "improved-scrx-rgb",
}


def nearest(name: str) -> list[str]:
    """Up to three names of models that look like this one, written in capitals or not."""
    return difflib.get_close_matches(str(name).lower(), (*MODELS, *ALIASES), 3, 0.5)


def architecture(name: str, width: float = 1.0) -> Spec:
    """A copy of a named architecture, every width multiplied by ``width``."""
    found = ALIASES.get(name, name)
    if found not in MODELS:
        known = (*MODELS, *ALIASES)
        near = nearest(name)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise ValueError(f"model: expected one of {', '.join(known)}, got {name!r}{hint}")
    if not width > 0:
        raise ValueError(f"width: expected a positive number, got {width!r}")
    spec = copy.deepcopy(MODELS[found])
    if width != 1:
        if spec["stage_one"] is not None:
            spec["stage_one"]["width"] = width
        for part in ("stage_two", "stage_three", "discriminator", "prior", "joint_filter"):
            for key in ("widths", "filters"):
                if key in (spec.get(part) or {}):
                    spec[part][key] = [max(1, round(width * wide)) for wide in spec[part][key]]
    return spec
