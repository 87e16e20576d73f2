# SPDX-License-Identifier: Apache-2.0
"""Brings the image to its points, as far as a trained network (`networks.registration`) is sure.

Cameras and depth sensors are often a few pixels apart: calibrated at another time, or exposed at
another moment of a robot that moves. Who then puts edges where the image has them contradicts the
points beside them, by the difference between two surfaces. Depth is where the points say.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from depth_two_stage.framing import Framing
from depth_two_stage.networks.inputs import POINTS

__all__ = ["ImageOffset", "ImageRegistration"]

#: points, fewer of which are not asked: of 500 samples it gains as much as it costs
FEWEST = 800
#: px of the network's input: the standard deviation beyond which it is not sure along an axis
SURE = 2.25


@dataclass(frozen=True)
class ImageOffset:
    """How far an image lies below (`rows`) and right (`columns`) of its points, in px.

    Each with its standard deviation: what runs along the rows says nothing of the columns.
    """

    rows: float
    columns: float
    rows_deviation: float
    columns_deviation: float

    def of_camera(self, framing: Framing) -> ImageOffset:
        """Return the same in px of the camera's image."""
        rows, columns = (float(n) for n in np.divide(framing.image_size, framing.content_size))
        return ImageOffset(
            self.rows * rows,
            self.columns * columns,
            self.rows_deviation * rows,
            self.columns_deviation * columns,
        )


class ImageRegistration:
    """Call it with the network's input x (1, 8, h, w); what it answers is an `ImageOffset`."""

    def __init__(self, network: Any, device: str = "cpu") -> None:
        self.network, self.device = network.to(device), device

    @classmethod
    def of(cls, model: Any, device: str = "cpu") -> ImageRegistration | None:
        """Return that of a `networks.TwoStage`, which keeps its own; None if it has none."""
        if model.registration is None:
            return None
        return cls(copy.deepcopy(model.registration).eval(), device)

    def __call__(self, x: np.ndarray) -> ImageOffset | None:
        """Return the mean of what the network takes to be possible; None with too few points."""
        import torch

        if np.count_nonzero(x[0, POINTS]) < FEWEST:
            return None
        with torch.inference_mode():
            logits = self.network(torch.from_numpy(x).to(self.device))[0].double().cpu().numpy()
        likely = np.exp(logits - logits.max())
        likely /= likely.sum()
        whole = np.arange(len(likely)) - len(likely) // 2
        sides = likely.sum(axis=1), likely.sum(axis=0)
        means = [float(side @ whole) for side in sides]
        spread = (side @ (whole - mean) ** 2 for side, mean in zip(sides, means, strict=True))
        return ImageOffset(*means, *(float(np.sqrt(each)) for each in spread))


def image_moved(x: np.ndarray, offset: ImageOffset) -> np.ndarray:
    """Return the network's input x (1, C, h, w), its colours moved back to its points.

    Along each axis of which the network is sure; x itself where that is none.
    """
    told = (offset.rows, offset.rows_deviation), (offset.columns, offset.columns_deviation)
    rows, columns = (by if deviation <= SURE else 0.0 for by, deviation in told)
    if not (rows or columns):
        return x
    move = np.array([[1, 0, -columns], [0, 1, -rows]], np.float64)
    colours = np.ascontiguousarray(x[0, :3].transpose(1, 2, 0))
    size = colours.shape[1::-1]
    x = x.copy()
    moved = cv2.warpAffine(colours, move, size, borderMode=cv2.BORDER_REPLICATE)
    x[0, :3] = moved.transpose(2, 0, 1)
    return x
