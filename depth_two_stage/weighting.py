# SPDX-License-Identifier: Apache-2.0
"""What a pixel of depth weighs in the map: its confidence, its range, and nothing at edges.

Depth that a network predicts is not depth that a sensor measured: between a near and a far surface
it passes through what lies between, which in the map becomes a veil hung from every edge.
"""

from __future__ import annotations

import cv2
import numpy as np

from depth_two_stage.config import FusionParameters

__all__ = ["at_edges", "pixel_weights"]

FULL_RANGE = 1.0  # m: up to here a pixel weighs its confidence


def pixel_weights(
    depth: np.ndarray, confidence: np.ndarray | None, parameters: FusionParameters
) -> np.ndarray:
    """Weights float32 (H, W) in 0…1 of depth (H, W) m, 0 = none.

    The confidence (None: 1) to the power of ``fusion.confidence_power``: the best mean weighs by
    the inverse variance, which falls with the square of a small probability of being right. Times
    (1 m / depth) to the power of ``fusion.range_power`` beyond 1 m, because errors grow with the
    range; 0 at edges.
    """
    weight = np.ones(depth.shape, np.float32)
    if confidence is not None and parameters.confidence_power:
        weight = confidence.astype(np.float32) ** np.float32(parameters.confidence_power)
    if parameters.range_power:
        near = FULL_RANGE / np.maximum(depth, FULL_RANGE)
        weight = weight * near.astype(np.float32) ** np.float32(parameters.range_power)
    if parameters.edge_jump:
        width = max(1, round(parameters.edge_width * depth.shape[1]))
        weight = np.where(at_edges(depth, parameters.edge_jump, width), np.float32(0), weight)
    return weight


def at_edges(depth: np.ndarray, jump: float, width: int = 1) -> np.ndarray:
    """Pixels within ``width`` px of where depth (H, W) m jumps by more than a share: bool (H, W).

    Holes (0) are no edges: beside them there is nothing to jump to.
    """
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    depth = depth.astype(np.float32, copy=False)
    farthest = cv2.dilate(depth, kernel)
    nearest = cv2.erode(np.where(depth > 0, depth, np.float32(np.inf)), kernel)
    return (depth > 0) & (farthest / (1 + jump) > nearest)
