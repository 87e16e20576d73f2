# SPDX-License-Identifier: Apache-2.0
"""What cameras do to an image: blur, exposure, noise and compression, drawn for training.

The image alone changes, and in the order in which a camera does it: defocus and motion blur the
light, exposure and the tone curve turn it into grey levels, noise and JPEG come after.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .sensors import WIDTH

#: Grey levels are taken for light to the power of 1/2.2 (about sRGB).
TONE = 2.2


@dataclass(frozen=True)
class Photometry:
    """Probability of each change of an image, and the range it is drawn from; all are off.

    ``exposure``: light times 2 to the power of ``stops``, then grey levels by a ``gamma`` curve
    (1: unchanged). ``noise``: Gaussian of a standard deviation in ``noise_std`` (grey levels).
    ``motion``: blur along a random line of a length in ``motion_px``; ``defocus``: blur over a disc
    of a radius in ``defocus_px``; both in px of a 640 px wide image. ``jpeg``: compression at a
    ``quality`` of 1 to 100. ``offset``: the image lies that many of ``offset_px`` (of 640) beside
    its depth, in one direction, as on recordings whose cameras were not well calibrated.
    """

    exposure: float = 0.0
    stops: tuple[float, float] = (-1.0, 1.0)
    gamma: tuple[float, float] = (0.8, 1.25)
    noise: float = 0.0
    noise_std: tuple[float, float] = (1.0, 8.0)
    motion: float = 0.0
    motion_px: tuple[float, float] = (2.0, 16.0)
    defocus: float = 0.0
    defocus_px: tuple[float, float] = (0.5, 4.0)
    jpeg: float = 0.0
    quality: tuple[int, int] = (30, 95)
    offset: float = 0.0
    offset_px: tuple[float, float] = (0.5, 4.0)

    def __call__(self, rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw a change of an image uint8 (H, W, 3); what is off draws nothing."""
        scale = rgb.shape[1] / WIDTH
        if self.defocus and rng.random() < self.defocus:
            rgb = cv2.filter2D(rgb, -1, disc(rng.uniform(*self.defocus_px) * scale))
        if self.motion and rng.random() < self.motion:
            length, angle = rng.uniform(*self.motion_px) * scale, rng.uniform(0, np.pi)
            rgb = cv2.filter2D(rgb, -1, streak(length, angle))
        if self.exposure and rng.random() < self.exposure:
            rgb = exposed(rgb, rng.uniform(*self.stops), rng.uniform(*self.gamma))
        if self.noise and rng.random() < self.noise:
            noise = rng.standard_normal(rgb.shape, np.float32)
            noise *= np.float32(rng.uniform(*self.noise_std))
            noise += rgb
            rgb = np.clip(np.rint(noise, out=noise), 0, 255, out=noise).astype(np.uint8)
        if self.jpeg and rng.random() < self.jpeg:
            quality = int(rng.integers(self.quality[0], self.quality[1] + 1))
            bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
            _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
            rgb = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        if self.offset and rng.random() < self.offset:
            rgb = moved(rgb, rng.uniform(*self.offset_px) * scale, rng.uniform(0, 2 * np.pi))
        return rgb


def moved(rgb: np.ndarray, length: float, angle: float) -> np.ndarray:
    """An image uint8 (H, W, 3) moved by ``length`` px, its border repeated; angle in rad."""
    move = np.array([[1, 0, length * np.cos(angle)], [0, 1, length * np.sin(angle)]])
    size = rgb.shape[1::-1]
    return cv2.warpAffine(rgb, move, size, borderMode=cv2.BORDER_REPLICATE)


def exposed(rgb: np.ndarray, stops: float, gamma: float) -> np.ndarray:
    """An image uint8 (H, W, 3) with 2^stops times the light, grey levels to the power of gamma."""
    light = (np.arange(256) / 255) ** TONE * 2.0**stops
    table = 255 * np.minimum(light, 1) ** (gamma / TONE)
    return cv2.LUT(rgb, np.rint(table).astype(np.uint8))


def disc(radius: float) -> np.ndarray:
    """Kernel float32 (k, k), sum 1, of a defocused point: a disc of ``radius`` px, smooth edge."""
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return (kernel / kernel.sum()).astype(np.float32)


def streak(length: float, angle: float) -> np.ndarray:
    """Kernel float32 (k, k), sum 1, of a point that moves ``length`` px, centred; angle in rad."""
    reach = int(np.ceil(length / 2))
    along = (np.arange(64) + 0.5) / 64 * length - length / 2
    x, y = reach + along * np.cos(angle), reach + along * np.sin(angle)
    kernel = np.zeros((2 * reach + 2, 2 * reach + 2))  # one more for the pixel beyond the last
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    right, below = x - column, y - row
    for dy, dx, weight in (
        (0, 0, (1 - right) * (1 - below)),
        (0, 1, right * (1 - below)),
        (1, 0, (1 - right) * below),
        (1, 1, right * below),
    ):
        np.add.at(kernel, (row + dy, column + dx), weight)
    return (kernel[:-1, :-1] / kernel.sum()).astype(np.float32)
