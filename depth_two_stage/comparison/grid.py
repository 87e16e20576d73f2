# SPDX-License-Identifier: Apache-2.0
"""The grid that unpooling leaves in a network's depth (C, section 5.4), measured."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from depth_two_stage.datasets import Sample
from depth_two_stage.networks.inputs import assemble


@torch.no_grad()
def grid_pattern(model: torch.nn.Module, sample: Sample) -> float:
    """Strength of the grid that unpooling leaves in stage one's output (C, section 5.4): m RMS.

    The part of the map that alternates from pixel to pixel in the same phase over windows of 16×16
    pixels: signed Haar coefficients of 2×2 blocks, averaged over 8×8 blocks, so that real edges,
    whose sign changes from place to place, average out.
    """
    height, width = model.settings.input_size
    rgb = cv2.resize(sample.rgb, (width, height), interpolation=cv2.INTER_AREA)
    settings = model.settings
    x = assemble(rgb, None, settings.sparse_input, settings.mean_depth, settings.colour)
    out = model.stage_one(torch.from_numpy(x)[None])[0, 0].float().numpy()
    if model.scale is not None:
        out = out * model.scale
    return alternating(out)


def alternating(image: np.ndarray) -> float:
    """RMS of what alternates with a period of 2 pixels in a fixed phase; image (H, W)."""
    h, w = (side // 16 * 16 for side in image.shape)
    if not h or not w:
        raise ValueError(f"image: expected at least 16×16, got {image.shape}")
    blocks = image[:h, :w].reshape(h // 2, 2, w // 2, 2).astype(np.float64)
    a, b, c, d = (blocks[:, i, :, j] for i in (0, 1) for j in (0, 1))
    # A slope is no grid: it is taken out by the neighbouring blocks' difference.
    signed = np.stack([a - b + c - d, a + b - c - d, a - b - c + d]) / 4
    slope = np.stack([_slope(a + b + c + d, 1), _slope(a + b + c + d, 0), 0 * a]) / 16
    tiles = (signed - slope).reshape(3, h // 16, 8, w // 16, 8).mean((2, 4))
    return float(np.sqrt(np.mean(np.sum(tiles**2, axis=0))))


def _slope(total: np.ndarray, axis: int) -> np.ndarray:
    """What the image's own slope gives the Haar coefficient along an axis, times 16."""
    return -np.gradient(total, axis=axis) if total.shape[axis] > 1 else 0 * total
