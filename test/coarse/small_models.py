# SPDX-License-Identifier: Apache-2.0
"""Small Hugging Face models plugged in, a picture, and what transformers makes of it."""

import cv2
import huggingface as tiny
import numpy as np
import pytest
import torch

from depth_two_stage import cli, networks

KINDS = list(tiny.PROCESSING)
ALONE = {"stage_two": None}


def plugged(source, base=ALONE):
    spec, state = networks.plug(base, str(source))
    model = networks.build(spec)
    model.stage_one.load_state_dict(state)
    return spec, model.eval()


def picture(size, seed=0):
    """An image uint8 (*size, 3) with structure in it."""
    small = np.random.default_rng(seed).integers(0, 255, (5, 7, 3), np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)


def theirs(folder, rgb):
    """Depth (H, W) m of an image by `transformers`' own steps: processor, model, processor."""
    pytest.importorskip("PIL", reason="transformers' image processors need Pillow")
    from transformers import AutoImageProcessor, AutoModelForDepthEstimation

    processor = AutoImageProcessor.from_pretrained(folder)
    model = AutoModelForDepthEstimation.from_pretrained(folder).eval()
    with torch.no_grad():
        outputs = model(**processor(images=rgb, return_tensors="pt"))
    assert outputs.predicted_depth.shape[-2:] == rgb.shape[:2]  # nothing was resized
    return outputs.predicted_depth[0].numpy()


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return ended.value.code, out, err
