# SPDX-License-Identifier: Apache-2.0
"""Tiny depth models of `transformers` with random weights, saved in the real format."""

from __future__ import annotations

import json
from pathlib import Path

import torch

#: preprocessor_config.json as in the published folders, at a smaller size
PROCESSING = {
    "depth_anything": {
        "do_normalize": True,
        "do_pad": False,
        "do_rescale": True,
        "do_resize": True,
        "ensure_multiple_of": 14,
        "image_mean": [0.485, 0.456, 0.406],
        "image_processor_type": "DPTImageProcessor",
        "image_std": [0.229, 0.224, 0.225],
        "keep_aspect_ratio": True,
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": 70, "width": 70},
        "size_divisor": None,
    },
    "zoedepth": {
        "do_normalize": True,
        "do_pad": False,  # published with the reflected border, which is left out here
        "do_rescale": True,
        "do_resize": True,
        "ensure_multiple_of": 32,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "ZoeDepthImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "keep_aspect_ratio": True,
        "resample": 2,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": 96, "width": 128},
    },
    "glpn": {
        "do_rescale": True,
        "do_resize": True,
        "image_processor_type": "GLPNImageProcessor",
        "resample": 2,
        "size_divisor": 32,
    },
}
INPUT_SIZES = {"depth_anything": (70, 98), "zoedepth": (96, 128), "glpn": (480, 640)}


def make(kind: str, **settings):
    """A model of a kind with weights under which its answer depends on the image."""
    import transformers as library

    if kind == "depth_anything":
        backbone = library.Dinov2Config(
            hidden_size=16,
            num_hidden_layers=4,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=70,
            patch_size=14,
            out_indices=[1, 2, 3, 4],
            reshape_hidden_states=False,
        )
        config = library.DepthAnythingConfig(
            backbone_config=backbone,
            reassemble_hidden_size=16,
            neck_hidden_sizes=[8, 8, 16, 16],
            fusion_hidden_size=8,
            head_hidden_size=8,
            **{"depth_estimation_type": "metric", "max_depth": 20, **settings},
        )
        made = library.DepthAnythingForDepthEstimation
    elif kind == "zoedepth":
        backbone = library.BeitConfig(
            hidden_size=16,
            num_hidden_layers=4,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=32,
            patch_size=16,
            use_relative_position_bias=True,
            reshape_hidden_states=False,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )
        config = library.ZoeDepthConfig(
            backbone_config=backbone,
            neck_hidden_sizes=[8, 8, 16, 16],
            fusion_hidden_size=8,
            bottleneck_features=8,
            num_relative_features=8,
            bin_embedding_dim=8,
            num_attractors=[4, 2, 1, 1],
            num_patch_transformer_layers=1,
            patch_transformer_hidden_size=8,
            patch_transformer_intermediate_size=8,
            patch_transformer_num_attention_heads=2,
            **settings,
        )
        made = library.ZoeDepthForDepthEstimation
    elif kind == "glpn":
        config = library.GLPNConfig(
            depths=[1, 1, 1, 1],
            hidden_sizes=[4, 4, 8, 8],
            num_attention_heads=[1, 1, 2, 2],
            decoder_hidden_size=8,
            **settings,
        )
        made = library.GLPNForDepthEstimation
    torch.manual_seed(0)
    model = made(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model


def write(folder: Path, kind: str = "depth_anything", **settings) -> Path:
    """A folder as a model's page has it."""
    make(kind, **settings).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSING[kind]))
    return folder


def rewrite(path: Path, **changes) -> None:
    """Change a JSON file's entries; None removes one."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
