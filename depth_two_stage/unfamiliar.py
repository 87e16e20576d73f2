# SPDX-License-Identifier: Apache-2.0
"""Colours that a network was not trained on, to see whether its confidence notices."""

from __future__ import annotations

import numpy as np

__all__ = ["COLOURS", "recoloured"]

#: recorded as they are; inverted; by night, with a hundredth of the light and a sensor's noise
COLOURS = ("recorded", "inverted", "night")

LIGHT = 0.01  # share left of linear light
GAMMA = 2.2
NOISE = 4.0  # standard deviation, of 255


def recoloured(rgb: np.ndarray, colours: str, rng: np.random.Generator) -> np.ndarray:
    """Return an image uint8 (H, W, 3) as it would look in one of `COLOURS`."""
    if colours == "inverted":
        return 255 - rgb
    if colours == "night":
        dark = rgb * np.float32(LIGHT ** (1 / GAMMA))
        noise = NOISE * rng.standard_normal(rgb.shape, np.float32)
        return np.rint(np.clip(dark + noise, 0, 255)).astype(np.uint8)
    return rgb
