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
from depth_two_stage.networks.registration import TILE, Seen
from depth_two_stage.runtimes import beside

__all__ = ["ImageOffset", "ImageRegistration"]

#: points, fewer of which are not asked: of 500 samples it gains as much as it costs
FEWEST = 800
#: px of the network's input: the standard deviation beyond which it is not sure along an axis
SURE = 2.25
#: how far the offset of a place lies from that of the whole image, px of the network's input: with
#: calibrations of another device it depends on depth and on the place
SPREAD = 2.0
#: standard deviation of the places that tell the offset of one, in tiles
NEAR = 1.0


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
    """Call it with the network's input x (1, 8, h, w): it answers with x and an `ImageOffset`.

    The colours of that x are moved, smoothly, so that edges lie where the points say. The mean of
    what is possible is taken, of the whole image and, expected near that, of each place.
    """

    def __init__(self, network: Any, seen: Any) -> None:
        self.network, self.seen = network, seen

    @classmethod
    def of(
        cls, model: Any, runtime: Any, x: np.ndarray, threads: int = 0
    ) -> ImageRegistration | None:
        """Return that of a `networks.TwoStage`, which keeps its own; None if it has none.

        Features are made by an engine as `runtime` is, for inputs like x.
        """
        if model.registration is None:
            return None
        network = copy.deepcopy(model.registration).eval()
        return cls(network, beside(runtime, Seen(copy.deepcopy(network)), x, threads))

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, ImageOffset | None]:
        """Return x itself and None with too few points."""
        import torch

        if np.count_nonzero(x[0, POINTS]) < FEWEST:
            return x, None
        with torch.inference_mode():
            seen = (torch.from_numpy(each)[None] for each in self.seen(x))
            told = self.network.told(*seen)[0], self.network.prior
            places, prior = (each.double().numpy() for each in told)
        offset = ImageOffset(*_moments(places.sum(axis=(0, 1)) + prior).tolist())
        return _moved(x, _offsets(places, offset)), offset


def _moments(logits: np.ndarray) -> np.ndarray:
    """Means along rows and columns, and standard deviations: logits (…, n, n) → (4, …)."""
    likely = np.exp(logits - logits.max(axis=(-2, -1), keepdims=True))
    likely /= likely.sum(axis=(-2, -1), keepdims=True)
    whole = np.arange(likely.shape[-1]) - likely.shape[-1] // 2
    sides = likely.sum(axis=-1), likely.sum(axis=-2)
    means = [side @ whole for side in sides]
    squares = (side @ whole**2 for side in sides)
    spread = [np.sqrt(np.maximum(s - m**2, 0)) for s, m in zip(squares, means, strict=True)]
    return np.stack([*means, *spread])


def _offsets(places: np.ndarray, offset: ImageOffset) -> np.ndarray:
    """Rows and columns by which the image lies off at each tile: (r, c, n, n) → (2, r, c)."""
    told = (offset.rows, offset.rows_deviation), (offset.columns, offset.columns_deviation)
    middle = [by if deviation <= SURE else 0.0 for by, deviation in told]
    for axis in (0, 1):  # what is told near a place counts there
        number = np.arange(places.shape[axis])
        weights = np.exp(-0.5 * ((number[:, None] - number) / NEAR) ** 2)
        places = np.moveaxis(np.tensordot(weights, places, (1, axis)), 0, axis)
    whole = np.arange(places.shape[-1]) - places.shape[-1] // 2
    rows, columns = (-0.5 * ((whole - at) / SPREAD) ** 2 for at in middle)
    return _moments(places + rows[:, None] + columns)[:2]


def _moved(x: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The network's input x (1, C, h, w), its colours moved back by offsets (2, r, c) of tiles."""
    (h, w), (r, c) = x.shape[2:], offsets.shape[1:]
    rows, columns = (
        cv2.resize(each.astype(np.float32), (c * TILE, r * TILE))[:h, :w] for each in offsets
    )
    y, across = np.mgrid[:h, :w].astype(np.float32)
    colours = np.ascontiguousarray(x[0, :3].transpose(1, 2, 0))
    places = across + columns, y + rows
    colours = cv2.remap(colours, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    x = x.copy()
    x[0, :3] = colours.transpose(2, 0, 1)
    return x
