# SPDX-License-Identifier: Apache-2.0
"""Evaluation protocols, each written once as data: what the network sees, what is compared."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from depth_two_stage.camera import Camera

__all__ = ["PROTOCOLS", "Protocol"]

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Protocol:
    """How predictions are compared with the truth.

    `crop` (top, bottom, left, right; pixels of `size`) bounds the compared pixels, `fractions` does
    so as shares of any size; `low` < truth < `high` in metres. `stretched` is E's own way: the
    network sees the centre 228x304 of the halved image (nearest neighbour), and its answer is
    resized over the whole frame although it saw less.
    """

    name: str
    help: str
    size: tuple[int, int] | None = None
    crop: Box | None = None
    fractions: tuple[float, float, float, float] | None = None
    low: float = 1e-3
    high: float = np.inf
    stretched: bool = False

    def check(self, camera: Camera, sparse: str) -> None:
        """Refuse what this protocol is not defined for."""
        if self.size is not None and camera.size != self.size:
            raise ValueError(
                f"protocol {self.name}: expected images of {self.size[1]}x{self.size[0]}, "
                f"got {camera.width}x{camera.height}"
            )
        if self.stretched and sparse != "none":
            raise ValueError(
                f"protocol {self.name}: expected --sparse none (stretching moves the points), "
                f"got {sparse!r}"
            )

    def view(self, rgb: np.ndarray, camera: Camera) -> tuple[np.ndarray, Camera]:
        """Return what the estimator is shown of rgb (H, W, 3), and its camera."""
        if not self.stretched:
            return rgb, camera
        height, width = camera.height // 2, camera.width // 2
        half = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_NEAREST)
        x, y = (width - 304) // 2, (height - 228) // 2
        shown = np.ascontiguousarray(half[y : y + 228, x : x + 304])
        return shown, camera.resized(width, height).cropped(x, y, 304, 228)

    def frame(self, depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Bring the answer to the view over the truth's frame, (H, W) metres."""
        if not self.stretched:
            return depth
        return cv2.resize(depth, size[::-1], interpolation=cv2.INTER_LINEAR)

    def cut(self, depth: np.ndarray) -> np.ndarray:
        """Return the compared part of a frame (H, W)."""
        if self.fractions is not None:
            height, width = depth.shape
            top, bottom, left, right = self.fractions
            box = int(top * height), int(bottom * height), int(left * width), int(right * width)
        elif self.crop is not None:
            box = self.crop
        else:
            return depth
        top, bottom, left, right = box
        return depth[top:bottom, left:right]


GARG = (0.40810811, 0.99189189, 0.03594771, 0.96405229)  # shares of height and width
_ALL = (
    Protocol("full", "whole frame, nothing stretched"),
    Protocol("E", "papers E, B: centre crop stretched over 480x640", (480, 640), stretched=True),
    Protocol(
        "eigen",
        "rows 45:471, columns 41:601 of 480x640, 1e-3 < d < 10 m",
        (480, 640),
        (45, 471, 41, 601),
        high=10.0,
    ),
    Protocol("centre", "sparse-to-dense: the centre 456x608", (480, 640), (12, 468, 16, 624)),
    Protocol("garg", "KITTI: Garg crop, 1e-3 < d < 80 m", fractions=GARG, high=80.0),
)

#: the protocols by name; averages are per image, then over images
PROTOCOLS = {protocol.name: protocol for protocol in _ALL}
