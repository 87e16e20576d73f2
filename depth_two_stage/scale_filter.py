# SPDX-License-Identifier: Apache-2.0
"""The scale of predicted depth, held to the map's.

A network's depth of one frame may be a few percent too large and of the next too small. The map is
the mean of many: a frame is scaled to it, slowly, so that one bad frame cannot pull the scale away
and a slow drift is still followed.
"""

from __future__ import annotations

import numpy as np

__all__ = ["ScaleFilter", "scale_against"]

MIN_SHARE = 0.05  # of the pixels, seen by frame and map, that tell the scale
ONE_SURFACE = 1.5  # depths of which one is more times the other are not one surface


def scale_against(depth: np.ndarray, seen: np.ndarray) -> float | None:
    """Median of the map's depth / the frame's where both have one surface; None: too little.

    Both float32 (H, W) m, 0 = none, of the same camera at the same pose.
    """
    both = (depth > 0) & (seen > 0)
    ratio = seen[both] / depth[both]
    ratio = ratio[(ratio < ONE_SURFACE) & (ratio > 1 / ONE_SURFACE)]
    if len(ratio) < MIN_SHARE * depth.size:
        return None
    return float(np.median(ratio))


class ScaleFilter:
    """What depth is multiplied by, ``scale``; each frame changes it by at most ``rate`` (share).

    ``rate`` 0 leaves it at 1.
    """

    def __init__(self, rate: float) -> None:
        if not 0 <= rate < 1:
            raise ValueError(f"rate: expected 0 … below 1, got {rate!r}")
        self.rate = rate
        self.scale = 1.0

    def update(self, ratio: float | None) -> float:
        """Take the ratio of the map's depth to the *scaled* frame's → the scale for this frame.

        None, where the map says nothing, leaves the scale as it is.
        """
        if ratio is not None:
            if not 0 < ratio < np.inf:
                raise ValueError(f"ratio: expected a positive number, got {ratio!r}")
            self.scale *= float(np.clip(ratio, 1 / (1 + self.rate), 1 + self.rate))
        return self.scale

    def reset(self) -> None:
        """Forget: the map is another one."""
        self.scale = 1.0
